package clickhouse

import (
	"context"
	"fmt"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/rollup"
)

// Served returns the latency of what each node of the map answered, whoever asked, sorted by node; nodes that answered
// nothing are left out. Range and filter are as for Edges.
func (s *Store) Served(ctx context.Context, q query.Edges) ([]query.Served, error) {
	if !rollup.OnEdges(q.Filter) {
		var sum rollup.Served
		err := s.Flows(ctx, query.Flows{Range: q.Range, Filter: q.Filter}, func(f *flow.Flow) bool { sum.Add(f); return true })
		return sum.Result(), err
	}
	if _, err := filter.Compile(q.Filter); err != nil {
		return nil, err
	}
	a := s.from(edges1m, clip(q.Range), 0, q.Filter)
	var group, name proto.ColStr
	latency := proto.NewArray(new(proto.ColFloat64))
	sql := fmt.Sprintf(`SELECT CAST(dst_group, 'String') AS g, CAST(dst_name, 'String') AS n, %s
FROM %s WHERE %s GROUP BY dst_group, dst_name HAVING sum(%s) > 0 ORDER BY g, n`, a.latency, a.table, a.cond, a.requests)
	var out []query.Served
	err := s.query(ctx, sql, a.params, proto.Results{{Data: &group}, {Data: &name}, {Data: latency}}, func() error {
		for i := range group.Rows() {
			n := query.Served{Node: query.NodeKey{Group: group.Row(i), Name: name.Row(i)}}
			n.P50, n.P95, n.P99 = quantiles(latency, i)
			if n.P50 >= 0 {
				out = append(out, n)
			}
		}
		return nil
	})
	return out, err
}
