package clickhouse

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/rollup"
)

// Timeline returns the counts of each step of q, also where they are 0. Steps begin at multiples of q.Step. What is said of
// ranges and filters at Edges holds here, too.
func (s *Store) Timeline(ctx context.Context, q query.Timeline) ([]query.Bucket, error) {
	line, err := rollup.NewTimeline(q.Range, q.Step)
	if err != nil {
		return nil, err
	}
	if !rollup.OnEdges(q.Filter) {
		err := s.Flows(ctx, query.Flows{Range: q.Range, Filter: q.Filter}, func(f *flow.Flow) bool { line.Add(f); return true })
		return line.Result(), err
	}
	if _, err := filter.Compile(q.Filter); err != nil {
		return nil, err
	}
	a := s.from(edges1m, clip(q.Range), q.Step, q.Filter)
	var start proto.ColInt64
	var forwarded, failed, dropped proto.ColUInt64
	sql := fmt.Sprintf(`SELECT %s AS step, toUInt64(sumIf(%[2]s, verdict != 'dropped' AND NOT %[3]s)), toUInt64(sumIf(%[2]s, verdict != 'dropped' AND %[3]s)),
	toUInt64(sum(%[4]s)) FROM %[5]s WHERE %[6]s GROUP BY step`, a.step(q.Step), a.records, a.failed, a.drops, a.table, a.cond)
	err = s.query(ctx, sql, a.params, proto.Results{{Data: &start}, {Data: &forwarded}, {Data: &failed}, {Data: &dropped}}, func() error {
		for i := range start {
			if b := line.At(start[i]); b != nil {
				b.Forwarded, b.Errors, b.Drops = forwarded[i], failed[i], dropped[i]
			}
		}
		return nil
	})
	return line.Result(), err
}

// step is the expression for the start of a row's step, ns.
func (a *aggregate) step(width int64) string {
	return fmt.Sprintf("intDiv(toInt64(toUnixTimestamp(time)), %[1]s) * %[1]s * 1000000000", a.params.num(width/int64(time.Second)))
}

// Detail returns what an edge or a node is made of. What is said of ranges, steps and filters at Timeline holds here, too.
func (s *Store) Detail(ctx context.Context, q query.Detail) (query.DetailResult, error) {
	if _, err := rollup.Steps(q.Range, q.Step); err != nil {
		return query.DetailResult{}, err
	}
	if !rollup.OnEdges(q.Filter) {
		return s.detailOfFlows(ctx, q)
	}
	if _, err := filter.Compile(q.Filter); err != nil {
		return query.DetailResult{}, err
	}
	var out query.DetailResult
	var err error
	if out.Series, err = s.points(ctx, q); err != nil {
		return out, err
	}
	if out.Top, err = s.top(ctx, q); err != nil {
		return out, err
	}
	if out.Drops, err = s.drops(ctx, q); err != nil {
		return out, err
	}
	a := s.from(edges1m, clip(q.Range), q.Step, q.Filter)
	a.cond = and([]string{a.cond, a.of(q)})
	sums, err := s.decisions(ctx, &a, "'', '', '', ''", "")
	if d := sums[[4]string{}]; d != nil {
		out.Decisions = d.Result()
	}
	return out, err
}

func (s *Store) detailOfFlows(ctx context.Context, q query.Detail) (query.DetailResult, error) {
	d, err := rollup.NewDetail(q)
	if err != nil {
		return query.DetailResult{}, err
	}
	err = s.Flows(ctx, query.Flows{Range: q.Range, Filter: q.Filter}, func(f *flow.Flow) bool { d.Add(f); return true })
	return d.Result(), err
}

// of is the condition for the edge or node that q is about.
func (a *aggregate) of(q query.Detail) string {
	is := func(side string, k *query.NodeKey) string {
		return fmt.Sprintf("(%[1]sgroup = %[2]s AND %[1]sname = %[3]s)", side, a.params.str(k.Group), a.params.str(k.Name))
	}
	switch {
	case q.Src != nil && q.Dst != nil:
		return and([]string{is("src_", q.Src), is("dst_", q.Dst)})
	case q.Src != nil:
		return or([]string{is("src_", q.Src), is("dst_", q.Src)})
	case q.Dst != nil:
		return or([]string{is("src_", q.Dst), is("dst_", q.Dst)})
	}
	return all
}

func (s *Store) points(ctx context.Context, q query.Detail) ([]query.Point, error) {
	starts, err := rollup.Steps(q.Range, q.Step)
	if err != nil || len(starts) == 0 {
		return nil, err
	}
	out := make([]query.Point, len(starts))
	for i, t := range starts {
		out[i] = query.Point{Time: t, P50: -1, P95: -1, P99: -1}
	}
	a := s.from(edges1m, clip(q.Range), q.Step, q.Filter)
	var start proto.ColInt64
	var requests, failed, dropped, bytes proto.ColUInt64
	latency := proto.NewArray(new(proto.ColFloat64))
	sql := fmt.Sprintf(`SELECT %s AS step, toUInt64(sum(%s)), toUInt64(sumIf(%s, %s)), toUInt64(sum(%s)), toUInt64(sum(%s) + sum(%s)), %s
FROM %s WHERE %s AND %s GROUP BY step`, a.step(q.Step), a.requests, a.requests, a.failed, a.drops, a.bytes, a.replyByte, a.latency, a.table, a.cond, a.of(q))
	columns := proto.Results{{Data: &start}, {Data: &requests}, {Data: &failed}, {Data: &dropped}, {Data: &bytes}, {Data: latency}}
	err = s.query(ctx, sql, a.params, columns, func() error {
		for i, t := range start {
			n := (t - starts[0]) / q.Step
			if t < starts[0] || n >= int64(len(out)) {
				continue
			}
			p := &out[n]
			p.Requests, p.Errors, p.Drops, p.Bytes = requests[i], failed[i], dropped[i], bytes[i]
			p.P50, p.P95, p.P99 = quantiles(latency, i)
		}
		return nil
	})
	return out, err
}

// maxOperations bounds what top takes from the store, of which it gives the first 20.
const maxOperations = 1000

func (s *Store) top(ctx context.Context, q query.Detail) ([]query.Operation, error) {
	a := s.from(ops1m, clip(q.Range), q.Step, q.Filter)
	var protocol, operation, route proto.ColStr
	var requests, failed proto.ColUInt64
	latency := proto.NewArray(new(proto.ColFloat64))
	statuses, failing := newCounts(), newCounts()
	sql := fmt.Sprintf(`SELECT CAST(l7_protocol, 'String'), CAST(l7_operation, 'String'), CAST(l7_route, 'String'), toUInt64(sum(%[1]s)) AS times, toUInt64(sumIf(%[1]s, %[2]s)), %[3]s,
	%[4]s, %[5]s
FROM %[6]s WHERE %[7]s AND %[8]s AND l7_protocol != '' GROUP BY l7_protocol, l7_operation, l7_route ORDER BY times DESC, 1, 2, 3 LIMIT %[9]d`,
		a.requests, a.failed, a.latency, counted("l7_status", a.requests, all), counted("l7_status", a.requests, a.failed),
		a.table, a.cond, a.of(q), maxOperations)
	columns := proto.Results{{Data: &protocol}, {Data: &operation}, {Data: &route}, {Data: &requests}, {Data: &failed}, {Data: latency},
		{Data: statuses.keys}, {Data: statuses.values}, {Data: failing.keys}, {Data: failing.values}}
	var out []query.Operation
	err := s.query(ctx, sql, a.params, columns, func() error {
		for i := range requests {
			_, p95, _ := quantiles(latency, i)
			out = append(out, query.Operation{
				L7: l7protocols[protocol.Row(i)], Operation: operation.Row(i), Resource: route.Row(i), Count: requests[i], Errors: failed[i], P95: p95,
				Status: rollup.Status(numbers(statuses.row(i)), numbers(failing.row(i))),
			})
		}
		return nil
	})
	return rollup.SortTop(out), err
}

func (s *Store) drops(ctx context.Context, q query.Detail) ([]query.Drop, error) {
	a := s.from(edges1m, clip(q.Range), q.Step, q.Filter)
	var reason, symbol proto.ColStr
	var times proto.ColUInt64
	sql := fmt.Sprintf(`SELECT CAST(drop_reason, 'String'), CAST(drop_symbol, 'String'), toUInt64(sum(%s)) AS times FROM %s WHERE %s AND %s AND verdict = 'dropped' GROUP BY drop_reason, drop_symbol HAVING times > 0`,
		a.drops, a.table, a.cond, a.of(q))
	var out []query.Drop
	err := s.query(ctx, sql, a.params, proto.Results{{Data: &reason}, {Data: &symbol}, {Data: &times}}, func() error {
		for i := range times {
			out = append(out, query.Drop{Reason: reason.Row(i), Symbol: symbol.Row(i), Count: times[i]})
		}
		return nil
	})
	rollup.SortDrops(out)
	return out, err
}

// numbers turns the keys of m into numbers.
func numbers(m map[string]uint64) map[uint16]uint64 {
	out := make(map[uint16]uint64, len(m))
	for k, n := range m {
		var v uint16
		if _, err := fmt.Sscan(k, &v); err == nil {
			out[v] = n
		}
	}
	return out
}

// Groups returns the groups of the map that have traffic in r, sorted. r is widened to whole minutes.
func (s *Store) Groups(ctx context.Context, r query.Range) ([]string, error) {
	r = clip(r)
	p := params{}
	sql := fmt.Sprintf(`SELECT DISTINCT CAST(arrayJoin([src_group, dst_group]), 'String') AS name FROM edges_1m
WHERE time >= toDateTime(%s, 'UTC') AND time <= toDateTime(%s, 'UTC') ORDER BY name`, p.num(floor(r.From, int64(time.Minute))/1e9), p.num((r.To-1)/1e9))
	return s.names(ctx, sql, p)
}

// Namespaces returns the Kubernetes namespaces that have flows in r, sorted.
func (s *Store) Namespaces(ctx context.Context, r query.Range) ([]string, error) {
	w := where{params: params{}}
	sql := fmt.Sprintf(`SELECT DISTINCT CAST(arrayJoin([src_namespace, dst_namespace]), 'String') AS name FROM flows WHERE %s AND name != '' ORDER BY name`, w.within(clip(r)))
	return s.names(ctx, sql, w.params)
}

func (s *Store) names(ctx context.Context, sql string, p params) ([]string, error) {
	var name proto.ColStr
	var out []string
	err := s.query(ctx, sql, p, proto.Results{{Data: &name}}, func() error {
		for i := range name.Rows() {
			out = append(out, name.Row(i))
		}
		return nil
	})
	return out, err
}
