package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/parallax-flow/parallax/deploy/lab"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

func TestPolicyAnswer(t *testing.T) {
	t.Parallel()
	const both = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: out, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Egress], egress: [{}, {ports: [{port: 6379}]}]}\n"
	r, err := load.Reader("lab.yaml", strings.NewReader(string(lab.Policies())+"---\n"+both), load.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := lab.Plan(2)
	e := policy.New(r.Policies, policy.FromMeta(l.Objects()), policy.Options{})
	node := l.Nodes[1].Addr.String() // of data/redis
	for _, c := range []struct {
		name, from, to string
		port           uint16
		first, side    string
		terminal       bool
	}{
		{"denied", "shop/recommend", "data/redis", 6379, "DENIED at the destination: default deny because of NetworkPolicy data/default-deny and NetworkPolicy data/redis-from-cart", "✗ ingress of data/redis-0: denied: ", false},
		{"denied, on a terminal", "shop/recommend", "data/redis", 6379, "\x1b[1;31mDENIED\x1b[0m at the destination: default deny", "\x1b[1;31m✗\x1b[0m ingress of data/redis-0: denied: ", true},
		{"denied at both sides", "data/redis", "data/postgres", 5432, "DENIED at both sides: ", "✗ egress of data/redis-0: denied: ", false},
		{"allowed at both sides", "shop/cart", "data/redis", 6379, "ALLOWED by NetworkPolicy shop/out egress[0] and NetworkPolicy shop/out egress[1] and NetworkPolicy data/redis-from-cart ingress[0]", "✓ egress of shop/cart-", false},
		{"allowed, on a terminal", "edge/loadgen", "shop/cart", 8080, "\x1b[32mALLOWED\x1b[0m: no policy is against it", "\x1b[32m✓\x1b[0m egress of edge/loadgen-", true},
		{"own node", node, "data/redis", 6379, "ALLOWED: traffic from the pod's own node", "✓ ingress of data/redis-0: allowed: traffic from the pod's own node", false},
		{"itself", "data/redis", "data/redis", 6379, "ALLOWED: traffic of a pod to itself", "✓ egress of data/redis-0: allowed: traffic of a pod to itself", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			party := func(who string) policy.Party {
				if a, err := netip.ParseAddr(who); err == nil {
					return policy.Party{Addr: a}
				}
				return policy.Party{Addr: l.Find(who).Addr}
			}
			x := e.Explain(policy.Query{Src: party(c.from), Dst: party(c.to), Proto: flow.ProtoTCP, Port: c.port})
			var out bytes.Buffer
			if err := newAnswer(x, r.Policies).write(&out, c.terminal); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(out.String(), "\n")
			if len(lines) < 4 || !strings.HasPrefix(lines[0], c.first) || !strings.HasPrefix(lines[3], c.side) {
				t.Errorf("got\n%s", out.String())
			}
			for _, line := range x.Lines { // nothing is left out but the verdict, which is the first line
				if !strings.HasPrefix(line, "verdict: ") && !strings.Contains(out.String(), strings.TrimSpace(line)) {
					t.Errorf("no line %q in\n%s", line, out.String())
				}
			}
		})
	}
}
