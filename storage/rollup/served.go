package rollup

import (
	"slices"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// Served gathers the latency of what nodes of the map answered. The zero value is ready to use.
type Served struct {
	latencies map[query.NodeKey][]int64
}

// Add counts f, if it is an answered exchange that is not counted at another point.
func (s *Served) Add(f *flow.Flow) {
	if f.Secondary || f.L7 == nil || !f.L7.Answered {
		return
	}
	if s.latencies == nil {
		s.latencies = make(map[query.NodeKey][]int64)
	}
	k := query.KeyOf(f.Dst)
	s.latencies[k] = append(s.latencies[k], f.L7.Latency)
}

// Result returns the nodes, sorted.
func (s *Served) Result() []query.Served {
	out := make([]query.Served, 0, len(s.latencies))
	for k, v := range s.latencies {
		n := query.Served{Node: k}
		n.P50, n.P95, n.P99 = Quantiles(v)
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b query.Served) int { return compareKeys(a.Node, b.Node) })
	return out
}
