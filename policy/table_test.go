package policy_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/policytest"
)

// dump returns the entries and prefixes of c as text, tables left out.
func dump(c *policy.Compiled) []string {
	var list []string
	for e, rule := range c.Entries {
		peer := "any"
		switch e.Kind {
		case policy.PeerIdentity:
			peer = "?"
			for a, id := range c.Peers {
				if id == e.Peer && a.Is4() {
					peer = a.String()
				}
			}
		case policy.PeerSet:
			peer = fmt.Sprint("set", e.Peer)
		case policy.PeerService:
			for k, number := range c.Services {
				if number == e.Peer {
					peer = fmt.Sprintf("service %s %d/%s", k.Addr, k.Port, k.Proto)
				}
			}
		}
		_, rest, _ := strings.Cut(c.Rules[rule].Text, "/")
		name, _, _ := strings.Cut(rest, ":")
		list = append(list, fmt.Sprintf("%s %d:%d/%d %s", peer, e.Proto, e.Port, e.Bits, name))
	}
	for p, set := range c.CIDRs {
		list = append(list, fmt.Sprintf("%s/%d set%d", p.Addr, p.Bits, set))
	}
	slices.Sort(list)
	return list
}

func TestEntries(t *testing.T) {
	const api = "  podSelector: {matchLabels: {app: api}}\n"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"isolation alone", spec("p", api), nil},
		{"a rule for everything leaves no other", spec("p", api+"  ingress: [{from: [{namespaceSelector: {}}, {ipBlock: {cidr: 0.0.0.0/0}}]}, {ports: [{port: 80}]}, {}]"),
			[]string{"any 0:0/0 p ingress[2]"}},
		{"a range is its prefixes", spec("p", api+"  ingress: [{ports: [{port: 79, endPort: 97}]}]"),
			[]string{"any 6:79/24 p ingress[0]", "any 6:80/20 p ingress[0]", "any 6:96/23 p ingress[0]"}},
		{"all ports as a range", spec("p", api+"  ingress: [{ports: [{port: 1, endPort: 65535}, {}]}]"),
			[]string{"any 6:0/8 p ingress[0]"}},
		{"what a wider rule has is not repeated", spec("p", api+"  ingress: [{ports: [{port: 80}]}, {ports: [{port: 64, endPort: 127}]}, {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 81}, {port: 8080}]}]"),
			[]string{"10.0.1.1 6:8080/24 p ingress[2]", "10.0.2.1 6:8080/24 p ingress[2]", "any 6:64/18 p ingress[1]"}},
		{"blocks", spec("p", api+"  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}, {from: [{ipBlock: {cidr: 10.1.2.0/24}}], ports: [{port: 80}]}]"),
			[]string{"10.0.0.0/104 set1", "10.1.0.0/112 set0", "10.1.2.0/120 set2", "set1 0:0/0 p ingress[0]", "set2 6:80/24 p ingress[1]"}},
		{"::/0", spec("p", api+"  ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]"),
			[]string{"0.0.0.0/96 set0", "::/0 set1", "set1 0:0/0 p ingress[0]"}},
		{"ports of peers", spec("p", api+"  policyTypes: [Egress]\n  egress: [{to: [{podSelector: {}}, {ipBlock: {cidr: 10.0.1.4/31}}], ports: [{port: http}]}]"),
			[]string{"10.0.1.1 6:8080/24 p egress[0]", "10.0.1.4/128 set1", "10.0.2.1 6:9090/24 p egress[0]",
				"service 10.96.0.1 80/TCP 0:0/0 p egress[0]", "service fd00:96::1 80/TCP 0:0/0 p egress[0]", "set1 6:8080/24 p egress[0]"}},
		{"services whose backends are all allowed, by the first one's rule", spec("p", api+"  policyTypes: [Egress]\n  egress: [{ports: [{port: 9090}, {port: 80}]}, {ports: [{port: 8080}]}]"),
			[]string{"any 6:80/24 p egress[0]", "any 6:8080/24 p egress[1]", "any 6:9090/24 p egress[0]",
				"service 10.96.0.1 80/TCP 0:0/0 p egress[1]", "service 10.96.0.2 80/TCP 0:0/0 p egress[0]", "service fd00:96::1 80/TCP 0:0/0 p egress[1]"}},
		{"no service by its address", spec("p", api+"  policyTypes: [Egress]\n  egress: [{to: [{ipBlock: {cidr: 10.96.0.0/16}}]}]"),
			[]string{"10.96.0.0/112 set1", "set1 0:0/0 p egress[0]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := dump(policy.Compile(policy.Input{Policies: read(t, c.text), Inventory: shop(), Node: "n2"}))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEndpointsShareTables(t *testing.T) {
	inv := policy.Inventory{}
	for i := range 50 {
		inv.Endpoints = append(inv.Endpoints, policy.Endpoint{Namespace: "shop", Name: fmt.Sprint("p", i), Node: "n1",
			Labels: map[string]string{"app": "web", "pod-template-hash": fmt.Sprint(i)}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}})
	}
	c := policy.Compile(policy.Input{Policies: read(t, spec("p", "  podSelector: {}\n  ingress: [{from: [{podSelector: {}}]}]")), Inventory: inv, Node: "n1"})
	if len(c.Endpoints) != 50 || len(c.Entries) != 1 {
		t.Errorf("%d endpoints, %d entries", len(c.Endpoints), len(c.Entries))
	}
	for key, r := range c.Endpoints {
		if want := meta.Identity("shop", map[string]string{"app": "web"}); r.Identity != want || r.Tables[policy.Egress] != 0 || r.Deny[policy.Egress] != 0 {
			t.Errorf("%v: %+v, want identity %d", key, r, want)
		}
	}
}

// TestSharedIdentityLetsNobodyIn allows one of two label sets that have the same number.
func TestSharedIdentityLetsNobodyIn(t *testing.T) {
	twins := [2]string{"app385168", "app1025502"}
	if id := func(app string) uint32 { return meta.Identity("shop", map[string]string{"app": app}) }; id(twins[0]) != id(twins[1]) {
		t.Fatal("these labels no longer have the same number: search for others")
	}
	pod := func(name, app string, last byte) policy.Endpoint {
		return policy.Endpoint{Namespace: "shop", Name: name, Node: "n1", Labels: map[string]string{"app": app}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, last})}}
	}
	inv := policy.Inventory{Endpoints: []policy.Endpoint{pod("web", "web", 1), pod("a", twins[0], 2), pod("b", twins[1], 3)}}
	for i, app := range twins {
		c := policy.Compile(policy.Input{Inventory: inv, Node: "n1",
			Policies: read(t, spec("p", "  podSelector: {matchLabels: {app: web}}\n  ingress: [{from: [{podSelector: {matchLabels: {app: "+app+"}}}]}]"))})
		for j := range twins {
			peer := flow.AddrFrom(inv.Endpoints[1+j].Addrs[0])
			v := c.Decide(policy.EndpointKey{Namespace: "shop", Name: "web"}, policy.Ingress, flow.AddrFrom(inv.Endpoints[0].Addrs[0]), peer, flow.ProtoTCP, 80)
			if v.Allowed != (i == j) {
				t.Errorf("only %s is allowed: %s gets %v", app, twins[j], v.Allowed)
			}
		}
	}
}

// TestRuleNumbersStay adds a policy that comes first by name: the numbers and tables of others do not change.
func TestRuleNumbersStay(t *testing.T) {
	one := spec("m", "  podSelector: {matchLabels: {app: api}}\n  ingress: [{from: [{podSelector: {}}]}]")
	other := spec("a", "  podSelector: {matchLabels: {app: web}}\n  ingress: [{}]")
	in := policy.Input{Policies: read(t, one), Inventory: shop(), Node: "n2"}
	before := policy.Compile(in)
	in.Policies = read(t, other+one)
	after := policy.Compile(in)
	changes := policy.Diff(before, after)
	if len(changes.Endpoints) != 1 || changes.Endpoints[0].Key.Name != "web2" || len(changes.DropEntries) != 0 || len(changes.Entries) != 1 {
		t.Errorf("%+v", changes)
	}
	for id, info := range before.Rules {
		if diff := cmp.Diff(info, after.Rules[id]); diff != "" {
			t.Error(diff)
		}
	}
	all := policy.Diff(nil, after)
	if len(all.Entries) != len(after.Entries) || len(all.Endpoints) != len(after.Endpoints) || len(all.Peers) != len(after.Peers) || len(all.CIDRs) != len(after.CIDRs) {
		t.Errorf("from nothing: %+v", all)
	}
}

// TestNewPodTouchesOnlyItsEntries: a pod with new labels is added to the tables that hold its peers, in place.
func TestNewPodTouchesOnlyItsEntries(t *testing.T) {
	in := policy.Input{Policies: read(t, spec("p", "  podSelector: {matchLabels: {app: api}}\n  ingress: [{from: [{podSelector: {}}]}]")), Inventory: shop(), Node: "n2"}
	before := policy.Compile(in)
	in.Inventory.Endpoints = append(slices.Clone(in.Inventory.Endpoints), policy.Endpoint{Namespace: "shop", Name: "new", Node: "n1",
		Labels: map[string]string{"app": "new"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.99")}})
	c := policy.Diff(before, policy.Compile(in))
	if len(c.Entries) != 1 || len(c.Peers) != 1 || len(c.Endpoints)+len(c.DropEntries)+len(c.DropPeers) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestNamedPortOfBlock: the pods of a block are in its sets by address, so other pods make another table.
func TestNamedPortOfBlock(t *testing.T) {
	in := policy.Input{Inventory: shop(), Node: "n2", Policies: read(t, spec("p",
		"  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{to: [{ipBlock: {cidr: 10.0.1.0/24}}], ports: [{port: http}]}]"))}
	before := policy.Compile(in)
	in.Inventory.Endpoints = slices.Clone(in.Inventory.Endpoints)
	in.Inventory.Endpoints[0].Ports = []meta.Port{{Name: "http", Number: 7000, Proto: flow.ProtoTCP}}
	after := policy.Compile(in)
	if c := policy.Diff(before, after); len(c.Endpoints) != 1 || c.Endpoints[0].Key.Name != "api" || len(c.CIDRs) != 3 || len(c.DropCIDRs) != 3 {
		t.Errorf("%+v", c)
	}
}

// TestCoveredRulesDoNothing takes the rules that Check calls without effect out of random policies.
func TestCoveredRulesDoNothing(t *testing.T) {
	s := policytest.Seed(t)
	taken := 0
	for n := range max(*worldFlag/5, 1) {
		r := policytest.NewDice(s, n)
		w := policytest.RandomWorld(r)
		policies, err := w.Convert()
		if err != nil {
			t.Fatal(err)
		}
		less := policytest.World{Inventory: w.Inventory, Options: w.Options}
		for _, np := range w.Policies {
			less.Policies = append(less.Policies, np.DeepCopy())
		}
		findings := policy.Check(policies, nil)
		for _, f := range slices.Backward(findings) { // the last first: indexes stay right
			taken += take(less.Policies, f)
		}
		full, err := build(&w)
		if err != nil {
			t.Fatal(err)
		}
		short, err := build(&less)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range w.Probes(r, 60) {
			if a, b := full.engine.Decide(query(p)), short.engine.Decide(query(p)); a.Allowed != b.Allowed {
				t.Fatalf("world %d of seed %d: %s: %s, without %v: %s\n%s", n, s, p, a, findings, b, w.Text(p))
			}
		}
	}
	t.Logf("%d rules taken out", taken)
	if taken == 0 && *worldFlag >= 100 {
		t.Error("no rule was covered")
	}
}

// take removes the rule that f calls covered, and returns how many it removed.
func take(policies []*networkingv1.NetworkPolicy, f policy.Finding) int {
	if !strings.Contains(f.Text, "allows all that it allows") {
		return 0
	}
	i := slices.IndexFunc(policies, func(np *networkingv1.NetworkPolicy) bool {
		return np.Namespace == f.Policy.Namespace && np.Name == f.Policy.Name
	})
	spec := &policies[i].Spec
	if len(spec.PolicyTypes) == 0 { // what is left must still mean the same directions
		spec.PolicyTypes = []networkingv1.PolicyType{"Ingress"}
		if len(spec.Egress) > 0 {
			spec.PolicyTypes = append(spec.PolicyTypes, "Egress")
		}
	}
	var j int
	if n, _ := fmt.Sscanf(f.Path, "spec.ingress[%d]", &j); n == 1 {
		spec.Ingress = slices.Delete(spec.Ingress, j, j+1)
	} else if n, _ := fmt.Sscanf(f.Path, "spec.egress[%d]", &j); n == 1 {
		spec.Egress = slices.Delete(spec.Egress, j, j+1)
	}
	return 1
}

// large is a cluster of 2000 pods in 40 namespaces, each with four policies, as seen from a node with 20 of them.
func large(t testing.TB) policy.Input {
	in := policy.Input{Node: "n0"}
	for i := range 2000 {
		ns := fmt.Sprint("ns", i%40)
		in.Inventory.Endpoints = append(in.Inventory.Endpoints, policy.Endpoint{
			Namespace: ns, Name: fmt.Sprint("p", i), Node: fmt.Sprint("n", i/20), NamespaceLabels: map[string]string{"team": fmt.Sprint("t", i%4)},
			Labels: map[string]string{"app": fmt.Sprint("a", i/40%10), "pod-template-hash": fmt.Sprint(i)},
			Addrs:  []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)})},
		})
	}
	var text strings.Builder
	for i := range 40 {
		for j, body := range []string{
			"  podSelector: {}\n  policyTypes: [Ingress, Egress]",
			"  podSelector: {}\n  ingress: [{from: [{podSelector: {}}]}, {from: [{namespaceSelector: {matchLabels: {team: t0}}}], ports: [{port: 9000, endPort: 9999}]}]",
			"  podSelector: {matchLabels: {app: a1}}\n  ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 192.168.0.0/16]}}], ports: [{port: 443}]}]",
			"  podSelector: {}\n  policyTypes: [Egress]\n  egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: a0}}}], ports: [{port: 53, protocol: UDP}]}]",
		} {
			text.WriteString(strings.Replace(spec(fmt.Sprint("p", j), body), "namespace: shop", fmt.Sprint("namespace: ns", i), 1))
		}
	}
	r, err := readText(text.String())
	if err != nil {
		t.Fatal(err)
	}
	in.Policies = r
	return in
}

func TestDecideDoesNotAllocate(t *testing.T) {
	c, key, local, peer := sample(t)
	if n := testing.AllocsPerRun(100, func() { c.Decide(key, policy.Ingress, local, peer, flow.ProtoTCP, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func sample(t testing.TB) (c *policy.Compiled, key policy.EndpointKey, local, peer flow.Addr) {
	in := large(t)
	c = policy.Compile(in)
	key = slices.SortedFunc(maps.Keys(c.Endpoints), func(a, b policy.EndpointKey) int { return strings.Compare(a.Name, b.Name) })[0]
	return c, key, flow.AddrFrom(netip.MustParseAddr("10.0.0.0")), flow.AddrFrom(netip.MustParseAddr("10.0.3.1"))
}

func BenchmarkDecide(b *testing.B) {
	c, key, local, peer := sample(b)
	b.ReportAllocs()
	for b.Loop() {
		c.Decide(key, policy.Ingress, local, peer, flow.ProtoTCP, 1)
	}
}

func BenchmarkCompile(b *testing.B) {
	in := large(b)
	b.ReportAllocs()
	for b.Loop() {
		c := policy.Compile(in)
		b.ReportMetric(float64(len(c.Entries)), "entries")
		b.ReportMetric(float64(len(c.CIDRs)), "prefixes")
	}
}

func BenchmarkEngine(b *testing.B) {
	in := large(b)
	e := policy.New(in.Policies, in.Inventory, in.Options)
	q := policy.Query{Src: policy.Party{Endpoint: &in.Inventory.Endpoints[0]}, Dst: policy.Party{Endpoint: &in.Inventory.Endpoints[77]}, Proto: flow.ProtoTCP, Port: 9500}
	b.ReportAllocs()
	for b.Loop() {
		e.Decide(q)
	}
}
