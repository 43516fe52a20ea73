package rollup

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// maxSteps bounds a series: more would fit no screen.
const maxSteps = 5000

// Steps returns the start of each step of r: multiples of step, from the one that holds r.From. It is an error if step is
// not a multiple of a second or gives more than 5000.
func Steps(r query.Range, step int64) ([]int64, error) {
	if step < int64(time.Second) || step%int64(time.Second) != 0 {
		return nil, fmt.Errorf("step of %v: want a multiple of a second", time.Duration(step))
	}
	if r.To <= r.From {
		return nil, nil
	}
	first := Floor(r.From, step)
	if (r.To-first)/step > maxSteps {
		return nil, fmt.Errorf("%v in steps of %v are more than %d: choose a longer step", time.Duration(r.To-r.From), time.Duration(step), maxSteps)
	}
	var out []int64
	for t := first; t < r.To; t += step {
		out = append(out, t)
	}
	return out, nil
}

// Floor is the last multiple of step that is not after t.
func Floor(t, step int64) int64 {
	m := t % step
	if m < 0 {
		m += step
	}
	return t - m
}

// Timeline counts flows by step.
type Timeline struct {
	step    int64
	buckets []query.Bucket
}

// NewTimeline returns a Timeline whose steps are those of Steps.
func NewTimeline(r query.Range, step int64) (*Timeline, error) {
	starts, err := Steps(r, step)
	if err != nil {
		return nil, err
	}
	t := &Timeline{step: step, buckets: make([]query.Bucket, len(starts))}
	for i, at := range starts {
		t.buckets[i].Time = at
	}
	return t, nil
}

// At returns the bucket that holds the time at, nil if none does.
func (t *Timeline) At(at int64) *query.Bucket {
	if len(t.buckets) == 0 || at < t.buckets[0].Time {
		return nil
	}
	if i := (at - t.buckets[0].Time) / t.step; i < int64(len(t.buckets)) {
		return &t.buckets[i]
	}
	return nil
}

// Add counts f, if it is not counted at another point.
func (t *Timeline) Add(f *flow.Flow) {
	b := t.At(f.Time)
	switch {
	case b == nil || f.Secondary:
	case f.Dropped() > 0:
		b.Drops += f.Dropped()
	case f.Verdict == flow.VerdictDropped: // the drops follow
	case f.L7 != nil && f.L7.Error:
		b.Errors++
	default:
		b.Forwarded++
	}
}

// Result returns all buckets, in order of time.
func (t *Timeline) Result() []query.Bucket { return t.buckets }

// maxTop is the length of DetailResult.Top.
const maxTop = 20

// Detail sums flows to what an edge or node is made of.
type Detail struct {
	src, dst *query.NodeKey
	step     int64
	points   []query.Point
	latency  [][]int64
	ops      map[operation]*opCount
	drops    map[query.Drop]uint64
	decided  Decisions
}

type operation struct {
	l7               flow.L7Protocol
	operation, route string
}

type opCount struct {
	count, errors        uint64
	latency              []int64
	statuses, errorCodes map[uint16]uint64
}

// NewDetail returns a Detail for q.
func NewDetail(q query.Detail) (*Detail, error) {
	starts, err := Steps(q.Range, q.Step)
	if err != nil {
		return nil, err
	}
	d := &Detail{
		src: q.Src, dst: q.Dst, step: q.Step, points: make([]query.Point, len(starts)), latency: make([][]int64, len(starts)),
		ops: make(map[operation]*opCount), drops: make(map[query.Drop]uint64),
	}
	for i, at := range starts {
		d.points[i] = query.Point{Time: at, P50: -1, P95: -1, P99: -1}
	}
	return d, nil
}

// Add counts f, if it is of the edge or node and not counted at another point.
func (d *Detail) Add(f *flow.Flow) {
	src, dst := Ends(f)
	if f.Secondary || len(d.points) == 0 || !d.matches(query.KeyOf(src), query.KeyOf(dst)) {
		return
	}
	i := (f.Time - d.points[0].Time) / d.step
	if i < 0 || i >= int64(len(d.points)) {
		return
	}
	p := &d.points[i]
	if Counts(f.Kind) {
		p.Bytes += f.Bytes + f.ReplyBytes
	}
	d.decided.Add(f)
	if n := f.Dropped(); n > 0 {
		p.Drops += n
		reason := query.Drop{Reason: reasonOf(f)}
		if f.Drop != nil {
			reason.Symbol = f.Drop.Symbol
		}
		d.drops[reason] += n
	}
	if f.L7 == nil || f.Kind != flow.KindL7 {
		return
	}
	p.Requests++
	if f.L7.Error {
		p.Errors++
	}
	if f.L7.Answered {
		d.latency[i] = append(d.latency[i], f.L7.Latency)
	}
	d.addOperation(f.L7)
}

func (d *Detail) matches(src, dst query.NodeKey) bool {
	switch {
	case d.src != nil && d.dst != nil:
		return *d.src == src && *d.dst == dst
	case d.src != nil:
		return *d.src == src || *d.src == dst
	case d.dst != nil:
		return *d.dst == src || *d.dst == dst
	}
	return true
}

func (d *Detail) addOperation(l *flow.L7) {
	k := operation{l.Protocol, l.Operation, flow.Route(l)}
	c := d.ops[k]
	if c == nil {
		c = &opCount{statuses: make(map[uint16]uint64), errorCodes: make(map[uint16]uint64)}
		d.ops[k] = c
	}
	c.count++
	c.statuses[l.Status]++
	if l.Error {
		c.errors++
		c.errorCodes[l.Status]++
	}
	if l.Answered {
		c.latency = append(c.latency, l.Latency)
	}
}

// Result returns what was summed.
func (d *Detail) Result() query.DetailResult {
	out := query.DetailResult{Series: d.points}
	for i := range d.points {
		p := &d.points[i]
		p.P50, p.P95, p.P99 = Quantiles(d.latency[i])
	}
	for k, c := range d.ops {
		_, p95, _ := Quantiles(c.latency)
		out.Top = append(out.Top, query.Operation{
			L7: k.l7, Operation: k.operation, Resource: k.route, Count: c.count, Errors: c.errors, P95: p95, Status: Status(c.statuses, c.errorCodes),
		})
	}
	for k, n := range d.drops {
		k.Count = n
		out.Drops = append(out.Drops, k)
	}
	out.Top = SortTop(out.Top)
	out.Decisions = d.decided.Result()
	SortDrops(out.Drops)
	return out
}

// Status is the most frequent failing status, else the most frequent one.
func Status(all, failing map[uint16]uint64) uint16 {
	if len(failing) > 0 {
		return Most(failing)
	}
	return Most(all)
}

// SortTop sorts the most frequent operations first and returns the first 20.
func SortTop(ops []query.Operation) []query.Operation {
	slices.SortFunc(ops, func(a, b query.Operation) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.L7, b.L7), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Resource, b.Resource))
	})
	return ops[:min(len(ops), maxTop)]
}

// SortDrops sorts the most frequent reasons first.
func SortDrops(drops []query.Drop) {
	slices.SortFunc(drops, func(a, b query.Drop) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Symbol, b.Symbol))
	})
}
