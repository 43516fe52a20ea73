package main

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/parallax-flow/parallax/deploy/lab"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

// TestLabPolicies decides all that the lab is known to do by the policies that come with it.
func TestLabPolicies(t *testing.T) {
	t.Parallel()
	r, err := load.Reader("policies.yaml", bytes.NewReader(lab.Policies()), load.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for nodes := 1; nodes <= 4; nodes++ {
		l := lab.Plan(nodes)
		inv := policy.FromMeta(l.Objects())
		for _, f := range policy.Check(r.Policies, &inv) {
			t.Errorf("%d nodes: %s", nodes, f)
		}
		d := &labDecider{t: t, layout: l, engine: policy.New(r.Policies, inv, policy.Options{})}
		for _, f := range lab.Facts() {
			proto := flow.ProtoTCP
			if f.Proto == "UDP" {
				proto = flow.ProtoUDP
			}
			d.decide(f.Name, f.From, f.To, proto, f.Port, f.Drop != flow.DropPolicyDenied)
		}
		for _, c := range []struct {
			from, to string
			port     uint16
			allowed  bool
		}{
			{"shop/checkout", "platform/dns", 53, true},
			{"shop/payments", "platform/dns", 53, true},
			{"shop/frontend", "shop/recommend", 8080, true},
			{"shop/cart", "data/postgres", 5432, false},
			{"shop/checkout", "data/redis", 6379, false},
			{"edge/loadgen", "data/postgres", 5432, false},
			{"visitor.example.org", "data/postgres", 5432, false},
			{"shop/checkout", "data/postgres", 22, false},
			{"data/postgres", "platform/dns", 53, false},
			{"data/redis", "api.example.com", 80, false},
			{"shop/frontend", "shop/payments", 50051, false},
			{"shop/payments", "api.example.com", 80, false},
			{"shop/frontend", "edge/gateway", 8080, false},
			{"visitor.example.org", "edge/gateway", 22, false},
		} {
			d.decide("also", c.from, c.to, flow.ProtoTCP, c.port, c.allowed)
		}
	}
}

type labDecider struct {
	t      *testing.T
	layout *lab.Layout
	engine *policy.Engine
}

// decide asks for all replicas of both sides, by IPv4 and IPv6.
func (d *labDecider) decide(what, from, to string, proto flow.Proto, port uint16, want bool) {
	d.t.Helper()
	asked := 0
	for _, src := range d.addrs(from) {
		for _, dst := range d.addrs(to) {
			if src.Is4() != dst.Is4() {
				continue
			}
			asked++
			x := d.engine.Explain(policy.Query{Src: policy.Party{Addr: src}, Dst: policy.Party{Addr: dst}, Proto: proto, Port: port})
			if x.Allowed != want {
				d.t.Errorf("%d nodes: %s: %s -> %s: %s", len(d.layout.Nodes), what, from, to, x.Decision)
			}
		}
	}
	if asked == 0 {
		d.t.Errorf("%s: nobody to ask of %s -> %s", what, from, to)
	}
}

func (d *labDecider) addrs(who string) (list []netip.Addr) {
	if a, err := netip.ParseAddr(who); err == nil {
		return []netip.Addr{a}
	}
	for _, e := range d.layout.All() {
		if e.Key() == who {
			list = append(list, e.Addr, e.Addr6)
		}
	}
	return list
}
