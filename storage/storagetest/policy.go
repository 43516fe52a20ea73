package storagetest

import "github.com/parallax-flow/parallax/flow"

// policy is what decides on the connections of a call.
type policy struct {
	allow, audit, deny *flow.Decision // each may be nil
	denied             int            // one in so many is denied, or audited
}

// deniedDrop is the drop of all that policy denies.
var deniedDrop = &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}

// WithPolicies makes policies decide on some of t's connections: allowed by a rule or an exception, audited, denied by one
// policy or by two. It returns t.
func (t *Traffic) WithPolicies() *Traffic {
	ref := func(namespace, name string) flow.PolicyRef {
		return flow.PolicyRef{Kind: "NetworkPolicy", Namespace: namespace, Name: name}
	}
	allowed := &flow.Decision{Match: flow.PolicyMatchL3L4, Rule: 2, Policies: []flow.PolicyRef{ref("shop", "allow-web")}, Text: "ingress allowed by NetworkPolicy shop/allow-web, rule 2"}
	exception := &flow.Decision{Match: flow.PolicyMatchAll, Rule: -1, Text: "ingress from the own host"}
	one := &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{ref("data", "redis")}, Text: "ingress default deny because of NetworkPolicy data/redis"}
	two := &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{ref("data", "default-deny"), ref("data", "postgres-from-checkout")},
		Text: "ingress default deny because of NetworkPolicy data/default-deny and NetworkPolicy data/postgres-from-checkout"}
	audited := &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{ref("payment", "default-deny")}, Text: "egress default deny because of NetworkPolicy payment/default-deny"}
	for i, p := range []*policy{{allow: allowed}, nil, {allow: allowed}, {audit: audited, denied: 3}, {deny: one, denied: 20}, {deny: two, denied: 5}, nil, {allow: exception}} {
		t.calls[i].policy = p
	}
	return t
}

// decide plans the records of a decision on the connection that f begins, and reports whether it is denied.
func (t *Traffic) decide(p *policy, f flow.Flow) bool {
	v := f
	v.Kind, v.TCPFlags, v.Packets, v.Bytes, v.Path = flow.KindVerdict, 0, 0, 0, nil
	switch {
	case p.denied > 0 && t.rand.IntN(p.denied) == 0 && p.deny != nil:
		v.Verdict, v.Policy, v.Drop = flow.VerdictDropped, p.deny, deniedDrop
	case p.audit != nil:
		v.Verdict, v.Policy = flow.VerdictAudit, p.audit
	case p.allow != nil:
		v.Policy = p.allow
	default:
		return false
	}
	t.pending = append(t.pending, v)
	if v.Drop == nil {
		return false
	}
	v.Kind, v.TCPFlags, v.Packets = flow.KindDrop, flow.TCPSyn, 1+t.rand.Uint64N(4)
	v.Bytes, v.ReplyPackets = 60*v.Packets, t.rand.Uint64N(2)
	t.pending = append(t.pending, v)
	return true
}
