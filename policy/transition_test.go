package policy_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
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
	for _, e := range c.Endpoints {
		list = append(list, func(m *policy.Compiled) { m.Endpoints[e.Key] = e.Record })
	}
	for _, k := range c.DropEndpoints {
		list = append(list, func(m *policy.Compiled) { delete(m.Endpoints, k) })
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
		Entries: maps.Clone(c.Entries), Rules: c.Rules, SkipPods: c.SkipPods}
}

// TestChangeOfPoliciesIsAtomic writes random changes of policies step by step: behind each write every endpoint answers
// wholly by the old policies or wholly by the new ones, and in the end the maps are those of the new ones.
func TestChangeOfPoliciesIsAtomic(t *testing.T) {
	s := seed(t)
	writes, changed := 0, 0
	for n := range max(*worldFlag/10, 1) {
		r := newDice(s, n)
		w := randomWorld(r)
		before, err := build(&w)
		if err != nil {
			t.Fatal(err)
		}
		next := w
		next.policies = nil
		for i, np := range w.policies {
			switch {
			case r.chance(30): // dropped
			case r.chance(30):
				next.policies = append(next.policies, randomPolicy(r, i))
			default:
				next.policies = append(next.policies, np)
			}
		}
		next.policies = append(next.policies, randomPolicy(r, 100))
		after, err := build(&next)
		if err != nil {
			t.Fatal(err)
		}
		from, to := before.nodes["n1"], after.nodes["n1"]
		if renumbered(from, to) {
			continue // a policy began or ceased to name a label or port that tells pods apart: see Changes
		}
		probes := w.probes(r, 40)
		now := clone(from)
		for i, step := range steps(policy.Diff(from, to)) {
			step(now)
			writes++
			for key := range to.Endpoints {
				if bad := neither(now, from, to, key, probes); bad != "" {
					t.Fatalf("world %d of seed %d, write %d, %v: %s", n, s, i, key, bad)
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
	t.Logf("%d changes, %d writes", changed, writes)
	if changed == 0 && *worldFlag >= 100 {
		t.Error("no change was tried")
	}
}

func renumbered(from, to *policy.Compiled) bool { return !maps.Equal(from.Peers, to.Peers) }

// neither compares all answers for one endpoint with those before and after the change.
func neither(now, from, to *policy.Compiled, key policy.EndpointKey, probes []probe) string {
	old, fresh := true, true
	var text string
	for _, p := range probes {
		for _, d := range policy.Directions {
			subject, peer := p.dst, p.src
			if d == policy.Egress {
				subject, peer = p.src, p.dst
			}
			if subject.pod == nil || subject.pod.Namespace != key.Namespace || subject.pod.Name != key.Name {
				continue
			}
			ask := func(c *policy.Compiled) policy.Verdict {
				return c.Decide(key, d, flow.AddrFrom(subject.addr), flow.AddrFrom(peer.addr), p.proto, p.port)
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

// TestChangeCanBeTakenBack breaks random changes off behind a random write, before anything is dropped.
func TestChangeCanBeTakenBack(t *testing.T) {
	s := seed(t)
	for n := range max(*worldFlag/10, 1) {
		r := newDice(s, n)
		w, next := randomWorld(r), randomWorld(r)
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
		c.DropEndpoints, c.DropPeers, c.DropCIDRs, c.DropEntries = nil, nil, nil, nil
		all := steps(c)
		for _, step := range all[:r.IntN(len(all)+1)] {
			step(now)
		}
		room := len(now.Entries) + len(now.CIDRs) + len(now.Peers) + len(now.Endpoints)
		for _, step := range steps(policy.Diff(to, from)) {
			step(now)
			if held := len(now.Entries) + len(now.CIDRs) + len(now.Peers) + len(now.Endpoints); held > room {
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
	s := seed(t)
	for n := range max(*worldFlag/20, 1) {
		r := newDice(s, n)
		w := randomWorld(r)
		first, err := build(&w)
		if err != nil {
			t.Fatal(err)
		}
		r.Shuffle(len(w.policies), func(i, j int) { w.policies[i], w.policies[j] = w.policies[j], w.policies[i] })
		list := append([]policy.Endpoint(nil), w.inventory.Endpoints...)
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		w.inventory.Endpoints = list
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
