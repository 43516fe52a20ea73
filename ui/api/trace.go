package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/flow/span"
)

// MaxTraceFlows bounds the exchanges of one trace that are looked at.
const MaxTraceFlows = 2000

// getTrace answers GET /api/v1/trace. A trace may be as old as the storage: unless from or to is given, all of it is searched.
func (s *Server) getTrace(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	id, err := span.Parse(v.Get("id"))
	var q query.Range
	if err == nil {
		now := time.Now().Add(time.Minute).UnixMilli() // clocks of nodes may be ahead
		if !v.Has("from") {
			v.Set("from", "0")
		}
		if !v.Has("to") {
			v.Set("to", fmt.Sprint(now))
		}
		q, _, err = parse(v)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	var flows []flow.Flow
	for _, f := range id.Filters() {
		if len(flows) > 0 {
			break
		}
		ask := query.Flows{Range: q, Filter: filter.Set{Allow: []filter.Filter{f}}, Limit: MaxTraceFlows}
		err := s.deps.Store.Flows(r.Context(), ask, func(f *flow.Flow) bool {
			flows = append(flows, *f)
			return true
		})
		if err != nil {
			s.failQuery(w, r, err)
			return
		}
	}
	t := NewTrace(id, flows)
	if len(t.Spans) == 0 {
		fail(w, http.StatusNotFound, fmt.Errorf("no exchange of trace %s is stored", id))
		return
	}
	reply(w, t)
}

// NewTrace makes the answer to a question for trace id of its flows.
func NewTrace(id span.TraceID, flows []flow.Flow) Trace {
	t := Trace{ID: id.String(), Spans: []TraceSpan{}, Truncated: len(flows) >= MaxTraceFlows}
	rows := span.Arrange(flows)
	if len(rows) == 0 {
		return t
	}
	start, end := rows[0].Start, rows[0].End
	services := map[string]bool{}
	for i := range rows {
		start, end = min(start, rows[i].Start), max(end, rows[i].End)
	}
	for i := range rows {
		s := traceSpan(&rows[i], start)
		services[s.Service] = true
		t.Spans = append(t.Spans, s)
	}
	t.Start, t.DurationUs, t.Services = start/1000, (end-start)/1000, len(services)
	return t
}

func traceSpan(r *span.Row, start int64) TraceSpan {
	f := r.Flow
	status := "no response"
	if f.L7.Answered {
		status = flow.StatusName(f.L7.Protocol, f.L7.Status)
	}
	s := TraceSpan{
		ID: r.ID.String(), Depth: r.Depth, Side: r.Side.String(), Service: query.KeyOf(r.Service(f)).String(),
		Name: span.Name(f.L7), What: strings.TrimSpace(f.L7.Operation + " " + f.L7.Resource), Protocol: f.L7.Protocol.String(),
		StartUs: (r.Start - start) / 1000, DurationUs: max(r.End-r.Start, 0) / 1000,
		Failed: r.Failed, Status: status, Node: r.Node.Name, Point: r.Point.String(), Flow: row(f),
	}
	if r.Parent != (span.ID{}) {
		s.Parent = r.Parent.String()
	}
	return s
}
