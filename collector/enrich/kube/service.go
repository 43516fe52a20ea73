package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy/load"
)

// trimService keeps the addresses of a service, and what says where they lead.
func (c *Config) trimService(s *corev1.Service) *corev1.Service {
	t := &corev1.Service{
		ObjectMeta: trimmed(s),
		Spec:       corev1.ServiceSpec{ClusterIPs: s.Spec.ClusterIPs, ExternalIPs: s.Spec.ExternalIPs},
		Status:     corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}
	if c.Forwards {
		t.Spec.Type = s.Spec.Type
		for _, p := range s.Spec.Ports {
			t.Spec.Ports = append(t.Spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
		}
	}
	return t
}

// service is what is told of s now. It is made of the informers' stores, which have an object before its news come here:
// whichever of a service and its slices is heard of last finds the others there.
func (w *watch) service(s *corev1.Service) *meta.Object {
	o := &meta.Object{Kind: meta.Service, Namespace: s.Namespace, Name: s.Name, Cluster: w.cfg.Cluster, Labels: s.Labels}
	for _, ip := range s.Spec.ClusterIPs {
		o.Addrs = appendAddr(o.Addrs, ip) // "None" of a headless service is no address
	}
	for _, ip := range s.Spec.ExternalIPs {
		o.Addrs = appendAddr(o.Addrs, ip)
	}
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		o.Addrs = appendAddr(o.Addrs, ingress.IP)
	}
	list := w.slices(byService, s.Namespace+"/"+s.Name)
	o.Addrs = append(o.Addrs, outside(list)...)
	if w.cfg.Forwards {
		o.Forwards = load.Forwards(s, list)
	}
	return o
}

// tellService tells of s unless nothing is new.
func (w *watch) tellService(s *corev1.Service) {
	o := w.service(s)
	key := o.Key()
	if last := w.told[key]; last != nil && sameService(last, o) {
		return
	}
	w.told[key] = o
	w.emit(meta.Update{Object: o})
}

// sameService compares what service sets.
func sameService(a, b *meta.Object) bool {
	return maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Addrs, b.Addrs) && slices.EqualFunc(a.Forwards, b.Forwards, sameForward)
}

func sameForward(a, b meta.Forward) bool {
	return a.Addr == b.Addr && a.Port == b.Port && a.Proto == b.Proto && slices.Equal(a.To, b.To)
}
