package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

func TestExplain(t *testing.T) {
	inv := shop()
	policies := read(t, spec("api-only", `  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}]
    ports: [{port: http}, {port: 443}]
  - from: [{namespaceSelector: {matchLabels: {team: ops}}}]
    ports: [{port: 9000, endPort: 9100}]`)+spec("default-deny", "  podSelector: {}")+spec("old", "  podSelector: {matchExpressions: [{key: old, operator: Exists}]}"))
	e := policy.New(policies, inv, policy.Options{})
	out := strings.Replace(spec("out", "  podSelector: {}\n  policyTypes: [Egress]\n  egress: [{to: [{ipBlock: {cidr: 10.0.1.0/24}}]}]"), "namespace: shop", "namespace: ops", 1)
	services := policy.New(read(t, out+spec("in", "  podSelector: {matchLabels: {app: web}}\n  ingress: [{ports: [{port: http}]}]")), inv, policy.Options{})
	pod := func(ns, name string) policy.Party { return policy.Party{Endpoint: e.Find(ns, name)} }
	for _, c := range []struct {
		name string
		q    policy.Query
		want string
	}{
		{"denied", policy.Query{Src: pod("ops", "mon"), Dst: pod("shop", "web"), Proto: flow.ProtoTCP, Port: 443}, `
ops/mon (10.0.1.3 on n1) -> shop/web (10.0.1.1 on n1), port 443/TCP

egress of ops/mon: allowed: no policy selects the pod

ingress of shop/web: denied: default deny because of NetworkPolicy shop/api-only and NetworkPolicy shop/default-deny
  NetworkPolicy shop/api-only selects it (pods app=web)
    ingress[0] does not match: from[0]: it selects pods of namespace shop, and ops/mon is not there; from[1]: 10.0.1.3 is in 10.0.1.0/24, excepted from 10.0.0.0/8
    ingress[1] does not match: port 443/TCP is not among 9000-9100/TCP
  NetworkPolicy shop/default-deny selects it (all pods of the namespace)
    it has no ingress rule
  NetworkPolicy shop/old does not select it: shop/web has not old

verdict: denied at the destination: default deny because of NetworkPolicy shop/api-only and NetworkPolicy shop/default-deny
`},
		{"allowed", policy.Query{Src: pod("shop", "api"), Dst: pod("shop", "web"), Proto: flow.ProtoTCP, Port: 8080}, `
shop/api (10.0.2.2 on n2) -> shop/web (10.0.1.1 on n1), port 8080/TCP

egress of shop/api: allowed: no policy selects the pod
  NetworkPolicy shop/api-only says nothing of egress
  NetworkPolicy shop/default-deny says nothing of egress
  NetworkPolicy shop/old says nothing of egress

ingress of shop/web: allowed by NetworkPolicy shop/api-only ingress[0]
  NetworkPolicy shop/api-only selects it (pods app=web)
    ingress[0] matches: from pods app=api of this namespace or 10.0.0.0/8 except 10.0.1.0/24, ports http/TCP, 443/TCP
    ingress[1] does not match: from[0]: namespace shop has not team=ops
  NetworkPolicy shop/default-deny selects it (all pods of the namespace)
    it has no ingress rule
  NetworkPolicy shop/old does not select it: shop/web has not old

verdict: allowed
`},
		{"named port elsewhere", policy.Query{Src: pod("shop", "api"), Dst: pod("shop", "web"), Proto: flow.ProtoTCP, Port: 80}, `
shop/api (10.0.2.2 on n2) -> shop/web (10.0.1.1 on n1), port 80/TCP

egress of shop/api: allowed: no policy selects the pod
  NetworkPolicy shop/api-only says nothing of egress
  NetworkPolicy shop/default-deny says nothing of egress
  NetworkPolicy shop/old says nothing of egress

ingress of shop/web: denied: default deny because of NetworkPolicy shop/api-only and NetworkPolicy shop/default-deny
  NetworkPolicy shop/api-only selects it (pods app=web)
    ingress[0] does not match: port 80/TCP is not among http/TCP (8080 of shop/web), 443/TCP
    ingress[1] does not match: from[0]: namespace shop has not team=ops
  NetworkPolicy shop/default-deny selects it (all pods of the namespace)
    it has no ingress rule
  NetworkPolicy shop/old does not select it: shop/web has not old

verdict: denied at the destination: default deny because of NetworkPolicy shop/api-only and NetworkPolicy shop/default-deny
`},
		{"own node", policy.Query{Src: policy.Party{Addr: netip.MustParseAddr("fd00:16::1")}, Dst: pod("shop", "web"), Proto: flow.ProtoTCP, Port: 80}, `
node n1 (fd00:16::1) -> shop/web (fd00:1::1 on n1), port 80/TCP

egress of node n1: allowed: policies do not bind what is not a pod

ingress of shop/web: allowed: traffic from the pod's own node
  NetworkPolicy shop/api-only selects it (pods app=web)
    its rules are not asked: node n1 is the pod's own node
  NetworkPolicy shop/default-deny selects it (all pods of the namespace)
    its rules are not asked: node n1 is the pod's own node
  NetworkPolicy shop/old does not select it: shop/web has not old

verdict: allowed
`},
		{"service", policy.Query{Src: pod("ops", "mon"), Dst: policy.Party{Addr: netip.MustParseAddr("10.96.0.1")}, Proto: flow.ProtoTCP, Port: 80}, `
ops/mon (10.0.1.3 on n1) -> service shop/web (10.96.0.1), port 80/TCP

service shop/web: backend shop/web (10.0.1.1 on n1), port 8080/TCP: allowed

egress of ops/mon: allowed by NetworkPolicy ops/out egress[0]
  NetworkPolicy ops/out selects it (all pods of the namespace)
    egress[0] matches: to 10.0.1.0/24, any port

ingress of shop/web: allowed by NetworkPolicy shop/in ingress[0]
  NetworkPolicy shop/in selects it (pods app=web)
    ingress[0] matches: from anywhere, ports http/TCP

service shop/web: backend shop/web2 (10.0.2.1 on n2), port 9090/TCP: denied at the source: default deny because of NetworkPolicy ops/out

egress of ops/mon: denied: default deny because of NetworkPolicy ops/out
  NetworkPolicy ops/out selects it (all pods of the namespace)
    egress[0] does not match: to[0]: 10.0.2.1 is outside 10.0.1.0/24

ingress of shop/web2: allowed by NetworkPolicy shop/in ingress[0]
  NetworkPolicy shop/in selects it (pods app=web)
    ingress[0] matches: from anywhere, ports http/TCP

verdict: denied at the source: default deny because of NetworkPolicy ops/out
  all backends of a service have to be allowed, and not so: backend shop/web2 (10.0.2.1 on n2), port 9090/TCP
`},
		{"service without backends", policy.Query{Src: pod("ops", "mon"), Dst: policy.Party{Addr: netip.MustParseAddr("10.96.0.1")}, Proto: flow.ProtoTCP, Port: 443}, `
ops/mon (10.0.1.3 on n1) -> service shop/web (10.96.0.1), port 443/TCP

egress of ops/mon: denied: default deny because of NetworkPolicy ops/out
  the service has no backend, so no rule can allow it

verdict: denied at the source: default deny because of NetworkPolicy ops/out
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := e
			if strings.HasPrefix(c.name, "service") {
				e = services
			}
			x := e.Explain(c.q)
			if diff := cmp.Diff(strings.Split(strings.Trim(c.want, "\n"), "\n"), x.Lines); diff != "" {
				t.Error(diff)
			}
			if d := e.Decide(c.q); !cmp.Equal(d, x.Decision) {
				t.Errorf("explained %s, decided %s", x.Decision, d)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	inv := shop()
	policies := read(t, spec("a", `  podSelector: {matchLabels: {app: gone}}
  policyTypes: [Egress]
  ingress: [{}]
  egress:
  - to: [{podSelector: {matchLabels: {app: webb}}}, {namespaceSelector: {matchLabels: {team: nobody}}}]
    ports: [{port: grpc}, {port: http}]`)+spec("b", `  podSelector: {matchLabels: {app: web}}
  ingress:
  - ports: [{port: 80}, {port: 443}]
  - {from: [{podSelector: {}}], ports: [{port: 80}]}
  - {from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.1.0/24]}}]}
  - {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.1.0/25]}}]}
  - {from: [{ipBlock: {cidr: 10.1.1.0/25}}]}
  - {from: [{ipBlock: {cidr: 10.1.1.0/25}}]}
  - {from: [{podSelector: {matchLabels: {app: api, tier: back}}}]}
  - {from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 80, protocol: UDP}]}
  - {from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: api}}}]}`)+spec("c", "  podSelector: {}\n  ingress: [{}]"))
	want := []string{
		"test.yaml document 1: NetworkPolicy shop/a: spec.podSelector selects no pod: pods app=gone",
		"test.yaml document 1: NetworkPolicy shop/a: spec.ingress has no effect: spec.policyTypes does not list it",
		"test.yaml document 1: NetworkPolicy shop/a: spec.egress[0].to[0] selects no pod: pods app=webb of this namespace",
		"test.yaml document 1: NetworkPolicy shop/a: spec.egress[0].to[1] selects no namespace that has pods: team=nobody",
		"test.yaml document 1: NetworkPolicy shop/a: spec.egress[0].ports[0] names port grpc/TCP, which no destination pod has",
		"test.yaml document 2: NetworkPolicy shop/b: spec.ingress[1] has no effect: spec.ingress[0] allows all that it allows",
		"test.yaml document 2: NetworkPolicy shop/b: spec.ingress[2] has no effect: spec.ingress[3] allows all that it allows",
		"test.yaml document 2: NetworkPolicy shop/b: spec.ingress[5] has no effect: spec.ingress[4] allows all that it allows",
		"test.yaml document 2: NetworkPolicy shop/b: spec.ingress[6] has no effect: spec.ingress[8] allows all that it allows",
		"test.yaml document 2: NetworkPolicy shop/b: spec.ingress[7] has no effect: spec.ingress[8] allows all that it allows",
		"test.yaml document 3: NetworkPolicy shop/c: spec.ingress[0] allows all traffic, so no other ingress rule for these pods matters",
	}
	var got []string
	for _, f := range policy.Check(policies, &inv) {
		got = append(got, f.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(policy.Check(policies, nil)); n != len(want)-4 {
		t.Errorf("%d findings without an inventory", n)
	}
}
