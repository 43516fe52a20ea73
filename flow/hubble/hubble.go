// Package hubble translates between flow's records and filters and those of the Hubble API (github.com/cilium/cilium/api/v1), so that
// Hubble's clients understand Parallax.
//
// Hubble's Flow is one packet or message, a Flow of Parallax a connection's event with both directions: source and destination are
// those of the packet that caused the event. An L7 exchange becomes its response, or its request where none was seen.
//
// What Hubble's Flow has no field for goes into its extensions, a google.protobuf.Struct inside the Any, so that every client can
// print it. Counters are relative to the initiator of the connection, whatever way the packet went. Keys that would hold a zero value are left out:
//
//	kind             string  "new", "state", "update", "close", "drop", "l7", "verdict"
//	start            string  RFC 3339 with nanoseconds: first packet of the connection, request of an exchange
//	packets, bytes, reply_packets, reply_bytes   numbers: since the connection's last record, layer 3
//	handshake_us     number  TCP handshake, microseconds
//	protocol         number  IP protocol where the API has no L4 message for it
//	drop             {reason, symbol, code}: the kernel's own words
//	policy           {rule, text}: index of the rule that allowed, and the decision in words
//	error            bool    the exchange failed
//	source, destination  {kind, name, node, workload_kind}: of the endpoint
//	process          {pid, comm, destination}: owner of the local socket, and whether it is on the destination's side
//	path             list of {node, time, point, direction, packets, bytes, interface}: other observations of the event
//	secondary        bool    the same traffic is counted at another point
package hubble

import (
	"strings"
	"unicode/utf8"

	flowpb "github.com/cilium/cilium/api/v1/flow"

	"github.com/parallax-flow/parallax/flow"
)

// Event types, as pkg/monitor/api/types.go of Cilium numbers them.
const (
	eventDrop          = 1
	eventDebug         = 2
	eventCapture       = 3
	eventTrace         = 4
	eventPolicyVerdict = 5
	eventTraceSock     = 7
	eventL7            = 129
)

// dropSubType is the event sub-type of drops with a reason that is not Cilium's: a number that Cilium does not use, because the
// kernel's own numbers mean other things there.
const dropSubType = 255

// defaultCluster is the name that Hubble gives to a cluster without one.
const defaultCluster = "default"

// NodeName is n's name as Hubble writes it: "cluster/name".
func NodeName(n *flow.Node) string {
	if n == nil {
		return ""
	}
	if n.Cluster == "" {
		return defaultCluster + "/" + n.Name
	}
	return n.Cluster + "/" + n.Name
}

// splitNodeName is the inverse of NodeName.
func splitNodeName(s string) (cluster, name string) {
	cluster, name, found := strings.Cut(s, "/")
	switch {
	case !found:
		return "", s
	case cluster == defaultCluster:
		return "", name
	}
	return cluster, name
}

// traceSubType is p's number in Cilium's trace notifications; only to-endpoint differs from the API's.
func traceSubType(p flow.Point) int32 {
	if p == flow.PointToEndpoint {
		return 0
	}
	return int32(p)
}

// dropReason is the API's value for a reason, DROP_REASON_UNKNOWN if it has none of that name.
func dropReason(reason string) flowpb.DropReason {
	return flowpb.DropReason(flowpb.DropReason_value[reason])
}

// swapped reports whether f's packet went from Dst to Src.
func swapped(f *flow.Flow) bool {
	switch {
	case f.Drop.ByKernel():
		return false
	case f.L7 != nil:
		return f.L7.Answered
	}
	return f.Reply
}

// clean makes s valid UTF-8, which protobuf demands and what came from a wire or a kernel need not be.
func clean(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, string(utf8.RuneError))
}
