package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Finding is something in a policy that is allowed, and most likely not meant.
type Finding struct {
	Policy Ref
	Origin string
	Path   string // "spec.ingress[0]"; empty for the policy as a whole
	Text   string
}

// String returns "web.yaml: NetworkPolicy shop/web: spec.ingress[0] ...".
func (f Finding) String() string {
	text := f.Text
	if f.Path != "" {
		text = f.Path + " " + text
	}
	text = f.Policy.String() + ": " + text
	if f.Origin != "" {
		text = f.Origin + ": " + text
	}
	return text
}

// Check returns what has no effect in policies, in their order: sections that policyTypes leaves out, rules that another
// rule of the same policy covers, and, where inv is not nil, selectors and ports that name nothing in it.
func Check(policies []Policy, inv *Inventory) []Finding {
	c := checker{}
	if inv != nil {
		c.index = newIndex(*inv)
	}
	for _, p := range sorted(policies) {
		c.policy = &p
		if c.index != nil && len(c.subjects()) == 0 {
			c.find("spec.podSelector", "selects no pod: %s", subjectText(p.Subject))
		}
		for _, d := range Directions {
			c.section(d)
		}
	}
	return c.findings
}

type checker struct {
	index    *index // nil: not known
	policy   *Policy
	findings []Finding
}

func (c *checker) find(path, format string, args ...any) {
	c.findings = append(c.findings, Finding{c.policy.Ref, c.policy.Origin, path, fmt.Sprintf(format, args...)})
}

func (c *checker) section(d Direction) {
	s := &c.policy.Sections[d]
	if !s.Isolates {
		if len(s.Rules) > 0 {
			c.find("spec."+d.String(), "has no effect: spec.policyTypes does not list it")
		}
		return
	}
	for i := range s.Rules {
		path := fmt.Sprintf("spec.%s[%d]", d, i)
		if j := coveredBy(s.Rules, i); j >= 0 {
			c.find(path, "has no effect: spec.%s[%d] allows all that it allows", d, j)
			continue
		}
		if len(s.Rules[i].Peers)+len(s.Rules[i].Ports) == 0 {
			c.find(path, "allows all traffic, so no other %s rule for these pods matters", d)
		}
		if c.index != nil {
			c.rule(d, &s.Rules[i], path)
		}
	}
}

// coveredBy returns which other rule of list covers number i, -1 if none does. Of equal rules the first covers the others.
func coveredBy(list []Rule, i int) int {
	for j := range list {
		if j != i && list[j].covers(&list[i]) && (j < i || !list[i].covers(&list[j])) {
			return j
		}
	}
	return -1
}

// rule looks for peers and ports that nothing has.
func (c *checker) rule(d Direction, r *Rule, path string) {
	var e Engine
	destinations := c.subjects()
	if d == Egress {
		destinations = c.index.pods
	}
	for i := range r.Peers {
		p := &r.Peers[i]
		if p.Block != nil {
			continue
		}
		at := fmt.Sprintf("%s.%s[%d]", path, d.peers(), i)
		known := func(pod *Endpoint) bool { return p.Namespaces == nil || p.Namespaces.Matches(pod.NamespaceLabels) }
		switch {
		case !slices.ContainsFunc(c.index.pods, known):
			c.find(at, "selects no namespace that has pods: %s", p.Namespaces)
		case !slices.ContainsFunc(c.index.pods, func(pod *Endpoint) bool {
			return !pod.HostNetwork && e.matchesPeer(c.policy.Namespace, p, side{pod: pod}, nil)
		}):
			c.find(at, "selects no pod: %s", p)
		}
	}
	for i, p := range r.Ports {
		if p.Name != "" && !slices.ContainsFunc(destinations, func(pod *Endpoint) bool { return len(pod.numbers(p.Name, p.Proto)) > 0 }) {
			c.find(fmt.Sprintf("%s.ports[%d]", path, i), "names port %s, which no destination pod has", p)
		}
	}
}

// subjects returns the pods that the policy selects.
func (c *checker) subjects() (list []*Endpoint) {
	for _, pod := range c.index.pods {
		if !pod.HostNetwork && pod.Namespace == c.policy.Namespace && c.policy.Subject.Matches(pod.Labels) {
			list = append(list, pod)
		}
	}
	return list
}

// covers reports whether r certainly allows all that o allows.
func (r *Rule) covers(o *Rule) bool {
	peers := len(r.Peers) == 0 || len(o.Peers) > 0 && !slices.ContainsFunc(o.Peers, func(p Peer) bool {
		return !slices.ContainsFunc(r.Peers, func(q Peer) bool { return q.covers(&p) })
	})
	ports := len(r.Ports) == 0 || len(o.Ports) > 0 && !slices.ContainsFunc(o.Ports, func(p Port) bool {
		return !slices.ContainsFunc(r.Ports, func(q Port) bool { return q.covers(p) })
	})
	return peers && ports
}

func (p Port) covers(o Port) bool {
	if p.Proto != o.Proto || p == o || p.any() {
		return p.Proto == o.Proto
	}
	return p.Name == "" && p.First <= o.First && o.Last <= p.Last // o.First is 0 if it is a name or any port
}

func (p *Peer) covers(o *Peer) bool {
	if p.Block != nil || o.Block != nil {
		return p.Block != nil && o.Block != nil && p.Block.covers(o.Block)
	}
	if p.Namespaces == nil && o.Namespaces != nil || p.Namespaces != nil && o.Namespaces == nil && len(p.Namespaces.Terms) > 0 {
		return false
	}
	return p.Namespaces.covers(o.Namespaces) && p.Pods.covers(o.Pods)
}

// covers reports whether each term of s is one of o; nil has none.
func (s *Selector) covers(o *Selector) bool {
	if s == nil || len(s.Terms) == 0 {
		return true
	}
	return o != nil && !slices.ContainsFunc(s.Terms, func(t Term) bool {
		return !slices.ContainsFunc(o.Terms, func(u Term) bool { return t.Key == u.Key && t.Op == u.Op && slices.Equal(t.Values, u.Values) })
	})
}

func (b *Block) covers(o *Block) bool {
	return within(o.Prefix, b.Prefix) && !slices.ContainsFunc(b.Except, func(x netip.Prefix) bool {
		return x.Overlaps(o.Prefix) && !slices.ContainsFunc(o.Except, func(y netip.Prefix) bool { return within(x, y) })
	})
}

// within reports whether all of p is in q.
func within(p, q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }
