package flow

import "strings"

// Decision is what policy said of a connection, and because of what. Whether it allowed says the flow's Verdict. It is
// immutable and shared.
type Decision struct {
	Match    PolicyMatch // what the rule that allowed looks at; PolicyMatchNone of a denial
	Rule     int         // index of the rule that allowed, in its policy's section; -1 if none did
	Policies []PolicyRef // allowed: the rule's policy, nobody's if an exception allowed; denied: all that isolate the endpoint
	Text     string      // one line for a person: "ingress default deny because of NetworkPolicy shop/a and NetworkPolicy shop/b"
}

// PolicyRef names a policy.
type PolicyRef struct {
	Kind      string // "NetworkPolicy"
	Namespace string
	Name      string
}

// String returns "NetworkPolicy shop/allow-web".
func (r PolicyRef) String() string {
	if r.Kind == "" {
		return r.Path()
	}
	return r.Kind + " " + r.Path()
}

// ParsePolicyRef reads what String and Path give; what s leaves out is empty.
func ParsePolicyRef(s string) PolicyRef {
	var r PolicyRef
	if kind, rest, found := strings.Cut(s, " "); found {
		r.Kind, s = kind, rest
	}
	if namespace, name, found := strings.Cut(s, "/"); found {
		r.Namespace, s = namespace, name
	}
	r.Name = s
	return r
}

// Path returns "shop/allow-web", the name alone of a policy without a namespace.
func (r PolicyRef) Path() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}

// PolicyMatch says what a rule looks at. Values and words are those of Cilium (policy_match_type of Hubble's flow,
// pkg/monitor/api PolicyMatchType).
type PolicyMatch uint8

const (
	PolicyMatchNone    PolicyMatch = iota
	PolicyMatchL3Only              // peers, any traffic
	PolicyMatchL3L4                // peers and ports
	PolicyMatchL4Only              // ports of anybody
	PolicyMatchAll                 // anybody, any traffic
	PolicyMatchL3Proto             // peers and a protocol, any port
	PolicyMatchL4Proto             // a protocol of anybody, any port
	policyMatchCount
)

var policyMatchNames = [policyMatchCount]string{"none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only"}

func (m PolicyMatch) String() string {
	if m < policyMatchCount {
		return policyMatchNames[m]
	}
	return "unknown"
}

// ByKernel reports whether d says why the kernel dropped a packet: that flow is the packet, its Src the packet's sender. It is
// false for a denial by policy, which speaks of a connection, and for nil.
func (d *Drop) ByKernel() bool { return d != nil && d.Reason != DropPolicyDenied }

// Dropped is the number of packets whose drop f reports: 0 if it reports none. A verdict reports none: the drops follow it.
func (f *Flow) Dropped() uint64 {
	if f.Kind != KindDrop {
		return 0
	}
	return max(f.Packets+f.ReplyPackets, 1)
}
