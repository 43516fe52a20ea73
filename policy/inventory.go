package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// Endpoint is what policies can see of a pod. It is immutable once handed over.
type Endpoint struct {
	Namespace       string
	Name            string
	NamespaceLabels map[string]string
	Labels          map[string]string
	Addrs           []netip.Addr // unmapped; at most one of each family
	Ports           []meta.Port
	Node            string
	HostNetwork     bool // the addresses are the node's
}

// String returns "namespace/name".
func (e *Endpoint) String() string { return e.Namespace + "/" + e.Name }

// numbers returns the numbers of e's named ports with this name and protocol. Containers of a pod can share a name.
func (e *Endpoint) numbers(name string, proto flow.Proto) []uint16 {
	var list []uint16
	for _, p := range e.Ports {
		if p.Name == name && p.Proto == proto && !slices.Contains(list, p.Number) {
			list = append(list, p.Number)
		}
	}
	return list
}

// Host is a node.
type Host struct {
	Name  string
	Addrs []netip.Addr
}

// Inventory is everything that has a name.
type Inventory struct {
	Endpoints []Endpoint
	Hosts     []Host
	Services  []Service
}

// namespaceName is the label that the API server sets on every namespace.
const namespaceName = "kubernetes.io/metadata.name"

// FromMeta makes an Inventory of pods, nodes, namespaces and services; other objects are left out. A namespace without an object
// has the one label that every namespace has.
func FromMeta(objects []*meta.Object) Inventory {
	var inv Inventory
	namespaces := make(map[string]map[string]string)
	for _, o := range objects {
		if o.Kind == meta.Namespace {
			namespaces[o.Name] = o.Labels
		}
	}
	labels := make(map[string]map[string]string)
	for _, o := range objects {
		switch o.Kind {
		case meta.Node:
			inv.Hosts = append(inv.Hosts, Host{Name: o.Name, Addrs: o.Addrs})
		case meta.Service:
			if len(o.Forwards) > 0 {
				inv.Services = append(inv.Services, Service{o.Namespace, o.Name, o.Forwards})
			}
		case meta.Pod:
			if labels[o.Namespace] == nil {
				m := map[string]string{namespaceName: o.Namespace}
				maps.Copy(m, namespaces[o.Namespace])
				labels[o.Namespace] = m
			}
			inv.Endpoints = append(inv.Endpoints, Endpoint{
				Namespace: o.Namespace, Name: o.Name, NamespaceLabels: labels[o.Namespace], Labels: o.Labels,
				Addrs: o.Addrs, Ports: o.Ports, Node: o.Node, HostNetwork: o.HostNetwork,
			})
		}
	}
	return inv
}

// index finds the pods, hosts and services of an Inventory.
type index struct {
	pods     []*Endpoint // sorted by name, without doubles
	owner    map[netip.Addr]*Endpoint
	hosts    map[netip.Addr]string
	services map[ServiceKey]*virtual
}

func newIndex(inv Inventory) *index {
	ix := &index{owner: make(map[netip.Addr]*Endpoint), hosts: make(map[netip.Addr]string), services: virtuals(inv.Services)}
	for i := range inv.Endpoints {
		ix.pods = append(ix.pods, &inv.Endpoints[i])
	}
	slices.SortStableFunc(ix.pods, compareNames)
	ix.pods = slices.CompactFunc(ix.pods, func(a, b *Endpoint) bool { return compareNames(a, b) == 0 })
	for _, h := range inv.Hosts {
		for _, a := range h.Addrs {
			ix.hosts[a.Unmap()] = h.Name
		}
	}
	for _, p := range ix.pods {
		for _, a := range p.Addrs {
			a = a.Unmap()
			switch {
			case p.HostNetwork:
				if _, known := ix.hosts[a]; !known {
					ix.hosts[a] = p.Node
				}
			case ix.owner[a] == nil: // else the first by name keeps it: no rule should hang on the order of news
				ix.owner[a] = p
			}
		}
	}
	return ix
}

func compareNames(a, b *Endpoint) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// find returns the pod of that name, nil if there is none.
func (ix *index) find(namespace, name string) *Endpoint {
	i, found := slices.BinarySearchFunc(ix.pods, &Endpoint{Namespace: namespace, Name: name}, compareNames)
	if !found {
		return nil
	}
	return ix.pods[i]
}
