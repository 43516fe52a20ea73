package policy

import (
	"fmt"
	"strings"
)

// Explanation is a decision with all that led to it, for a person.
type Explanation struct {
	Decision
	Lines []string // without line ends
}

// Explain says of each policy of the two namespaces whether it selects its side, and of each rule whether it matches, or
// else the first condition that fails.
func (e *Engine) Explain(q Query) Explanation {
	c := e.resolve(q)
	x := Explanation{Decision: e.Decide(q)}
	if v := e.virtual(&c); v != nil {
		e.explainService(&x, &c, v)
		return x
	}
	x.add(0, "%s -> %s, port %s", place(c.src), place(c.dst), portText(c.port, c.proto))
	e.explainSides(&x, x.Decision, &c)
	x.add(0, "")
	x.add(0, "verdict: %s", x.Decision)
	return x
}

// explainService goes through the backends: each has to be allowed.
func (e *Engine) explainService(x *Explanation, c *conn, v *virtual) {
	x.add(0, "%s -> service %s (%s), port %s", place(c.src), v.name, c.dst.addr, portText(c.port, c.proto))
	if len(v.backends) == 0 {
		x.add(0, "")
		x.add(0, "%s of %s: %s", Egress, c.src, x.Egress)
		x.add(1, "the service has no backend, so no rule can allow it")
	}
	var denied []string
	for i := range v.backends {
		to := e.backend(c, v, i)
		text := fmt.Sprintf("backend %s, port %s", place(to.dst), portText(to.port, to.proto))
		d := e.decideBoth(&to)
		x.add(0, "")
		x.add(0, "service %s: %s: %s", v.name, text, d)
		e.explainSides(x, d, &to)
		if !d.Allowed {
			denied = append(denied, text)
		}
	}
	x.add(0, "")
	x.add(0, "verdict: %s", x.Decision)
	if len(denied) > 0 {
		x.add(1, "all backends of a service have to be allowed, and not so: %s", and(denied))
	}
}

func (e *Engine) explainSides(x *Explanation, d Decision, c *conn) {
	for _, s := range [...]Side{d.Egress, d.Ingress} {
		subject, _ := c.ends(s.Direction)
		x.add(0, "")
		x.add(0, "%s of %s: %s", s.Direction, subject, s)
		if s.Reason != NotPod && s.Reason != ToItself {
			e.explainPolicies(x, s, c)
		}
	}
}

func (x *Explanation) add(depth int, format string, args ...any) {
	x.Lines = append(x.Lines, strings.Repeat("  ", depth)+fmt.Sprintf(format, args...))
}

// String returns the verdict of both sides as one line.
func (d Decision) String() string {
	switch {
	case !d.Egress.Allowed && !d.Ingress.Allowed:
		return fmt.Sprintf("denied at both sides: %s; %s", d.Egress.tail(), d.Ingress.tail())
	case !d.Egress.Allowed:
		return "denied at the source: " + d.Egress.tail()
	case !d.Ingress.Allowed:
		return "denied at the destination: " + d.Ingress.tail()
	}
	return "allowed"
}

func (s Side) tail() string { return strings.TrimPrefix(s.String(), "denied: ") }

// place names s with its address and node.
func place(s side) string {
	text := s.String()
	if s.addr.IsValid() && text != s.addr.String() {
		text += " (" + s.addr.String()
		if s.pod != nil && s.pod.Node != "" {
			text += " on " + s.pod.Node
		}
		text += ")"
	}
	return text
}

// explainPolicies goes through the policies of the subject's namespace.
func (e *Engine) explainPolicies(x *Explanation, s Side, c *conn) {
	subject, peer := c.ends(s.Direction)
	for i := range e.policies {
		p := &e.policies[i]
		section := &p.Sections[s.Direction]
		if p.Namespace != subject.pod.Namespace {
			continue
		}
		failing := p.Subject.failing(subject.pod.Labels)
		switch {
		case !section.Isolates:
			x.add(1, "%s says nothing of %s", p.Ref, s.Direction)
			continue
		case failing != nil:
			x.add(1, "%s does not select it: %s has not %s", p.Ref, subject, failing)
			continue
		}
		x.add(1, "%s selects it (%s)", p.Ref, subjectText(p.Subject))
		if fromOwnNode(s.Direction, subject, peer) {
			x.add(2, "its rules are not asked: %s is the pod's own node", peer)
			continue
		}
		if len(section.Rules) == 0 {
			x.add(2, "it has no %s rule", s.Direction)
		}
		for r := range section.Rules {
			e.explainRule(x, RuleRef{p.Ref, s.Direction, r}, p, &section.Rules[r], c)
		}
	}
}

func subjectText(s Selector) string {
	if len(s.Terms) == 0 {
		return "all pods of the namespace"
	}
	return "pods " + s.String()
}

func (e *Engine) explainRule(x *Explanation, ref RuleRef, p *Policy, r *Rule, c *conn) {
	var why []string
	note := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	_, peer := c.ends(ref.Direction)
	matches := e.matchesPeers(ref.Direction, p, r, peer, note)
	if matches {
		why = nil // of the peers before the one that matches
		matches = matchesPorts(r, c, note)
	}
	if matches {
		x.add(2, "%s[%d] matches: %s", ref.Direction, ref.Index, r.Text(ref.Direction))
	} else {
		x.add(2, "%s[%d] does not match: %s", ref.Direction, ref.Index, strings.Join(why, "; "))
	}
}
