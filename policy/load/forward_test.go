package load

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

var comparePorts = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func backendsOf(list ...string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

// endpoints is a slice with an endpoint at each address.
func endpoints(family discoveryv1.AddressType, addrs []string, ports ...discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{AddressType: family, Ports: ports}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func endpointPort(name string, protocol corev1.Protocol, number int32) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number}
}

func TestForwards(t *testing.T) {
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	web := []corev1.ServicePort{{Name: "web", Port: 80, Protocol: corev1.ProtocolTCP}}
	list := []*discoveryv1.EndpointSlice{
		endpoints(v4, []string{"10.1.0.2", "10.1.0.1"}, endpointPort("web", "TCP", 8080), endpointPort("dns", "UDP", 5353)),
		endpoints(v4, []string{"10.1.0.1", "10.1.0.3"}, endpointPort("web", "TCP", 8081), endpointPort("dns", "TCP", 1)),
		endpoints(v4, []string{"10.1.0.1"}, endpointPort("web", "TCP", 8080)),
		endpoints(v6, []string{"fd00::2", "10.1.0.9"}, endpointPort("web", "TCP", 8080)),
		endpoints(discoveryv1.AddressTypeFQDN, []string{"example.com", "10.1.0.8"}, endpointPort("web", "TCP", 8080)),
		endpoints(v4, []string{"10.1.0.7"}, discoveryv1.EndpointPort{}),
		endpoints(v4, []string{"10.1.0.6"}, endpointPort("web", "TCP", 0), endpointPort("web", "TCP", 65536), endpointPort("web", "ICMP", 1)),
	}
	webs := backendsOf("10.1.0.1:8080", "10.1.0.1:8081", "10.1.0.2:8080", "10.1.0.3:8081")
	vip, proxy := corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy
	at := func(addr string, port uint16, proto flow.Proto, to ...netip.AddrPort) meta.Forward {
		return meta.Forward{Addr: netip.MustParseAddr(addr), Port: port, Proto: proto, To: to}
	}
	for _, c := range []struct {
		name   string
		spec   corev1.ServiceSpec
		status corev1.ServiceStatus
		want   []meta.Forward
	}{
		{"all slices of the family", corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, Ports: web}, corev1.ServiceStatus{},
			[]meta.Forward{at("10.96.0.1", 80, flow.ProtoTCP, webs...)}},
		{"both families", corev1.ServiceSpec{ClusterIPs: []string{"fd96::1", "10.96.0.1"}, Ports: web}, corev1.ServiceStatus{},
			[]meta.Forward{at("10.96.0.1", 80, flow.ProtoTCP, webs...), at("fd96::1", 80, flow.ProtoTCP, backendsOf("[fd00::2]:8080")...)}},
		{"ports", corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "none", Port: 9, Protocol: corev1.ProtocolSCTP}, {Name: "web", Port: 53},
			{Name: "web", Port: 0}, {Name: "web", Port: 65536}, {Name: "web", Port: 1, Protocol: "ICMP"},
		}}, corev1.ServiceStatus{}, []meta.Forward{
			at("10.96.0.1", 9, flow.ProtoSCTP), at("10.96.0.1", 53, flow.ProtoTCP, webs...),
			at("10.96.0.1", 53, flow.ProtoUDP, backendsOf("10.1.0.1:5353", "10.1.0.2:5353")...),
		}},
		{"addresses", corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, ExternalIPs: []string{"192.0.2.1", "192.0.2.2", "x", "fe80::1%eth0"}, Ports: web},
			corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
				{IP: "192.0.2.2"}, {IP: "192.0.2.3", IPMode: &vip}, {IP: "192.0.2.4", IPMode: &proxy}, {Hostname: "example.com"},
			}}}, []meta.Forward{
				at("10.96.0.1", 80, flow.ProtoTCP, webs...), at("192.0.2.1", 80, flow.ProtoTCP, webs...),
				at("192.0.2.2", 80, flow.ProtoTCP, webs...), at("192.0.2.3", 80, flow.ProtoTCP, webs...),
			}},
		{"headless", corev1.ServiceSpec{ClusterIPs: []string{"None"}, ExternalIPs: []string{"192.0.2.1"}, Ports: web}, corev1.ServiceStatus{}, nil},
		{"a name elsewhere", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalIPs: []string{"192.0.2.1"}, Ports: web}, corev1.ServiceStatus{}, nil},
		{"no address yet", corev1.ServiceSpec{Ports: web}, corev1.ServiceStatus{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Forwards(&corev1.Service{Spec: c.spec, Status: c.status}, list)
			if diff := cmp.Diff(c.want, got, compareAddrs, comparePorts); diff != "" {
				t.Error(diff)
			}
		})
	}
	unnamed := endpoints(v4, []string{"10.1.0.1"}, discoveryv1.EndpointPort{Port: new(int32(80))})
	got := Forwards(&corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{{Port: 80}}}}, []*discoveryv1.EndpointSlice{unnamed})
	if diff := cmp.Diff([]meta.Forward{at("10.96.0.1", 80, flow.ProtoTCP, backendsOf("10.1.0.1:80")...)}, got, compareAddrs, comparePorts); diff != "" {
		t.Errorf("defaults: %s", diff)
	}
}

// BenchmarkForwards joins a service of two ports with 5,000 endpoints in 50 slices, as the controller makes them.
func BenchmarkForwards(b *testing.B) {
	var list []*discoveryv1.EndpointSlice
	for i := range 50 {
		var addrs []string
		for j := range 100 {
			addrs = append(addrs, fmt.Sprintf("10.%d.%d.%d", 1+j%7, i, j))
		}
		list = append(list, endpoints(discoveryv1.AddressTypeIPv4, addrs, endpointPort("web", "TCP", 8080), endpointPort("metrics", "TCP", 9090)))
	}
	s := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{{Name: "web", Port: 80}, {Name: "metrics", Port: 9090}}}}
	b.ReportAllocs()
	for b.Loop() {
		Forwards(s, list)
	}
}
