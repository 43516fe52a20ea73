// Package filter selects flows. A Set is parsed from what a person or a client says, compiled once to a func for records
// in memory, and read field by field by a store that turns it into SQL.
package filter

import "github.com/parallax-flow/parallax/flow"

// Filter is a conjunction: a flow matches if it matches each field that is set. Values in one field are alternatives.
// Semantics are those of Hubble's flow.FlowFilter where it has the field.
//
// Src and Dst fields speak of packets. A drop by the kernel is one packet, from its Src to its Dst. Any other record has the direction from
// the initiator to the responder and, if it is an L7 exchange, has reply packets or was caused by one, also the opposite
// direction, in which Src and Dst are exchanged, Point is its opposite and Reply is true; it matches if either direction matches the whole filter.
type Filter struct {
	SrcIP, DstIP               []string // address or CIDR
	SrcPod, DstPod             []string // "[namespace/]name-prefix"; "namespace/" matches all of a namespace
	SrcNamespace, DstNamespace []string // exact; also a group of the map: "host NAME", "world"
	SrcWorkload, DstWorkload   []string // "[kind/]name", or the map's "group/name"
	Edge                       []string // "group/name>group/name": initiator and responder as query.KeyOf names them, in that direction only
	SrcLabel, DstLabel         []string // Kubernetes label selector; see ParseSelector
	SrcFQDN, DstFQDN           []string // endpoint's Name, case-insensitive, with * as wildcard
	SrcPort, DstPort           []string // "443" or "8000-8999"
	SrcIdentity, DstIdentity   []uint32
	Node                       []string // "[cluster/]name" with * as wildcard
	Verdict                    []flow.Verdict
	DropReason                 []string // case-insensitive name
	Policy                     []string // "[[kind ]namespace/]name" of a policy that decided
	Kind                       []flow.Kind
	Protocol                   []string // L4 or L7 name: tcp, udp, icmp, icmpv4, icmpv6, sctp, http, dns
	HTTPStatus                 []string // "503" or "5+"
	HTTPMethod                 []string
	HTTPPath                   []string // regular expression
	HTTPURL                    []string // regular expression
	DNSQuery                   []string // regular expression
	TCPFlags                   []string // "SYN", "SYN,ACK"
	IPVersion                  []uint8  // 4, 6
	Direction                  []flow.Direction
	Point                      []flow.Point // in the opposite direction: Point.Opposite
	Reply                      []bool
	Interface                  []uint32 // ifindex
	TraceID                    []string // 32 hex digits of the W3C traceparent
	UUID                       []string // what Flow.UUID gives
	L7                         *bool    // true: only L7 exchanges; false: none
	Error                      *bool    // true: only failed exchanges
	Text                       []string // case-insensitive substring of names, addresses, resource, drop reason, symbol, policies
}

// Set matches a flow that any Allow matches, or all if Allow is empty, and that no Deny matches.
type Set struct {
	Allow, Deny []Filter
	Secondary   bool // also give observations of traffic that is already counted at another point
}
