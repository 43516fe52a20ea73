package hubble

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/parallax-flow/parallax/flow"
)

// fields is an encoded google.protobuf.Struct that leaves out what is zero. Written straight to the wire format it costs a
// tenth of building the messages.
type fields []byte

// Field numbers of struct.proto: Struct.fields, key and value of its entries, the kinds of Value, ListValue.values.
const (
	structFields = 1
	entryKey     = 1
	entryValue   = 2
	valueNumber  = 2
	valueString  = 3
	valueBool    = 4
	valueStruct  = 5
	valueList    = 6
	listValues   = 1
)

// entry begins an entry with a value of n bytes, which must follow.
func (m fields) entry(key string, n int) fields {
	size := 1 + protowire.SizeBytes(len(key)) + 1 + protowire.SizeBytes(n)
	m = protowire.AppendTag(m, structFields, protowire.BytesType)
	m = protowire.AppendVarint(m, uint64(size))
	m = protowire.AppendTag(m, entryKey, protowire.BytesType)
	m = protowire.AppendString(m, key)
	m = protowire.AppendTag(m, entryValue, protowire.BytesType)
	return protowire.AppendVarint(m, uint64(n))
}

func (m *fields) text(key, v string) {
	if v == "" {
		return
	}
	v = clean(v)
	*m = m.entry(key, 1+protowire.SizeBytes(len(v)))
	*m = protowire.AppendTag(*m, valueString, protowire.BytesType)
	*m = protowire.AppendString(*m, v)
}

func (m *fields) number(key string, v uint64) {
	if v == 0 {
		return
	}
	*m = m.entry(key, 1+8)
	*m = protowire.AppendTag(*m, valueNumber, protowire.Fixed64Type)
	*m = protowire.AppendFixed64(*m, math.Float64bits(float64(v))) // exact below 2^53
}

// index writes v also if it is 0, and nothing if it is negative.
func (m *fields) index(key string, v int) {
	if v < 0 {
		return
	}
	*m = m.entry(key, 1+8)
	*m = protowire.AppendTag(*m, valueNumber, protowire.Fixed64Type)
	*m = protowire.AppendFixed64(*m, math.Float64bits(float64(v)))
}

func (m *fields) flag(key string, v bool) {
	if !v {
		return
	}
	*m = m.entry(key, 2)
	*m = protowire.AppendTag(*m, valueBool, protowire.VarintType)
	*m = protowire.AppendVarint(*m, 1)
}

func (m *fields) time(key string, ns int64) {
	if ns == 0 {
		return
	}
	var buf [len(time.RFC3339Nano)]byte
	t := time.Unix(0, ns).UTC().AppendFormat(buf[:0], time.RFC3339Nano)
	*m = m.entry(key, 1+protowire.SizeBytes(len(t)))
	*m = protowire.AppendTag(*m, valueString, protowire.BytesType)
	*m = protowire.AppendBytes(*m, t)
}

func (m *fields) object(key string, v fields) {
	if len(v) == 0 {
		return
	}
	*m = m.entry(key, 1+protowire.SizeBytes(len(v)))
	*m = protowire.AppendTag(*m, valueStruct, protowire.BytesType)
	*m = protowire.AppendBytes(*m, v)
}

// list writes objects.
func (m *fields) list(key string, objects []fields) {
	var values []byte
	for _, o := range objects {
		values = protowire.AppendTag(values, listValues, protowire.BytesType)
		values = protowire.AppendVarint(values, uint64(1+protowire.SizeBytes(len(o))))
		values = protowire.AppendTag(values, valueStruct, protowire.BytesType)
		values = protowire.AppendBytes(values, o)
	}
	if len(values) == 0 {
		return
	}
	*m = m.entry(key, 1+protowire.SizeBytes(len(values)))
	*m = protowire.AppendTag(*m, valueList, protowire.BytesType)
	*m = protowire.AppendBytes(*m, values)
}

// extensions holds what the API has no field for; see the package comment.
func extensions(f *flow.Flow, reverse bool) *anypb.Any {
	m := make(fields, 0, 512)
	m.text("kind", f.Kind.String())
	m.time("start", f.Start)
	m.number("packets", f.Packets)
	m.number("bytes", f.Bytes)
	m.number("reply_packets", f.ReplyPackets)
	m.number("reply_bytes", f.ReplyBytes)
	m.number("handshake_us", uint64(f.HandshakeRTT))
	m.flag("secondary", f.Secondary)
	switch f.Proto {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP, flow.ProtoICMP, flow.ProtoICMPv6:
	default:
		m.number("protocol", uint64(f.Proto))
	}
	if d := f.Drop; d != nil {
		var drop fields
		drop.text("reason", d.Reason)
		drop.text("symbol", d.Symbol)
		drop.number("code", uint64(d.Code))
		m.object("drop", drop)
	}
	if d := f.Policy; d != nil {
		var policy fields
		policy.index("rule", d.Rule)
		policy.text("text", d.Text)
		m.object("policy", policy)
	}
	if f.L7 != nil {
		m.flag("error", f.L7.Error)
	}
	src, dst := f.Src, f.Dst
	if reverse {
		src, dst = dst, src
	}
	m.object("source", endpointFields(src))
	m.object("destination", endpointFields(dst))
	m.object("process", processFields(f, reverse))
	m.list("path", hops(f.Path))
	return &anypb.Any{TypeUrl: structURL, Value: m}
}

const structURL = "type.googleapis.com/google.protobuf.Struct"

func endpointFields(e *flow.Endpoint) fields {
	var m fields
	if e != nil {
		m.text("kind", e.Kind.String())
		m.text("name", e.Name)
		m.text("node", e.NodeName)
		if e.Workload == "" {
			m.text("workload_kind", e.WorkloadKind)
		}
	}
	return m
}

func processFields(f *flow.Flow, reverse bool) fields {
	var m fields
	if f.Process != nil {
		m.number("pid", uint64(f.Process.PID))
		m.text("comm", f.Process.Comm)
	} else {
		m.number("pid", uint64(f.PID))
	}
	if len(m) > 0 || f.Cookie != 0 {
		m.flag("destination", f.ProcessDst != reverse)
	}
	return m
}

func hops(path []flow.Hop) []fields {
	out := make([]fields, len(path))
	for i, h := range path {
		m := &out[i]
		m.text("node", NodeName(h.Node))
		m.time("time", h.Time)
		m.time("start", h.Start)
		m.text("point", h.Point.String())
		m.text("direction", h.Direction.String())
		m.number("packets", h.Packets)
		m.number("bytes", h.Bytes)
		m.number("interface", uint64(h.Ifindex))
	}
	return out
}

// unpack returns the Struct in a, nil if there is none.
func unpack(a *anypb.Any) (*structpb.Struct, error) {
	if a == nil {
		return nil, nil
	}
	var s structpb.Struct
	if !a.MessageIs(&s) {
		return nil, nil
	}
	if err := a.UnmarshalTo(&s); err != nil {
		return nil, fmt.Errorf("extensions: %w", err)
	}
	return &s, nil
}
