package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// oneEdge is a store with one edge. The real stores answer in the end-to-end test.
type oneEdge struct{ asked query.Flows }

func (s *oneEdge) Flows(_ context.Context, q query.Flows, each func(*flow.Flow) bool) error {
	s.asked = q
	f := request(1, frontend, cart, 503, time.Millisecond)
	each(&f)
	return nil
}

func (s *oneEdge) Edges(context.Context, query.Edges) ([]query.Edge, error) {
	return []query.Edge{{Src: query.KeyOf(frontend), Dst: query.KeyOf(cart), Requests: 60, Errors: 6, P50: 1e6, P95: 2e6, RTT: -1}}, nil
}

func (s *oneEdge) Served(context.Context, query.Edges) ([]query.Served, error) {
	return []query.Served{{Node: query.KeyOf(cart), P95: 2e6}}, nil
}

func (s *oneEdge) Timeline(_ context.Context, q query.Timeline) ([]query.Bucket, error) {
	return []query.Bucket{{Time: q.From, Forwarded: 54, Errors: 6}}, nil
}

func (s *oneEdge) Detail(context.Context, query.Detail) (query.DetailResult, error) {
	return query.DetailResult{Top: []query.Operation{{L7: flow.L7HTTP, Operation: "GET", Resource: "/cart", Count: 60, Errors: 6, Status: 503}},
		Decisions: []query.Decision{{Verdict: flow.VerdictAudit, Policies: []string{"NetworkPolicy shop/x"}, Connections: 2, LastSeen: 7e6}}}, nil
}

func (s *oneEdge) Groups(context.Context, query.Range) ([]string, error) {
	return []string{"shop"}, nil
}

func serve(t *testing.T) (live *Live, store *oneEdge, host string) {
	t.Helper()
	live, store = NewLive(), &oneEdge{}
	s := New(Config{Listen: "127.0.0.1:0"}, Deps{
		Live: live, Store: store, Log: slog.New(slog.DiscardHandler),
		Status: func() Status { return Status{Ledger: Ledger{Produced: 5, Delivered: 5, Exact: true}} },
		Files:  fstest.MapFS{"index.html": {Data: []byte("<title>Parallax</title>")}},
	})
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return live, store, l.Addr().String()
}

func get(t *testing.T, url string, into any) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(body, into); err != nil {
			t.Fatalf("%s: %v in %s", url, err, body)
		}
	}
	return resp.StatusCode
}

func TestQueries(t *testing.T) {
	_, store, host := serve(t)
	var m Snapshot
	if code := get(t, "http://"+host+"/api/v1/map?from=0&to=60000", &m); code != 200 || len(m.Edges) != 1 || m.Edges[0].Requests != 1 || m.Edges[0].Verdict != "error" {
		t.Errorf("map: %d %+v", code, m)
	}
	if len(m.Nodes) != 2 || m.Nodes[0].ID != "shop/cart" || m.Nodes[0].P95 != 2 || m.Nodes[0].ErrorPct != 10 || len(m.Timeline) != 1 {
		t.Errorf("map: %+v", m)
	}
	var p FlowPage
	if code := get(t, "http://"+host+"/api/v1/flows?from=0&to=60000&limit=1&before=30000000&verdict=error&policy=shop/x", &p); code != 200 || len(p.Flows) != 1 || p.Flows[0].What != "GET /cart -> 503" || p.Next == 0 {
		t.Errorf("flows: %d %+v", code, p)
	}
	if store.asked.To != 30e9 || store.asked.Limit != 1 || len(store.asked.Filter.Allow) != 1 || store.asked.Filter.Allow[0].Error == nil ||
		len(store.asked.Filter.Allow[0].Policy) != 1 {
		t.Errorf("store was asked %+v", store.asked)
	}
	var d Detail
	if code := get(t, "http://"+host+"/api/v1/edge?id="+url.QueryEscape("shop/frontend>shop/cart")+"&from=0&to=60000", &d); code != 200 || len(d.Top) != 1 || d.Top[0].Name != "GET /cart" || len(d.Recent) != 1 {
		t.Errorf("edge: %d %+v", code, d)
	}
	if len(d.Policies) != 1 || d.Policies[0].Verdict != "audit" || d.Policies[0].LastSeen != 7 {
		t.Errorf("edge: policies %+v", d.Policies)
	}
	if code := get(t, "http://"+host+"/api/v1/node?id=shop/cart", &d); code != 200 {
		t.Errorf("node: %d", code)
	}
}

func TestWrongInput(t *testing.T) {
	_, _, host := serve(t)
	for path, want := range map[string]string{
		"/api/v1/map?from=x":             `from="x" is not a number`,
		"/api/v1/map?from=5&to=5":        "must be before",
		"/api/v1/flows?limit=99999":      `limit="99999" is not a number from 1 to 1000`,
		"/api/v1/flows?verdict=perhaps":  `verdict "perhaps" is not one of`,
		"/api/v1/edge?id=shop/cart":      "is not source>destination",
		"/api/v1/edge?id=shop>cart":      "is not group/name",
		"/api/v1/flows?edge=shop%2Fcart": "is not source>destination",
		"/api/v1/flows?policy=a/b/c":     "is not the name of a policy",
		"/api/v1/nothing":                "no such page of the API",
	} {
		var e map[string]string
		if code := get(t, "http://"+host+path, &e); code < 400 || code >= 500 || !strings.Contains(e["error"], want) {
			t.Errorf("%s: %d %q, want %q", path, code, e["error"], want)
		}
	}
}

func TestPageAndItsViews(t *testing.T) {
	_, _, host := serve(t)
	for _, path := range []string{"/", "/flows", "/drops"} {
		if code := get(t, "http://"+host+path, nil); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
	req, _ := http.NewRequest("GET", "http://"+host+"/", nil)
	req.Host = "evil.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign host name got %d", resp.StatusCode)
	}
}

func TestBusyPortIsOneLine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = New(Config{Listen: l.Addr().String()}, Deps{}).Listen()
	if err == nil || !strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestWebSocket(t *testing.T) {
	live, _, host := serve(t)
	now := time.Now()
	f := request(0, frontend, cart, 503, time.Millisecond)
	f.Time = now.Add(-time.Second).UnixNano()
	live.Add([]flow.Flow{f})

	c, _, err := websocket.DefaultDialer.Dial("ws://"+host+"/api/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(now.Add(20 * time.Second))
	if err := c.WriteJSON(Subscribe{Op: "subscribe"}); err != nil {
		t.Fatal(err)
	}
	var tick Tick
	if err := c.ReadJSON(&tick); err != nil {
		t.Fatal(err)
	}
	if !tick.Reset || len(tick.Map.Edges) != 1 || len(tick.Flows) != 1 || tick.Flows[0].What != "GET /cart -> 503" || !tick.Ledger.Exact {
		t.Errorf("first tick: %+v", tick)
	}
	tick = Tick{}
	if err := c.ReadJSON(&tick); err != nil {
		t.Fatal(err)
	}
	if tick.Reset || len(tick.Flows) != 0 {
		t.Errorf("second tick: %+v", tick)
	}
	for msg, want := range map[string]string{
		`{"op":"delete"}`:               "is not one of subscribe",
		`{`:                             "invalid JSON",
		`{"op":"subscribe","window":1}`: "window 1 is not from",
		`{"op":"subscribe","filter":{"verdict":["perhaps"]}}`: "is not one of forwarded",
	} {
		if err := c.WriteMessage(websocket.TextMessage, []byte(msg)); err != nil {
			t.Fatal(err)
		}
		var e map[string]any
		for e["error"] == nil {
			if err := c.ReadJSON(&e); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.Contains(e["error"].(string), want) {
			t.Errorf("%s: %q, want %q", msg, e["error"], want)
		}
	}
}

func TestForeignOriginIsRefused(t *testing.T) {
	_, _, host := serve(t)
	_, resp, err := websocket.DefaultDialer.Dial("ws://"+host+"/api/v1/ws", http.Header{"Origin": {"http://evil.example"}})
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("got %v, %v", resp, err)
	}
}
