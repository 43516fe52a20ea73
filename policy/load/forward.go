package load

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// protocols are those that a port may have in the API; empty is the default.
var protocols = map[corev1.Protocol]flow.Proto{
	"": flow.ProtoTCP, corev1.ProtocolTCP: flow.ProtoTCP, corev1.ProtocolUDP: flow.ProtoUDP, corev1.ProtocolSCTP: flow.ProtoSCTP,
}

// Forwards returns where connections to the virtual addresses of s go, sorted by address, port and protocol: to the
// endpoints in list, the EndpointSlices of s, at the port that a slice has under the name of the service's port. All
// endpoints count, ready or not: a node sends connections to one that terminates when there is no other, and learns of
// changes sooner or later than others do.
//
// A service that is headless or an ExternalName has none (kube-proxy: pkg/proxy/util/utils.go, ShouldSkipService), nor has
// a load balancer that is a proxy of its own (ipMode). Of s and list only the addresses, the ports and the type are read;
// addresses and ports that are none are left out. Results of one family and port share their To.
func Forwards(s *corev1.Service, list []*discoveryv1.EndpointSlice) []meta.Forward {
	virtual := virtualAddrs(s)
	if len(virtual) == 0 {
		return nil
	}
	out := make([]meta.Forward, 0, len(virtual)*len(s.Spec.Ports))
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		proto, known := protocols[port.Protocol]
		if !known || !isPort(port.Port) {
			continue
		}
		to := make(map[discoveryv1.AddressType][]netip.AddrPort, 2)
		for _, a := range virtual {
			family := familyOf(a)
			if _, done := to[family]; !done {
				to[family] = backends(port.Name, proto, family, list)
			}
			out = append(out, meta.Forward{Addr: a, Port: uint16(port.Port), Proto: proto, To: to[family]})
		}
	}
	slices.SortFunc(out, func(a, b meta.Forward) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto))
	})
	return out
}

// virtualAddrs returns the addresses of s whose connections the node rewrites, each once.
func virtualAddrs(s *corev1.Service) (list []netip.Addr) {
	if s.Spec.Type == corev1.ServiceTypeExternalName || len(s.Spec.ClusterIPs) == 0 || s.Spec.ClusterIPs[0] == corev1.ClusterIPNone {
		return nil
	}
	add := func(text string) {
		if a, ok := parseAddr(text); ok {
			list = append(list, a)
		}
	}
	for _, ip := range s.Spec.ClusterIPs {
		add(ip)
	}
	for _, ip := range s.Spec.ExternalIPs {
		add(ip)
	}
	for i := range s.Status.LoadBalancer.Ingress {
		if in := &s.Status.LoadBalancer.Ingress[i]; in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			add(in.IP)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// backends returns the endpoints of a family at the port of that name and protocol, sorted, each once; nil if there are
// none.
func backends(name string, proto flow.Proto, family discoveryv1.AddressType, list []*discoveryv1.EndpointSlice) []netip.AddrPort {
	n := 0
	for s := range portsNamed(name, proto, family, list) {
		n += len(s.Endpoints)
	}
	if n == 0 {
		return nil
	}
	to := make([]netip.AddrPort, 0, n) // kept as long as the service: no room to grow
	for s, port := range portsNamed(name, proto, family, list) {
		for i := range s.Endpoints {
			for _, text := range s.Endpoints[i].Addresses {
				if a, ok := parseAddr(text); ok && familyOf(a) == family {
					to = append(to, netip.AddrPortFrom(a, port))
				}
			}
		}
	}
	slices.SortFunc(to, netip.AddrPort.Compare)
	return slices.Compact(to)
}

// portsNamed yields the slices of a family with their ports of that name and protocol.
func portsNamed(name string, proto flow.Proto, family discoveryv1.AddressType, list []*discoveryv1.EndpointSlice) iter.Seq2[*discoveryv1.EndpointSlice, uint16] {
	return func(yield func(*discoveryv1.EndpointSlice, uint16) bool) {
		for _, s := range list {
			if s.AddressType != family {
				continue
			}
			for i := range s.Ports {
				p := &s.Ports[i]
				if value(p.Name) != name || protocols[value(p.Protocol)] != proto || !isPort(value(p.Port)) {
					continue
				}
				if !yield(s, uint16(*p.Port)) {
					return
				}
			}
		}
	}
}

// value returns what p points to, and what is zero where it points to nothing: the API's default.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func isPort(n int32) bool { return n > 0 && n < 1<<16 }

func familyOf(a netip.Addr) discoveryv1.AddressType {
	if a.Is4() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// parseAddr reads an address without a zone; an IPv4 address that is written as one of IPv6 is one of IPv4.
func parseAddr(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	return a.Unmap(), err == nil && a.Zone() == ""
}
