package kube

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/parallax-flow/parallax/flow/meta"
)

// Indexes of EndpointSlices, keyed by "namespace/name" of a service and of a pod.
const (
	byService = "service"
	byPod     = "pod"
)

func sliceIndexers() cache.Indexers {
	index := func(keys func(*discoveryv1.EndpointSlice) []string) cache.IndexFunc {
		return func(o any) ([]string, error) {
			s, ok := o.(*discoveryv1.EndpointSlice)
			if !ok {
				return nil, nil
			}
			return keys(s), nil
		}
	}
	return cache.Indexers{
		byService: index(func(s *discoveryv1.EndpointSlice) []string { return []string{s.Namespace + "/" + serviceOf(s)} }),
		byPod:     index(podsOf),
	}
}

// trimSlice keeps whose slice it is, the pods in it, and the addresses of what is no pod: those of pods the pods tell.
// Where connections lead needs all addresses, and the ports.
func (c *Config) trimSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	t := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
			Labels: map[string]string{discoveryv1.LabelServiceName: serviceOf(s)},
		},
		AddressType: s.AddressType,
		Endpoints:   make([]discoveryv1.Endpoint, 0, len(s.Endpoints)),
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		var kept discoveryv1.Endpoint
		if p := e.TargetRef; p != nil && p.Kind == "Pod" {
			kept.TargetRef = &corev1.ObjectReference{Kind: p.Kind, Name: p.Name}
		}
		if kept.TargetRef == nil || c.Forwards {
			kept.Addresses = e.Addresses
		}
		t.Endpoints = append(t.Endpoints, kept)
	}
	if c.Forwards {
		for _, p := range s.Ports {
			t.Ports = append(t.Ports, discoveryv1.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
		}
	}
	return t
}

// serviceOf names the service that s belongs to, in its namespace; empty if none.
func serviceOf(s *discoveryv1.EndpointSlice) string { return s.Labels[discoveryv1.LabelServiceName] }

// podsOf returns the keys of the pods in s, which are in its namespace, sorted. A nil s has none.
func podsOf(s *discoveryv1.EndpointSlice) (keys []string) {
	if s == nil {
		return nil
	}
	for i := range s.Endpoints {
		if p := s.Endpoints[i].TargetRef; p != nil && p.Kind == "Pod" {
			keys = append(keys, s.Namespace+"/"+p.Name)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// outsiders returns the addresses in s that are no pod's. A nil s has none.
func outsiders(s *discoveryv1.EndpointSlice) (addrs []netip.Addr) {
	if s == nil || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	for i := range s.Endpoints {
		if s.Endpoints[i].TargetRef != nil {
			continue
		}
		for _, a := range s.Endpoints[i].Addresses {
			addrs = appendAddr(addrs, a)
		}
	}
	return addrs
}

// outside returns the addresses in the slices of a service that are no pod's: a person, or a controller of his, wrote them.
func outside(list []*discoveryv1.EndpointSlice) (addrs []netip.Addr) {
	for _, s := range list {
		addrs = append(addrs, outsiders(s)...)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// servicesOf returns the names of the services that a pod stands behind, sorted.
func (w *watch) servicesOf(namespace, pod string) (names []string) {
	for _, s := range w.slices(byPod, namespace+"/"+pod) {
		if name := serviceOf(s); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (w *watch) slices(index, key string) (list []*discoveryv1.EndpointSlice) {
	found, err := w.informers[endpointSlices].GetIndexer().ByIndex(index, key)
	if err != nil {
		return nil // the index is there since sliceIndexers names it
	}
	for _, o := range found {
		if s, ok := o.(*discoveryv1.EndpointSlice); ok {
			list = append(list, s)
		}
	}
	return list
}

// sliced tells of what a slice has changed: the service where addresses that it tells differ, and the pods that came into
// it or left. The rest, such as a pod that is not ready for a while, is most of the changes and says nothing new.
func (w *watch) sliced(old, s *discoveryv1.EndpointSlice) {
	stays := old != nil && s != nil && serviceOf(old) == serviceOf(s)
	if !stays {
		w.retell(old)
	}
	if !stays || !sameAddresses(old, s) {
		w.retell(s)
	}
	before, after := podsOf(old), podsOf(s)
	for _, key := range before {
		if _, in := slices.BinarySearch(after, key); !in || !stays {
			w.retellPod(key)
		}
	}
	for _, key := range after {
		if _, was := slices.BinarySearch(before, key); !was {
			w.retellPod(key)
		}
	}
}

// sameAddresses reports whether two trimmed slices say the same to their service: addresses, which of them are pods', and
// ports.
func sameAddresses(a, b *discoveryv1.EndpointSlice) bool {
	return a.AddressType == b.AddressType && slices.EqualFunc(a.Ports, b.Ports, samePort) &&
		slices.EqualFunc(a.Endpoints, b.Endpoints, func(d, e discoveryv1.Endpoint) bool {
			return (d.TargetRef == nil) == (e.TargetRef == nil) && slices.Equal(d.Addresses, e.Addresses)
		})
}

func samePort(a, b discoveryv1.EndpointPort) bool {
	return same(a.Name, b.Name) && same(a.Protocol, b.Protocol) && same(a.Port, b.Port)
}

// same compares what may be there.
func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// retell tells of the service that s belongs to, if it is known.
func (w *watch) retell(s *discoveryv1.EndpointSlice) {
	if s == nil {
		return
	}
	if o, found, err := w.informers[services].GetStore().GetByKey(s.Namespace + "/" + serviceOf(s)); err == nil && found {
		w.tellService(o.(*corev1.Service))
	}
}

func (w *watch) retellPod(key string) {
	if o, found, err := w.informers[pods].GetStore().GetByKey(key); err == nil && found {
		w.emit(meta.Update{Object: w.pod(o.(*corev1.Pod))})
	}
}
