package lab

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestPickBlock(t *testing.T) {
	for _, test := range []struct {
		name  string
		taken []netip.Prefix
		want  string
	}{
		{"nothing taken", nil, "10.200.0.0/15"},
		{"elsewhere", prefixes("192.0.2.0/24", "10.96.0.0/12", "172.17.0.0/16"), "10.200.0.0/15"},
		{"a node's half", prefixes("10.200.3.0/24"), "10.202.0.0/15"},
		{"the pods' half", prefixes("10.201.3.4/32"), "10.202.0.0/15"},
		{"a large block", prefixes("10.192.0.0/11"), "10.224.0.0/15"},
		{"all above", prefixes("10.128.0.0/9"), "10.0.0.0/15"},
		{"a VPN takes everything", prefixes("10.0.0.0/8"), "10.200.0.0/15"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := pickBlock(test.taken).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestLayout(t *testing.T) {
	for nodes := 1; nodes <= maxNodes; nodes++ {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			l := newLayout("ab12", nodes, netip.MustParsePrefix("10.204.0.0/15"))
			if len(l.Nodes) != nodes || len(l.Pods) < 10 {
				t.Fatalf("%d nodes, %d pods", len(l.Nodes), len(l.Pods))
			}
			unique := map[string]string{}
			take := func(what, value string) {
				t.Helper()
				if other, ok := unique[value]; ok {
					t.Errorf("%s of %s is that of %s", value, what, other)
				}
				unique[value] = what
			}
			for _, n := range l.Nodes {
				take(n.Name, n.Addr.String())
				take(n.Name, n.Addr6.String())
				take(n.Name, n.NetNS)
			}
			namespaces := map[string]bool{}
			for _, p := range l.Pods {
				namespaces[p.Namespace] = true
				take(p.Name, p.Addr.String())
				take(p.Name, p.Addr6.String())
				take(p.Name, p.NetNS)
				take(p.Name, p.Node+" "+p.Link)
				take(p.Name, p.Namespace+"/"+p.Name)
				n := l.node(p.Node)
				if !n.PodNet.Contains(p.Addr) || !n.PodNet6.Contains(p.Addr6) || !l.Block.Contains(p.Addr) {
					t.Errorf("%s: addresses %s, %s are not of %s", p.Name, p.Addr, p.Addr6, p.Node)
				}
				if len(p.Link) > 15 { // IFNAMSIZ - 1
					t.Errorf("%s: interface name %s is too long", p.Name, p.Link)
				}
			}
			if len(namespaces) < 4 {
				t.Errorf("namespaces: %v", namespaces)
			}
		})
	}
}

// TestLayoutIsStable holds names fixed: what people see and bookmark is the same in each lab.
func TestLayoutIsStable(t *testing.T) {
	l := newLayout("ab12", 2, netip.MustParsePrefix("10.200.0.0/15"))
	p := l.Find("shop/frontend")
	want := &Endpoint{
		Namespace: "shop", Name: p.Name, Workload: "frontend", WorkloadKind: "Deployment", Node: "node-a",
		Labels: map[string]string{"app": "frontend", "tier": "web", "pod-template-hash": p.Labels["pod-template-hash"]},
		Addr:   netip.MustParseAddr("10.201.1.13"), Addr6: netip.MustParseAddr("fd70:6c78:0:1::d"),
		NetNS: "/run/netns/plx-ab12-shop-frontend-0", Link: "vethfrontend0", Role: "frontend", Ports: []Port{{"http", 8080, "TCP"}},
	}
	if diff := cmp.Diff(want, p, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if again := newLayout("cd34", 2, l.Block).Find("shop/frontend"); again.Name != p.Name {
		t.Errorf("pod name %s became %s", p.Name, again.Name)
	}
	for _, name := range []string{"data/redis", "redis-0", "api.example.com", "visitor.example.org"} {
		if l.Find(name) == nil {
			t.Errorf("no %s", name)
		}
	}
	if l.Find("shop/nothing") != nil {
		t.Error("found what is not there")
	}
}

// TestFactsNameTheLab checks that facts speak of things that are in the lab.
func TestFactsNameTheLab(t *testing.T) {
	l := newLayout("ab12", 2, netip.MustParsePrefix("10.200.0.0/15"))
	for _, f := range Facts() {
		if l.Find(f.From) == nil {
			t.Errorf("%s: no %s", f.Name, f.From)
		}
		if _, err := netip.ParseAddr(f.To); l.Find(f.To) == nil && err != nil {
			t.Errorf("%s: no %s", f.Name, f.To)
		}
		if (f.Drop != "") != (f.At != "") || f.At != "" && l.Find(f.At) == nil && l.node(f.At) == nil {
			t.Errorf("%s: no %s", f.Name, f.At)
		}
		if f.Question != "" && f.Rcode == "NOERROR" && len(l.zone()[f.Question]) == 0 {
			t.Errorf("%s: no name %s", f.Name, f.Question)
		}
	}
}

func TestWatch(t *testing.T) {
	l := newLayout("ab12", 2, netip.MustParsePrefix("10.200.0.0/15"))
	ctx, cancel := context.WithCancel(t.Context())
	got := map[meta.Kind]int{}
	byKey := map[meta.Key]*meta.Object{}
	last := l.Objects()[len(l.Objects())-1].Key()
	err := l.Watch(ctx, func(u meta.Update) {
		if byKey[u.Object.Key()] != nil {
			t.Errorf("%v twice", u.Object.Key())
		}
		got[u.Object.Kind]++
		byKey[u.Object.Key()] = u.Object
		if u.Object.Key() == last {
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[meta.Kind]int{meta.Node: 2, meta.Namespace: 4, meta.Service: 12, meta.Pod: 14}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	redis := byKey[meta.Key{Kind: meta.Pod, Namespace: "data", Name: "redis-0"}]
	if redis == nil || redis.Workload != "redis" || redis.WorkloadKind != "StatefulSet" || redis.Node != "node-b" ||
		redis.NetNS != "/run/netns/plx-ab12-data-redis" || len(redis.Addrs) != 2 || redis.Labels["app"] != "redis" {
		t.Errorf("redis: %+v", redis)
	}
	ports := []meta.Port{{Name: "dns", Number: 53, Proto: flow.ProtoUDP}, {Name: "dns-tcp", Number: 53, Proto: flow.ProtoTCP}}
	if dns := byKey[meta.Key{Kind: meta.Pod, Namespace: "platform", Name: l.Find("platform/dns").Name}]; dns == nil || !cmp.Equal(dns.Ports, ports) {
		t.Errorf("dns: %+v", dns)
	}
	if ns := byKey[meta.Key{Kind: meta.Namespace, Name: "data"}]; ns == nil || ns.Labels["kubernetes.io/metadata.name"] != "data" {
		t.Errorf("namespace data: %+v", ns)
	}
	if filepath.Base(byKey[meta.Key{Kind: meta.Node, Name: "node-a"}].NetNS) != "plx-ab12-node-a" {
		t.Error("node-a has no network namespace")
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		name   string
		config Config
		want   string
	}{
		{"default", Config{}, ""},
		{"too many nodes", Config{Nodes: 5}, "lab: nodes must be 1 to 4, not 5"},
		{"too few nodes", Config{Nodes: -1}, "lab: nodes must be 1 to 4, not -1"},
		{"too fast", Config{Rate: 1e6}, "lab: rate must be 0.1 to 200 requests per second, not 1e+06"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if err := test.config.Validate(); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
