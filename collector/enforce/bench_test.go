package enforce_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

// large is a cluster of 50 nodes with 100 pods each: 50 namespaces of 6 workloads, and 200 policies, four in each namespace.
func large(t testing.TB) policy.Input {
	t.Helper()
	var objects []*meta.Object
	var text strings.Builder
	for i := range 5000 {
		objects = append(objects, &meta.Object{
			Kind: meta.Pod, Namespace: fmt.Sprint("ns", i%50), Name: fmt.Sprint("pod", i), Node: fmt.Sprint("n", i/100),
			Labels: map[string]string{"app": fmt.Sprint("app", i/50%6), "tier": fmt.Sprint("tier", i/50%3)},
			Ports:  []meta.Port{{Name: "http", Number: 8080, Proto: flow.ProtoTCP}},
			Addrs:  []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i / 100), 0, byte(i % 100)})},
		})
	}
	for i := range 50 {
		ns := fmt.Sprint("ns", i)
		for j, spec := range []string{
			"{podSelector: {}, policyTypes: [Ingress, Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}]}]}",
			"{podSelector: {matchLabels: {app: app1}}, ingress: [{from: [{podSelector: {matchLabels: {tier: tier1}}}], ports: [{port: http}]}]}",
			fmt.Sprintf("{podSelector: {matchLabels: {tier: tier2}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ns%d}}}]}]}", (i+1)%50),
			"{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}], ports: [{port: 8000, endPort: 9000}]}, {to: [{podSelector: {}}]}]}",
		} {
			text.WriteString(doc(ns, fmt.Sprint("p", j), spec) + "\n---\n")
		}
	}
	r, err := load.Reader("large.yaml", strings.NewReader(text.String()), load.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return policy.Input{Policies: r.Policies, Inventory: policy.FromMeta(objects), Node: "n7"}
}

// services are 1,000 with two ports each, and five backends in their namespace; the first is the cluster's DNS.
func services() (list []policy.Service) {
	for i := range 1000 {
		s := policy.Service{Namespace: fmt.Sprint("ns", i%50), Name: fmt.Sprint("s", i)}
		for j, port := range [...]uint16{80, 443} {
			f := meta.Forward{Addr: netip.AddrFrom4([4]byte{10, 96, byte(i / 250), byte(1 + i%250)}), Port: port, Proto: flow.ProtoTCP}
			target := [...]uint16{8080, 8443}[j]
			if i == 0 {
				f.Port, f.Proto, target = [...]uint16{53, 9153}[j], [...]flow.Proto{flow.ProtoUDP, flow.ProtoTCP}[j], [...]uint16{53, 9153}[j]
			}
			for k := range 5 {
				n := i%50 + 50*((i/50+k*7)%100) // a pod of ns(i%50)
				f.To = append(f.To, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n / 100), 0, byte(n % 100)}), target))
			}
			s.Forwards = append(s.Forwards, f)
		}
		list = append(list, s)
	}
	return list
}

func BenchmarkCompile(b *testing.B) {
	compile(b, large(b))
}

func BenchmarkCompileServices(b *testing.B) {
	in := large(b)
	in.Inventory.Services = services()
	compile(b, in)
}

func compile(b *testing.B, in policy.Input) {
	b.ReportAllocs()
	var c *policy.Compiled
	for b.Loop() {
		c = policy.Compile(in)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/compile")
	b.ReportMetric(float64(len(c.Entries)), "entries")
	b.ReportMetric(float64(len(c.Peers)), "peers")
	b.ReportMetric(float64(len(c.Services)), "services")
}

// BenchmarkWrite writes a large policy into an empty kernel table and removes it: two writes an operation, the first without
// and the second with a grace period.
func BenchmarkWrite(b *testing.B) {
	node := newSpace(b)
	r := newProbe(b, node.path)
	c := policy.Compile(large(b))
	d := policy.Diff(nil, c)
	put := enforce.Write{Entries: d.Entries, CIDRs: d.CIDRs, Peers: d.Peers}
	d = policy.Diff(c, policy.Nothing())
	drop := enforce.Write{DropEntries: d.DropEntries, DropCIDRs: d.DropCIDRs, DropPeers: d.DropPeers}
	b.Run("put", func(b *testing.B) {
		for b.Loop() {
			must(b, r.WritePolicy(&put))
		}
		b.ReportMetric(float64(len(put.Entries)+len(put.CIDRs)+len(put.Peers)), "keys")
	})
	b.Run("drop", func(b *testing.B) {
		for b.Loop() {
			must(b, r.WritePolicy(&drop))
		}
	})
}
