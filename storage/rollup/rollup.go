// Package rollup says what a flow counts for on the map. Every kind of store takes it from here, so that all give the same
// figures.
package rollup

import "github.com/parallax-flow/parallax/flow"

// firstDynamicPort begins Linux's range of ports for outgoing connections (net.ipv4.ip_local_port_range).
const firstDynamicPort = 32768

// Port returns the port that names the service of f, the responder's. It is 0 for protocols without ports, and for a port of
// the dynamic range behind which no application protocol was recognised: such ports come and go and would make each
// connection a service of its own.
func Port(f *flow.Flow) uint16 {
	port := f.DstPort
	if swapped(f) {
		port = f.SrcPort // a dropped packet's source is its sender
	}
	if port >= firstDynamicPort && f.L7 == nil {
		return 0
	}
	return port
}

// swapped reports whether f is a reply that the kernel dropped. The source of a drop by policy is always who began.
func swapped(f *flow.Flow) bool { return f.Drop.ByKernel() && f.Reply }

// Ends returns the initiator and the responder of f's connection. They are Src and Dst but for a reply that the kernel
// dropped, whose Src is the responder that sent it.
func Ends(f *flow.Flow) (src, dst *flow.Endpoint) {
	if swapped(f) {
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
