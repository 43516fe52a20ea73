// Package policy holds network policies as one rule model, decides by it, says why, and compiles it to the entries that
// the datapath looks up. It is pure: the loaders are in policy/load.
//
// Semantics are those of networking.k8s.io/v1; comments quote its field documentation (k8s.io/api/networking/v1/types.go)
// as "API". Policies only allow, and are added up: what an endpoint is isolated for and no rule allows is denied. Where
// the API is silent:
//
//   - An ipBlock matches by address, whoever has it: the API excludes nobody. Options.BlocksSkipPods is the one switch.
//   - Pods in their host's network are that host: no policy selects them, and only an ipBlock can name them as a peer.
//   - Traffic from the pod's own node is always allowed, traffic to it is not: the fields say so of ingress alone.
//   - Traffic that is not TCP, UDP or SCTP is allowed by rules without ports alone.
//   - Addresses and ports are those behind the translation of services. Where the node translates behind the interface of
//     the sender (kube-proxy), egress shows the service's, and not yet which backend it will be. So the rules of the source
//     have to allow all backends, each as if it were connected to directly, or the connection is denied; a block that
//     holds the service's own address allows nothing. No rule allows a service without backends, and a pod that is a
//     backend itself needs a rule for itself too: what it may send to itself is not asked by way of a service.
//   - A port that a service does not have is decided on by the address, as that of everybody else.
package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/parallax-flow/parallax/flow"
)

// Policy is a set of rules for the pods of one namespace. It is immutable once handed over.
type Policy struct {
	Ref
	Origin   string // where it was read: "web.yaml:2" is the second document of that file; may be empty
	Subject  Selector
	Sections [2]Section // by Direction
}

// Ref names a policy.
type Ref = flow.PolicyRef

func compareRefs(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
}

// Direction of traffic as the subject of a policy sees it.
type Direction uint8

const (
	Ingress Direction = iota
	Egress
)

// Directions lists both.
var Directions = [...]Direction{Ingress, Egress}

// String returns "ingress" or "egress", the name of the field in the API.
func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// peers is the name of the field that lists the peers of a rule.
func (d Direction) peers() string {
	if d == Egress {
		return "to"
	}
	return "from"
}

// Section is what a policy says of one direction.
type Section struct {
	Isolates bool // policyTypes has this direction: what no rule allows is denied
	Rules    []Rule
}

// Rule allows what matches one of its peers and one of its ports.
type Rule struct {
	Peers []Peer // empty: everybody. API: "If this field is empty or missing, this rule matches all sources"
	Ports []Port // empty: all traffic. API: "this rule matches all ports (traffic not restricted by port)"
}

// Match says what r looks at.
func (r *Rule) Match() flow.PolicyMatch {
	protocols := !slices.ContainsFunc(r.Ports, func(p Port) bool { return !p.any() })
	switch {
	case len(r.Ports) == 0 && len(r.Peers) == 0:
		return flow.PolicyMatchAll
	case len(r.Ports) == 0:
		return flow.PolicyMatchL3Only
	case len(r.Peers) == 0 && protocols:
		return flow.PolicyMatchL4Proto
	case len(r.Peers) == 0:
		return flow.PolicyMatchL4Only
	case protocols:
		return flow.PolicyMatchL3Proto
	}
	return flow.PolicyMatchL3L4
}

// Peer is either a Block or pods.
type Peer struct {
	Namespaces *Selector // nil: the policy's own namespace
	Pods       *Selector // nil: all pods of these namespaces
	Block      *Block    // not nil: the selectors are nil
}

// Block is a range of addresses without some ranges inside of it.
type Block struct {
	Prefix netip.Prefix // masked
	Except []netip.Prefix
}

// Contains reports whether b allows a.
func (b *Block) Contains(a netip.Addr) bool {
	return b.Prefix.Contains(a) && !slices.ContainsFunc(b.Except, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Port is a destination port or a range of them. With neither Name nor First it is every port of the protocol.
// API: "If this field is not provided, this matches all port names and numbers."
type Port struct {
	Proto flow.Proto // TCP, UDP or SCTP
	Name  string     // named port of the destination pod; First and Last are 0
	First uint16
	Last  uint16 // inclusive, >= First
}

// any reports whether p is every port of its protocol.
func (p Port) any() bool { return p.Name == "" && p.Last == 0 }

// Options are the choices that the API leaves open.
type Options struct {
	BlocksSkipPods bool // an ipBlock does not match the address of a known pod (as in Cilium; Calico matches it)
}

// sorted returns policies in the order of their names, which is that of every result.
func sorted(policies []Policy) []Policy {
	return slices.SortedStableFunc(slices.Values(policies), func(a, b Policy) int { return compareRefs(a.Ref, b.Ref) })
}
