package api

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// Live keeps what the live view shows: traffic by edge in slots of a second for the last minute and in slots of 10 seconds
// for the last 15 minutes, and the newest flows. Memory is bounded by maxEdges and keepFlows; edges
// beyond that are counted in Overflow. Time is that of the records, so a clock of the viewer plays no part.
type Live struct {
	mu       sync.Mutex
	nodes    map[query.NodeKey]*liveNode
	byEP     map[*flow.Endpoint]*liveNode
	policies map[*flow.Decision]string // query.PolicyKey
	fine     []slot                    // one second each, newest last
	coarse   []slot                    // coarseStep seconds each, newest last; covers the time of fine too
	flows    []flow.Flow               // ring
	next     uint64                    // sequence number of the next flow; flows[next % len] is its place
	overflow uint64
}

const (
	maxEdges    = 20_000 // in one slot
	keepFlows   = 8192
	maxNodes    = 10_000
	maxDecided  = 32 // sets of policies on one edge in one slot
	fineSlots   = 60
	coarseStep  = 10 // seconds
	coarseSlots = 90
)

type liveNode struct {
	key      query.NodeKey
	kind     string
	pods     map[string]int64 // last seen, Unix seconds
	lastSeen int64
}

type edgeKey struct {
	src, dst *liveNode
	port     uint16
	l4       flow.Proto
	l7       flow.L7Protocol
}

type slot struct {
	start int64 // Unix seconds
	edges map[edgeKey]*sums
}

// NewLive returns an empty Live.
func NewLive() *Live {
	return &Live{
		nodes:    map[query.NodeKey]*liveNode{},
		byEP:     map[*flow.Endpoint]*liveNode{},
		policies: map[*flow.Decision]string{},
		flows:    make([]flow.Flow, keepFlows),
	}
}

// Add takes flows in. It keeps copies.
func (l *Live) Add(flows []flow.Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range flows {
		f := &flows[i]
		if f.Secondary {
			continue
		}
		l.flows[l.next%keepFlows] = *f
		l.next++
		l.count(f)
	}
}

func (l *Live) count(f *flow.Flow) {
	sec := f.Time / int64(time.Second)
	src, dst := l.node(f.Src, sec), l.node(f.Dst, sec)
	if src == nil || dst == nil {
		l.overflow++
		return
	}
	k := edgeKey{src: src, dst: dst, l4: f.Proto, port: f.DstPort}
	if f.Drop.ByKernel() && f.Reply {
		k.src, k.dst, k.port = dst, src, f.SrcPort // the packet was a reply: the edge is that of its connection
	}
	if f.L7 != nil {
		k.l7 = f.L7.Protocol
	}
	policies := l.policyKey(f.Policy)
	for _, s := range [...]*slot{
		place(&l.fine, sec, 1, fineSlots),
		place(&l.coarse, sec, coarseStep, coarseSlots),
	} {
		if s == nil {
			continue
		}
		e := s.edges[k]
		if e == nil {
			if len(s.edges) >= maxEdges {
				l.overflow++
				continue
			}
			e = &sums{first: f.Time}
			s.edges[k] = e
		}
		e.add(f)
		if policies != "" && !e.decide(f, policies) {
			l.overflow++
		}
	}
}

// policyKey is query.PolicyKey, made once for each decision.
func (l *Live) policyKey(d *flow.Decision) string {
	if d == nil {
		return ""
	}
	key, ok := l.policies[d]
	if !ok {
		if len(l.policies) >= maxNodes {
			clear(l.policies)
		}
		key = query.PolicyKey(d)
		l.policies[d] = key
	}
	return key
}

// place finds the slot of sec, making it (and dropping what is older than keep slots) when time has moved on. It gives
// nil for a record that is older than everything kept.
func place(slots *[]slot, sec, step int64, keep int) *slot {
	start := sec - sec%step
	s := *slots
	for i := len(s) - 1; i >= 0 && s[i].start >= start; i-- {
		if s[i].start == start {
			return &s[i]
		}
	}
	if len(s) > 0 && start < s[len(s)-1].start-int64(keep-1)*step {
		return nil
	}
	at := len(s)
	for at > 0 && s[at-1].start > start {
		at--
	}
	s = slices.Insert(s, at, slot{start: start, edges: map[edgeKey]*sums{}})
	for oldest := s[len(s)-1].start - int64(keep-1)*step; s[0].start < oldest; at-- {
		s = slices.Delete(s, 0, 1)
	}
	*slots = s
	return &s[at]
}

// node interns e. A pointer lookup finds it in the common case; both maps are bounded, the pointer one by starting anew.
func (l *Live) node(e *flow.Endpoint, sec int64) *liveNode {
	n := l.byEP[e]
	if n == nil {
		key := query.KeyOf(e)
		if n = l.nodes[key]; n == nil {
			if len(l.nodes) >= maxNodes && !l.forget(sec) {
				return nil
			}
			n = &liveNode{key: key, kind: kindOf(e), pods: map[string]int64{}}
			l.nodes[key] = n
		}
		if len(l.byEP) >= 4*maxNodes {
			clear(l.byEP)
		}
		l.byEP[e] = n
	}
	n.lastSeen = max(n.lastSeen, sec)
	if e != nil && e.Pod != "" {
		n.pods[e.Pod] = sec
	}
	return n
}

// forget drops nodes that no slot can hold any more.
func (l *Live) forget(sec int64) bool {
	before := len(l.nodes)
	for k, n := range l.nodes {
		if n.lastSeen < sec-coarseSlots*coarseStep {
			delete(l.nodes, k)
		}
	}
	clear(l.byEP)
	return len(l.nodes) < before
}

func kindOf(e *flow.Endpoint) string {
	switch {
	case e == nil:
		return "unknown"
	case e.WorkloadKind != "":
		return e.WorkloadKind
	}
	return e.Kind.String()
}

// liveView is what Edges found: the edges, the latency of what each node served, and the number of its pods.
type liveView struct {
	from, to int64 // Unix ns
	edges    []query.Edge
	served   map[query.NodeKey]*hist
	groups   []string
}

// view sums the last window seconds before now over everything that m accepts. Edges that were silent in the window but
// not for 15 minutes are there with zeros, so that the map does not lose them.
func (l *Live) view(now time.Time, window int, m *matcher) liveView {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := now.Unix()
	v := liveView{from: (end - int64(window)) * int64(time.Second), to: end * int64(time.Second), served: map[query.NodeKey]*hist{}}
	slots := l.fine
	if window > fineSlots {
		slots = l.coarse
	}
	type pair struct{ src, dst *liveNode }
	acc := map[pair]*edgeSum{}
	collect := func(s *slot, sum bool) {
		for k, e := range s.edges {
			if !m.edge(k, e) {
				continue
			}
			p := acc[pair{k.src, k.dst}]
			if p == nil {
				p = &edgeSum{protos: map[query.Proto]uint64{}}
				acc[pair{k.src, k.dst}] = p
			}
			if !sum {
				p.last = max(p.last, e.last)
				p.protos[query.Proto{L4: k.l4, L7: k.l7, Port: k.port}] += 0
				continue
			}
			p.merge(e)
			p.protos[query.Proto{L4: k.l4, L7: k.l7, Port: k.port}] += e.requests*4 + e.connections + e.drops + 1
			if e.latency != nil {
				h := v.served[k.dst.key]
				if h == nil {
					h = &hist{}
					v.served[k.dst.key] = h
				}
				h.merge(e.latency)
			}
		}
	}
	for i := range l.coarse {
		collect(&l.coarse[i], false)
	}
	for i := range slots {
		if slots[i].start >= end-int64(window) && slots[i].start < end {
			collect(&slots[i], true)
		}
	}
	for p, e := range acc {
		v.edges = append(v.edges, e.edge(p.src, p.dst))
	}
	slices.SortFunc(v.edges, func(a, b query.Edge) int {
		return strings.Compare(a.Src.String()+">"+a.Dst.String(), b.Src.String()+">"+b.Dst.String())
	})
	for k := range l.nodes {
		if !slices.Contains(v.groups, k.Group) {
			v.groups = append(v.groups, k.Group)
		}
	}
	slices.Sort(v.groups)
	return v
}

type edgeSum struct {
	sums
	protos map[query.Proto]uint64
}

func (e *edgeSum) edge(src, dst *liveNode) query.Edge {
	q := query.Edge{
		Src: src.key, Dst: dst.key, SrcKind: src.kind, DstKind: dst.kind, SrcPods: len(src.pods), DstPods: len(dst.pods),
		Connections: e.connections, Requests: e.requests, Errors: e.errors, Drops: e.drops, Audits: e.audits,
		Bytes: e.bytes, ReplyBytes: e.replyBytes, Packets: e.packets, ReplyPackets: e.replyPackets,
		P50: -1, P95: -1, P99: -1, RTT: -1, DropReason: e.topReason(), FirstSeen: e.first, LastSeen: e.last,
	}
	for k, d := range e.decisions {
		q.Decisions = append(q.Decisions, query.Decision{
			Verdict: k.verdict, Policies: strings.Split(k.policies, "\n"), Connections: d.connections, Packets: d.packets, LastSeen: d.last,
		})
	}
	q.Decisions = query.SortDecisions(q.Decisions)
	if e.latency != nil {
		q.P50, q.P95, q.P99 = e.latency.quantile(.5), e.latency.quantile(.95), e.latency.quantile(.99)
	}
	if e.rttCount > 0 {
		q.RTT = int64(e.rttSum * 1000 / e.rttCount)
	}
	for p := range e.protos {
		q.Protocols = append(q.Protocols, p)
	}
	slices.SortFunc(q.Protocols, func(a, b query.Proto) int {
		if d := int64(e.protos[b]) - int64(e.protos[a]); d != 0 {
			return int(d)
		}
		return int(a.Port) - int(b.Port)
	})
	return q
}

// since gives the flows from sequence number seq on that m accepts, at most limit (the newest ones), how many it left
// out for that, and the sequence number to go on from.
func (l *Live) since(seq uint64, limit int, m *matcher) (out []flow.Flow, skipped, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next > keepFlows && seq < l.next-keepFlows {
		skipped = l.next - keepFlows - seq
		seq = l.next - keepFlows
	}
	for i := l.next; i > seq; i-- {
		f := &l.flows[(i-1)%keepFlows]
		if !m.flow(f) {
			continue
		}
		if len(out) == limit {
			skipped++
			continue
		}
		out = append(out, *f)
	}
	slices.Reverse(out)
	return out, skipped, l.next
}

// timeline counts the records that m accepts in the coarse slots that end after from (Unix ms).
func (l *Live) timeline(from int64, m *matcher) []Bucket {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Bucket
	for i := range l.coarse {
		s := &l.coarse[i]
		if (s.start+coarseStep)*1000 <= from {
			continue
		}
		b := Bucket{Time: s.start * 1000, Width: coarseStep * 1000}
		for k, e := range s.edges {
			if m.edge(k, e) {
				b.Drops += e.drops
				b.Errors += e.errors
				b.Forwarded += e.records - e.lost - e.errors
			}
		}
		out = append(out, b)
	}
	return out
}
