package policy_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/policytest"
)

// steps returns the single writes of c, in order.
func steps(c policy.Changes) (list []func(*policy.Compiled)) {
	for _, e := range c.Entries {
		list = append(list, func(m *policy.Compiled) { m.Entries[e.Key] = e.Rule })
	}
	for _, e := range c.CIDRs {
		list = append(list, func(m *policy.Compiled) { m.CIDRs[e.Key] = e.Set })
	}
	for _, e := range c.Peers {
		list = append(list, func(m *policy.Compiled) { m.Peers[e.Addr] = e.Identity })
	}
	for _, e := range c.Services {
		list = append(list, func(m *policy.Compiled) { m.Services[e.Key] = e.Number })
	}
	for _, e := range c.Endpoints {
		list = append(list, func(m *policy.Compiled) { m.Endpoints[e.Key] = e.Record })
	}
	for _, k := range c.DropEndpoints {
		list = append(list, func(m *policy.Compiled) { delete(m.Endpoints, k) })
	}
	for _, k := range c.DropServices {
		list = append(list, func(m *policy.Compiled) { delete(m.Services, k) })
	}
	for _, k := range c.DropPeers {
		list = append(list, func(m *policy.Compiled) { delete(m.Peers, k) })
	}
	for _, k := range c.DropCIDRs {
		list = append(list, func(m *policy.Compiled) { delete(m.CIDRs, k) })
	}
	for _, k := range c.DropEntries {
		list = append(list, func(m *policy.Compiled) { delete(m.Entries, k) })
	}
	return list
}

func clone(c *policy.Compiled) *policy.Compiled {
	return &policy.Compiled{Endpoints: maps.Clone(c.Endpoints), Peers: maps.Clone(c.Peers), CIDRs: maps.Clone(c.CIDRs),
		Services: maps.Clone(c.Services), Entries: maps.Clone(c.Entries), Rules: c.Rules, SkipPods: c.SkipPods}
}

// TestChangeOfPoliciesIsAtomic writes random changes of policies step by step: behind each write every endpoint answers
// wholly by the old policies or wholly by the new ones, and in the end the maps are those of the new ones.
func TestChangeOfPoliciesIsAtomic(t *testing.T) {
	s := policytest.Seed(t)
	writes, changed, renumbered := 0, 0, 0
	for n := range max(*worldFlag/10, 1) {
		r := policytest.NewDice(s, n)
		w := policytest.RandomWorld(r)
		next := w
		next.Policies = nil
		for i, np := range w.Policies {
			switch {
			case r.Chance(30): // dropped
			case r.Chance(30):
				next.Policies = append(next.Policies, policytest.RandomPolicy(r, i))
			default:
				next.Policies = append(next.Policies, np)
			}
		}
		next.Policies = append(next.Policies, policytest.RandomPolicy(r, 100))
		way, err := path(&w, &next)
		if err != nil {
			t.Fatal(err)
		}
		if len(way) > 2 {
			renumbered++
		}
		probes := w.Probes(r, 40)
		from, to := way[0], way[len(way)-1]
		now := clone(from)
		for i, stop := range way[1:] {
			for j, step := range steps(policy.Diff(way[i], stop)) {
				step(now)
				writes++
				for key := range to.Endpoints {
					if bad := neither(now, from, to, key, probes); bad != "" {
						t.Fatalf("world %d of seed %d, way %d, write %d, %v: %s", n, s, i, j, key, bad)
					}
				}
			}
		}
		if diff := cmp.Diff(to.Entries, now.Entries); diff != "" {
			t.Fatal(diff)
		}
		if c := policy.Diff(now, to); !c.Empty() {
			t.Fatalf("after all writes there is still %+v to do", c)
		}
		changed++
	}
	t.Logf("%d changes, %d of identities too, %d writes", changed, renumbered, writes)
	if *worldFlag >= 300 && (renumbered == 0 || renumbered == changed) {
		t.Error("the random cases are one-sided")
	}
}

// path returns the compiled states from w's policies to those of next, for node n1.
func path(w, next *policytest.World) ([]*policy.Compiled, error) {
	inputs := make([]policy.Input, 2)
	for i, w := range []*policytest.World{w, next} {
		policies, err := w.Convert()
		if err != nil {
			return nil, err
		}
		inputs[i] = policy.Input{Policies: policies, Inventory: w.Inventory, Node: "n1", Options: w.Options}
	}
	way := []*policy.Compiled{policy.Compile(inputs[0])}
	for _, in := range policy.Path(inputs[0], inputs[1]) {
		way = append(way, policy.Compile(in))
	}
	return way, nil
}

// neither compares all answers for one endpoint with those before and after the change.
func neither(now, from, to *policy.Compiled, key policy.EndpointKey, probes []policytest.Probe) string {
	old, fresh := true, true
	var text string
	for _, p := range probes {
		for _, d := range policy.Directions {
			subject, peer := p.Dst, p.Src
			if d == policy.Egress {
				subject, peer = p.Src, p.Dst
			}
			if subject.Pod == nil || subject.Pod.Namespace != key.Namespace || subject.Pod.Name != key.Name {
				continue
			}
			ask := func(c *policy.Compiled) policy.Verdict {
				return c.Decide(key, d, flow.AddrFrom(subject.Addr), flow.AddrFrom(peer.Addr), p.Proto, p.Port)
			}
			got, was, will := ask(now), ask(from), ask(to)
			old, fresh = old && got == was, fresh && got == will
			text += fmt.Sprintf("\n%s %s: %v, before %v, after %v", d, p, got, was, will)
		}
	}
	if old || fresh {
		return ""
	}
	return text
}

// TestChangeOfServicesIsAtomic writes random changes of services, half of them together with policies, step by step: behind
// each write every connection is answered as the policies of before or behind the change and the services of before or
// behind it say, and none is denied that is allowed before and behind. An endpoint that goes from one table to another does so
// in one step, if other endpoints do not have one of these on the other side of the change.
func TestChangeOfServicesIsAtomic(t *testing.T) {
	s := policytest.Seed(t)
	writes, bridged := 0, 0
	for n := range max(*worldFlag/8, 1) {
		r := policytest.NewDice(s, n)
		w := policytest.RandomWorld(r)
		next := w
		next.RedrawServices(r)
		if len(w.Inventory.Services) > 0 && r.Chance(60) { // most stay, some with other backends
			kept := slices.Clone(w.Inventory.Services[r.IntN(len(w.Inventory.Services)):])
			next.Inventory.Services = append(kept, next.Inventory.Services...)
		}
		if n%2 == 0 {
			next.Policies = []*networkingv1.NetworkPolicy{policytest.RandomPolicy(r, 100)}
			for i, np := range w.Policies {
				if r.Chance(50) {
					np = policytest.RandomPolicy(r, i)
				}
				next.Policies = append(next.Policies, np)
			}
		}
		way, err := path(&w, &next)
		if err != nil {
			t.Fatal(err)
		}
		probes := append(w.Probes(r, 60), next.Probes(r, 60)...)
		from, to := way[0], way[len(way)-1]
		next.Inventory, w.Inventory = w.Inventory, next.Inventory
		mixed, err := path(&w, &next)
		if err != nil {
			t.Fatal(err)
		}
		before, behind := egressTables(from), egressTables(to)
		now := clone(from)
		for i, stop := range way[1:] {
			c := policy.Diff(way[i], stop)
			for j, step := range steps(c) {
				step(now)
				writes++
				for key := range to.Endpoints {
					bad := wrongAnswer(now, from, to, mixed[0], mixed[len(mixed)-1], key, probes)
					old, fresh := from.Endpoints[key].Tables[policy.Egress], to.Endpoints[key].Tables[policy.Egress]
					if old != fresh && !behind[old] && !before[fresh] {
						bad += neither(now, from, to, key, probes)
					}
					if bad != "" {
						t.Fatalf("world %d of seed %d, way %d, write %d, %v: %s", n, s, i, j, key, bad)
					}
				}
			}
			for _, e := range c.Entries {
				if _, stays := stop.Entries[e.Key]; !stays {
					bridged++
				}
			}
		}
		if diff := cmp.Diff(to, now, cmpopts.IgnoreFields(policy.Compiled{}, "Rules")); diff != "" {
			t.Fatalf("world %d of seed %d: %s", n, s, diff)
		}
	}
	t.Logf("%d writes, %d of them for the time of the change", writes, bridged)
	if *worldFlag >= 1000 && bridged < 100 {
		t.Error("the random cases are one-sided")
	}
}

func egressTables(c *policy.Compiled) map[uint64]bool {
	tables := make(map[uint64]bool)
	for _, r := range c.Endpoints {
		tables[r.Tables[policy.Egress]] = true
	}
	return tables
}

// wrongAnswer compares each answer of an endpoint's egress with what may be said during the change.
func wrongAnswer(now, from, to, mixed, mixed2 *policy.Compiled, key policy.EndpointKey, probes []policytest.Probe) (text string) {
	for _, p := range probes {
		if p.Src.Pod == nil || p.Src.Pod.Namespace != key.Namespace || p.Src.Pod.Name != key.Name {
			continue
		}
		ask := func(c *policy.Compiled) policy.Verdict {
			return c.Decide(key, policy.Egress, flow.AddrFrom(p.Src.Addr), flow.AddrFrom(p.Dst.Addr), p.Proto, p.Port)
		}
		got, was, will := ask(now), ask(from), ask(to)
		same := func(v policy.Verdict) bool { return got.Allowed == v.Allowed && (got.Rule == v.Rule || !got.Allowed) }
		if !got.Allowed && was.Allowed && will.Allowed || !same(was) && !same(will) && !same(ask(mixed)) && !same(ask(mixed2)) {
			text += fmt.Sprintf("\n%s: %v, before %v, after %v", p, got, was, will)
		}
	}
	return text
}

// TestChangeCanBeTakenBack breaks random changes off behind a random write, before anything is dropped.
func TestChangeCanBeTakenBack(t *testing.T) {
	s := policytest.Seed(t)
	for n := range max(*worldFlag/10, 1) {
		r := policytest.NewDice(s, n)
		w, next := policytest.RandomWorld(r), policytest.RandomWorld(r)
		before, err := build(&w)
		if err != nil {
			t.Fatal(err)
		}
		after, err := build(&next)
		if err != nil {
			t.Fatal(err)
		}
		from, to := before.nodes["n1"], after.nodes["n1"]
		from.SkipPods = to.SkipPods // no part of the maps
		now := clone(from)
		c := policy.Diff(from, to)
		c.DropEndpoints, c.DropServices, c.DropPeers, c.DropCIDRs, c.DropEntries = nil, nil, nil, nil, nil
		all := steps(c)
		for _, step := range all[:r.IntN(len(all)+1)] {
			step(now)
		}
		held := func() int {
			return len(now.Entries) + len(now.CIDRs) + len(now.Peers) + len(now.Services) + len(now.Endpoints)
		}
		room := held()
		for _, step := range steps(policy.Undo(from, to)) {
			step(now)
			if held := held(); held > room {
				t.Fatalf("world %d of seed %d: %d keys, %d before", n, s, held, room)
			}
		}
		if diff := cmp.Diff(from, now); diff != "" {
			t.Fatalf("world %d of seed %d: %s", n, s, diff)
		}
	}
}

// TestCompileIsDeterministic compiles the same input in another order.
func TestCompileIsDeterministic(t *testing.T) {
	s := policytest.Seed(t)
	for n := range max(*worldFlag/20, 1) {
		r := policytest.NewDice(s, n)
		w := policytest.RandomWorld(r)
		first, err := build(&w)
		if err != nil {
			t.Fatal(err)
		}
		r.Shuffle(len(w.Policies), func(i, j int) { w.Policies[i], w.Policies[j] = w.Policies[j], w.Policies[i] })
		list := append([]policy.Endpoint(nil), w.Inventory.Endpoints...)
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		w.Inventory.Endpoints = list
		services := slices.Clone(w.Inventory.Services)
		r.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
		w.Inventory.Services = services
		second, err := build(&w)
		if err != nil {
			t.Fatal(err)
		}
		for node := range first.nodes {
			if diff := cmp.Diff(first.nodes[node], second.nodes[node]); diff != "" {
				t.Fatalf("world %d of seed %d: %s", n, s, diff)
			}
		}
	}
}
