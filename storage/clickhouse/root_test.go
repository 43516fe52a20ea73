package clickhouse

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/embedded"
)

var testConfig = Config{RawTTL: 7 * 24 * time.Hour, RollupTTL: 90 * 24 * time.Hour, MaxQueryMemory: 1 << 30, MaxQueryTime: time.Minute}

// newStore opens a Store on an embedded engine of its own. Only one can be open at a time.
func newStore(t testing.TB) (*Store, *embedded.Engine) {
	t.Helper()
	library, err := embedded.Library("")
	if err != nil {
		t.Fatal(err)
	}
	e, err := embedded.Open(context.Background(), embedded.Config{Dir: t.TempDir(), Library: library})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	s, err := Open(context.Background(), e, testConfig)
	if err != nil {
		t.Fatal(err)
	}
	return s, e
}

func collect(t testing.TB, s *Store, q query.Flows) []flow.Flow {
	t.Helper()
	var out []flow.Flow
	if err := s.Flows(context.Background(), q, func(f *flow.Flow) bool { out = append(out, *f); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

// full has every field set.
func full(at int64) flow.Flow {
	node := &flow.Node{Name: "n1", Cluster: "lab", Boot: 1<<63 + 5}
	return flow.Flow{
		Time: at, Start: at - 1234000, // all but the time itself is kept to the microsecond
		Src: &flow.Endpoint{Kind: flow.EndpointPod, Identity: 7, Namespace: "shop", Pod: "web-1", Workload: "web", WorkloadKind: "Deployment",
			NodeName: "n1", Cluster: "lab", Labels: []string{"app=web", "note=it's \\ \"x\""}},
		Dst:  &flow.Endpoint{Kind: flow.EndpointWorld, Identity: 2, Name: "example.com"},
		Node: node, Process: &flow.Process{PID: 77, Comm: "nginx\xff"},
		L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart/17", Host: "shop", Version: "HTTP/1.1", TraceParent: "00-1-2-01", UserAgent: "curl",
			Answers: []string{"10.0.0.1", "x"}, Latency: 1000000, Status: 503, MinTTL: 30, Answered: true, Error: true},
		Path: []flow.Hop{
			{Node: node, Time: at - 50_000, Start: at - 1204000, Packets: 3, Bytes: 1 << 40, Ifindex: 2, Point: flow.PointToNetwork, Direction: flow.DirectionEgress},
			{Node: &flow.Node{Name: "n2", Boot: 9}, Time: at + 50_000, Start: at - 1274000, Packets: 1, Bytes: 2, Ifindex: 4, Point: flow.PointFromNetwork, Direction: flow.DirectionIngress},
		},
		Packets: 2, Bytes: 300, ReplyPackets: 4, ReplyBytes: 1 << 63, Seq: 12, Cookie: 1<<64 - 1,
		SrcAddr: flow.Addr{10: 0xff, 11: 0xff, 12: 10, 15: 1}, DstAddr: flow.Addr{0x20, 1, 15: 1}, HandshakeRTT: 250, Ifindex: 3, PID: 77,
		SrcPort: 40000, DstPort: 443, TCPFlags: flow.TCPSyn, ICMPType: 8, ICMPCode: 1, Proto: flow.ProtoTCP, Kind: flow.KindL7, Verdict: flow.VerdictForwarded,
		Point: flow.PointFromEndpoint, Direction: flow.DirectionEgress, Reply: true, ProcessDst: true, Secondary: true,
	}
}

func TestRoundTrip(t *testing.T) {
	s, _ := newStore(t)
	at := time.Now().UnixNano()
	l7, drop, empty := full(at), full(at+1), flow.Flow{Time: at + 2, Start: at + 2, Src: new(flow.Endpoint), Dst: new(flow.Endpoint), Node: new(flow.Node)}
	drop.Kind, drop.L7, drop.Verdict, drop.Path = flow.KindDrop, nil, flow.VerdictDropped, nil
	drop.Drop = &flow.Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv", Code: 3}
	denied, verdict, allowed := drop, drop, full(at+5)
	denied.Time, denied.Start, denied.Drop = at+3, at+3, &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}
	denied.Policy = &flow.Decision{Rule: -1, Text: "ingress default deny because of NetworkPolicy shop/a and NetworkPolicy shop/b",
		Policies: []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "shop", Name: "a"}, {Kind: "NetworkPolicy", Namespace: "shop", Name: "b"}}}
	verdict.Time, verdict.Start, verdict.Kind, verdict.Drop, verdict.Policy = at+4, at+4, flow.KindVerdict, denied.Drop, denied.Policy
	allowed.Kind, allowed.L7, allowed.Policy = flow.KindVerdict, nil, &flow.Decision{Match: flow.PolicyMatchL4Proto, Rule: 3, Text: "an exception"}
	want := []flow.Flow{l7, drop, empty, denied, verdict, allowed}
	if err := s.Write(t.Context(), want, ""); err != nil {
		t.Fatal(err)
	}
	q := query.Flows{Range: query.Range{From: at, To: at + 6}}
	q.Filter.Secondary = true
	if diff := cmp.Diff(want, collect(t, s, q)); diff != "" {
		t.Errorf("stored and read back (-want +got):\n%s", diff)
	}
}

func TestToken(t *testing.T) {
	s, _ := newStore(t)
	f := full(time.Now().UnixNano())
	f.Secondary = false
	for range 3 {
		if err := s.Write(t.Context(), []flow.Flow{f}, "batch-1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Write(t.Context(), []flow.Flow{f}, "batch-2"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Write(t.Context(), []flow.Flow{f}, ""); err != nil {
			t.Fatal(err)
		}
	}
	for table, sql := range map[string]string{
		"flows": "SELECT count() FROM flows", "edges_1m": "SELECT sum(records) FROM edges_1m", "ops_1m": "SELECT sum(requests) FROM ops_1m",
	} {
		if n, err := s.number(t.Context(), sql, nil); err != nil || n != 4 {
			t.Errorf("%s has %d, %v; want 4: one for each token and each write without one", table, n, err)
		}
	}
	if err := s.Write(t.Context(), []flow.Flow{f}, "x'; DROP TABLE flows; --"); err == nil {
		t.Error("a token that is not a word was taken")
	}
}
