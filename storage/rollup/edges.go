package rollup

import (
	"cmp"
	"slices"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// Edges sums flows to edges. The zero value is ready to use.
type Edges struct {
	edges map[pair]*edge
}

type pair struct{ src, dst query.NodeKey }

type edge struct {
	query.Edge
	srcPods, dstPods map[string]struct{}
	drops            map[string]uint64
	decisions        Decisions
	protocols        map[query.Proto]uint64
	latencies        []int64
	rttSum, rttCount uint64
}

// Add counts f, if it is not counted at another point.
func (a *Edges) Add(f *flow.Flow) {
	if f.Secondary {
		return
	}
	src, dst := Ends(f)
	k := pair{query.KeyOf(src), query.KeyOf(dst)}
	e := a.edges[k]
	if e == nil {
		if a.edges == nil {
			a.edges = make(map[pair]*edge)
		}
		e = &edge{
			Edge:    query.Edge{Src: k.src, Dst: k.dst, FirstSeen: f.Time, LastSeen: f.Time},
			srcPods: make(map[string]struct{}), dstPods: make(map[string]struct{}),
			drops: make(map[string]uint64), protocols: make(map[query.Proto]uint64),
		}
		a.edges[k] = e
	}
	e.add(f)
}

func (e *edge) add(f *flow.Flow) {
	src, dst := Ends(f)
	e.SrcKind, e.DstKind = max(e.SrcKind, kindOf(src)), max(e.DstKind, kindOf(dst))
	e.FirstSeen, e.LastSeen = min(e.FirstSeen, f.Time), max(e.LastSeen, f.Time)
	addPod(e.srcPods, src)
	addPod(e.dstPods, dst)
	e.protocols[protocolOf(f)]++
	if f.HandshakeRTT > 0 {
		e.rttSum += uint64(f.HandshakeRTT)
		e.rttCount++
	}
	if n := f.Dropped(); n > 0 {
		e.Drops += n
		e.drops[reasonOf(f)] += n
	}
	if f.Verdict == flow.VerdictAudit {
		e.Audits++
	}
	e.decisions.Add(f)
	switch f.Kind {
	case flow.KindNew:
		e.Connections++
	case flow.KindL7:
		e.Requests++
		if f.L7 != nil && f.L7.Error {
			e.Errors++
		}
		if f.L7 != nil && f.L7.Answered {
			e.latencies = append(e.latencies, f.L7.Latency)
		}
	}
	if Counts(f.Kind) {
		e.Packets += f.Packets
		e.Bytes += f.Bytes
		e.ReplyPackets += f.ReplyPackets
		e.ReplyBytes += f.ReplyBytes
	}
}

// Counts reports whether packets and bytes of records of kind k are summed: an exchange's are part of its connection's, a
// dropped packet went nowhere.
func Counts(k flow.Kind) bool { return k != flow.KindL7 && k != flow.KindDrop }

func kindOf(e *flow.Endpoint) string {
	if e == nil {
		return flow.EndpointUnknown.String()
	}
	return Kind(e)
}

func addPod(pods map[string]struct{}, e *flow.Endpoint) {
	if e != nil && e.Pod != "" {
		pods[e.Pod] = struct{}{}
	}
}

func protocolOf(f *flow.Flow) query.Proto {
	p := query.Proto{L4: f.Proto, Port: Port(f)}
	if f.L7 != nil {
		p.L7 = f.L7.Protocol
	}
	return p
}

func reasonOf(f *flow.Flow) string {
	if f.Drop == nil {
		return ""
	}
	return f.Drop.Reason
}

// Result returns the edges, sorted by source and destination.
func (a *Edges) Result() []query.Edge {
	out := make([]query.Edge, 0, len(a.edges))
	for _, e := range a.edges {
		e.SrcPods, e.DstPods = len(e.srcPods), len(e.dstPods)
		e.P50, e.P95, e.P99 = Quantiles(e.latencies)
		e.RTT = Mean(e.rttSum, e.rttCount)
		e.DropReason = Most(e.drops)
		e.Decisions = e.decisions.Result()
		e.Edge.Protocols = Protocols(e.protocols)
		out = append(out, e.Edge)
	}
	SortEdges(out)
	return out
}

// SortEdges sorts by source and destination.
func SortEdges(edges []query.Edge) {
	slices.SortFunc(edges, func(a, b query.Edge) int { return cmp.Or(compareKeys(a.Src, b.Src), compareKeys(a.Dst, b.Dst)) })
}

func compareKeys(a, b query.NodeKey) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
}

// Mean returns the mean of count microsecond values in ns, -1 if there is none.
func Mean(sum, count uint64) int64 {
	if count == 0 {
		return -1
	}
	return int64(sum * 1000 / count)
}

// Quantiles returns the 0.5, 0.95 and 0.99 quantiles of v, which it sorts; -1 if v is empty. A quantile is the value at the rank
// below, as in DDSketch.
func Quantiles(v []int64) (p50, p95, p99 int64) {
	if len(v) == 0 {
		return -1, -1, -1
	}
	slices.Sort(v)
	at := func(q float64) int64 { return v[int(q*float64(len(v)-1))] }
	return at(0.5), at(0.95), at(0.99)
}

// Most returns the key with the highest count, the first in order among equals; the zero K if there is none.
func Most[K cmp.Ordered](counts map[K]uint64) K {
	var best K
	var most uint64
	for k, n := range counts {
		if n > most || n == most && k < best {
			best, most = k, n
		}
	}
	return best
}

// Protocols sorts by count. A service for which an application protocol is known is listed by that alone.
func Protocols(counts map[query.Proto]uint64) []query.Proto {
	type service struct {
		l4   flow.Proto
		port uint16
	}
	recognised := make(map[service]bool)
	for p := range counts {
		if p.L7 != flow.L7Unknown {
			recognised[service{p.L4, p.Port}] = true
		}
	}
	out := make([]query.Proto, 0, len(counts))
	for p := range counts {
		if p.L7 != flow.L7Unknown || !recognised[service{p.L4, p.Port}] {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b query.Proto) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a.L4, b.L4), cmp.Compare(a.L7, b.L7), cmp.Compare(a.Port, b.Port))
	})
	return out
}
