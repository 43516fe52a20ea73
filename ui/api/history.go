package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
)

const (
	timelineBars = 90
	detailSteps  = 60
	slowRows     = 8
	recentRows   = 20
	maxPage      = 1000
	defaultSpan  = 15 * time.Minute
)

// getMap answers GET /api/v1/map.
func (s *Server) getMap(w http.ResponseWriter, r *http.Request) {
	q, set, err := parse(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	ctx := r.Context()
	edges, err := s.deps.Store.Edges(ctx, query.Edges{Range: q, Filter: set})
	if err != nil {
		s.failQuery(w, r, err)
		return
	}
	served, err := s.deps.Store.Served(ctx, query.Edges{Range: q, Filter: set})
	if err != nil {
		s.failQuery(w, r, err)
		return
	}
	step := niceStep((q.To - q.From) / timelineBars)
	buckets, err := s.deps.Store.Timeline(ctx, query.Timeline{Range: q, Step: step, Filter: set})
	if err != nil {
		s.failQuery(w, r, err)
		return
	}
	groups, err := s.deps.Store.Groups(ctx, q)
	if err != nil {
		s.failQuery(w, r, err)
		return
	}
	p95 := map[query.NodeKey]int64{}
	for _, n := range served {
		p95[n.Node] = n.P95
	}
	snap := snapshot(q.From, q.To, edges, func(k query.NodeKey) int64 {
		if v, ok := p95[k]; ok {
			return v
		}
		return -1
	}, groups)
	for _, b := range buckets {
		snap.Timeline = append(snap.Timeline, Bucket{
			Time: b.Time / 1e6, Width: step / 1e6, Forwarded: b.Forwarded, Errors: b.Errors, Drops: b.Drops,
		})
	}
	reply(w, snap)
}

// getFlows answers GET /api/v1/flows, newest first.
func (s *Server) getFlows(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	q, set, err := parse(v)
	limit := 200
	if err == nil {
		limit, err = intParam(v, "limit", limit, 1, maxPage)
	}
	if err == nil && v.Has("before") {
		var before int
		before, err = intParam(v, "before", 0, 1, 1<<62)
		q.To = min(q.To, int64(before)*1000)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	page := FlowPage{Flows: []Flow{}}
	var last int64
	err = s.deps.Store.Flows(r.Context(), query.Flows{Range: q, Filter: set, Limit: limit, Newest: true}, func(f *flow.Flow) bool {
		page.Flows = append(page.Flows, row(f))
		last = f.Time
		return true
	})
	if err != nil {
		s.failQuery(w, r, err)
		return
	}
	if len(page.Flows) == limit {
		page.Next = last/1000 + 1 // rows of one microsecond may come twice: the page knows them by id
	}
	reply(w, page)
}

// getDetail answers GET /api/v1/node and /api/v1/edge: an edge's id has a ">" between its nodes.
func (s *Server) getDetail(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	q, set, err := parse(v)
	id := v.Get("id")
	src, dst, err2 := parseID(id, r.URL.Path == "/api/v1/edge")
	if err = cmp.Or(err, err2); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	step := niceStep((q.To - q.From) / detailSteps)
	res, err := s.deps.Store.Detail(r.Context(), query.Detail{Range: q, Step: step, Src: src, Dst: dst, Filter: set})
	if err != nil {
		s.failQuery(w, r, err)
		return
	}
	d := detail(id, step, res)
	if err := s.detailFlows(r, q, set, src, dst, &d); err != nil {
		s.failQuery(w, r, err)
		return
	}
	reply(w, d)
}

// detailFlows adds the newest records and the slowest exchanges among the newest thousand.
func (s *Server) detailFlows(r *http.Request, q query.Range, set filter.Set, src, dst *query.NodeKey, d *Detail) error {
	narrow := narrowTo(set, src, dst)
	err := s.deps.Store.Flows(r.Context(), query.Flows{Range: q, Filter: narrow, Limit: recentRows, Newest: true}, func(f *flow.Flow) bool {
		d.Recent = append(d.Recent, row(f))
		return true
	})
	if err != nil {
		return err
	}
	yes := true
	for i := range narrow.Allow {
		narrow.Allow[i].L7 = &yes
	}
	var slow []Flow
	err = s.deps.Store.Flows(r.Context(), query.Flows{Range: q, Filter: narrow, Limit: maxPage, Newest: true}, func(f *flow.Flow) bool {
		slow = append(slow, row(f))
		return true
	})
	slices.SortStableFunc(slow, func(a, b Flow) int { return cmp.Compare(b.LatencyUs, a.LatencyUs) })
	d.Slow = append(d.Slow, slow[:min(len(slow), slowRows)]...)
	return err
}

// narrowTo keeps of set what concerns an edge, or a node on either side.
func narrowTo(set filter.Set, src, dst *query.NodeKey) filter.Set {
	if len(set.Allow) == 0 {
		set.Allow = []filter.Filter{{}}
	}
	var out []filter.Filter
	for _, f := range set.Allow {
		if src != nil && dst != nil {
			f.Edge = []string{src.String() + ">" + dst.String()}
			out = append(out, f)
			continue
		}
		from, to := f, f
		from.SrcWorkload = []string{src.String()}
		to.DstWorkload = []string{src.String()}
		out = append(out, from, to)
	}
	set.Allow = out
	return set
}

func detail(id string, step int64, res query.DetailResult) Detail {
	d := Detail{ID: id, Step: step / 1e6, Series: []Point{}, Top: []TopRow{}, Drops: []DropRow{}, Policies: decisions(res.Decisions), Slow: []Flow{}, Recent: []Flow{}}
	seconds := float64(step) / 1e9
	for _, p := range res.Series {
		d.Series = append(d.Series, Point{
			Time: p.Time / 1e6, Requests: float64(p.Requests) / seconds, Errors: float64(p.Errors) / seconds,
			Drops: float64(p.Drops) / seconds, Bytes: float64(p.Bytes) / seconds,
			P50: millis(p.P50), P95: millis(p.P95), P99: millis(p.P99),
		})
	}
	span := seconds * float64(max(len(res.Series), 1))
	for _, o := range res.Top {
		t := TopRow{
			Protocol: o.L7.String(), Name: strings.TrimSpace(o.Operation + " " + o.Resource), Rate: float64(o.Count) / span,
			P95: millis(o.P95), Status: flow.StatusName(o.L7, o.Status),
		}
		if o.Count > 0 {
			t.ErrorPct = 100 * float64(o.Errors) / float64(o.Count)
		}
		d.Top = append(d.Top, t)
	}
	for _, x := range res.Drops {
		d.Drops = append(d.Drops, DropRow{Reason: x.Reason, Symbol: x.Symbol, Count: x.Count, Hint: hints[x.Reason]})
	}
	return d
}

// hints explains the drop reasons that a person meets most (include/net/dropreason-core.h).
var hints = map[string]string{
	flow.DropPolicyDenied: "Policies isolate the endpoint and no rule of theirs allows this traffic: ask `parallax policy explain`.",
	"NO_SOCKET":           "Nothing listens on that port at the destination, or the connection is already gone.",
	"NETFILTER_DROP":      "An nftables or iptables rule on the path dropped the packet: look at the rules of the node and of the pod.",
	"NEIGH_FAILED":        "The next hop did not answer ARP or neighbour discovery: the host is down or the address is wrong.",
	"NEIGH_QUEUEFULL":     "Packets waited for a neighbour that did not answer: the host is down or the address is wrong.",
	"NEIGH_DEAD":          "The neighbour entry was removed while packets waited for it.",
	"TCP_INVALID_SYN":     "The SYN carries flags or data that the kernel refuses.",
	"SOCKET_RCVBUFF":      "The receiving program reads too slowly: its socket buffer is full.",
	"SOCKET_BACKLOG":      "The receiving socket's backlog is full: the program is too slow.",
	"TCP_OVERWINDOW":      "The sender ignored the receiver's window.",
	"IP_INNOROUTES":       "No route for the packet, or a blackhole route: look at `ip route get` on that node.",
	"IP_OUTNOROUTES":      "No route out for the packet: look at `ip route get` on that node.",
	"IP_RPFILTER":         "Reverse path filtering: the reply would leave by another interface.",
	"UNHANDLED_PROTO":     "The kernel has no handler for the protocol.",
	"TCP_CSUM":            "Wrong TCP checksum: broken hardware or offload.",
	"UDP_CSUM":            "Wrong UDP checksum: broken hardware or offload.",
	"FULL_RING":           "A device or packet ring was full.",
	"QDISC_DROP":          "A queueing discipline dropped the packet: the link is saturated or shaped.",
	"PKT_TOO_BIG":         "The packet exceeds the MTU of the path.",
	"TCP_LISTEN_OVERFLOW": "The listener's accept queue is full: the server accepts too slowly.",
}

// parse reads from=, to= (Unix ms; default: the last 15 minutes) and FILTER.
func parse(v url.Values) (query.Range, filter.Set, error) {
	now := time.Now().UnixMilli()
	to, err := intParam(v, "to", int(now), 0, 1<<43)
	if err != nil {
		return query.Range{}, filter.Set{}, err
	}
	from, err := intParam(v, "from", to-int(defaultSpan.Milliseconds()), 0, 1<<43)
	if err != nil {
		return query.Range{}, filter.Set{}, err
	}
	if from >= to {
		return query.Range{}, filter.Set{}, fmt.Errorf("from (%d) must be before to (%d)", from, to)
	}
	set, err := parseFilter(v).set()
	if err == nil {
		_, err = filter.Compile(set)
	}
	return query.Range{From: int64(from) * 1e6, To: int64(to) * 1e6}, set, err
}

func parseID(id string, isEdge bool) (src, dst *query.NodeKey, err error) {
	parts := []string{id}
	if isEdge {
		parts = strings.Split(id, ">")
	}
	keys := make([]*query.NodeKey, 0, 2)
	for _, p := range parts {
		group, name, ok := strings.Cut(p, "/")
		if !ok {
			return nil, nil, fmt.Errorf("id %q is not group/name", p)
		}
		keys = append(keys, &query.NodeKey{Group: group, Name: name})
	}
	switch {
	case isEdge && len(keys) != 2:
		return nil, nil, fmt.Errorf("id %q is not source>destination", id)
	case isEdge:
		return keys[0], keys[1], nil
	}
	return keys[0], nil, nil
}

func intParam(v url.Values, name string, def, lo, hi int) (int, error) {
	s := v.Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		return 0, fmt.Errorf("%s=%q is not a number from %d to %d", name, s, lo, hi)
	}
	return n, nil
}

// niceStep rounds ns up to a step that divides hours and minutes evenly.
func niceStep(ns int64) int64 {
	for _, s := range [...]int64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200} {
		if step := s * int64(time.Second); step >= ns {
			return step
		}
	}
	return int64(24 * time.Hour)
}
