package policy_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

var (
	seedFlag  = flag.Uint64("policy.seed", 0, "seed of the random policies; 0 takes one from the clock")
	worldFlag = flag.Int("policy.worlds", 1500, "how many random clusters to try")
)

func newDice(seed uint64, n int) dice { return dice{rand.New(rand.NewPCG(seed, uint64(n)))} }

func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -policy.seed=%d", s)
	return s
}

// TestEngineOracleAndDatapathAgree is the proof: for random policies, pods and ports the oracle, the engine and the
// compiled tables of both nodes say the same, rules and policies included.
func TestEngineOracleAndDatapathAgree(t *testing.T) {
	s := seed(t)
	denied, allowed, byRule := 0, 0, 0
	for n := range *worldFlag {
		r := newDice(s, n)
		w := randomWorld(r)
		probes := w.probes(r, 60)
		b, err := build(&w)
		if err != nil {
			t.Fatalf("world %d of seed %d: %v", n, s, err)
		}
		for _, p := range probes {
			bad := b.disagreement(&w, p)
			if bad != "" {
				w = shrink(w, func(w *world) bool { b, err := build(w); return err == nil && b.disagreement(w, p) != "" })
				b, _ := build(&w)
				t.Fatalf("world %d of seed %d: %s\nsmallest case: %s\n%s", n, s, bad, b.disagreement(&w, p), w.text(p))
			}
			d := b.engine.Decide(query(p))
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
	t.Logf("%d denied, %d allowed by a rule, %d allowed without one", denied, byRule, allowed)
	if *worldFlag >= 100 && (denied < 1000 || byRule < 1000 || allowed < 1000) {
		t.Errorf("the random cases are one-sided")
	}
}

// built is w in all forms.
type built struct {
	engine *policy.Engine
	nodes  map[string]*policy.Compiled
}

func convertAll(list []*networkingv1.NetworkPolicy) ([]policy.Policy, error) {
	var out []policy.Policy
	for _, np := range list {
		p, err := load.Convert(np)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func build(w *world) (*built, error) {
	policies, err := convertAll(w.policies)
	if err != nil {
		return nil, err
	}
	b := &built{engine: policy.New(policies, w.inventory, w.options), nodes: map[string]*policy.Compiled{}}
	for _, n := range nodeNames {
		b.nodes[n] = policy.Compile(policy.Input{Policies: policies, Inventory: w.inventory, Node: n, Options: w.options})
	}
	return b, nil
}

// TestLoaderReadsRandomPolicies writes random policies as YAML and reads them back.
func TestLoaderReadsRandomPolicies(t *testing.T) {
	s := seed(t)
	for n := range max(*worldFlag/20, 1) {
		w := randomWorld(newDice(s, n))
		want, err := convertAll(w.policies)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readText(w.text(probe{}))
		for i := range got {
			got[i].Origin = ""
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("world %d of seed %d: %v\n%s\n%s", n, s, err, diff, w.text(probe{}))
		}
	}
}

func query(p probe) policy.Query {
	return policy.Query{Src: policy.Party{Endpoint: p.src.pod, Addr: p.src.addr}, Dst: policy.Party{Endpoint: p.dst.pod, Addr: p.dst.addr}, Proto: p.proto, Port: p.port}
}

// disagreement returns who differs from the oracle on p, "" if nobody does.
func (b *built) disagreement(w *world, p probe) string {
	d := b.engine.Decide(query(p))
	out := judgeEgress(w.policies, p.src, p.dst, p.proto, p.port)
	in := judgeIngress(w.policies, p.src, p.dst, p.proto, p.port)
	if d.Allowed != (out.allowed && in.allowed) {
		return fmt.Sprintf("%s: engine %v, oracle %v", p, d.Allowed, out.allowed && in.allowed)
	}
	for _, x := range []string{
		b.differs(p, out, d.Egress, p.src, p.dst), b.differs(p, in, d.Ingress, p.dst, p.src),
	} {
		if x != "" {
			return x
		}
	}
	return ""
}

// differs compares one side of the engine, and of the datapath of the subject's node, with the oracle.
func (b *built) differs(p probe, want verdict, got policy.Side, subject, peer actor) string {
	if got.Allowed != want.allowed {
		return fmt.Sprintf("%s: engine says %s, oracle %v", p, got, want.allowed)
	}
	if got.Reason == policy.ByRule && len(got.Rules) != len(want.rules) || got.Reason == policy.DefaultDeny && len(got.Policies) != len(want.isolated) {
		return fmt.Sprintf("%s: engine says %s, oracle has rules %v, policies %v", p, got, want.rules, want.isolated)
	}
	for _, r := range got.Rules {
		if !want.rules[ruleName{r.Policy.Namespace + "/" + r.Policy.Name, r.Index}] {
			return fmt.Sprintf("%s: engine names %s, oracle %v", p, r, want.rules)
		}
	}
	if subject.pod == nil {
		return ""
	}
	key := policy.EndpointKey{Namespace: subject.pod.Namespace, Name: subject.pod.Name}
	c := b.nodes[subject.pod.Node]
	v := c.Decide(key, got.Direction, flow.AddrFrom(subject.addr), flow.AddrFrom(peer.addr), p.proto, p.port)
	info, known := c.Rules[v.Rule]
	if v.Allowed != want.allowed || !known || info.Allows != v.Allowed {
		return fmt.Sprintf("%s: %s datapath %v by %d %q, oracle %v", p, got.Direction, v.Allowed, v.Rule, info.Text, want.allowed)
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

// shrink drops parts of w while it still fails.
func shrink(w world, fails func(*world) bool) world {
	for again := true; again; {
		again = false
		for _, smaller := range w.smaller() {
			if fails(&smaller) {
				w, again = smaller, true
				break
			}
		}
	}
	return w
}

// smaller returns w without one policy, rule, peer or port each.
func (w *world) smaller() (list []world) {
	for i, np := range w.policies {
		without := world{w.inventory, slices.Delete(slices.Clone(w.policies), i, i+1), w.options}
		list = append(list, without)
		edit := func(f func(*networkingv1.NetworkPolicySpec)) {
			c := np.DeepCopy()
			f(&c.Spec)
			changed := world{w.inventory, slices.Clone(w.policies), w.options}
			changed.policies[i] = c
			list = append(list, changed)
		}
		for j := range np.Spec.Ingress {
			edit(func(s *networkingv1.NetworkPolicySpec) { s.Ingress = slices.Delete(s.Ingress, j, j+1) })
			for k := range np.Spec.Ingress[j].From {
				edit(func(s *networkingv1.NetworkPolicySpec) { s.Ingress[j].From = slices.Delete(s.Ingress[j].From, k, k+1) })
			}
			for k := range np.Spec.Ingress[j].Ports {
				edit(func(s *networkingv1.NetworkPolicySpec) {
					s.Ingress[j].Ports = slices.Delete(s.Ingress[j].Ports, k, k+1)
				})
			}
		}
		for j := range np.Spec.Egress {
			edit(func(s *networkingv1.NetworkPolicySpec) { s.Egress = slices.Delete(s.Egress, j, j+1) })
			for k := range np.Spec.Egress[j].To {
				edit(func(s *networkingv1.NetworkPolicySpec) { s.Egress[j].To = slices.Delete(s.Egress[j].To, k, k+1) })
			}
			for k := range np.Spec.Egress[j].Ports {
				edit(func(s *networkingv1.NetworkPolicySpec) { s.Egress[j].Ports = slices.Delete(s.Egress[j].Ports, k, k+1) })
			}
		}
	}
	return list
}

// text returns w's policies as YAML, and the two sides of p.
func (w *world) text(p probe) string {
	var b strings.Builder
	for _, a := range []actor{p.src, p.dst} {
		if a.pod != nil {
			fmt.Fprintf(&b, "%s on %s: labels %v, namespace %v, ports %v\n", a.pod, a.pod.Node, a.pod.Labels, a.pod.NamespaceLabels, a.pod.Ports)
		}
	}
	for _, np := range w.policies {
		y, err := yaml.Marshal(np)
		fmt.Fprintf(&b, "---\n%s", y)
		if err != nil {
			b.WriteString(err.Error())
		}
	}
	return b.String()
}
