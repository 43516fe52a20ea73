package filter

import (
	"fmt"

	"github.com/parallax-flow/parallax/flow"
)

// match is one compiled field. The direction that it looks at is the opposite of the record's if reverse is set.
type match func(f *flow.Flow, reverse bool) bool

// Compile turns s into a function that reports whether a flow is selected. The function is safe for concurrent use and does not allocate.
// An error is one line that names the field and the values that it takes.
func Compile(s Set) (func(*flow.Flow) bool, error) {
	allow, err := compileAll(s.Allow)
	if err != nil {
		return nil, err
	}
	deny, err := compileAll(s.Deny)
	if err != nil {
		return nil, err
	}
	secondary := s.Secondary
	return func(f *flow.Flow) bool {
		if f.Secondary && !secondary {
			return false
		}
		if len(allow) > 0 && !anyOf(allow, f) {
			return false
		}
		return !anyOf(deny, f)
	}, nil
}

func anyOf(filters []compiled, f *flow.Flow) bool {
	for i := range filters {
		if filters[i].match(f) {
			return true
		}
	}
	return false
}

// compiled is a Filter: fields of the record, and fields of its directions.
type compiled struct {
	record, direction []match
}

func (c *compiled) match(f *flow.Flow) bool {
	if !all(c.record, f, false) {
		return false
	}
	return all(c.direction, f, false) || hasReverse(f) && all(c.direction, f, true)
}

func all(matches []match, f *flow.Flow, reverse bool) bool {
	for _, m := range matches {
		if !m(f, reverse) {
			return false
		}
	}
	return true
}

// hasReverse reports whether f speaks of packets from Dst to Src, too.
func hasReverse(f *flow.Flow) bool {
	return !f.Drop.ByKernel() && (f.Reply || f.ReplyPackets > 0 || f.L7 != nil)
}

func compileAll(filters []Filter) ([]compiled, error) {
	out := make([]compiled, len(filters))
	for i := range filters {
		if err := out[i].compile(&filters[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *compiled) compile(f *Filter) error {
	b := builder{c: c}
	side(&b, "source_ip", "destination_ip", f.SrcIP, f.DstIP, matchIP)
	side(&b, "source_pod", "destination_pod", f.SrcPod, f.DstPod, matchPod)
	side(&b, "source_namespace", "destination_namespace", f.SrcNamespace, f.DstNamespace, matchNamespace)
	side(&b, "source_workload", "destination_workload", f.SrcWorkload, f.DstWorkload, matchWorkload)
	side(&b, "source_label", "destination_label", f.SrcLabel, f.DstLabel, matchLabel)
	side(&b, "source_fqdn", "destination_fqdn", f.SrcFQDN, f.DstFQDN, matchFQDN)
	side(&b, "source_port", "destination_port", f.SrcPort, f.DstPort, matchPort)
	side(&b, "source_identity", "destination_identity", f.SrcIdentity, f.DstIdentity, matchIdentity)
	direction(&b, "trace_observation_point", f.Point, matchPoint)
	direction(&b, "reply", f.Reply, matchReply)

	record(&b, "edge", f.Edge, matchEdge)
	record(&b, "node_name", f.Node, matchNode)
	record(&b, "verdict", f.Verdict, matchVerdict)
	record(&b, "drop_reason", f.DropReason, matchDropReason)
	record(&b, "policy", f.Policy, matchPolicy)
	record(&b, "kind", f.Kind, matchKind)
	record(&b, "protocol", f.Protocol, matchProtocol)
	record(&b, "http_status_code", f.HTTPStatus, matchHTTPStatus)
	record(&b, "http_method", f.HTTPMethod, matchHTTPMethod)
	record(&b, "http_path", f.HTTPPath, matchHTTPPath)
	record(&b, "http_url", f.HTTPURL, matchHTTPURL)
	record(&b, "dns_query", f.DNSQuery, matchDNSQuery)
	record(&b, "tcp_flags", f.TCPFlags, matchTCPFlags)
	record(&b, "ip_version", f.IPVersion, matchIPVersion)
	record(&b, "traffic_direction", f.Direction, matchDirection)
	record(&b, "interface", f.Interface, matchInterface)
	record(&b, "trace_id", f.TraceID, matchTraceID)
	record(&b, "uuid", f.UUID, matchUUID)
	if f.L7 != nil {
		want := *f.L7
		c.record = append(c.record, func(f *flow.Flow, _ bool) bool { return (f.L7 != nil) == want })
	}
	if f.Error != nil {
		want := *f.Error
		c.record = append(c.record, func(f *flow.Flow, _ bool) bool { return (f.L7 != nil && f.L7.Error) == want })
	}
	record(&b, "text", f.Text, matchText)
	return b.err
}

// builder keeps the first error.
type builder struct {
	c   *compiled
	err error
}

// side compiles a field that both sides have. compile makes a match of the source; the destination is the source of the
// opposite direction.
func side[T any](b *builder, srcName, dstName string, src, dst []T, compile func([]T) (match, error)) {
	if m := build(b, srcName, src, compile); m != nil {
		b.c.direction = append(b.c.direction, m)
	}
	if m := build(b, dstName, dst, compile); m != nil {
		b.c.direction = append(b.c.direction, func(f *flow.Flow, reverse bool) bool { return m(f, !reverse) })
	}
}

func direction[T any](b *builder, name string, values []T, compile func([]T) (match, error)) {
	if m := build(b, name, values, compile); m != nil {
		b.c.direction = append(b.c.direction, m)
	}
}

func record[T any](b *builder, name string, values []T, compile func([]T) (match, error)) {
	if m := build(b, name, values, compile); m != nil {
		b.c.record = append(b.c.record, m)
	}
}

func build[T any](b *builder, name string, values []T, compile func([]T) (match, error)) match {
	if len(values) == 0 || b.err != nil {
		return nil
	}
	m, err := compile(values)
	if err != nil {
		b.err = fmt.Errorf("%s: %w", name, err)
		return nil
	}
	return m
}
