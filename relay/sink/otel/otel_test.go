package otel

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parallax-flow/parallax/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run starts an Exporter; stop ends it and returns its last account.
func run(t *testing.T, c Config) (e *Exporter, stop func() Stats) {
	t.Helper()
	if c.Age == 0 {
		c.Age = 5 * time.Millisecond
	}
	c.Insecure, c.Version = !strings.Contains(c.Endpoint, "://"), "1.2.3"
	e, err := New(c, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var once sync.Once
	end := func() Stats {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		s := e.Stats()
		if sum := s.Sent + s.Rejected + s.Refused + s.Dropped + s.Unsampled + s.Waiting; sum != s.Made || s.Waiting != 0 {
			t.Errorf("the account does not add up: %+v", s)
		}
		return s
	}
	t.Cleanup(func() { end() })
	return e, end
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

const at = int64(1_800_000_000_000_000_000)

var (
	nodeA = &flow.Node{Name: "node-a", Cluster: "lab", Boot: 1}
	nodeB = &flow.Node{Name: "node-b", Cluster: "lab", Boot: 2}

	frontend = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "frontend-7c9f", Workload: "frontend", WorkloadKind: "Deployment", NodeName: "node-a", Cluster: "lab"}
	cart     = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "cart-0", Workload: "cart", WorkloadKind: "StatefulSet", NodeName: "node-b", Cluster: "lab"}
	coredns  = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "kube-system", Pod: "coredns-1", Workload: "coredns", WorkloadKind: "DaemonSet", NodeName: "node-a"}
	curl     = &flow.Endpoint{Kind: flow.EndpointProcess, Workload: "curl", WorkloadKind: "Process", NodeName: "node-a"}
	world    = &flow.Endpoint{Kind: flow.EndpointWorld, Name: "api.example.com"}
)

func addr(s string) flow.Addr { return flow.AddrFrom(netip.MustParseAddr(s)) }

const traceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// get is a request of the frontend to the cart, seen at both ends.
func get(seq uint64, change ...func(*flow.Flow)) flow.Flow {
	f := flow.Flow{
		Kind: flow.KindL7, Verdict: flow.VerdictForwarded, Time: at + 40e6, Start: at, Src: frontend, Dst: cart, Node: nodeA, Seq: seq,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.1.2.3"), SrcPort: 41234, DstPort: 8080, Proto: flow.ProtoTCP, Point: flow.PointFromEndpoint, Reply: true,
		L7: &flow.L7{
			Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart/7?user=REDACTED", Host: "cart.shop:8080", Version: "HTTP/1.1", TraceParent: traceParent,
			UserAgent: "curl/8", Status: 200, Answered: true, Latency: 40e6,
		},
		Path: []flow.Hop{{Node: nodeB, Time: at + 39e6, Start: at + 1e6, Point: flow.PointToEndpoint}},
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func TestRetriesAndAccount(t *testing.T) {
	fail := func(code codes.Code, details ...*errdetails.RetryInfo) func() (*collectorpb.ExportTraceServiceResponse, error) {
		return func() (*collectorpb.ExportTraceServiceResponse, error) {
			s := status.New(code, "told by the test")
			for _, d := range details {
				s, _ = s.WithDetails(d)
			}
			return nil, s.Err()
		}
	}
	soon := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)}
	for _, tc := range []struct {
		name     string
		answers  []func() (*collectorpb.ExportTraceServiceResponse, error)
		want     Stats
		attempts int
	}{
		{"taken at once", nil, Stats{Made: 2, Sent: 2}, 1},
		{"unavailable", []func() (*collectorpb.ExportTraceServiceResponse, error){fail(codes.Unavailable)}, Stats{Made: 2, Sent: 2, Retries: 1}, 2},
		{"too much, with a time to come back", []func() (*collectorpb.ExportTraceServiceResponse, error){fail(codes.ResourceExhausted, soon)}, Stats{Made: 2, Sent: 2, Retries: 1}, 2},
		{"too much", []func() (*collectorpb.ExportTraceServiceResponse, error){fail(codes.ResourceExhausted)}, Stats{Made: 2, Refused: 2}, 1},
		{"not understood", []func() (*collectorpb.ExportTraceServiceResponse, error){fail(codes.InvalidArgument)}, Stats{Made: 2, Refused: 2}, 1},
		{"one of two taken", []func() (*collectorpb.ExportTraceServiceResponse, error){func() (*collectorpb.ExportTraceServiceResponse, error) {
			return &collectorpb.ExportTraceServiceResponse{PartialSuccess: &collectorpb.ExportTracePartialSuccess{RejectedSpans: 1}}, nil
		}}, Stats{Made: 2, Sent: 1, Rejected: 1}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &endpointServer{answers: tc.answers}
			e, stop := run(t, Config{Endpoint: s.start(t), Ratio: 1})
			e.Add([]flow.Flow{get(1), {Kind: flow.KindNew}, {Kind: flow.KindVerdict, Policy: &flow.Decision{}}, {Kind: flow.KindDrop, Drop: &flow.Drop{}, Policy: &flow.Decision{}}})
			eventually(t, "the batch is settled", func() bool { return e.Stats().Waiting == 0 })
			if diff := cmp.Diff(tc.want, stop()); diff != "" || s.attempts != tc.attempts {
				t.Errorf("%d attempts, want %d; account (-want +got):\n%s", s.attempts, tc.attempts, diff)
			}
		})
	}
}

// What a server took whose answer was lost comes again with the same ids.
func TestRepeatedSpansAreTheSame(t *testing.T) {
	var s endpointServer
	e, stop := run(t, Config{Endpoint: s.start(t), Ratio: 1})
	for range 2 {
		e.Add([]flow.Flow{get(1)})
		eventually(t, "the batch is sent", func() bool { return e.Stats().Waiting == 0 })
	}
	stop()
	if diff := cmp.Diff(s.got[0], s.got[1], protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestEndpointThatIsAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	e, stop := run(t, Config{Endpoint: address, Ratio: 1, MaxSpans: 100, Batch: 10})
	for seq := range uint64(1000) {
		e.Add([]flow.Flow{get(seq + 1)})
	}
	eventually(t, "an attempt fails", func() bool { return e.Stats().Failing != "" })
	if s := e.Stats(); s.Made != 2000 || s.Waiting != 100 || s.Dropped != 1900 || s.Sent != 0 {
		t.Errorf("while it is away: %+v", s)
	}
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatalf("the port was taken meanwhile: %v", err)
	}
	var s endpointServer
	s.serve(t, l)
	eventually(t, "the backlog is sent", func() bool { return e.Stats().Waiting == 0 })
	if got := stop(); got.Sent != 100 || got.Failing != "" || s.spans() != 100 {
		t.Errorf("after it came back: %+v, the endpoint has %d", got, s.spans())
	}
}

// What can not be sent before the end is counted, and the end does not wait for long.
func TestEndWithoutEndpoint(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // takes connections and says nothing
	e, stop := run(t, Config{Endpoint: l.Addr().String(), Ratio: 1, Drain: 10 * time.Millisecond, Batch: 2})
	e.Add([]flow.Flow{get(1), get(2)})
	if s := stop(); s.Dropped != 4 {
		t.Errorf("%+v, want 4 dropped", s)
	}
}

func TestSampling(t *testing.T) {
	var s endpointServer
	e, stop := run(t, Config{Endpoint: s.start(t), Ratio: 0})
	e.Add([]flow.Flow{
		get(1),
		get(2, func(f *flow.Flow) { f.L7 = &flow.L7{Protocol: flow.L7HTTP, Status: 503, Answered: true, Error: true} }),
		get(3, func(f *flow.Flow) { f.L7 = &flow.L7{Protocol: flow.L7HTTP, Status: 404, Answered: true} }),
	})
	if got := stop(); got.Sent != 4 || got.Unsampled != 2 {
		t.Errorf("%+v, want the two failures sent", got)
	}
}

func TestHTTP(t *testing.T) {
	var s endpointServer
	busy := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collectorpb.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(body, &req) != nil {
			http.Error(w, "not OTLP", http.StatusBadRequest)
			return
		}
		if busy {
			busy = false
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		resp, _ := s.Export(r.Context(), &req)
		out, _ := proto.Marshal(resp)
		w.Write(out)
	}))
	defer srv.Close()
	e, stop := run(t, Config{Endpoint: srv.URL, Ratio: 1})
	e.Add([]flow.Flow{get(1)})
	eventually(t, "the batch is sent", func() bool { return e.Stats().Waiting == 0 })
	if got := stop(); got.Sent != 2 || got.Retries != 1 || s.spans() != 2 {
		t.Errorf("%+v, the endpoint has %d spans", got, s.spans())
	}

	e, stop = run(t, Config{Endpoint: srv.URL + "/elsewhere", Ratio: 1})
	e.Add([]flow.Flow{get(1)})
	eventually(t, "the batch is settled", func() bool { return e.Stats().Waiting == 0 })
	if got := stop(); got.Refused != 2 {
		t.Errorf("%+v, want both refused", got)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	e, err := New(Config{Endpoint: "127.0.0.1:4317", MaxSpans: 2, Ratio: 1}, Deps{Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	e.Add([]flow.Flow{get(1), get(2)})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	want := map[string]float64{
		"parallax_otel_spans_total dropped": 2, "parallax_otel_spans_total refused": 0, "parallax_otel_spans_total rejected": 0,
		"parallax_otel_spans_total sent": 0, "parallax_otel_spans_total unsampled": 0,
		"parallax_otel_spans_waiting": 2, "parallax_otel_retries_total": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWrongConfig(t *testing.T) {
	for want, c := range map[string]Config{
		`OTLP endpoint "": no port`:                                  {},
		`OTLP endpoint "jaeger": no port`:                            {Endpoint: "jaeger"},
		`OTLP endpoint ":4317": no host or port`:                     {Endpoint: ":4317"},
		`OTLP endpoint "ftp://x": unknown scheme "ftp"`:              {Endpoint: "ftp://x"},
		`OTLP endpoint "http://": no host`:                           {Endpoint: "http://"},
		`OTLP endpoint "https://x:4318": https is not insecure`:      {Endpoint: "https://x:4318", Insecure: true},
		`trace sample 1.5: choose a part from 0 (only what failed) `: {Endpoint: "x:1", Ratio: 1.5},
	} {
		if _, err := New(c, Deps{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
}

func TestBadBytesDoNotSpoilABatch(t *testing.T) {
	var s endpointServer
	e, stop := run(t, Config{Endpoint: s.start(t), Ratio: 1})
	e.Add([]flow.Flow{get(1, func(f *flow.Flow) {
		f.L7.Resource, f.L7.UserAgent, f.L7.Host, f.L7.Operation = "/\xff", "\xfe", "\xfd", "\xfc"
	}), get(2)})
	if got := stop(); got.Sent != 4 {
		t.Errorf("%+v", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	e, err := New(Config{Endpoint: "127.0.0.1:4317", MaxSpans: 1 << 30, Ratio: 1}, Deps{})
	if err != nil {
		b.Fatal(err)
	}
	flows := make([]flow.Flow, 256)
	for i := range flows {
		flows[i] = get(uint64(i + 1))
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Add(flows)
		e.take()
		e.queue, e.stats.Waiting = e.queue[:0], 0
	}
}

func BenchmarkEncode(b *testing.B) {
	e, err := New(Config{Endpoint: "127.0.0.1:4317", Ratio: 1}, Deps{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range uint64(256) {
		e.Add([]flow.Flow{get(i + 1)})
	}
	batch, n := e.take()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proto.Marshal(encode(batch, "1")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
}
