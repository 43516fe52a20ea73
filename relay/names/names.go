// Package names fills in what a collector could not know: who is behind the address on the other side. A collector in a
// cluster watches the pods of its own node alone, so that the API server's work grows with the number of pods and not
// with its square; the relay, one for all, watches every pod and knows the other end of each connection.
//
// What a collector does know stays: it saw the pod come and go on its own node, before the news reached anybody else.
package names

import (
	"sync/atomic"

	"github.com/parallax-flow/parallax/flow"
)

// owners knows who had an address at a time (Unix ns); nil if nobody. Lookup may be called from any goroutine.
type owners interface {
	Lookup(a flow.Addr, at int64) *flow.Endpoint
}

// Names fills in endpoints. It is safe for concurrent use, waits for nobody and allocates nothing.
type Names struct {
	owners  owners
	cluster string
	filled  atomic.Uint64
}

// New returns Names that asks o, which knows one cluster: flows that another cluster's nodes observed are left alone,
// since addresses repeat between clusters. An empty cluster is that of all nodes.
func New(o owners, cluster string) *Names { return &Names{owners: o, cluster: cluster} }

// Filled is how many endpoints were filled in so far, 0 of a nil Names.
func (n *Names) Filled() uint64 {
	if n == nil {
		return 0
	}
	return n.filled.Load()
}

// Fill sets those of Src and Dst of the flows, all observed by one node, that its collector could not tell and that had
// an owner at the flow's time.
func (n *Names) Fill(node *flow.Node, flows []flow.Flow) {
	if n.cluster != "" && node.Cluster != n.cluster {
		return
	}
	filled := uint64(0)
	for i := range flows {
		f := &flows[i]
		if open(f.Src) {
			if e := n.owners.Lookup(f.SrcAddr, f.Time); e != nil {
				f.Src = e
				filled++
			}
		}
		if open(f.Dst) {
			if e := n.owners.Lookup(f.DstAddr, f.Time); e != nil {
				f.Dst = e
				filled++
			}
		}
	}
	if filled > 0 {
		n.filled.Add(filled)
	}
}

// open reports whether a collector could not tell what e is. A name that it learned from DNS does not close it: that of a
// headless service leads to pods, of which only the owner of the address knows more.
func open(e *flow.Endpoint) bool {
	return e == nil || e.Kind == flow.EndpointUnknown || e.Kind == flow.EndpointWorld
}
