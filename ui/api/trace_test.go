package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
)

// kept is a store that gives those of its flows that a question selects.
type kept struct {
	oneEdge
	flows []flow.Flow
}

func (s *kept) Flows(_ context.Context, q query.Flows, each func(*flow.Flow) bool) error {
	match, err := filter.Compile(q.Filter)
	if err != nil {
		return err
	}
	for i := range s.flows {
		if f := &s.flows[i]; f.Time >= q.From && f.Time < q.To && match(f) && !each(f) {
			break
		}
	}
	return nil
}

func TestTrace(t *testing.T) {
	const us = int64(1000)
	pod := func(name string) *flow.Endpoint {
		return &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: name + "-1", Workload: name, NodeName: "node-a"}
	}
	node := &flow.Node{Name: "node-a", Boot: 0xb007}
	exchange := func(seq uint64, src, dst *flow.Endpoint, start, end int64, status uint16, parent string) flow.Flow {
		return flow.Flow{
			Kind: flow.KindL7, Time: end * us, Start: start * us, Src: src, Dst: dst, Node: node, Seq: seq, Point: flow.PointFromEndpoint,
			L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart/17", Status: status, Answered: true, Error: status >= 500, TraceParent: parent},
			Path: []flow.Hop{
				{Node: node, Point: flow.PointToEndpoint, Start: (start + 1) * us, Time: (end - 1) * us},
			},
		}
	}
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	web, cart, db := pod("web"), pod("cart"), pod("db")
	store := &kept{flows: []flow.Flow{
		exchange(1, cart, db, 1020, 1030, 503, "00-"+trace+"-00000000000000bb-01"),
		exchange(2, web, cart, 1000, 1050, 200, "00-"+trace+"-00000000000000aa-01"),
		exchange(3, web, cart, 2000, 2050, 404, ""),
		{Kind: flow.KindNew, Time: 5, Src: web, Dst: cart, Node: node, Seq: 4},
	}}
	handler := New(Config{Listen: "127.0.0.1:0"}, Deps{Live: NewLive(), Store: store, Log: slog.New(slog.DiscardHandler), Files: fstest.MapFS{}}).handler()
	server := httptest.NewServer(handler)
	defer server.Close()

	var got Trace
	if code := get(t, server.URL+"/api/v1/trace?id="+trace, &got); code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	want := Trace{ID: trace, Start: 1000, DurationUs: 50, Services: 3, Spans: []TraceSpan{
		{Parent: "00000000000000aa", Depth: 0, Side: "client", Service: "shop/web", DurationUs: 50, Status: "200", Point: "from-endpoint"},
		{Depth: 1, Side: "server", Service: "shop/cart", StartUs: 1, DurationUs: 48, Status: "200", Point: "to-endpoint"},
		{Parent: "00000000000000bb", Depth: 2, Side: "client", Service: "shop/cart", StartUs: 20, DurationUs: 10, Status: "503", Point: "from-endpoint", Failed: true},
		{Depth: 3, Side: "server", Service: "shop/db", StartUs: 21, DurationUs: 8, Status: "503", Point: "to-endpoint", Failed: true},
	}}
	want.Spans[1].Parent, want.Spans[3].Parent = got.Spans[0].ID, got.Spans[2].ID
	for i := range want.Spans {
		w := &want.Spans[i]
		w.Name, w.What, w.Protocol, w.Node = "GET /cart/{id}", "GET /cart/17", "http", "node-a"
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(TraceSpan{}, "ID", "Flow")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Spans[0].ID == got.Spans[1].ID || len(got.Spans[0].ID) != 16 || got.Spans[3].Flow.ID != id(&store.flows[0]) {
		t.Errorf("ids: %+v", got.Spans)
	}

	// An exchange without a traceparent is a trace of its own, under the id that it was exported with.
	if code := get(t, server.URL+"/api/v1/trace?id="+store.flows[2].UUID(), &got); code != http.StatusOK || len(got.Spans) != 2 || !got.Spans[0].Failed || got.Spans[1].Failed {
		t.Errorf("by UUID: %d %+v", code, got)
	}
	for query, code := range map[string]int{
		"id=" + "00000000000000000000000000000001": http.StatusNotFound,
		"id=" + store.flows[3].UUID():              http.StatusNotFound, // no exchange
		"id=" + trace + "&from=10":                 http.StatusNotFound, // before that time
		"id=nonsense":                              http.StatusBadRequest,
		"":                                         http.StatusBadRequest,
		"id=" + trace + "&from=x":                  http.StatusBadRequest,
	} {
		var e map[string]string
		if got := get(t, server.URL+"/api/v1/trace?"+query, &e); got != code || e["error"] == "" {
			t.Errorf("%s: %d %v, want %d", query, got, e, code)
		}
	}
}
