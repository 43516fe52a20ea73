package clickhouse

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/rollup"
)

// exactSpan is the longest range that is answered from the flows themselves, with its exact bounds. A longer one is
// answered from the 1-minute tables and so widened to whole minutes.
const exactSpan = 15 * time.Minute

// source is a table that sums can be taken from: names of columns, or expressions in their place.
type source struct {
	table, where                            string
	records, connections, requests          string
	drops, decisions, policy                string
	packets, bytes, replyPackets, replyByte string
	failed                                  string
	latency                                 string // aggregate function, with its arguments
	rttSum, rttCount                        string
	srcPods, dstPods                        string // aggregate functions
	first, last                             string
	dropReason, dropSymbol                  string
}

const rawCounts = "kind NOT IN ('l7', 'drop')" // rollup.Counts

// oriented is the flows with the sides of their connections: see rollup.Ends.
const oriented = `(SELECT flow.* REPLACE (
	if(swapped, flow.dst_group, flow.src_group) AS src_group,
	if(swapped, flow.dst_name, flow.src_name) AS src_name,
	if(swapped, flow.dst_kind, flow.src_kind) AS src_kind,
	if(swapped, flow.dst_pod, flow.src_pod) AS src_pod,
	if(swapped, flow.src_group, flow.dst_group) AS dst_group,
	if(swapped, flow.src_name, flow.dst_name) AS dst_name,
	if(swapped, flow.src_kind, flow.dst_kind) AS dst_kind,
	if(swapped, flow.src_pod, flow.dst_pod) AS dst_pod) FROM flows AS flow) AS flow`

var raw = source{
	table: oriented, where: "NOT secondary",
	drops: "if(kind = 'drop', greatest(packets + reply_packets, 1), 0)", decisions: "kind = 'verdict'", policy: "policy",
	records: "1", connections: "kind = 'new'", requests: "kind = 'l7'", failed: "l7_error",
	packets: "packets * (" + rawCounts + ")", bytes: "bytes * (" + rawCounts + ")",
	replyPackets: "reply_packets * (" + rawCounts + ")", replyByte: "reply_bytes * (" + rawCounts + ")",
	latency: "quantilesDDIf(0.01, 0.5, 0.95, 0.99)(duration - l7_wait, l7_answered)",
	rttSum:  "toUInt64(handshake_rtt)", rttCount: "handshake_rtt > 0",
	srcPods: "uniqIf(toString(src_pod), src_pod != '')", dstPods: "uniqIf(toString(dst_pod), dst_pod != '')",
	first: "time", last: "time", dropReason: "drop_reason", dropSymbol: "drop_symbol",
}

var edges1m = source{
	table: "edges_1m", where: all,
	drops: "drops", decisions: "decisions", policy: "policy",
	records: "records", connections: "connections", requests: "requests", failed: "failed",
	packets: "packets", bytes: "bytes", replyPackets: "reply_packets", replyByte: "reply_bytes",
	latency: "quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(latency)", rttSum: "rtt_sum", rttCount: "rtt_count",
	srcPods: "uniqMerge(src_pods)", dstPods: "uniqMerge(dst_pods)", first: "first_seen", last: "last_seen",
	dropReason: "drop_reason", dropSymbol: "drop_symbol",
}

var ops1m = source{
	table: "ops_1m", where: all, records: "requests", requests: "requests", failed: "failed",
	latency: "quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(latency)", dropReason: "''", dropSymbol: "''", policy: "''",
}

// aggregate is a question about sums under way.
type aggregate struct {
	source
	where
	cond string
}

// from chooses where sums over r come from. rolled is the table for long ranges, step the width of the answer's steps, 0 if it has none.
func (s *Store) from(rolled source, r query.Range, step int64, set filter.Set) aggregate {
	a := aggregate{source: raw, where: where{params: params{}, exact: true}}
	expired := time.Unix(0, r.From).Before(time.Now().Add(-s.config.RawTTL))
	if expired || r.To-r.From > int64(exactSpan) && step%int64(time.Minute) == 0 {
		a.source = rolled
		minute := int64(time.Minute)
		a.cond = fmt.Sprintf("time >= toDateTime(%s, 'UTC') AND time < toDateTime(%s, 'UTC')",
			a.params.num(floor(r.From, minute)/1e9), a.params.num(floor(r.To+minute-1, minute)/1e9))
	} else {
		a.cond = a.within(r)
	}
	a.cond = and([]string{a.cond, a.source.where, a.edges(set)})
	return a
}

// edges is the condition of a filter for edges: see rollup.OnEdges.
func (a *aggregate) edges(s filter.Set) string {
	conds := []string{}
	if len(s.Allow) > 0 {
		conds = append(conds, or(each(s.Allow, a.edge)))
	}
	if len(s.Deny) > 0 {
		conds = append(conds, "NOT "+or(each(s.Deny, a.edge)))
	}
	return and(conds)
}

func (a *aggregate) edge(f filter.Filter) string {
	var conds []string
	for _, side := range []struct {
		prefix              string
		namespace, workload []string
	}{{"src_", f.SrcNamespace, f.SrcWorkload}, {"dst_", f.DstNamespace, f.DstWorkload}} {
		if len(side.namespace) > 0 {
			conds = append(conds, side.prefix+"group IN "+a.params.strs(side.namespace))
		}
		if len(side.workload) > 0 {
			conds = append(conds, or(each(side.workload, func(v string) string { return a.workload(side.prefix, "kind", v) })))
		}
	}
	if len(f.Edge) > 0 {
		conds = append(conds, "concat(src_group, '/', src_name, '>', dst_group, '/', dst_name) IN "+a.params.strs(f.Edge))
	}
	if len(f.Verdict) > 0 {
		conds = append(conds, "toUInt8(verdict) IN "+nums(a.params, f.Verdict))
	}
	if len(f.DropReason) > 0 {
		conds = append(conds, fmt.Sprintf("(verdict = 'dropped' AND upper(%s) IN %s)", a.dropReason, a.params.strs(each(f.DropReason, rollup.Reason))))
	}
	if len(f.Policy) > 0 {
		conds = append(conds, a.where.policy(a.source.policy, f.Policy))
	}
	if len(f.Protocol) > 0 {
		conds = append(conds, a.protocol(f.Protocol))
	}
	if f.Error != nil {
		conds = append(conds, isTrue(a.failed, *f.Error))
	}
	if len(f.Text) > 0 {
		conds = append(conds, or(each(f.Text, func(v string) string {
			p := a.params.str(v)
			return or(each([]string{"src_group", "src_name", "dst_group", "dst_name", a.dropReason, a.dropSymbol, a.source.policy},
				func(column string) string { return fmt.Sprintf("positionCaseInsensitive(%s, %s) > 0", column, p) }))
		})))
	}
	return and(conds)
}

// Edges returns the map of q.Range, sorted by source and destination. Up to 15 minutes the range is exact, a longer one is
// widened to whole minutes. A filter that sets other fields than those of rollup.OnEdges is answered record by record, which
// takes time in proportion to the records.
func (s *Store) Edges(ctx context.Context, q query.Edges) ([]query.Edge, error) {
	if !rollup.OnEdges(q.Filter) {
		var sum rollup.Edges
		err := s.Flows(ctx, query.Flows{Range: q.Range, Filter: q.Filter}, func(f *flow.Flow) bool { sum.Add(f); return true })
		return sum.Result(), err
	}
	if _, err := filter.Compile(q.Filter); err != nil {
		return nil, err
	}
	a := s.from(edges1m, clip(q.Range), 0, q.Filter)
	rows := newEdgeRows()
	sql := fmt.Sprintf(`SELECT CAST(src_group, 'String'), CAST(src_name, 'String'), CAST(dst_group, 'String'), CAST(dst_name, 'String'), CAST(max(src_kind), 'String'), CAST(max(dst_kind), 'String'),
	%s, %s, toUInt64(sum(%s)), toUInt64(sum(%s)), toUInt64(sumIf(%s, %s)), toUInt64(sum(%s)), toUInt64(sumIf(%s, verdict = 'audit')),
	sum(%s), sum(%s), sum(%s), sum(%s), %s, sum(%s), toUInt64(sum(%s)),
	%s, %s,
	toUnixTimestamp64Nano(min(%s)), toUnixTimestamp64Nano(max(%s))
FROM %s WHERE %s GROUP BY src_group, src_name, dst_group, dst_name`,
		a.srcPods, a.dstPods, a.connections, a.requests, a.requests, a.failed, a.drops, a.records,
		a.bytes, a.replyByte, a.packets, a.replyPackets, a.latency, a.rttSum, a.rttCount,
		counted(a.dropReason, a.drops, "verdict = 'dropped'"), counted("concat(toString(proto), ' ', l7_protocol, ' ', toString(service_port))", a.records, all), a.first, a.last, a.table, a.cond)
	var out []query.Edge
	err := s.query(ctx, sql, a.params, rows.results, func() error {
		for i := range rows.first {
			out = append(out, rows.edge(i))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rollup.SortEdges(out)
	return out, s.decide(ctx, q, out)
}

// decide adds what policies decided to edges.
func (s *Store) decide(ctx context.Context, q query.Edges, edges []query.Edge) error {
	a := s.from(edges1m, clip(q.Range), 0, q.Filter)
	sums, err := s.decisions(ctx, &a, "CAST(src_group, 'String'), CAST(src_name, 'String'), CAST(dst_group, 'String'), CAST(dst_name, 'String')",
		"src_group, src_name, dst_group, dst_name,")
	for i := range edges {
		e := &edges[i]
		if d := sums[[4]string{e.Src.Group, e.Src.Name, e.Dst.Group, e.Dst.Name}]; d != nil {
			e.Decisions = d.Result()
		}
	}
	return err
}

// decisions sums what policies decided by four strings: ends names their columns, and group what they are grouped by.
func (s *Store) decisions(ctx context.Context, a *aggregate, ends, group string) (map[[4]string]*rollup.Decisions, error) {
	var names [4]proto.ColStr
	var verdict proto.ColUInt8
	var key proto.ColStr
	var connections, packets proto.ColUInt64
	var last proto.ColInt64
	columns := proto.Results{{Data: &names[0]}, {Data: &names[1]}, {Data: &names[2]}, {Data: &names[3]}, {Data: &verdict}, {Data: &key},
		{Data: &connections}, {Data: &packets}, {Data: &last}}
	sql := fmt.Sprintf(`SELECT %s, toUInt8(verdict), CAST(%[2]s, 'String'), toUInt64(sum(%[3]s)), toUInt64(sum(%[4]s)), toUnixTimestamp64Nano(max(%[5]s))
FROM %[6]s WHERE %[7]s AND %[2]s != '' GROUP BY %[8]s verdict, %[2]s`, ends, a.source.policy, a.decisions, a.drops, a.last, a.table, a.cond, group)
	sums := make(map[[4]string]*rollup.Decisions)
	err := s.query(ctx, sql, a.params, columns, func() error {
		for i := range key.Rows() {
			k := [4]string{names[0].Row(i), names[1].Row(i), names[2].Row(i), names[3].Row(i)}
			if sums[k] == nil {
				sums[k] = new(rollup.Decisions)
			}
			sums[k].Sum(flow.Verdict(verdict[i]), key.Row(i), connections[i], packets[i], last[i])
		}
		return nil
	})
	return sums, err
}

// edgeRows is the columns of the query of Edges.
type edgeRows struct {
	results                                      proto.Results
	names                                        [6]proto.ColStr
	srcPods, dstPods                             proto.ColUInt64
	connections, requests, errors, drops, audits proto.ColUInt64
	bytes, replyBytes, packets, replyPackets     proto.ColUInt64
	latency                                      *proto.ColArr[float64]
	rttSum, rttCount                             proto.ColUInt64
	reasons, protocols                           *counts
	first, last                                  proto.ColInt64
}

func newEdgeRows() *edgeRows {
	r := &edgeRows{latency: proto.NewArray(new(proto.ColFloat64)), reasons: newCounts(), protocols: newCounts()}
	for i := range r.names {
		r.results = append(r.results, proto.ResultColumn{Data: &r.names[i]})
	}
	for _, c := range []proto.ColResult{&r.srcPods, &r.dstPods, &r.connections, &r.requests, &r.errors, &r.drops, &r.audits,
		&r.bytes, &r.replyBytes, &r.packets, &r.replyPackets, r.latency, &r.rttSum, &r.rttCount,
		r.reasons.keys, r.reasons.values, r.protocols.keys, r.protocols.values, &r.first, &r.last} {
		r.results = append(r.results, proto.ResultColumn{Data: c})
	}
	return r
}

func (r *edgeRows) edge(i int) query.Edge {
	e := query.Edge{
		Src: query.NodeKey{Group: r.names[0].Row(i), Name: r.names[1].Row(i)}, Dst: query.NodeKey{Group: r.names[2].Row(i), Name: r.names[3].Row(i)},
		SrcKind: r.names[4].Row(i), DstKind: r.names[5].Row(i), SrcPods: int(r.srcPods[i]), DstPods: int(r.dstPods[i]),
		Connections: r.connections[i], Requests: r.requests[i], Errors: r.errors[i], Drops: r.drops[i], Audits: r.audits[i],
		Bytes: r.bytes[i], ReplyBytes: r.replyBytes[i], Packets: r.packets[i], ReplyPackets: r.replyPackets[i],
		RTT: rollup.Mean(r.rttSum[i], r.rttCount[i]), DropReason: rollup.Most(r.reasons.row(i)), FirstSeen: r.first[i], LastSeen: r.last[i],
	}
	e.P50, e.P95, e.P99 = quantiles(r.latency, i)
	protocols := make(map[query.Proto]uint64)
	for name, n := range r.protocols.row(i) {
		part := strings.Split(name, " ")
		l4, _ := strconv.ParseUint(part[0], 10, 8)
		port, _ := strconv.ParseUint(part[2], 10, 16)
		protocols[query.Proto{L4: flow.Proto(l4), L7: l7protocols[part[1]], Port: uint16(port)}] = n
	}
	e.Protocols = rollup.Protocols(protocols)
	return e
}

// quantiles reads the three quantiles of a DDSketch of microseconds. Of an empty one they are not a number.
func quantiles(c *proto.ColArr[float64], i int) (p50, p95, p99 int64) {
	var q [3]int64
	for j, v := range c.Row(i) {
		q[j] = -1
		if !math.IsNaN(v) {
			q[j] = int64(v * 1000)
		}
	}
	return q[0], q[1], q[2]
}

// counted is the two expressions that counts reads: how often each key comes where cond holds.
func counted(key, times, cond string) string {
	sum := fmt.Sprintf("sumMapIf([CAST(%s, 'String')], [toUInt64(%s)], %s)", key, times, cond)
	return fmt.Sprintf("tupleElement(%[1]s, 1), tupleElement(%[1]s, 2)", sum)
}

// counts is the two columns of a sumMap: strings and how often.
type counts struct {
	keys   *proto.ColArr[string]
	values *proto.ColArr[uint64]
}

func newCounts() *counts {
	return &counts{keys: proto.NewArray(new(proto.ColStr)), values: proto.NewArray(new(proto.ColUInt64))}
}

func (c *counts) row(i int) map[string]uint64 {
	m := make(map[string]uint64)
	values := c.values.Row(i)
	for j, k := range c.keys.Row(i) {
		m[k] = values[j]
	}
	return m
}

// clip narrows r to what columns of time can hold.
func clip(r query.Range) query.Range {
	return query.Range{From: max(r.From, 0), To: min(r.To, maxTime)}
}
