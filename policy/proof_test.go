package policy_test

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/policytest"
)

var worldFlag = flag.Int("policy.worlds", 1500, "how many random clusters to try")

// TestEngineOracleAndDatapathAgree is the proof: for random policies, pods and ports the oracle, the engine and the
// compiled tables of both nodes say the same, rules and policies included.
func TestEngineOracleAndDatapathAgree(t *testing.T) {
	s := policytest.Seed(t)
	denied, allowed, byRule, services := 0, 0, 0, [2]int{}
	for n := range *worldFlag {
		r := policytest.NewDice(s, n)
		w := policytest.RandomWorld(r)
		probes := w.Probes(r, 60)
		b, err := build(&w)
		if err != nil {
			t.Fatalf("world %d of seed %d: %v", n, s, err)
		}
		for _, p := range probes {
			bad := b.disagreement(&w, p)
			if bad != "" {
				w = policytest.Shrink(w, func(w *policytest.World) bool { b, err := build(w); return err == nil && b.disagreement(w, p) != "" })
				b, _ := build(&w)
				t.Fatalf("world %d of seed %d: %s\nsmallest case: %s\n%s", n, s, bad, b.disagreement(&w, p), w.Text(p))
			}
			d := b.engine.Decide(query(p))
			if _, is := w.Backends(p); is && d.Egress.Reason == policy.ByRule {
				services[1]++
			} else if is && d.Egress.Reason == policy.DefaultDeny {
				services[0]++
			}
			switch {
			case !d.Allowed:
				denied++
			case d.Ingress.Reason == policy.ByRule || d.Egress.Reason == policy.ByRule:
				byRule++
			default:
				allowed++
			}
		}
	}
	t.Logf("%d denied, %d allowed by a rule, %d allowed without one; %d egress to services denied and allowed by rules", denied, byRule, allowed, services)
	if *worldFlag >= 1000 && (denied < 1000 || byRule < 1000 || allowed < 1000 || min(services[0], services[1]) < 200) {
		t.Errorf("the random cases are one-sided")
	}
}

// built is w in all forms.
type built struct {
	engine *policy.Engine
	nodes  map[string]*policy.Compiled
}

func build(w *policytest.World) (*built, error) {
	policies, err := w.Convert()
	if err != nil {
		return nil, err
	}
	b := &built{engine: policy.New(policies, w.Inventory, w.Options), nodes: map[string]*policy.Compiled{}}
	for _, n := range policytest.NodeNames {
		b.nodes[n] = policy.Compile(policy.Input{Policies: policies, Inventory: w.Inventory, Node: n, Options: w.Options})
	}
	return b, nil
}

// TestLoaderReadsRandomPolicies writes random policies as YAML and reads them back.
func TestLoaderReadsRandomPolicies(t *testing.T) {
	s := policytest.Seed(t)
	for n := range max(*worldFlag/20, 1) {
		w := policytest.RandomWorld(policytest.NewDice(s, n))
		want, err := w.Convert()
		if err != nil {
			t.Fatal(err)
		}
		got, err := readText(w.Text(policytest.Probe{}))
		for i := range got {
			got[i].Origin = ""
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("world %d of seed %d: %v\n%s\n%s", n, s, err, diff, w.Text(policytest.Probe{}))
		}
	}
}

func query(p policytest.Probe) policy.Query {
	return policy.Query{Src: policy.Party{Endpoint: p.Src.Pod, Addr: p.Src.Addr}, Dst: policy.Party{Endpoint: p.Dst.Pod, Addr: p.Dst.Addr}, Proto: p.Proto, Port: p.Port}
}

// disagreement returns who differs from the oracle on p, "" if nobody does.
func (b *built) disagreement(w *policytest.World, p policytest.Probe) string {
	d := b.engine.Decide(query(p))
	if backends, service := w.Backends(p); service {
		return b.disagreementAbout(w, p, backends, d)
	}
	out := policytest.JudgeEgress(w.Policies, p.Src, p.Dst, p.Proto, p.Port)
	in := policytest.JudgeIngress(w.Policies, p.Src, p.Dst, p.Proto, p.Port)
	if d.Allowed != (out.Allowed && in.Allowed) {
		return fmt.Sprintf("%s: engine %v, oracle %v", p, d.Allowed, out.Allowed && in.Allowed)
	}
	for _, x := range []string{
		b.differs(p, out, d.Egress, p.Src, p.Dst), b.differs(p, in, d.Ingress, p.Dst, p.Src),
	} {
		if x != "" {
			return x
		}
	}
	return ""
}

// disagreementAbout is disagreement about a connection to a service.
func (b *built) disagreementAbout(w *policytest.World, p policytest.Probe, backends []policytest.Probe, d policy.Decision) string {
	out := policytest.JudgeService(w.Policies, p, backends)
	allowed := out.Allowed
	for _, to := range backends {
		allowed = allowed && policytest.JudgeIngress(w.Policies, to.Src, to.Dst, to.Proto, to.Port).Allowed
	}
	if d.Allowed != allowed {
		return fmt.Sprintf("%s, a service: engine %v, oracle %v", p, d, allowed)
	}
	return b.differs(p, out, d.Egress, p.Src, p.Dst)
}

// differs compares one side of the engine, and of the datapath of the subject's node, with the oracle.
func (b *built) differs(p policytest.Probe, want policytest.Verdict, got policy.Side, subject, peer policytest.Actor) string {
	if got.Allowed != want.Allowed {
		return fmt.Sprintf("%s: engine says %s, oracle %v", p, got, want.Allowed)
	}
	if got.Reason == policy.ByRule && len(got.Rules) != len(want.Rules) || got.Reason == policy.DefaultDeny && len(got.Policies) != len(want.Isolated) {
		return fmt.Sprintf("%s: engine says %s, oracle has rules %v, policies %v", p, got, want.Rules, want.Isolated)
	}
	for _, r := range got.Rules {
		if !want.Rules[policytest.RuleName{Policy: r.Policy.Namespace + "/" + r.Policy.Name, Index: r.Index}] {
			return fmt.Sprintf("%s: engine names %s, oracle %v", p, r, want.Rules)
		}
	}
	if subject.Pod == nil {
		return ""
	}
	key := policy.EndpointKey{Namespace: subject.Pod.Namespace, Name: subject.Pod.Name}
	c := b.nodes[subject.Pod.Node]
	v := c.Decide(key, got.Direction, flow.AddrFrom(subject.Addr), flow.AddrFrom(peer.Addr), p.Proto, p.Port)
	info, known := c.Rules[v.Rule]
	if v.Allowed != want.Allowed || !known || info.Allows != v.Allowed {
		return fmt.Sprintf("%s: %s datapath %v by %d %q, oracle %v", p, got.Direction, v.Allowed, v.Rule, info.Text, want.Allowed)
	}
	if !sameReason(v.Rule, info, got) {
		return fmt.Sprintf("%s: datapath says %q, engine %s", p, info.Text, got)
	}
	return ""
}

// sameReason reports whether the datapath's rule is one that the engine names.
func sameReason(id uint32, info policy.RuleInfo, s policy.Side) bool {
	switch s.Reason {
	case policy.ToItself:
		return id == policy.RuleItself
	case policy.NotIsolated:
		return id == policy.RuleUnisolated
	case policy.FromOwnNode:
		return id == policy.RuleOwnNode
	case policy.DefaultDeny:
		return slices.Equal(info.Policies, s.Policies) && info.Direction == s.Direction
	case policy.ByRule:
		return slices.ContainsFunc(s.Rules, func(r policy.RuleRef) bool {
			return info.Direction == r.Direction && info.Index == r.Index && slices.Equal(info.Policies, []policy.Ref{r.Policy})
		})
	}
	return false
}
