package span

import (
	"cmp"
	"slices"

	"github.com/parallax-flow/parallax/flow"
)

// Row is one span in its place among those of its trace.
type Row struct {
	Span
	Flow  *flow.Flow
	Depth int // 0: nothing that is here called it
}

// Arrange puts the spans of flows, which must be of one trace, in the order of a waterfall: each below its caller, callers before what
// they call, siblings by their start. What comes twice is taken once. Rows point into flows.
//
// A program that starts a span for each call and reports it nowhere leaves a gap: the parent of its call is a span that is not here. Such
// a call goes below the request that its service was answering all that while, if there was just one in the trace.
func Arrange(flows []flow.Flow) []Row {
	var rows []Row
	at := make(map[ID]int)
	var buf [2]Span
	for i := range flows {
		for _, s := range Append(buf[:0], &flows[i]) {
			if _, twice := at[s.ID]; !twice {
				at[s.ID] = len(rows)
				rows = append(rows, Row{Span: s, Flow: &flows[i]})
			}
		}
	}
	children := make([][]int, len(rows))
	var roots []int
	for i := range rows {
		parent, known := at[rows[i].Parent]
		if !known {
			parent = serving(rows, i)
		}
		if parent < 0 {
			roots = append(roots, i)
		} else {
			children[parent] = append(children[parent], i)
		}
	}
	return walk(rows, roots, children)
}

// serving returns the only request during which the service of the call rows[i] made it, else -1. Both were seen at the same
// interface or host, by one clock.
func serving(rows []Row, i int) int {
	call, found := &rows[i], -1
	if call.Side != Client {
		return found
	}
	for j := range rows {
		r := &rows[j]
		if r.Side != Server || r.Start > call.Start || r.End < call.End || !same(r.Flow.Dst, call.Flow.Src) {
			continue
		}
		if found >= 0 {
			return -1
		}
		found = j
	}
	return found
}

// same reports whether a and b are one pod, or one program of a host.
func same(a, b *flow.Endpoint) bool {
	if a == nil || b == nil || a.Kind != b.Kind {
		return false
	}
	switch a.Kind {
	case flow.EndpointPod:
		return a.Namespace == b.Namespace && a.Pod == b.Pod && a.Cluster == b.Cluster
	case flow.EndpointProcess, flow.EndpointHost:
		return a.NodeName == b.NodeName && a.Workload == b.Workload && a.Cluster == b.Cluster
	}
	return false
}

// walk returns rows depth first.
func walk(rows []Row, roots []int, children [][]int) []Row {
	byStart := func(a, b int) int { return cmp.Compare(rows[a].Start, rows[b].Start) }
	out := make([]Row, 0, len(rows))
	seen := make([]bool, len(rows))
	type step struct{ row, depth int }
	var stack []step
	push := func(list []int, depth int) {
		slices.SortStableFunc(list, byStart)
		for _, i := range slices.Backward(list) {
			stack = append(stack, step{i, depth})
		}
	}
	drain := func() {
		for len(stack) > 0 {
			s := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if seen[s.row] {
				continue
			}
			seen[s.row] = true
			rows[s.row].Depth = s.depth
			out = append(out, rows[s.row])
			push(children[s.row], s.depth+1)
		}
	}
	push(roots, 0)
	drain()
	for i := range rows { // whoever sends traceparent headers can make a circle of parents
		if !seen[i] {
			push([]int{i}, 0)
			drain()
		}
	}
	return out
}
