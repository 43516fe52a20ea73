// Package span sees an application exchange as the spans of a distributed trace: one of the client and one of the server, each timed where
// that side was observed.
//
// Both are made from one primary record, without state: whoever makes them again, for another sink, for the page or after a
// restart, gets the same ids.
package span

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/parallax-flow/parallax/flow"
)

// TraceID names a trace, ID a span of it (W3C Trace Context sections 3.2.2.3 and 3.2.2.4). All zeros is none.
type (
	TraceID [16]byte
	ID      [8]byte
)

func (t TraceID) String() string { return hex.EncodeToString(t[:]) }
func (i ID) String() string      { return hex.EncodeToString(i[:]) }

// Side is whose view of an exchange a span is.
type Side uint8

// Sides.
const (
	Client Side = 1 + iota
	Server
)

func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "server"
}

// Span is one side's view of an exchange, from the first byte of the request to the first byte of the response as they passed that
// side's observation point. The clocks are those of the nodes: a server's span may lie outside of its parent by as much as they differ.
type Span struct {
	Trace      TraceID
	ID, Parent ID // Parent is the caller's span that traceparent names, or for a server the client's span; zero: the root of its trace
	Side       Side
	Generated  bool // the request carried no traceparent: Trace was made from the record's identity
	Failed     bool // by the semantic conventions of OpenTelemetry for this side
	Start, End int64
	Node       *flow.Node
	Point      flow.Point
}

// Service returns the endpoint of f whose work s is.
func (s *Span) Service(f *flow.Flow) *flow.Endpoint {
	if s.Side == Client {
		return f.Src
	}
	return f.Dst
}

// Append appends to spans those of f: none if f is not an exchange, is counted elsewhere, or was seen only on its way between two
// strangers; else the client's, the server's, or both in this order.
func Append(spans []Span, f *flow.Flow) []Span {
	if f.Kind != flow.KindL7 || f.L7 == nil || f.Secondary || f.Node == nil || f.Seq == 0 {
		return spans
	}
	s := Span{Start: f.Start, End: f.Time, Node: f.Node, Point: f.Point}
	var named bool
	if s.Trace, s.Parent, named = ParseTraceParent(f.L7.TraceParent); !named {
		s.Trace, s.Generated = generated(f), true
	}
	client := atClient(f)
	if client {
		s.Side, s.ID, s.Failed = Client, spanID(f, Client), failed(f.L7, Client)
		spans = append(spans, s)
		s.Parent = s.ID
	}
	s.Side, s.ID, s.Failed = Server, spanID(f, Server), failed(f.L7, Server)
	if at := serverHop(f); at != nil {
		s.Start, s.End, s.Node, s.Point = at.Start, at.Time, at.Node, at.Point
		return append(spans, s)
	}
	if atServer(f.Dst, f.Node, f.Point) {
		return append(spans, s)
	}
	return spans
}

// atClient reports whether f was observed where its client is: a pod's packets at the pod's own interface, those of a
// process or host anywhere on its node.
func atClient(f *flow.Flow) bool {
	if f.Src == nil {
		return false
	}
	switch f.Src.Kind {
	case flow.EndpointProcess, flow.EndpointHost:
		return f.Src.NodeName == f.Node.Name
	}
	return f.Point == flow.PointFromEndpoint
}

// atServer is atClient for the other side.
func atServer(dst *flow.Endpoint, node *flow.Node, point flow.Point) bool {
	if dst == nil || node == nil {
		return false
	}
	switch dst.Kind {
	case flow.EndpointProcess, flow.EndpointHost:
		return dst.NodeName == node.Name
	}
	return point == flow.PointToEndpoint
}

// serverHop returns the observation in f's path that is nearest to the server, nil if there is none at its side.
func serverHop(f *flow.Flow) *flow.Hop {
	for i := len(f.Path) - 1; i >= 0; i-- {
		if h := &f.Path[i]; h.Start != 0 && atServer(f.Dst, h.Node, h.Point) {
			return h
		}
	}
	return nil
}

// failed follows the conventions for HTTP spans: a client error is the client's failure, not the server's.
func failed(l *flow.L7, side Side) bool {
	return l.Error || side == Client && l.Protocol == flow.L7HTTP && l.Answered && l.Status >= 400
}

// generated makes the bytes of f's UUID its trace, so that the id leads back to the record.
func generated(f *flow.Flow) (t TraceID) {
	u := f.UUID()
	if len(u) == 36 {
		plain := u[:8] + u[9:13] + u[14:18] + u[19:23] + u[24:]
		_, _ = hex.Decode(t[:], []byte(plain)) // UUID writes nothing but digits
	}
	return t
}

// spanID mixes the identity of a record and a side (finalizer of splitmix64, a bijection: two records of one boot never meet).
func spanID(f *flow.Flow, side Side) (id ID) {
	v := mix(mix(f.Node.Boot) ^ (f.Seq<<1 | uint64(side)&1))
	if v == 0 {
		v = 1
	}
	binary.BigEndian.PutUint64(id[:], v)
	return id
}

func mix(v uint64) uint64 {
	v += 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

// Sampled decides by the trace alone, so that all spans of a trace share its fate. ratio is the part that is kept, 0 to 1. For traces
// with random ids it decides as OpenTelemetry's TraceIDRatioBased does: an SDK with the same ratio keeps the same ones.
func (s *Span) Sampled(ratio float64) bool {
	if ratio >= 1 {
		return true
	}
	v := binary.BigEndian.Uint64(s.Trace[8:])
	if s.Generated { // a sequence number, not random
		v = mix(v ^ binary.BigEndian.Uint64(s.Trace[:8]))
	}
	return float64(v>>1) < ratio*(1<<63)
}
