package load

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/parallax-flow/parallax/flow/meta"
)

// service is one of an inventory, whose EndpointSlices may come later.
type service struct {
	object *meta.Object
	from   *corev1.Service
}

// addForwards says where services lead, now that all slices are known.
func (v *inventory) addForwards() {
	for _, s := range v.services {
		s.object.Forwards = Forwards(s.from, v.slices[id{"Service", s.object.Namespace, s.object.Name}])
	}
}

// readService reads a service and returns what takes it.
func (v *inventory) readService(from *corev1.Service, refuse func(path, text string)) func() {
	o := &meta.Object{Kind: meta.Service, Namespace: from.Namespace, Name: from.Name, Labels: from.Labels}
	add := func(path, text string) {
		a, ok := parseAddr(text)
		if !ok {
			refuse(path, describe(text)+" is not an address")
		}
		o.Addrs = append(o.Addrs, a)
	}
	if len(from.Spec.ClusterIPs) == 0 && from.Spec.ClusterIP != "" { // the first of them; a person writes it alone
		from.Spec.ClusterIPs = []string{from.Spec.ClusterIP}
	}
	for i, ip := range from.Spec.ClusterIPs {
		if ip != corev1.ClusterIPNone {
			add(fmt.Sprintf("spec.clusterIPs[%d]", i), ip)
		}
	}
	for i, ip := range from.Spec.ExternalIPs {
		add(fmt.Sprintf("spec.externalIPs[%d]", i), ip)
	}
	for i, in := range from.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			add(fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), in.IP)
		}
	}
	for i, p := range from.Spec.Ports {
		path := fmt.Sprintf("spec.ports[%d]", i)
		checkProtocol(path, p.Protocol, refuse)
		if !isPort(p.Port) {
			refuse(path+".port", fmt.Sprintf("%d is not a port from 1 to 65535", p.Port))
		}
	}
	return func() {
		v.objects = append(v.objects, o)
		v.services = append(v.services, service{o, from})
	}
}

// readSlice reads an EndpointSlice and returns what takes it.
func (v *inventory) readSlice(from *discoveryv1.EndpointSlice, refuse func(path, text string)) func() {
	switch from.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
		for i := range from.Endpoints {
			for j, text := range from.Endpoints[i].Addresses {
				if a, ok := parseAddr(text); !ok || familyOf(a) != from.AddressType {
					refuse(fmt.Sprintf("endpoints[%d].addresses[%d]", i, j), fmt.Sprintf("%s is not an address of %s", describe(text), from.AddressType))
				}
			}
		}
	case discoveryv1.AddressTypeFQDN:
	default:
		refuse("addressType", describe(string(from.AddressType))+" is not one of IPv4, IPv6, FQDN")
	}
	for i, p := range from.Ports {
		checkProtocol(fmt.Sprintf("ports[%d]", i), value(p.Protocol), refuse)
	}
	return func() {
		of := id{"Service", from.Namespace, from.Labels[discoveryv1.LabelServiceName]}
		v.slices[of] = append(v.slices[of], from)
	}
}

func checkProtocol(path string, p corev1.Protocol, refuse func(path, text string)) {
	if _, known := protocols[p]; !known {
		refuse(path+".protocol", describe(string(p))+" is not one of TCP, UDP, SCTP")
	}
}
