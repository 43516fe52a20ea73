package ui_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/ui"
	"github.com/parallax-flow/parallax/ui/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPolicyInPage opens the page on traffic of which policies allow, audit and deny some, and asks it as a person would: who
// denies on the map, why, and which flows are behind it. PAGE_SHOTS=prefix keeps pictures of both themes.
func TestPolicyInPage(t *testing.T) {
	out := browse(t, "e2e/policy.mjs", os.Getenv("PAGE_SHOTS"))
	var facts struct {
		Errors                       []string
		Label, Tooltip               string
		Card, Chips, Flow            string
		Behind, Policies             []string
		Keyboard                     bool
		AuditTooltip, AuditEdgeClass string
		Table, AuditCard, Suggestion string
	}
	if err := json.Unmarshal(out, &facts); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	const sentence = "default deny because of NetworkPolicy data/default-deny and NetworkPolicy data/postgres-from-checkout"
	for what, x := range map[string]struct{ got, want string }{
		"label":       {facts.Label, "postgres"},
		"tooltip":     {facts.Tooltip, sentence},
		"audit":       {facts.AuditTooltip, "would be denied: default deny because of NetworkPolicy data/redis"},
		"audit style": {facts.AuditEdgeClass, "audit"},
		"drawer":      {facts.Card, sentence},
		"figures":     {facts.Card, "denied"},
		"audit card":  {facts.AuditCard, "would be denied: default deny because of NetworkPolicy data/redis"},
		"table":       {facts.Table, "NetworkPolicy data/default-deny"},
		"suggestion":  {facts.Suggestion, "data/postgres-from-checkout"},
		"filter":      {facts.Chips, "policy data/postgres-from-checkout"},
		"flow":        {facts.Flow, sentence},
		"drops":       {strings.Join(facts.Policies, "\n"), "NetworkPolicy data/default-deny"},
		"markup":      {strings.Join(facts.Policies, "\n"), "NetworkPolicy data/<img src=x onerror=alert(1)>"},
	} {
		if !strings.Contains(x.got, x.want) {
			t.Errorf("%s: %q does not say %q", what, x.got, x.want)
		}
	}
	if len(facts.Errors) > 0 || !facts.Keyboard || len(facts.Behind) == 0 {
		t.Errorf("%+v", facts)
	}
	for _, row := range facts.Behind {
		if !strings.Contains(row, "data/postgres") || !strings.Contains(row, "policy") {
			t.Errorf("behind the denial is %q", row)
		}
	}
}

// token is in one request, which is part of a trace.
const token = "token-5f1c"

// TestWaterfallInPage finds a request by its text and goes to another exchange of its trace.
func TestWaterfallInPage(t *testing.T) {
	out := browse(t, "e2e/page.mjs", token)
	var facts struct {
		Errors, Rows, Waterfall []string
		Opened                  struct{ Exchange, Title string }
	}
	if err := json.Unmarshal(out, &facts); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(facts.Errors) > 0 || len(facts.Rows) != 1 || !strings.Contains(facts.Rows[0], "POST /checkout") || len(facts.Waterfall) != 2 {
		t.Errorf("%+v", facts)
	}
	if !strings.Contains(facts.Opened.Exchange, "/charge") || facts.Opened.Title != "shop/checkout → shop/payments" {
		t.Errorf("the other exchange opens %+v", facts.Opened)
	}
}

// browse serves the page on a shop's traffic and returns what script finds there.
func browse(t *testing.T, script, arg string) []byte {
	t.Helper()
	if !ui.Built() {
		missing(t, "the page is not built: make web")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, err.Error())
	}
	live, shop := api.NewLive(), newShop()
	s := api.New(api.Config{Listen: "127.0.0.1:0"}, api.Deps{Live: live, Store: shop, Log: slog.New(slog.DiscardHandler), Files: ui.Files(),
		Status: func() api.Status { return api.Status{Version: "test", Ledger: api.Ledger{Exact: true}} }})
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx, l) }()
	go func() {
		live.Add(shop.trace())
		for second := time.Now().Add(-40 * time.Second); ctx.Err() == nil; second = second.Add(time.Second) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(second)):
				live.Add(shop.traffic(second))
			}
		}
		done <- nil
	}()
	defer func() {
		cancel()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()
	run, stop := context.WithTimeout(ctx, 3*time.Minute)
	defer stop()
	cmd := exec.CommandContext(run, node, script, "http://"+l.Addr().String(), arg)
	cmd.Dir, cmd.Stderr = "web", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// missing fails under CI, where everything is there, and skips elsewhere.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// shop makes traffic, and answers for the past with the last of it.
type shop struct {
	seq     uint64
	node    *flow.Node
	byTwo   *flow.Decision
	byRedis *flow.Decision
	byRule  *flow.Decision
	strange *flow.Decision
	drop    *flow.Drop
	ends    map[string]*flow.Endpoint
	began   time.Time
}

func newShop() *shop {
	ref := func(name string) flow.PolicyRef {
		return flow.PolicyRef{Kind: "NetworkPolicy", Namespace: "data", Name: name}
	}
	return &shop{
		node: &flow.Node{Name: "node-a", Boot: 7}, drop: &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}, ends: map[string]*flow.Endpoint{}, began: time.Now(),
		byTwo: &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{ref("default-deny"), ref("postgres-from-checkout")},
			Text: "ingress default deny because of NetworkPolicy data/default-deny and NetworkPolicy data/postgres-from-checkout"},
		byRedis: &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{ref("redis")}, Text: "ingress default deny because of NetworkPolicy data/redis"},
		byRule: &flow.Decision{Match: flow.PolicyMatchL3L4, Rule: 0, Policies: []flow.PolicyRef{ref("postgres-from-checkout")},
			Text: "ingress allowed by NetworkPolicy data/postgres-from-checkout, rule 1"},
		strange: &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{ref("<img src=x onerror=alert(1)>")}},
	}
}

func (s *shop) end(id string) *flow.Endpoint {
	if s.ends[id] == nil {
		namespace, name, _ := strings.Cut(id, "/")
		s.ends[id] = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: namespace, Workload: name, WorkloadKind: "Deployment", Pod: name + "-7c9f"}
	}
	return s.ends[id]
}

func (s *shop) record(at time.Time, src, dst string, port uint16, k flow.Kind, v flow.Verdict) flow.Flow {
	s.seq++
	f := flow.Flow{Time: at.UnixNano(), Start: at.UnixNano(), Src: s.end(src), Dst: s.end(dst), Node: s.node, Seq: s.seq, Kind: k, Verdict: v, Proto: flow.ProtoTCP,
		SrcAddr: flow.Addr{10: 0xff, 11: 0xff, 12: 10, 15: 4}, DstAddr: flow.Addr{10: 0xff, 11: 0xff, 12: 10, 15: 9}, SrcPort: 41000, DstPort: port,
		Point: flow.PointToEndpoint, Direction: flow.DirectionIngress}
	if k == flow.KindNew {
		f.Packets, f.Bytes, f.TCPFlags = 1, 60, flow.TCPSyn
	}
	return f
}

// traffic is what happens in a second.
func (s *shop) traffic(at time.Time) []flow.Flow {
	var out []flow.Flow
	connect := func(src, dst string, port uint16, v flow.Verdict, d *flow.Decision) {
		out = append(out, s.record(at, src, dst, port, flow.KindNew, flow.VerdictForwarded))
		if d == nil {
			return
		}
		f := s.record(at.Add(time.Millisecond), src, dst, port, flow.KindVerdict, v)
		f.Policy = d
		if v == flow.VerdictDropped {
			f.Drop = s.drop
			out = append(out, f)
			f.Kind, f.Packets, f.Bytes, f.TCPFlags, f.Time = flow.KindDrop, 2, 120, flow.TCPSyn, f.Time+int64(time.Millisecond)
			s.seq++
			f.Seq = s.seq
		}
		out = append(out, f)
	}
	for range 3 {
		connect("edge/ingress", "shop/frontend", 8080, 0, nil)
		connect("shop/frontend", "shop/cart", 8080, 0, nil)
		connect("shop/cart", "data/redis", 6379, flow.VerdictForwarded, nil)
	}
	connect("shop/frontend", "shop/checkout", 8080, 0, nil)
	connect("shop/frontend", "shop/recommend", 8080, 0, nil)
	connect("shop/checkout", "shop/payments", 8080, 0, nil)
	connect("shop/payments", "world/bank", 443, 0, nil)
	connect("edge/ingress", "platform/dns", 53, 0, nil)
	connect("shop/checkout", "data/postgres", 5432, flow.VerdictForwarded, s.byRule)
	connect("shop/recommend", "data/postgres", 5432, flow.VerdictDropped, s.byTwo)
	connect("shop/checkout", "data/redis", 6379, flow.VerdictAudit, s.byRedis)
	connect("edge/ingress", "data/archive", 9000, flow.VerdictDropped, s.strange)
	return out
}

// trace is a request with the token and what was asked because of it, from the start of the shop.
func (s *shop) trace() []flow.Flow {
	exchange := func(src, dst, resource, parent string, start, latency time.Duration, seq uint64) flow.Flow {
		f := s.record(s.began.Add(start+latency), src, dst, 8080, flow.KindL7, flow.VerdictForwarded)
		f.Seq, f.Start, f.Point, f.Direction = seq, f.Time-int64(latency), flow.PointFromEndpoint, flow.DirectionEgress
		f.L7 = &flow.L7{Protocol: flow.L7HTTP, Operation: "POST", Resource: resource, Status: 200, Answered: true, Latency: int64(latency),
			TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-" + parent + "-01"}
		return f
	}
	return []flow.Flow{
		exchange("shop/checkout", "shop/payments", "/charge", "00f067aa0ba902b8", 10*time.Millisecond, 20*time.Millisecond, 1<<40),
		exchange("shop/frontend", "shop/checkout", "/checkout/"+token, "00f067aa0ba902b7", 0, 50*time.Millisecond, 1<<40+1),
	}
}

func (s *shop) Flows(_ context.Context, q query.Flows, each func(*flow.Flow) bool) error {
	match, err := filter.Compile(q.Filter)
	if err != nil {
		return err
	}
	other := newShop() // the one of the live view is in use
	other.began = s.began
	flows := append(other.trace(), other.traffic(time.Now())...)
	for i := range flows {
		if match(&flows[i]) && !each(&flows[i]) {
			return nil
		}
	}
	return nil
}

func (s *shop) Detail(_ context.Context, q query.Detail) (query.DetailResult, error) {
	if q.Dst != nil && q.Dst.Name == "redis" {
		audited := query.Decision{Verdict: flow.VerdictAudit, Policies: strings.Split(query.PolicyKey(s.byRedis), "\n"), Connections: 40, LastSeen: q.To}
		return query.DetailResult{Decisions: []query.Decision{audited}}, nil
	}
	decided := query.Decision{Verdict: flow.VerdictDropped, Policies: strings.Split(query.PolicyKey(s.byTwo), "\n"), Connections: 40, Packets: 80, LastSeen: q.To}
	return query.DetailResult{Drops: []query.Drop{{Reason: flow.DropPolicyDenied, Count: 80}}, Decisions: []query.Decision{decided}}, nil
}

func (*shop) Edges(context.Context, query.Edges) ([]query.Edge, error)         { return nil, nil }
func (*shop) Served(context.Context, query.Edges) ([]query.Served, error)      { return nil, nil }
func (*shop) Timeline(context.Context, query.Timeline) ([]query.Bucket, error) { return nil, nil }
func (*shop) Groups(context.Context, query.Range) ([]string, error)            { return nil, nil }
