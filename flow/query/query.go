// Package query is what is asked of stored flows and what comes back. A store implements it, the page and the Observer
// API ask; neither knows the other. All times are Unix ns, a Range is half open.
package query

import (
	"cmp"
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
)

// Range is [From, To).
type Range struct{ From, To int64 }

// Flows asks for stored records in time order.
type Flows struct {
	Range
	Filter filter.Set
	Limit  int  // 0: no limit
	Newest bool // newest first; with Limit: the newest ones
}

// NodeKey names a card of the map: what Endpoint.Key gives.
type NodeKey struct{ Group, Name string }

// String is "group/name".
func (k NodeKey) String() string { return k.Group + "/" + k.Name }

// KeyOf returns the key of e.
func KeyOf(e *flow.Endpoint) NodeKey {
	g, n := e.Key()
	return NodeKey{g, n}
}

// Edges asks for the map. Only fields of Filter that an edge has can be honoured: group, workload, verdict, policy, protocol, text.
type Edges struct {
	Range
	Filter filter.Set
}

// Edge sums all traffic from one map node to another over a range. Traffic that is counted at another point is left out.
type Edge struct {
	Src, Dst         NodeKey
	SrcKind, DstKind string // workload kind, or endpoint kind where there is no workload
	SrcPods, DstPods int
	Connections      uint64 // new connections
	Requests         uint64 // L7 exchanges
	Errors           uint64 // failed exchanges
	Drops            uint64 // packets
	Audits           uint64 // records of what would have been denied
	Bytes            uint64 // Src to Dst
	ReplyBytes       uint64
	Packets          uint64
	ReplyPackets     uint64
	P50, P95, P99    int64      // L7 latency, ns; -1 unknown
	RTT              int64      // mean handshake, ns; -1 unknown
	DropReason       string     // most frequent one
	Decisions        []Decision // as SortDecisions gives them
	Protocols        []Proto    // most used first
	FirstSeen        int64
	LastSeen         int64
}

// Decision is what one set of policies decided on an edge or node.
type Decision struct {
	Verdict     flow.Verdict // dropped, audit, forwarded
	Policies    []string     // as PolicyRef.String gives them; never empty
	Connections uint64       // that were decided on
	Packets     uint64       // that were denied
	LastSeen    int64
}

// PolicyKey joins the names of the policies of d by newlines; it is empty if d is nil or names none.
func PolicyKey(d *flow.Decision) string {
	if d == nil {
		return ""
	}
	var b strings.Builder
	for i, p := range d.Policies {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// maxDecisions bounds Edge.Decisions and DetailResult.Decisions.
const maxDecisions = 20

// SortDecisions sorts denials before audits before the rest, of one verdict what decided most first, and returns the first 20.
func SortDecisions(d []Decision) []Decision {
	rank := func(v flow.Verdict) int {
		switch v {
		case flow.VerdictDropped:
			return 0
		case flow.VerdictAudit:
			return 1
		}
		return 2 + int(v)
	}
	slices.SortFunc(d, func(a, b Decision) int {
		return cmp.Or(cmp.Compare(rank(a.Verdict), rank(b.Verdict)), cmp.Compare(b.Packets, a.Packets), cmp.Compare(b.Connections, a.Connections),
			slices.Compare(a.Policies, b.Policies))
	})
	return d[:min(len(d), maxDecisions)]
}

// Proto is a protocol of an edge.
type Proto struct {
	L4   flow.Proto
	L7   flow.L7Protocol
	Port uint16 // of the responder; 0 for ICMP
}

// Served is the latency of the exchanges that a node answered, whoever asked; ns, -1 unknown.
type Served struct {
	Node          NodeKey
	P50, P95, P99 int64
}

// Timeline asks for counts over time.
type Timeline struct {
	Range
	Step   int64 // ns, a multiple of a second
	Filter filter.Set
}

// Bucket is one step of a timeline.
type Bucket struct {
	Time      int64
	Forwarded uint64 // records; a verdict that denies is none
	Errors    uint64 // failed exchanges
	Drops     uint64 // packets
}

// Detail asks for what an edge (both set) or a node (Src set, Dst nil: as either side) is made of.
type Detail struct {
	Range
	Step   int64
	Src    *NodeKey
	Dst    *NodeKey
	Filter filter.Set
}

// DetailResult answers Detail.
type DetailResult struct {
	Series []Point
	Top    []Operation // most frequent first, at most 20
	Drops  []Drop      // most frequent first
	// Decisions are as SortDecisions gives them.
	Decisions []Decision
}

// Point is one step of a series; counts are totals of the step.
type Point struct {
	Time             int64
	Requests, Errors uint64
	Drops, Bytes     uint64
	P50, P95, P99    int64 // ns, -1 unknown
}

// Operation is one kind of exchange.
type Operation struct {
	L7        flow.L7Protocol
	Operation string
	Resource  string
	Count     uint64
	Errors    uint64
	P95       int64  // ns
	Status    uint16 // most frequent failing status, else most frequent one
}

// Drop is one reason.
type Drop struct {
	Reason, Symbol string
	Count          uint64 // packets
}
