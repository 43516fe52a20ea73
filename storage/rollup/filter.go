package rollup

import (
	"reflect"
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
)

// OnEdges reports whether all fields that s sets are known of an edge: groups, workloads, edge, verdict, drop reason, policy, protocol,
// failure, and text, which is then looked for in groups, names, drop reasons and symbols, and names of policies. Such a filter speaks of edges: Src is
// an edge's source and nothing else, where for a record it may also be the sender of replies.
func OnEdges(s filter.Set) bool {
	for _, f := range slices.Concat(s.Allow, s.Deny) {
		f.SrcNamespace, f.DstNamespace, f.SrcWorkload, f.DstWorkload, f.Edge = nil, nil, nil, nil, nil
		f.Verdict, f.DropReason, f.Policy, f.Protocol, f.Error, f.Text = nil, nil, nil, nil, nil, nil
		if !reflect.ValueOf(f).IsZero() {
			return false
		}
	}
	return !s.Secondary
}

// Match compiles s for flows that are summed to edges: by the rules of OnEdges if it is one for edges, else by those of filter.Compile.
func Match(s filter.Set) (func(*flow.Flow) bool, error) {
	match, err := filter.Compile(s)
	if err != nil || !OnEdges(s) {
		return match, err
	}
	return func(f *flow.Flow) bool {
		return (len(s.Allow) == 0 || slices.ContainsFunc(s.Allow, func(x filter.Filter) bool { return matches(&x, f) })) &&
			!slices.ContainsFunc(s.Deny, func(x filter.Filter) bool { return matches(&x, f) })
	}, nil
}

func matches(x *filter.Filter, f *flow.Flow) bool {
	from, to := Ends(f)
	src, dst := query.KeyOf(from), query.KeyOf(to)
	failed := f.L7 != nil && f.L7.Error
	return onSide(x.SrcNamespace, x.SrcWorkload, src, kindOf(from)) && onSide(x.DstNamespace, x.DstWorkload, dst, kindOf(to)) &&
		(len(x.Edge) == 0 || slices.Contains(x.Edge, src.String()+">"+dst.String())) &&
		(len(x.Verdict) == 0 || slices.Contains(x.Verdict, f.Verdict)) &&
		(x.Error == nil || *x.Error == failed) &&
		(len(x.Protocol) == 0 || hasProtocol(x.Protocol, f)) &&
		(len(x.DropReason) == 0 || f.Drop != nil && hasReason(x.DropReason, f.Drop.Reason)) &&
		(len(x.Policy) == 0 || hasPolicy(x.Policy, f.Policy)) &&
		(len(x.Text) == 0 || hasText(x.Text, src, dst, f))
}

func onSide(groups, workloads []string, k query.NodeKey, kind string) bool {
	if len(groups) > 0 && !slices.Contains(groups, k.Group) {
		return false
	}
	return len(workloads) == 0 || slices.ContainsFunc(workloads, func(w string) bool {
		qualifier, name, found := strings.Cut(w, "/")
		if !found {
			qualifier, name = "", w
		}
		return name == k.Name && (qualifier == "" || qualifier == k.Group || strings.EqualFold(qualifier, kind))
	})
}

func hasProtocol(protocols []string, f *flow.Flow) bool {
	return slices.ContainsFunc(protocols, func(p string) bool {
		p = strings.ToLower(p)
		l4, ok := L4(p)
		return ok && slices.Contains(l4, f.Proto) || !ok && f.L7 != nil && f.L7.Protocol.String() == p
	})
}

// L4 returns the IP protocols that name, in lower case, stands for in filters; false if it is none of layer 4.
func L4(name string) ([]flow.Proto, bool) {
	switch name {
	case "tcp":
		return []flow.Proto{flow.ProtoTCP}, true
	case "udp":
		return []flow.Proto{flow.ProtoUDP}, true
	case "sctp":
		return []flow.Proto{flow.ProtoSCTP}, true
	case "icmp":
		return []flow.Proto{flow.ProtoICMP, flow.ProtoICMPv6}, true
	case "icmpv4":
		return []flow.Proto{flow.ProtoICMP}, true
	case "icmpv6":
		return []flow.Proto{flow.ProtoICMPv6}, true
	}
	return nil, false
}

// Reason returns a drop reason of a filter as records have it.
func Reason(s string) string { return strings.TrimPrefix(strings.ToUpper(s), "SKB_DROP_REASON_") }

func hasReason(reasons []string, reason string) bool {
	return slices.ContainsFunc(reasons, func(r string) bool { return strings.EqualFold(Reason(r), reason) })
}

func hasPolicy(values []string, d *flow.Decision) bool {
	return d != nil && slices.ContainsFunc(values, func(v string) bool {
		want := flow.ParsePolicyRef(v)
		return slices.ContainsFunc(d.Policies, func(p flow.PolicyRef) bool {
			return p.Name == want.Name && (want.Namespace == "" || p.Namespace == want.Namespace) && (want.Kind == "" || p.Kind == want.Kind)
		})
	})
}

func hasText(texts []string, src, dst query.NodeKey, f *flow.Flow) bool {
	policies := query.PolicyKey(f.Policy)
	return slices.ContainsFunc(texts, func(t string) bool {
		t = strings.ToLower(t)
		in := func(s string) bool { return strings.Contains(strings.ToLower(s), t) }
		return in(src.Group) || in(src.Name) || in(dst.Group) || in(dst.Name) || in(policies) || f.Drop != nil && (in(f.Drop.Reason) || in(f.Drop.Symbol))
	})
}
