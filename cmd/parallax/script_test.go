package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/cmd/parallax/observe"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
	"github.com/parallax-flow/parallax/flow/hubble/server"
	"github.com/parallax-flow/parallax/flow/ring"
)

// leakCheck fails a run that leaves goroutines behind.
type leakCheck struct{ *testing.M }

func (m leakCheck) Run() int {
	code := m.M.Run()
	idle := []goleak.Option{goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop")}
	if err := goleak.Find(idle...); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(leakCheck{m}, map[string]func(){"parallax": main})
}

// TestScripts runs the client's commands against a server in this process that knows the flows of exampleFlows, and one that knows
// those of exampleDecisions.
func TestScripts(t *testing.T) {
	t.Parallel()
	live := ring.New(64)
	live.Add(exampleFlows())
	s := server.New(server.Config{Version: "parallax 1.2.3", Live: live, Ledger: exampleLedger})
	address := serve(t, s)
	decided := ring.New(64)
	decided.Add(exampleDecisions())
	decisions := serve(t, server.New(server.Config{Version: "parallax 1.2.3", Live: decided, Ledger: exampleLedger}))
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, "PARALLAX_SERVER="+address, "TZ=UTC", "BUSY="+address, "DECISIONS="+decisions)
			return nil
		},
	})
}

func serve(t *testing.T, s *server.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// A followed flow is printed as soon as it is there, and ending it is not an error.
func TestObserveFollows(t *testing.T) {
	t.Parallel()
	live := ring.New(64)
	flows := exampleFlows()
	live.Add(flows[:1])
	c, err := dial(serve(t, server.New(server.Config{Version: "parallax 1", Live: live})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, write := io.Pipe()
	done := make(chan error, 1)
	req := &observerpb.GetFlowsRequest{Number: 1, Follow: true}
	print := observe.PrintOptions{Output: "compact", Color: "never", TimeFormat: "RFC3339Nano", Translation: true}
	go func() { done <- runObserve(ctx, c, req, print, write, io.Discard) }()
	lines := bufio.NewScanner(read)
	for i, want := range []string{"A cart.shop.svc -> 10.1.2.3", "TCP SYN", "GET /cart/7 -> 200"} {
		if i > 0 {
			live.Add(flows[i : i+1])
		}
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("got %q, want %q", lines.Text(), want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("error = %v", err)
	}
}

// What another server would ignore is not asked of it.
func TestObserveAsksOnlyParallaxForMore(t *testing.T) {
	t.Parallel()
	c, err := dial(serve(t, server.New(server.Config{Version: "1.20.2", Live: ring.New(1)})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	more, err := (&hubble.Extra{Secondary: true}).ToProto()
	if err != nil {
		t.Fatal(err)
	}
	err = runObserve(t.Context(), c, &observerpb.GetFlowsRequest{Extensions: more}, observe.PrintOptions{Output: "json"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "is not Parallax (1.20.2)") {
		t.Errorf("error = %v", err)
	}
}

func exampleLedger() []flow.NodeLedger {
	return []flow.NodeLedger{
		{Node: &flow.Node{Name: "n1", Cluster: "blue", Boot: 7}, Connected: true, Produced: 12345, Delivered: 12300, InFlight: 40, Lost: map[string]uint64{flow.StageKernelRing: 3, flow.StagePublish: 2}},
		{Node: &flow.Node{Name: "n2", Cluster: "blue", Boot: 8}, Produced: 10, Delivered: 8},
	}
}

func exampleFlows() []flow.Flow {
	addr := func(s string) flow.Addr { return flow.AddrFrom(netip.MustParseAddr(s)) }
	at := func(ms int) int64 {
		return time.Date(2026, 11, 22, 10, 30, 0, ms*int(time.Millisecond), time.UTC).UnixNano()
	}
	n1 := &flow.Node{Name: "n1", Cluster: "blue", Boot: 7}
	frontend := &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "frontend-7c9f", Workload: "frontend", WorkloadKind: "Deployment", NodeName: "n1", Labels: []string{"app=frontend"}}
	cart := &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "cart-0", Workload: "cart", WorkloadKind: "StatefulSet", NodeName: "n2"}
	dns := &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "kube-system", Pod: "coredns-1", Workload: "coredns", WorkloadKind: "Deployment"}
	world := &flow.Endpoint{Kind: flow.EndpointWorld, Identity: 2, Name: "api.example.com"}
	sshd := &flow.Endpoint{Kind: flow.EndpointProcess, Identity: 1, Workload: "sshd", WorkloadKind: "Process", NodeName: "n1"}
	flows := []flow.Flow{
		{Time: at(100), Start: at(99), Src: frontend, Dst: dns, Kind: flow.KindL7, Proto: flow.ProtoUDP, SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.1.0.53"), SrcPort: 40100, DstPort: 53,
			Direction: flow.DirectionEgress, Point: flow.PointFromEndpoint, Reply: true,
			L7: &flow.L7{Protocol: flow.L7DNS, Operation: "A", Resource: "cart.shop.svc", Answers: []string{"10.1.2.3"}, Answered: true, Latency: 400_000, MinTTL: 30}},
		{Time: at(101), Start: at(101), Src: frontend, Dst: cart, Kind: flow.KindNew, Proto: flow.ProtoTCP, SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.1.2.3"), SrcPort: 41234, DstPort: 8080,
			TCPFlags: flow.TCPSyn, Packets: 1, Bytes: 60, Direction: flow.DirectionEgress, Point: flow.PointFromEndpoint},
		{Time: at(104), Start: at(101), Src: frontend, Dst: cart, Kind: flow.KindL7, Proto: flow.ProtoTCP, SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.1.2.3"), SrcPort: 41234, DstPort: 8080,
			Direction: flow.DirectionEgress, Point: flow.PointFromEndpoint, Reply: true, Packets: 1, Bytes: 300, ReplyPackets: 2, ReplyBytes: 1500,
			L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart/7", Host: "cart.shop", Version: "HTTP/1.1", Status: 200, Answered: true, Latency: 3_100_000,
				TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
			Path: []flow.Hop{{Node: &flow.Node{Name: "n2", Cluster: "blue"}, Time: at(103), Start: at(102), Point: flow.PointToEndpoint, Direction: flow.DirectionIngress}}},
		{Time: at(120), Start: at(110), Src: frontend, Dst: cart, Kind: flow.KindL7, Proto: flow.ProtoTCP, SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.1.2.3"), SrcPort: 41234, DstPort: 8080,
			Reply: true, L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "POST", Resource: "/cart/7/pay", Host: "cart.shop", Version: "HTTP/1.1", Status: 503, Answered: true, Error: true, Latency: 10_000_000}},
		{Time: at(130), Src: frontend, Dst: cart, Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Proto: flow.ProtoTCP, SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.1.2.3"), SrcPort: 41235, DstPort: 9999,
			TCPFlags: flow.TCPSyn, Packets: 1, Bytes: 60, Drop: &flow.Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv", Code: 3}},
		{Time: at(140), Start: at(139), Src: sshd, Dst: world, Kind: flow.KindNew, Verdict: flow.VerdictAudit, Proto: flow.ProtoTCP, SrcAddr: addr("fd00::1"), DstAddr: addr("2001:db8::2"), SrcPort: 50000, DstPort: 443,
			TCPFlags: flow.TCPSyn, Packets: 1, Bytes: 80, PID: 42, Process: &flow.Process{PID: 42, Comm: "sshd"}, Direction: flow.DirectionEgress, Point: flow.PointToNetwork},
		{Time: at(141), Start: at(139), Src: sshd, Dst: world, Kind: flow.KindNew, Verdict: flow.VerdictAudit, Proto: flow.ProtoTCP, SrcAddr: addr("fd00::1"), DstAddr: addr("2001:db8::2"), SrcPort: 50000, DstPort: 443,
			TCPFlags: flow.TCPSyn, Point: flow.PointToHost, Secondary: true},
		{Time: at(2200), Start: at(101), Src: frontend, Dst: cart, Kind: flow.KindClose, Proto: flow.ProtoTCP, SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.1.2.3"), SrcPort: 41234, DstPort: 8080,
			TCPFlags: flow.TCPFin | flow.TCPAck, Packets: 12, Bytes: 1234, ReplyPackets: 30, ReplyBytes: 34567, HandshakeRTT: 250, Direction: flow.DirectionEgress, Point: flow.PointFromEndpoint},
	}
	for i := range flows {
		f := &flows[i]
		f.Node, f.Seq = n1, uint64(i+1)
		if f.Verdict == flow.VerdictUnknown {
			f.Verdict = flow.VerdictForwarded
		}
	}
	return flows
}

// exampleDecisions are what policies decided on connections from a frontend: one is allowed, one is denied and tries again, one
// would be denied.
func exampleDecisions() []flow.Flow {
	addr := func(s string) flow.Addr { return flow.AddrFrom(netip.MustParseAddr(s)) }
	at := func(ms int) int64 {
		return time.Date(2026, 11, 22, 10, 30, 0, ms*int(time.Millisecond), time.UTC).UnixNano()
	}
	pod := func(namespace, name, node string) *flow.Endpoint {
		return &flow.Endpoint{Kind: flow.EndpointPod, Namespace: namespace, Pod: name, NodeName: node}
	}
	policy := func(namespace, name string) flow.PolicyRef {
		return flow.PolicyRef{Kind: "NetworkPolicy", Namespace: namespace, Name: name}
	}
	frontend, cart, redis := pod("shop", "frontend-7c9f", "n1"), pod("shop", "cart-0", "n1"), pod("data", "redis-0", "n1")
	allowed := &flow.Decision{Match: flow.PolicyMatchL3L4, Policies: []flow.PolicyRef{policy("shop", "cart")},
		Text: "NetworkPolicy shop/cart ingress[0]: from pods app=frontend of this namespace, ports 8080/TCP"}
	denied := &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{policy("data", "default-deny"), policy("data", "redis")},
		Text: "ingress default deny because of NetworkPolicy data/default-deny and NetworkPolicy data/redis"}
	audited := &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{policy("shop", "egress")}, Text: "egress default deny because of NetworkPolicy shop/egress"}
	drop := &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}
	flows := []flow.Flow{
		{Time: at(100), Dst: cart, DstAddr: addr("10.1.2.3"), DstPort: 8080, Kind: flow.KindVerdict, Verdict: flow.VerdictForwarded, Policy: allowed},
		{Time: at(200), Dst: redis, DstAddr: addr("10.1.3.4"), DstPort: 6379, Kind: flow.KindVerdict, Verdict: flow.VerdictDropped, Drop: drop, Policy: denied},
		{Time: at(1200), Dst: redis, DstAddr: addr("10.1.3.4"), DstPort: 6379, Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Drop: drop, Policy: denied, Packets: 3, Bytes: 180},
		{Time: at(1300), Dst: cart, DstAddr: addr("10.1.2.3"), DstPort: 9090, Kind: flow.KindVerdict, Verdict: flow.VerdictAudit, Policy: audited},
	}
	for i := range flows {
		f := &flows[i]
		f.Node, f.Seq, f.Start = &flow.Node{Name: "n1", Cluster: "blue", Boot: 7}, uint64(i+1), f.Time
		f.Src, f.SrcAddr, f.SrcPort, f.Proto, f.TCPFlags = frontend, addr("10.1.0.7"), uint16(41000+f.DstPort), flow.ProtoTCP, flow.TCPSyn
		f.Direction, f.Point = flow.DirectionIngress, flow.PointToEndpoint
		if f.Policy == audited {
			f.Direction, f.Point = flow.DirectionEgress, flow.PointFromEndpoint
		}
	}
	return flows
}
