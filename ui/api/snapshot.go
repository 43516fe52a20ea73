package api

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// snapshot turns edges into what the page draws. p95 gives the latency of what a node served in ns, -1 if unknown.
func snapshot(from, to int64, edges []query.Edge, p95 func(query.NodeKey) int64, groups []string) Snapshot {
	seconds := math.Max(float64(to-from)/1e9, 1)
	s := Snapshot{From: from / 1e6, To: to / 1e6, Nodes: []Node{}, Edges: []Edge{}, Groups: groups}
	cards := map[query.NodeKey]*card{}
	get := func(k query.NodeKey, kind string, pods int) *card {
		c := cards[k]
		if c == nil {
			c = &card{Node: Node{ID: k.String(), Group: k.Group, Name: k.Name, Kind: kind}}
			cards[k] = c
		}
		c.Pods = max(c.Pods, pods)
		return c
	}
	for i := range edges {
		e := &edges[i]
		s.Edges = append(s.Edges, edge(e, seconds))
		src, dst := get(e.Src, e.SrcKind, e.SrcPods), get(e.Dst, e.DstKind, e.DstPods)
		dst.requests += e.Requests
		dst.errors += e.Errors
		dst.connections += e.Connections
		drops := float64(e.Drops) / seconds
		src.Drops += drops
		src.BytesOut += float64(e.Bytes) / seconds
		src.BytesIn += float64(e.ReplyBytes) / seconds
		if src != dst {
			dst.Drops += drops
			dst.BytesOut += float64(e.ReplyBytes) / seconds
			dst.BytesIn += float64(e.Bytes) / seconds
		}
	}
	for k, c := range cards {
		c.finish(seconds, p95(k))
		s.Nodes = append(s.Nodes, c.Node)
	}
	slices.SortFunc(s.Nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

type card struct {
	Node
	requests, errors, connections uint64
}

func (c *card) finish(seconds float64, p95 int64) {
	c.P95, c.ErrorPct, c.RateUnit = millis(p95), -1, "conn/s"
	c.Rate = float64(c.connections) / seconds
	if c.requests > 0 {
		c.RateUnit = "req/s"
		c.Rate = float64(c.requests) / seconds
		c.ErrorPct = 100 * float64(c.errors) / float64(c.requests)
	}
}

func edge(e *query.Edge, seconds float64) Edge {
	var denied, audited uint64
	for _, d := range e.Decisions {
		switch d.Verdict {
		case flow.VerdictDropped:
			denied += d.Connections
		case flow.VerdictAudit:
			audited += d.Connections
		}
	}
	return Edge{
		ID: e.Src.String() + ">" + e.Dst.String(), Src: e.Src.String(), Dst: e.Dst.String(),
		Flows:    float64(e.Connections) / seconds,
		Requests: float64(e.Requests) / seconds,
		Errors:   float64(e.Errors) / seconds,
		Drops:    float64(e.Drops) / seconds,
		Denied:   float64(denied) / seconds, Audited: float64(audited) / seconds,
		Bytes: float64(e.Bytes+e.ReplyBytes) / seconds,
		P50:   millis(e.P50), P95: millis(e.P95), RTT: millis(e.RTT),
		Verdict: worst(e), DropReason: e.DropReason, Policies: decisions(e.Decisions), Protocols: protocols(e.Protocols), LastSeen: e.LastSeen / 1e6,
	}
}

func decisions(list []query.Decision) []Decision {
	out := make([]Decision, len(list))
	for i, d := range list {
		out[i] = Decision{Verdict: d.Verdict.String(), Names: d.Policies, Connections: d.Connections, Packets: d.Packets, LastSeen: d.LastSeen / 1e6}
	}
	return out
}

func worst(e *query.Edge) string {
	switch {
	case e.Drops > 0 || len(e.Decisions) > 0 && e.Decisions[0].Verdict == flow.VerdictDropped: // the drops of a denial may come later
		return "dropped"
	case e.Errors > 0:
		return "error"
	case e.Audits > 0:
		return "audit"
	}
	return "forwarded"
}

// protocols names an edge's protocols, the application's where it is known: "HTTP, TCP 5432". A port that is known to
// carry an application protocol is not named again.
func protocols(ps []query.Proto) string {
	spoken := map[uint16]bool{}
	for _, p := range ps {
		if p.L7 != flow.L7Unknown {
			spoken[p.Port] = true
		}
	}
	var names []string
	for _, p := range ps {
		name := strings.ToUpper(p.L7.String())
		if p.L7 == flow.L7Unknown {
			if spoken[p.Port] {
				continue
			}
			if name = p.L4.String(); p.Port != 0 {
				name += " " + strconv.Itoa(int(p.Port))
			}
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		if len(names) == 4 {
			break
		}
	}
	return strings.Join(names, ", ")
}

func millis(ns int64) float64 {
	if ns < 0 {
		return -1
	}
	return float64(ns) / 1e6
}
