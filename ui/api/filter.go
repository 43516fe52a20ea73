package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
)

// parseFilter reads FILTER of a query string.
func parseFilter(v url.Values) Filter {
	return Filter{
		Namespace: v["namespace"], Workload: v["workload"], Verdict: v["verdict"], Protocol: v["protocol"],
		Edge: v["edge"], Reason: v["reason"], Policy: v["policy"], Text: v.Get("text"),
	}
}

// set is f as the rest of Parallax understands it. "Either side" becomes one alternative for each side.
func (f Filter) set() (filter.Set, error) {
	alternatives, err := f.sides()
	if err != nil {
		return filter.Set{}, err
	}
	verdicts, failed, err := f.verdicts()
	if err != nil {
		return filter.Set{}, err
	}
	var out []filter.Filter
	for _, a := range alternatives {
		a.Protocol, a.DropReason, a.Policy = f.Protocol, f.Reason, f.Policy
		if f.Text != "" {
			a.Text = []string{f.Text}
		}
		if failed {
			e, yes := a, true
			e.Error = &yes
			out = append(out, e)
		}
		if len(verdicts) > 0 || !failed {
			a.Verdict = verdicts
			out = append(out, a)
		}
	}
	return filter.Set{Allow: out}, nil
}

// sides is the part of f that speaks of endpoints.
func (f Filter) sides() ([]filter.Filter, error) {
	out := []filter.Filter{{}}
	split := func(values []string, src, dst func(*filter.Filter)) {
		if len(values) == 0 {
			return
		}
		var next []filter.Filter
		for _, a := range out {
			s, d := a, a
			src(&s)
			dst(&d)
			next = append(next, s, d)
		}
		out = next
	}
	split(f.Namespace,
		func(a *filter.Filter) { a.SrcNamespace = f.Namespace },
		func(a *filter.Filter) { a.DstNamespace = f.Namespace })
	if len(f.Edge) == 0 {
		split(f.Workload,
			func(a *filter.Filter) { a.SrcWorkload = f.Workload },
			func(a *filter.Filter) { a.DstWorkload = f.Workload })
		return out, nil
	}
	var next []filter.Filter
	for _, id := range f.Edge {
		src, dst, err := parseID(id, true)
		if err != nil {
			return nil, err
		}
		if !f.either(*src, *dst) {
			continue
		}
		for _, a := range out {
			a.Edge = []string{id}
			next = append(next, a)
		}
	}
	if next == nil { // an edge and a workload that is not on it: nothing can match
		next = []filter.Filter{{Kind: []flow.Kind{flow.KindUnknown}}}
	}
	return next, nil
}

// either reports whether f's workloads, if any, name one of two nodes.
func (f Filter) either(src, dst query.NodeKey) bool {
	return len(f.Workload) == 0 || slices.Contains(f.Workload, src.String()) || slices.Contains(f.Workload, dst.String())
}

// verdicts splits the page's verdicts: "error" is a failed exchange, which is no verdict of its own.
func (f Filter) verdicts() (verdicts []flow.Verdict, failed bool, err error) {
	for _, v := range f.Verdict {
		switch v {
		case "forwarded":
			verdicts = append(verdicts, flow.VerdictForwarded)
		case "dropped":
			verdicts = append(verdicts, flow.VerdictDropped)
		case "audit":
			verdicts = append(verdicts, flow.VerdictAudit)
		case "error":
			failed = true
		default:
			return nil, false, fmt.Errorf("verdict %q is not one of forwarded, dropped, error, audit", v)
		}
	}
	return verdicts, failed, nil
}

// matcher applies a Filter to live flows and edges.
type matcher struct {
	f        Filter
	text     string
	policies []flow.PolicyRef
	flowf    func(*flow.Flow) bool
}

func newMatcher(f Filter) (*matcher, error) {
	set, err := f.set()
	if err != nil {
		return nil, err
	}
	m := &matcher{f: f, text: strings.ToLower(f.Text)}
	for _, p := range f.Policy {
		m.policies = append(m.policies, flow.ParsePolicyRef(p))
	}
	if m.flowf, err = filter.Compile(set); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *matcher) flow(f *flow.Flow) bool { return m.flowf(f) }

// edge tells whether m's filter accepts an edge. What an edge does not have (a request's path) cannot match its text.
func (m *matcher) edge(k edgeKey, e *sums) bool {
	return m.names(k.src.key, k.dst.key) && m.verdict(e) && m.protocol(k.l4, k.l7) && m.reason(e) && m.policy(e) && m.words(k, e)
}

func (m *matcher) names(src, dst query.NodeKey) bool {
	if n := m.f.Namespace; len(n) > 0 && !slices.Contains(n, src.Group) && !slices.Contains(n, dst.Group) {
		return false
	}
	if !m.f.either(src, dst) {
		return false
	}
	return len(m.f.Edge) == 0 || slices.Contains(m.f.Edge, src.String()+">"+dst.String())
}

func (m *matcher) verdict(e *sums) bool {
	if len(m.f.Verdict) == 0 {
		return true
	}
	for _, v := range m.f.Verdict {
		switch v {
		case "dropped":
			if e.lost > 0 {
				return true
			}
		case "error":
			if e.errors > 0 {
				return true
			}
		case "audit":
			if e.audits > 0 {
				return true
			}
		case "forwarded":
			if e.records > e.lost+e.audits {
				return true
			}
		}
	}
	return false
}

func (m *matcher) protocol(l4 flow.Proto, l7 flow.L7Protocol) bool {
	if len(m.f.Protocol) == 0 {
		return true
	}
	for _, p := range m.f.Protocol {
		switch p = strings.ToLower(p); {
		case p == l7.String() && l7 != flow.L7Unknown, p == strings.ToLower(l4.String()):
			return true
		case p == "icmp" && (l4 == flow.ProtoICMP || l4 == flow.ProtoICMPv6):
			return true
		}
	}
	return false
}

func (m *matcher) reason(e *sums) bool {
	if len(m.f.Reason) == 0 {
		return true
	}
	for d := range e.reasons {
		if slices.ContainsFunc(m.f.Reason, func(r string) bool { return strings.EqualFold(r, d.Reason) }) {
			return true
		}
	}
	return false
}

func (m *matcher) policy(e *sums) bool {
	if len(m.policies) == 0 {
		return true
	}
	for k := range e.decisions {
		for name := range strings.SplitSeq(k.policies, "\n") {
			p := flow.ParsePolicyRef(name)
			if slices.ContainsFunc(m.policies, func(want flow.PolicyRef) bool {
				return want.Name == p.Name && (want.Namespace == "" || want.Namespace == p.Namespace) && (want.Kind == "" || want.Kind == p.Kind)
			}) {
				return true
			}
		}
	}
	return false
}

func (m *matcher) words(k edgeKey, e *sums) bool {
	if m.text == "" {
		return true
	}
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), m.text) }
	if has(k.src.key.String()) || has(k.dst.key.String()) || has(k.l7.String()) {
		return true
	}
	for k := range e.decisions {
		if has(k.policies) {
			return true
		}
	}
	for d := range e.reasons {
		if has(d.Reason) || has(d.Symbol) {
			return true
		}
	}
	return false
}
