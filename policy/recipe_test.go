package policy_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

// shop is a small cluster: two nodes, three namespaces.
func shop() policy.Inventory {
	addr := func(s ...string) (list []netip.Addr) {
		for _, a := range s {
			list = append(list, netip.MustParseAddr(a))
		}
		return list
	}
	pod := func(ns, name, node string, labels map[string]string, ports []meta.Port, addrs ...string) *meta.Object {
		return &meta.Object{Kind: meta.Pod, Namespace: ns, Name: name, Node: node, Labels: labels, Ports: ports, Addrs: addr(addrs...)}
	}
	forward := func(a string, port uint16, proto flow.Proto, to ...string) meta.Forward {
		f := meta.Forward{Addr: netip.MustParseAddr(a), Port: port, Proto: proto}
		for _, s := range to {
			f.To = append(f.To, netip.MustParseAddrPort(s))
		}
		return f
	}
	http := []meta.Port{{Name: "http", Number: 8080, Proto: flow.ProtoTCP}, {Name: "dns", Number: 5353, Proto: flow.ProtoUDP}}
	hostNet := pod("kube-system", "proxy", "n1", map[string]string{"app": "proxy"}, nil, "172.16.0.1")
	hostNet.HostNetwork = true
	return policy.FromMeta([]*meta.Object{
		{Kind: meta.Node, Name: "n1", Addrs: addr("172.16.0.1", "fd00:16::1")},
		{Kind: meta.Node, Name: "n2", Addrs: addr("172.16.0.2")},
		{Kind: meta.Namespace, Name: "shop", Labels: map[string]string{"team": "sales"}},
		{Kind: meta.Namespace, Name: "ops", Labels: map[string]string{"team": "ops"}},
		{Kind: meta.Service, Namespace: "shop", Name: "web", Addrs: addr("10.96.0.1"), Forwards: []meta.Forward{
			forward("10.96.0.1", 80, flow.ProtoTCP, "10.0.1.1:8080", "10.0.2.1:9090"), forward("10.96.0.1", 443, flow.ProtoTCP),
			forward("fd00:96::1", 80, flow.ProtoTCP, "[fd00:1::1]:8080"),
		}},
		{Kind: meta.Service, Namespace: "default", Name: "kubernetes", Addrs: addr("10.96.0.2"), Forwards: []meta.Forward{
			forward("10.96.0.2", 443, flow.ProtoTCP, "172.16.0.1:6443"), forward("10.96.0.2", 80, flow.ProtoTCP, "192.0.2.1:80"),
		}},
		pod("shop", "web", "n1", map[string]string{"app": "web"}, http, "10.0.1.1", "fd00:1::1"),
		pod("shop", "web2", "n2", map[string]string{"app": "web", "old": ""}, []meta.Port{{Name: "http", Number: 9090, Proto: flow.ProtoTCP}}, "10.0.2.1"),
		pod("shop", "api", "n2", map[string]string{"app": "api", "tier": "back"}, nil, "10.0.2.2", "fd00:2::2"),
		pod("ops", "mon", "n1", map[string]string{"app": "mon"}, nil, "10.0.1.3"),
		pod("ops", "web", "n1", map[string]string{"app": "web"}, http, "10.0.1.4"),
		pod("other", "x", "n2", nil, nil, "10.0.2.5"),
		pod("twin", "a", "n1", map[string]string{"app": "twin"}, http, "10.0.1.6"),
		pod("twin", "b", "n2", map[string]string{"app": "twin"}, []meta.Port{{Name: "http", Number: 9090, Proto: flow.ProtoTCP}}, "10.0.2.6"),
		hostNet,
	})
}

// ask answers "shop/api -> shop/web 80/TCP"; a side is a pod or an address. It asks the engine and the datapath.
func ask(t *testing.T, policies []policy.Policy, inv policy.Inventory, opts policy.Options, line string) policy.Decision {
	t.Helper()
	f := strings.Fields(line)
	number, proto, _ := strings.Cut(f[3], "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	e := policy.New(policies, inv, opts)
	party := func(s string) policy.Party {
		if ns, name, isPod := strings.Cut(s, "/"); isPod {
			if p := e.Find(ns, name); p != nil {
				return policy.Party{Endpoint: p}
			}
			t.Fatalf("no pod %s", s)
		}
		return policy.Party{Addr: netip.MustParseAddr(s)}
	}
	protos := map[string]flow.Proto{"TCP": flow.ProtoTCP, "UDP": flow.ProtoUDP, "SCTP": flow.ProtoSCTP, "ICMP": flow.ProtoICMP}
	q := policy.Query{Src: party(f[0]), Dst: party(f[2]), Proto: protos[proto], Port: uint16(port)}
	d := e.Decide(q)
	for side, at := range map[*policy.Side][2]policy.Party{&d.Egress: {q.Src, q.Dst}, &d.Ingress: {q.Dst, q.Src}} {
		if pod := at[0].Endpoint; pod != nil && !pod.HostNetwork && pod.Addrs[0].Is4() == address(at[1]).Is4() {
			c := policy.Compile(policy.Input{Policies: policies, Inventory: inv, Node: pod.Node, Options: opts})
			v := c.Decide(policy.EndpointKey{Namespace: pod.Namespace, Name: pod.Name}, side.Direction,
				flow.AddrFrom(pod.Addrs[0]), flow.AddrFrom(address(at[1])), q.Proto, q.Port)
			if v.Allowed != side.Allowed {
				t.Errorf("%s: %s: engine says %s, the datapath %s", line, side.Direction, side, c.Rules[v.Rule].Text)
			}
		}
	}
	return d
}

func address(p policy.Party) netip.Addr {
	if p.Addr.IsValid() {
		return p.Addr
	}
	return p.Endpoint.Addrs[0]
}

func spec(name, body string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: shop}\nspec:\n%s\n---\n", name, body)
}

func read(t *testing.T, text string) []policy.Policy {
	t.Helper()
	policies, err := readText(text)
	if err != nil {
		t.Fatal(err)
	}
	return policies
}

func readText(text string) ([]policy.Policy, error) {
	r, err := load.Reader("test.yaml", strings.NewReader(text), load.Options{})
	return r.Policies, err
}

func TestRecipes(t *testing.T) {
	inv := shop()
	const web = "  podSelector: {matchLabels: {app: web}}\n"
	for _, c := range []struct {
		name, text      string
		allowed, denied []string
	}{
		{"no policy", "", []string{"ops/mon -> shop/web 80/TCP", "8.8.8.8 -> shop/web 1/UDP"}, nil},
		{"deny all ingress", spec("p", "  podSelector: {}"),
			[]string{"shop/web -> ops/mon 80/TCP", "172.16.0.1 -> shop/web 80/TCP", "kube-system/proxy -> shop/web 80/TCP", "shop/web -> shop/web 80/TCP"},
			[]string{"ops/mon -> shop/web 80/TCP", "shop/api -> shop/web 80/TCP", "172.16.0.2 -> shop/web 80/TCP", "8.8.8.8 -> shop/web 80/TCP", "8.8.8.8 -> shop/web 0/ICMP"}},
		{"spec is missing", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n",
			[]string{"shop/api -> ops/mon 80/TCP"}, []string{"ops/mon -> shop/web 80/TCP"}},
		{"deny all egress", spec("p", "  podSelector: {}\n  policyTypes: [Egress]"),
			[]string{"ops/mon -> shop/web 80/TCP"}, []string{"shop/web -> ops/mon 80/TCP", "shop/web -> 8.8.8.8 53/UDP", "shop/web -> 172.16.0.1 10250/TCP"}},
		{"allow all ingress", spec("a", "  podSelector: {}") + spec("b", "  podSelector: {}\n  ingress: [{}]"),
			[]string{"ops/mon -> shop/web 80/TCP", "8.8.8.8 -> shop/web 0/ICMP", "shop/web -> 8.8.8.8 1/TCP"}, nil},
		{"an egress rule isolates both ways", spec("p", web+"  egress: [{to: [{ipBlock: {cidr: 8.8.8.0/24}}]}]"),
			[]string{"shop/web -> 8.8.8.8 53/UDP"}, []string{"ops/mon -> shop/web 80/TCP", "shop/web -> 9.9.9.9 53/UDP"}},
		{"egress only by policyTypes", spec("p", web+"  policyTypes: [Egress]\n  ingress: [{ports: [{port: 1}]}]\n  egress: [{}]"),
			[]string{"ops/mon -> shop/web 80/TCP", "shop/web -> 9.9.9.9 53/UDP"}, nil},
		{"from pods of the namespace", spec("p", web+"  ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]"),
			[]string{"shop/api -> shop/web 80/TCP"}, []string{"shop/web2 -> shop/web 80/TCP", "ops/mon -> shop/web 80/TCP"}},
		{"from all pods of the namespace", spec("p", web+"  ingress: [{from: [{podSelector: {}}]}]"),
			[]string{"shop/api -> shop/web 80/TCP", "shop/web2 -> shop/web 80/TCP"}, []string{"ops/mon -> shop/web 80/TCP", "8.8.8.8 -> shop/web 80/TCP"}},
		{"from a namespace", spec("p", web+"  ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}]"),
			[]string{"ops/mon -> shop/web 80/TCP"}, []string{"shop/api -> shop/web 80/TCP", "other/x -> shop/web 80/TCP"}},
		{"from a namespace by its name", spec("p", web+"  ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}]}]"),
			[]string{"other/x -> shop/web 80/TCP"}, []string{"ops/mon -> shop/web 80/TCP"}},
		{"from all namespaces", spec("p", web+"  ingress: [{from: [{namespaceSelector: {}}]}]"),
			[]string{"ops/mon -> shop/web 80/TCP", "shop/api -> shop/web 80/TCP"}, []string{"8.8.8.8 -> shop/web 80/TCP", "172.16.0.2 -> shop/web 80/TCP"}},
		{"both selectors together", spec("p", web+"  ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}, podSelector: {matchLabels: {app: mon}}}]}]"),
			[]string{"ops/mon -> shop/web 80/TCP"}, []string{"ops/web -> shop/web 80/TCP", "shop/api -> shop/web 80/TCP"}},
		{"both selectors apart", spec("p", web+"  ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}, {podSelector: {matchLabels: {app: api}}}]}]"),
			[]string{"ops/mon -> shop/web 80/TCP", "ops/web -> shop/web 80/TCP", "shop/api -> shop/web 80/TCP"}, []string{"other/x -> shop/web 80/TCP"}},
		{"expressions", spec("p", web+"  ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}, {key: tier, operator: Exists}, {key: old, operator: DoesNotExist}]}}]}]"),
			[]string{"shop/api -> shop/web 80/TCP"}, []string{"shop/web2 -> shop/web 80/TCP"}},
		{"ports", spec("p", web+"  ingress: [{ports: [{port: 80}, {port: 53, protocol: UDP}, {port: 9, protocol: SCTP}]}]"),
			[]string{"ops/mon -> shop/web 80/TCP", "8.8.8.8 -> shop/web 53/UDP", "other/x -> shop/web 9/SCTP"},
			[]string{"ops/mon -> shop/web 80/UDP", "ops/mon -> shop/web 53/TCP", "ops/mon -> shop/web 81/TCP", "ops/mon -> shop/web 0/ICMP"}},
		{"any port of a protocol", spec("p", web+"  ingress: [{ports: [{protocol: UDP}]}]"),
			[]string{"ops/mon -> shop/web 1/UDP", "ops/mon -> shop/web 65535/UDP"}, []string{"ops/mon -> shop/web 1/TCP", "ops/mon -> shop/web 0/ICMP"}},
		{"port range", spec("p", web+"  ingress: [{ports: [{port: 1000, endPort: 2001}]}]"),
			[]string{"ops/mon -> shop/web 1000/TCP", "ops/mon -> shop/web 1024/TCP", "ops/mon -> shop/web 2001/TCP"},
			[]string{"ops/mon -> shop/web 999/TCP", "ops/mon -> shop/web 2002/TCP", "ops/mon -> shop/web 1500/UDP"}},
		{"named port, ingress", spec("p", web+"  ingress: [{ports: [{port: http}]}]"),
			[]string{"ops/mon -> shop/web 8080/TCP", "ops/mon -> shop/web2 9090/TCP"}, []string{"ops/mon -> shop/web 9090/TCP", "ops/mon -> shop/web2 8080/TCP"}},
		{"named port, egress", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{ports: [{port: http}, {port: dns, protocol: UDP}]}]"),
			[]string{"shop/api -> shop/web 8080/TCP", "shop/api -> shop/web2 9090/TCP", "shop/api -> ops/web 5353/UDP"},
			[]string{"shop/api -> shop/web 9090/TCP", "shop/api -> 8.8.8.8 8080/TCP", "shop/api -> ops/web 5353/TCP"}},
		{"named port of replicas, egress", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: twin}}}], ports: [{port: http}]}]"),
			[]string{"shop/api -> twin/a 8080/TCP", "shop/api -> twin/b 9090/TCP"}, []string{"shop/api -> twin/a 9090/TCP", "shop/api -> twin/b 8080/TCP", "shop/api -> twin/a 8080/UDP"}},
		{"block with exceptions", spec("p", web+"  ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.64/26, 203.0.113.7/32]}}]}]"),
			[]string{"203.0.113.1 -> shop/web 80/TCP", "203.0.113.128 -> shop/web 80/TCP"},
			[]string{"203.0.113.64 -> shop/web 80/TCP", "203.0.113.127 -> shop/web 80/TCP", "203.0.113.7 -> shop/web 80/TCP", "203.0.112.1 -> shop/web 80/TCP", "2001:db8::1 -> shop/web 80/TCP"}},
		{"an exception is not a denial", spec("a", web+"  ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.0/24]}}]}]") +
			spec("b", web+"  ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/25}}]}]"),
			[]string{"203.0.113.1 -> shop/web 80/TCP", "8.8.8.8 -> shop/web 80/TCP"}, []string{"203.0.113.200 -> shop/web 80/TCP"}},
		{"all of IPv6 is none of IPv4", spec("p", web+"  ingress: [{from: [{ipBlock: {cidr: '::/0', except: ['2001:db8::/32']}}]}]"),
			[]string{"2001:db9::1 -> shop/web 80/TCP"}, []string{"8.8.8.8 -> shop/web 80/TCP", "2001:db8::1 -> shop/web 80/TCP"}},
		{"a block holds pods and nodes too", spec("p", web+"  ingress: [{from: [{ipBlock: {cidr: 10.0.1.0/24}}, {ipBlock: {cidr: 172.16.0.0/16}}]}]"),
			[]string{"ops/mon -> shop/web 80/TCP", "172.16.0.2 -> shop/web 80/TCP"}, []string{"shop/api -> shop/web 80/TCP"}},
		{"both sides must allow", spec("a", web) + spec("b", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]"),
			[]string{"172.16.0.1 -> shop/web 80/TCP"}, []string{"shop/api -> shop/web 80/TCP", "shop/api -> ops/mon 80/TCP"}},
		{"policies of another namespace", strings.Replace(spec("p", "  podSelector: {}"), "namespace: shop", "namespace: ops", 1),
			[]string{"ops/mon -> shop/web 80/TCP"}, []string{"shop/api -> ops/mon 80/TCP"}},
		{"to a service, by selector", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]"),
			[]string{"shop/api -> 10.96.0.1 80/TCP", "ops/mon -> 10.96.0.1 80/TCP", "8.8.8.8 -> 10.96.0.1 80/TCP"},
			[]string{"shop/api -> 10.96.0.1 81/TCP", "shop/api -> 10.96.0.1 80/UDP", "shop/api -> 10.96.0.1 0/ICMP", "shop/api -> 10.96.0.1 443/TCP", "shop/api -> 10.96.0.2 443/TCP"}},
		{"to a service, not all backends", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{to: [{podSelector: {matchLabels: {old: ''}}}]}]"),
			[]string{"shop/api -> shop/web2 80/TCP"}, []string{"shop/api -> 10.96.0.1 80/TCP"}},
		{"to a service, by the targets' ports", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{ports: [{port: 8080}]}, {ports: [{port: 9090}]}]"),
			[]string{"shop/api -> 10.96.0.1 80/TCP", "shop/api -> 10.96.0.1 8080/TCP"}, []string{"shop/api -> 10.96.0.2 80/TCP"}},
		{"to a service, not by its own port", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{ports: [{port: 80}]}]"),
			[]string{"shop/api -> 10.96.0.2 80/TCP"}, []string{"shop/api -> 10.96.0.1 80/TCP"}},
		{"to a service, by named port", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]"),
			[]string{"shop/api -> 10.96.0.1 80/TCP"}, []string{"shop/api -> 10.96.0.2 443/TCP"}},
		{"to a service, by block", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{to: [{ipBlock: {cidr: 172.16.0.0/16}}, {ipBlock: {cidr: 10.96.0.0/12}}]}]"),
			[]string{"shop/api -> 10.96.0.2 443/TCP", "shop/api -> 10.96.0.1 81/TCP"}, []string{"shop/api -> 10.96.0.1 80/TCP", "shop/api -> 10.96.0.2 80/TCP"}},
		{"to a service of its own", spec("p", "  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress: [{to: [{podSelector: {matchLabels: {old: ''}}}]}]"),
			[]string{"shop/web -> shop/web 80/TCP", "shop/web -> shop/web2 80/TCP"}, []string{"shop/web -> 10.96.0.1 80/TCP"}},
		{"to a service without backends", spec("p", "  podSelector: {matchLabels: {app: api}}\n  policyTypes: [Egress]\n  egress: [{}]"),
			[]string{"shop/api -> 10.96.0.1 80/TCP", "shop/api -> 10.96.0.1 81/TCP", "ops/mon -> 10.96.0.1 443/TCP"}, []string{"shop/api -> 10.96.0.1 443/TCP"}},
		{"a service whose backend does not let in", spec("p", "  podSelector: {matchLabels: {old: ''}}"),
			nil, []string{"shop/api -> 10.96.0.1 80/TCP", "8.8.8.8 -> 10.96.0.1 80/TCP"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			policies := read(t, c.text)
			for want, lines := range map[bool][]string{true: c.allowed, false: c.denied} {
				for _, line := range lines {
					if d := ask(t, policies, inv, policy.Options{}, line); d.Allowed != want {
						t.Errorf("%s: %s", line, d)
					}
				}
			}
		})
	}
}

func TestBlocksSkipPods(t *testing.T) {
	policies := read(t, spec("p", "  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]"))
	for line, want := range map[string]bool{
		"ops/mon -> shop/web 80/TCP": false, "10.0.1.3 -> shop/web 80/TCP": false, "8.8.8.8 -> shop/web 80/TCP": true, "172.16.0.2 -> shop/web 80/TCP": true,
	} {
		if d := ask(t, policies, shop(), policy.Options{BlocksSkipPods: true}, line); d.Allowed != want {
			t.Errorf("%s: %s", line, d)
		}
	}
}

// TestReasons holds the words of decisions.
func TestReasons(t *testing.T) {
	policies := read(t, spec("a", "  podSelector: {}")+spec("b", "  podSelector: {matchLabels: {app: web}}\n  ingress: [{ports: [{port: 80}]}, {ports: [{port: 81}]}, {ports: [{port: 80, endPort: 90}]}]"))
	for line, want := range map[string]string{
		"ops/mon -> shop/web 79/TCP":    "denied: default deny because of NetworkPolicy shop/a and NetworkPolicy shop/b",
		"ops/mon -> shop/web 80/TCP":    "allowed by NetworkPolicy shop/b ingress[0] and NetworkPolicy shop/b ingress[2]",
		"ops/mon -> ops/web 80/TCP":     "allowed: no policy selects the pod",
		"172.16.0.1 -> shop/web 80/TCP": "allowed: traffic from the pod's own node",
		"shop/web -> shop/web 80/TCP":   "allowed: traffic of a pod to itself",
		"shop/web -> 8.8.8.8 80/TCP":    "allowed: policies do not bind what is not a pod",
	} {
		if got := ask(t, policies, shop(), policy.Options{}, line).Ingress.String(); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
