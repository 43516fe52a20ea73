package api

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

var (
	base     = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	frontend = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "frontend-1", Workload: "frontend", WorkloadKind: "Deployment"}
	cart     = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "cart-1", Workload: "cart", WorkloadKind: "Deployment"}
	postgres = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "data", Pod: "postgres-0", Workload: "postgres", WorkloadKind: "StatefulSet"}
	world    = &flow.Endpoint{Kind: flow.EndpointWorld}
	noSocket = &flow.Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv"}
	nodeA    = &flow.Node{Name: "node-a", Boot: 7}
)

func at(second int) int64 { return base.Add(time.Duration(second) * time.Second).UnixNano() }

func request(second int, src, dst *flow.Endpoint, status uint16, latency time.Duration) flow.Flow {
	return flow.Flow{
		Time: at(second), Src: src, Dst: dst, Node: nodeA, Kind: flow.KindL7, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP, DstPort: 8080,
		L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart", Status: status, Answered: true, Error: status >= 500, Latency: int64(latency)},
	}
}

func connection(second int, src, dst *flow.Endpoint) flow.Flow {
	return flow.Flow{
		Time: at(second), Src: src, Dst: dst, Node: nodeA, Kind: flow.KindNew, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP, DstPort: 8080,
		TCPFlags: flow.TCPSyn, Packets: 1, Bytes: 60,
	}
}

func drop(second int, src, dst *flow.Endpoint) flow.Flow {
	return flow.Flow{
		Time: at(second), Src: src, Dst: dst, Node: nodeA, Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Proto: flow.ProtoTCP, DstPort: 5432,
		Drop: noSocket, Packets: 1, Bytes: 60,
	}
}

var (
	policyDenied = &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}
	byTwo        = &flow.Decision{Rule: -1, Text: "ingress default deny because of NetworkPolicy data/default-deny and NetworkPolicy data/postgres", Policies: []flow.PolicyRef{
		{Kind: "NetworkPolicy", Namespace: "data", Name: "default-deny"}, {Kind: "NetworkPolicy", Namespace: "data", Name: "postgres"},
	}}
	byRule = &flow.Decision{Match: flow.PolicyMatchL3L4, Rule: 1, Policies: []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "data", Name: "postgres"}}}
)

func verdict(second int, src, dst *flow.Endpoint, v flow.Verdict, d *flow.Decision) flow.Flow {
	f := flow.Flow{Time: at(second), Src: src, Dst: dst, Node: nodeA, Kind: flow.KindVerdict, Verdict: v, Policy: d, Proto: flow.ProtoTCP, DstPort: 5432}
	if v == flow.VerdictDropped {
		f.Drop = policyDenied
	}
	return f
}

// denied is what byTwo denied, packets of them.
func denied(second int, src, dst *flow.Endpoint, packets uint64) flow.Flow {
	f := verdict(second, src, dst, flow.VerdictDropped, byTwo)
	f.Kind, f.Packets = flow.KindDrop, packets
	return f
}

// Audits and denials are told apart from traffic and from each other, and a verdict is no drop.
func TestViewNamesPolicies(t *testing.T) {
	l := NewLive()
	l.Add([]flow.Flow{
		verdict(5, cart, postgres, flow.VerdictDropped, byTwo), denied(6, cart, postgres, 2), denied(8, cart, postgres, 3),
		verdict(5, frontend, postgres, flow.VerdictAudit, byTwo), verdict(7, frontend, postgres, flow.VerdictForwarded, byRule),
		verdict(7, frontend, postgres, flow.VerdictForwarded, &flow.Decision{Match: flow.PolicyMatchAll, Text: "an exception"}),
		verdict(9, frontend, cart, flow.VerdictDropped, byTwo),
	})
	now := base.Add(10 * time.Second)
	const window = 60
	v := l.view(now, window, mustMatcher(t, Filter{}))
	s := snapshot(v.from, v.to, v.edges, func(query.NodeKey) int64 { return -1 }, v.groups)
	two, one := []string{"NetworkPolicy data/default-deny", "NetworkPolicy data/postgres"}, []string{"NetworkPolicy data/postgres"}
	type said struct {
		ID, Verdict, Reason string
		Drops               float64
		Policies            []Decision
	}
	var got []said
	for _, e := range s.Edges {
		got = append(got, said{e.ID, e.Verdict, e.DropReason, e.Drops * float64(window), e.Policies})
	}
	want := []said{
		{"shop/cart>data/postgres", "dropped", flow.DropPolicyDenied, 5, []Decision{{Verdict: "dropped", Names: two, Connections: 1, Packets: 5, LastSeen: at(8) / 1e6}}},
		{"shop/frontend>data/postgres", "audit", "", 0, []Decision{
			{Verdict: "audit", Names: two, Connections: 1, LastSeen: at(5) / 1e6}, {Verdict: "forwarded", Names: one, Connections: 1, LastSeen: at(7) / 1e6}}},
		{"shop/frontend>shop/cart", "dropped", "", 0, []Decision{{Verdict: "dropped", Names: two, Connections: 1, LastSeen: at(9) / 1e6}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("edges (-want +got):\n%s", diff)
	}
	buckets := l.timeline(0, mustMatcher(t, Filter{}))
	if len(buckets) != 1 || buckets[0].Drops != 5 || buckets[0].Forwarded != 3 {
		t.Errorf("timeline %+v, want 5 drops and 3 that passed", buckets)
	}
}

func TestDecisionsAreBounded(t *testing.T) {
	l := NewLive()
	for i := range maxDecided + 10 {
		l.Add([]flow.Flow{verdict(1, cart, postgres, flow.VerdictForwarded, &flow.Decision{Policies: []flow.PolicyRef{{Name: strconv.Itoa(i)}}})})
	}
	v := l.view(base.Add(2*time.Second), 60, mustMatcher(t, Filter{}))
	if len(v.edges) != 1 || len(v.edges[0].Decisions) != 20 || l.overflow != 2*10 {
		t.Errorf("%d decisions shown, overflow %d", len(v.edges[0].Decisions), l.overflow)
	}
}

func TestRowSaysWhatPolicyDecided(t *testing.T) {
	f := denied(1, cart, postgres, 3)
	want := &Policy{Verdict: "dropped", Match: "none", Rule: -1, Policies: []string{"NetworkPolicy data/default-deny", "NetworkPolicy data/postgres"}, Text: byTwo.Text}
	if diff := cmp.Diff(want, row(&f).Policy); diff != "" {
		t.Error(diff)
	}
	g := connection(1, cart, postgres)
	if row(&g).Policy != nil {
		t.Error("a connection without a decision has one")
	}
}

func mustMatcher(t *testing.T, f Filter) *matcher {
	t.Helper()
	m, err := newMatcher(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestViewSumsTheWindow(t *testing.T) {
	l := NewLive()
	secondary := request(9, frontend, cart, 200, time.Millisecond)
	secondary.Secondary = true
	l.Add([]flow.Flow{
		connection(5, frontend, cart),
		request(6, frontend, cart, 200, 10*time.Millisecond),
		request(7, frontend, cart, 503, 20*time.Millisecond),
		secondary,
		drop(8, cart, postgres),
	})
	v := l.view(base.Add(10*time.Second), 60, mustMatcher(t, Filter{}))
	if len(v.edges) != 2 {
		t.Fatalf("%d edges, want 2: %+v", len(v.edges), v.edges)
	}
	e := v.edges[1]
	if e.Connections != 1 || e.Requests != 2 || e.Errors != 1 || e.Bytes != 60 {
		t.Errorf("frontend to cart: %+v", e)
	}
	if e.P95 < int64(18*time.Millisecond) || e.P95 > int64(22*time.Millisecond) {
		t.Errorf("p95 is %v, want about 20 ms", time.Duration(e.P95))
	}
	if d := v.edges[0]; d.Drops != 1 || d.DropReason != "NO_SOCKET" {
		t.Errorf("cart to postgres: %+v", d)
	}
	if diff := cmp.Diff([]string{"data", "shop"}, v.groups); diff != "" {
		t.Error(diff)
	}
	s := snapshot(v.from, v.to, v.edges, func(k query.NodeKey) int64 { return v.served[k].quantile(.95) }, v.groups)
	if len(s.Nodes) != 3 || s.Edges[0].Verdict != "dropped" || s.Edges[1].Verdict != "error" || s.Edges[1].Protocols != "HTTP" {
		t.Errorf("snapshot: %+v", s)
	}
}

func TestSilentEdgesStay(t *testing.T) {
	l := NewLive()
	l.Add([]flow.Flow{connection(0, frontend, cart)})
	v := l.view(base.Add(5*time.Minute), 60, mustMatcher(t, Filter{}))
	if len(v.edges) != 1 || v.edges[0].Connections != 0 || v.edges[0].LastSeen != at(0) {
		t.Errorf("after 5 minutes: %+v", v.edges)
	}
	l.Add([]flow.Flow{connection(1200, frontend, postgres)})
	v = l.view(base.Add(1201*time.Second), 60, mustMatcher(t, Filter{}))
	if len(v.edges) != 1 || v.edges[0].Dst.Name != "postgres" {
		t.Errorf("after 20 minutes: %+v", v.edges)
	}
}

func TestReplyDropBelongsToItsConnection(t *testing.T) {
	l := NewLive()
	d := drop(1, postgres, cart)
	d.Reply, d.SrcPort, d.DstPort = true, 5432, 40000
	l.Add([]flow.Flow{d})
	v := l.view(base.Add(2*time.Second), 60, mustMatcher(t, Filter{}))
	if len(v.edges) != 1 || v.edges[0].Src.Name != "cart" || v.edges[0].Protocols[0].Port != 5432 {
		t.Errorf("%+v", v.edges)
	}
}

func TestFilters(t *testing.T) {
	l := NewLive()
	l.Add([]flow.Flow{
		request(1, frontend, cart, 200, time.Millisecond),
		request(2, cart, postgres, 500, time.Millisecond),
		drop(3, world, frontend),
		verdict(3, frontend, postgres, flow.VerdictDropped, byTwo), denied(3, frontend, postgres, 2),
	})
	tests := []struct {
		name   string
		filter Filter
		edges  int
		flows  int
	}{
		{"everything", Filter{}, 4, 5},
		{"namespace on either side", Filter{Namespace: []string{"data"}}, 2, 3},
		{"world is a group", Filter{Namespace: []string{"world"}}, 1, 1},
		{"workload", Filter{Workload: []string{"shop/cart"}}, 2, 2},
		{"dropped", Filter{Verdict: []string{"dropped"}}, 2, 3},
		{"failed", Filter{Verdict: []string{"error"}}, 1, 1},
		{"failed or dropped", Filter{Verdict: []string{"error", "dropped"}}, 3, 4},
		{"protocol", Filter{Protocol: []string{"http"}}, 2, 2},
		{"edge", Filter{Edge: []string{"shop/cart>data/postgres"}}, 1, 1},
		{"edge the other way", Filter{Edge: []string{"data/postgres>shop/cart"}}, 0, 0},
		{"edge and a workload not on it", Filter{Edge: []string{"shop/cart>data/postgres"}, Workload: []string{"shop/frontend"}}, 0, 0},
		{"reason", Filter{Reason: []string{"NO_SOCKET"}}, 1, 1},
		{"policy", Filter{Policy: []string{"data/default-deny"}}, 1, 2},
		{"policy by its name alone", Filter{Policy: []string{"none", "postgres"}}, 1, 2},
		{"policy of another namespace", Filter{Policy: []string{"shop/postgres"}}, 0, 0},
		{"text in a policy", Filter{Text: "DEFAULT-d"}, 1, 2},
		{"text in a name", Filter{Text: "POSTG"}, 2, 3},
		{"text in a symbol", Filter{Text: "tcp_v4"}, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := mustMatcher(t, tt.filter)
			if v := l.view(base.Add(4*time.Second), 60, m); len(v.edges) != tt.edges {
				t.Errorf("%d edges, want %d", len(v.edges), tt.edges)
			}
			if flows, _, _ := l.since(0, 100, m); len(flows) != tt.flows {
				t.Errorf("%d flows, want %d", len(flows), tt.flows)
			}
		})
	}
	if _, err := newMatcher(Filter{Verdict: []string{"maybe"}}); err == nil {
		t.Error("an unknown verdict was accepted")
	}
}

func TestSinceTellsWhatItSkipped(t *testing.T) {
	l := NewLive()
	flows := make([]flow.Flow, keepFlows+100)
	for i := range flows {
		flows[i] = connection(i/1000, frontend, cart)
		flows[i].Seq = uint64(i)
	}
	l.Add(flows)
	got, skipped, next := l.since(0, 50, mustMatcher(t, Filter{}))
	if len(got) != 50 || skipped != uint64(len(flows)-50) || next != uint64(len(flows)) {
		t.Errorf("%d flows, %d skipped, next %d", len(got), skipped, next)
	}
	if got[49].Seq != uint64(len(flows)-1) {
		t.Error("the newest one is missing")
	}
}

func TestTimelineCountsByVerdict(t *testing.T) {
	l := NewLive()
	l.Add([]flow.Flow{connection(1, frontend, cart), request(2, frontend, cart, 500, 1), drop(12, cart, postgres)})
	want := []Bucket{
		{Time: base.UnixMilli(), Width: 10_000, Forwarded: 1, Errors: 1},
		{Time: base.UnixMilli() + 10_000, Width: 10_000, Drops: 1},
	}
	if diff := cmp.Diff(want, l.timeline(0, mustMatcher(t, Filter{}))); diff != "" {
		t.Error(diff)
	}
}

func TestHistQuantile(t *testing.T) {
	var h hist
	for i := 1; i <= 1000; i++ {
		h.add(int64(i) * int64(time.Millisecond))
	}
	for _, q := range []float64{.5, .95, .99} {
		want := q * 1e9
		if got := float64(h.quantile(q)); got < want*.92 || got > want*1.08 {
			t.Errorf("q%v is %v ms, want %v ms", q, got/1e6, want/1e6)
		}
	}
}

// BenchmarkLiveAdd is what one record costs the live view.
func BenchmarkLiveAdd(b *testing.B) {
	l := NewLive()
	flows := make([]flow.Flow, 256)
	for i := range flows {
		if flows[i] = connection(i/100, frontend, cart); i%4 == 0 {
			flows[i] = request(i/100, frontend, cart, 200, time.Duration(i)*time.Microsecond)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		l.Add(flows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(flows)), "ns/flow")
}
