package enforce_test

import (
	"fmt"
	"testing"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/collector/probe"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/policytest"
)

const probesARound = 16

// TestKernelAgreesWithOracle is the proof: random policies, compiled and written by the Enforcer, decide real connections
// between real pods as the oracle says they should, and the records say because of what.
func TestKernelAgreesWithOracle(t *testing.T) {
	t.Parallel()
	seed := policytest.Seed(t)
	c := newCluster(t)
	c.addServices()
	begun := 0
	for _, k := range []struct {
		name   string
		by     probe.Mechanism
		skip   bool
		rounds int
	}{
		{"tcx", probe.MechanismTCX, false, 150},
		{"tcx, blocks skip pods", probe.MechanismTCX, true, 110},
		{"clsact", probe.MechanismClsact, false, 40},
	} {
		first := begun
		begun += k.rounds
		t.Run(k.name, func(t *testing.T) {
			r := newRigBy(t, c, k.by, func(cfg *enforce.Config) { cfg.Options.BlocksSkipPods = k.skip })
			var passed, dropped, byRule int
			var services [2]int // dropped, passed
			for i := first; i < first+k.rounds; i++ {
				dice := policytest.NewDice(seed, i)
				w := r.world(dice, k.skip, i%3 == 0)
				policies, err := w.Convert()
				must(t, err)
				r.bind(policies)
				attempts := r.try(r.sample(dice, &w, probesARound)...)
				for _, a := range attempts {
					if bad := r.differs(&w, a, &byRule); bad != "" {
						t.Fatalf("round %d of seed %d, %s (%v): %s\ndecisions %s\n%s", i, seed, a.Probe, a.tuple, bad, text(r.decided(a.tuple)), w.Text(a.Probe))
					}
					if a.service && a.passed {
						services[1]++
					} else if a.service {
						services[0]++
					}
					if a.passed {
						passed++
					} else {
						dropped++
					}
				}
				r.forget()
			}
			s := r.probe.Stats()
			t.Logf("%d connections passed, %d were dropped, %d decisions named a rule; to services %v dropped and passed; %+v",
				passed, dropped, byRule, services, r.enforcer.Stats())
			if s.LostRing+s.LostTable > 0 || passed < k.rounds || dropped < k.rounds || byRule < k.rounds/2 || min(services[0], services[1]) < k.rounds/8 {
				t.Errorf("lost records, or the random cases are one-sided: %+v", s)
			}
		})
	}
}

// world draws policies, and every now and then labels and ports too.
func (r *rig) world(dice policytest.Dice, skip, relabel bool) policytest.World {
	if relabel || r.labels == nil {
		r.labels = r.redraw(dice)
		r.told(r.labels)
	}
	w := policytest.World{Inventory: policy.FromMeta(r.labels), Options: policy.Options{BlocksSkipPods: skip}}
	for i := range dice.IntN(8) {
		w.Policies = append(w.Policies, policytest.RandomPolicy(dice, i))
	}
	return w
}

// sample draws connections of which one end at least is a pod of the node.
func (r *rig) sample(dice policytest.Dice, w *policytest.World, n int) []policytest.Probe {
	var families [2][]policytest.Actor
	add := func(a policytest.Actor) {
		if a.Addr.Is4() {
			families[0] = append(families[0], a)
		} else {
			families[1] = append(families[1], a)
		}
	}
	for i := range w.Inventory.Endpoints {
		for _, addr := range w.Inventory.Endpoints[i].Addrs {
			add(policytest.Actor{Pod: &w.Inventory.Endpoints[i], Addr: addr, Skip: w.Options.BlocksSkipPods})
		}
	}
	for _, h := range w.Inventory.Hosts {
		for _, addr := range h.Addrs {
			add(policytest.Actor{Addr: addr, Node: h.Name})
		}
	}
	for _, addr := range addrs(policytest.Strangers...) {
		add(policytest.Actor{Addr: addr})
	}
	var list []policytest.Probe
	for len(list) < n {
		family := families[dice.IntN(2)]
		p := policytest.Probe{Src: policytest.One(dice, family...), Dst: policytest.One(dice, family...), Proto: flow.ProtoTCP}
		p.Port = policytest.One(dice, policytest.PortPool...)
		if dice.Chance(40) {
			p.Proto, p.Port = flow.ProtoUDP, policytest.One(dice, udpPorts...)
		} else if dice.Chance(20) {
			p.Proto, p.Port = flow.ProtoICMP, 0
		}
		if len(r.services) > 0 && dice.Chance(50) {
			p = r.toService(dice, w, p)
		}
		if isLocal(p.Src) || isLocal(p.Dst) {
			list = append(list, p)
		}
	}
	return list
}

func isLocal(a policytest.Actor) bool { return a.Pod != nil && a.Pod.Node == "n1" }

// differs compares what became of a connection, and the reasons given, with the oracle.
func (r *rig) differs(w *policytest.World, a *attempt, byRule *int) string {
	egress, ingress := policytest.Judge(w.Policies, a.Probe)
	backends, service := w.Backends(a.Probe)
	if service {
		egress = policytest.JudgeService(w.Policies, a.Probe, backends)
	}
	sides := []struct {
		flow.Direction
		policytest.Verdict
		here bool
	}{{flow.DirectionEgress, egress, isLocal(a.Src)}, {flow.DirectionIngress, ingress, isLocal(a.Dst)}}
	allowed := true
	for _, s := range sides {
		if !s.here || !allowed {
			continue
		}
		allowed = s.Allowed
		if len(s.Isolated) == 0 {
			continue
		}
		var f *flow.Flow
		eventually(r.t, fmt.Sprintf("a verdict for %s of %s", s.Direction, a.Probe), func() bool {
			for _, d := range r.decided(a.tuple) {
				if d.Kind == flow.KindVerdict && d.Direction == s.Direction {
					f = &d
				}
			}
			return f != nil
		})
		if bad := explains(f, s.Verdict); bad != "" {
			return bad
		}
		if len(s.Rules) > 0 {
			*byRule++
		}
	}
	if service && allowed {
		return r.differsBehind(w, a, backends)
	}
	if a.passed != allowed || a.dropped == allowed {
		return fmt.Sprintf("passed %t, dropped %t, the oracle allows: %t", a.passed, a.dropped, allowed)
	}
	return ""
}

// explains compares a verdict's reasons with the oracle's.
func explains(f *flow.Flow, want policytest.Verdict) string {
	d := f.Policy
	switch {
	case f.Verdict == flow.VerdictDropped != !want.Allowed:
		return fmt.Sprintf("verdict %s, the oracle allows: %t", f.Verdict, want.Allowed)
	case !want.Allowed:
		for _, ref := range d.Policies {
			if !want.Isolated[ref.Namespace+"/"+ref.Name] {
				return "denied because of " + ref.String()
			}
		}
		if len(d.Policies) != len(want.Isolated) || d.Match != flow.PolicyMatchNone || d.Rule != -1 {
			return fmt.Sprintf("denied because of %v, the oracle says %v", d, want.Isolated)
		}
	case d.Rule == -1: // the node's own traffic is let through before rules are asked
		if len(d.Policies) != 0 || d.Match != flow.PolicyMatchL3Only {
			return fmt.Sprintf("allowed by %v", d)
		}
	case !want.Rules[policytest.RuleName{Policy: d.Policies[0].Namespace + "/" + d.Policies[0].Name, Index: d.Rule}]:
		return fmt.Sprintf("allowed by %s, the oracle says %v", d.Text, want.Rules)
	}
	return ""
}

func text(list []flow.Flow) (s string) {
	for i := range list {
		f := &list[i]
		s += fmt.Sprintf("\n%s %s %s at %s: %s", f.Kind, f.Verdict, f.Direction, f.Point, f.Policy.Text)
	}
	return s
}
