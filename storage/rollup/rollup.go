// Package rollup says what a flow counts for on the map. Every kind of store takes it from here, so that all give the same
// figures.
package rollup

import (
	"strings"

	"github.com/parallax-flow/parallax/flow"
)

// firstDynamicPort begins Linux's range of ports for outgoing connections (net.ipv4.ip_local_port_range).
const firstDynamicPort = 32768

// Port returns the port that names the service of f, the responder's. It is 0 for protocols without ports, and for a port of
// the dynamic range behind which no application protocol was recognised: such ports come and go and would make each
// connection a service of its own.
func Port(f *flow.Flow) uint16 {
	port := f.DstPort
	if f.Kind == flow.KindDrop && f.Reply {
		port = f.SrcPort // a dropped packet's source is its sender
	}
	if port >= firstDynamicPort && f.L7 == nil {
		return 0
	}
	return port
}

// Ends returns the initiator and the responder of f's connection. They are Src and Dst but for a dropped reply, whose Src is
// the responder that sent it.
func Ends(f *flow.Flow) (src, dst *flow.Endpoint) {
	if f.Drop != nil && f.Reply {
		return f.Dst, f.Src
	}
	return f.Src, f.Dst
}

// Kind returns the kind of thing that e is on the map: the workload's, or the endpoint's where there is no workload.
func Kind(e *flow.Endpoint) string {
	if e.WorkloadKind != "" {
		return e.WorkloadKind
	}
	return e.Kind.String()
}

// Bounds of a route, so that what clients ask for can not fill a store's tables.
const (
	maxSegments = 8
	maxRoute    = 120 // bytes
)

// Route returns the resource of l without what differs from one exchange to the next: the query, and segments of a path
// that are numbers, UUIDs or long hexadecimal strings, which become {id}. It is at most 120 bytes and 8 segments long.
func Route(l *flow.L7) string {
	s := l.Resource
	if l.Protocol == flow.L7HTTP {
		s, _, _ = strings.Cut(s, "?")
		s = path(s)
	}
	if len(s) > maxRoute {
		s = strings.ToValidUTF8(s[:maxRoute], "")
	}
	return s
}

// path replaces variable segments of s. It allocates only if there are any.
func path(s string) string {
	var b strings.Builder
	kept, segments := 0, 0 // s[:kept] is in b
	for i := 0; i < len(s); {
		if s[i] == '/' {
			i++
			if segments++; segments > maxSegments {
				b.WriteString(s[kept:i])
				b.WriteString("...")
				return b.String()
			}
			continue
		}
		end := len(s)
		if n := strings.IndexByte(s[i:], '/'); n >= 0 {
			end = i + n
		}
		if variable(s[i:end]) {
			b.WriteString(s[kept:i])
			b.WriteString("{id}")
			kept = end
		}
		i = end
	}
	if kept == 0 {
		return s
	}
	b.WriteString(s[kept:])
	return b.String()
}

// variable reports whether segment is a number, or at least 8 hexadecimal digits and dashes of which one is a number.
func variable(segment string) bool {
	digits, hex := 0, 0
	for i := range len(segment) {
		switch c := segment[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F', c == '-':
			hex++
		default:
			return false
		}
	}
	return digits > 0 && (hex == 0 || digits+hex >= 8)
}
