// Package meta carries what is known of the things behind addresses: pods, services, nodes. Every origin of such
// knowledge (the lab, a Kubernetes API server, a file) is a Source; collector and relay read them all in the same way.
package meta

import (
	"context"
	"net/netip"

	"github.com/parallax-flow/parallax/flow"
)

// Kind is the kind of an Object.
type Kind uint8

const (
	Pod Kind = iota + 1
	Service
	Node
	Namespace
)

// Object is one named thing with addresses. It is immutable once handed over.
type Object struct {
	Kind         Kind
	Namespace    string
	Name         string
	Workload     string // top owner's name ("frontend"); empty: Name
	WorkloadKind string // top owner's kind ("Deployment")
	Node         string // node on which a pod runs
	Cluster      string
	Labels       map[string]string
	Addrs        []netip.Addr
	Ports        []Port    // of a pod: the named ports of its containers
	Services     []string  // of a pod: the services of its namespace that it stands behind, sorted; the first names its endpoint
	Forwards     []Forward // of a service: where connections to its virtual addresses go, sorted
	HostNetwork  bool      // the addresses are the node's: they do not name the pod
	NetNS        string    // path of the network namespace where known (/run/netns/x, /proc/PID/ns/net), else empty
}

// Port is a named port of a pod's container.
type Port struct {
	Name   string
	Number uint16
	Proto  flow.Proto
}

// Forward is a port of a service's virtual address. The node rewrites the destination of connections to it, to one of the
// backends (DNAT; kube-proxy or what stands in for it).
type Forward struct {
	Addr  netip.Addr // virtual: a cluster IP, an external IP or that of a load balancer
	Port  uint16
	Proto flow.Proto
	To    []netip.AddrPort // backends of the same family, ready or not, sorted; empty: there is none
}

// Key identifies an Object among all updates of one Source.
type Key struct {
	Kind            Kind
	Namespace, Name string
}

// Key returns o's key.
func (o *Object) Key() Key { return Key{o.Kind, o.Namespace, o.Name} }

// Update is one change. Deleted objects carry at least their key.
type Update struct {
	Object  *Object
	Deleted bool
}

// Source tells what it knows: first everything, then each change, until ctx ends. emit must not be called after Watch
// returned. Watch returns nil on cancel.
type Source interface {
	Watch(ctx context.Context, emit func(Update)) error
}

// Syncer is a Source that says when it has told everything that there was at first: Synced is closed then.
type Syncer interface {
	Source
	Synced() <-chan struct{}
}
