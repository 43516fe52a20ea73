package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/flow/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server and returns a connection to it.
func serve(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return conn
}

var (
	shop = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "cart-0"}
	data = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "data", Cluster: "blue", Pod: "redis-0"}
	n1   = &flow.Node{Name: "n1", Boot: 7}
)

// record makes flow number i, at i seconds after base. Its source port is its number.
func record(base time.Time, i int) flow.Flow {
	return flow.Flow{
		Time: base.Add(time.Duration(i) * time.Second).UnixNano(), Src: shop, Dst: data, Node: n1, Seq: uint64(i), Kind: flow.KindNew, Proto: flow.ProtoTCP,
		SrcPort: uint16(i), DstPort: 6379, SrcAddr: flow.AddrFrom(netip.MustParseAddr("10.0.0.1")), DstAddr: flow.AddrFrom(netip.MustParseAddr("10.0.0.2")),
		Verdict: flow.VerdictForwarded,
	}
}

func records(base time.Time, from, to int) []flow.Flow {
	var out []flow.Flow
	for i := from; i < to; i++ {
		out = append(out, record(base, i))
	}
	return out
}

// store is a History in a slice.
type store struct {
	flows []flow.Flow
	err   error
}

func (s *store) Flows(_ context.Context, q query.Flows, each func(*flow.Flow) bool) error {
	match, err := filter.Compile(q.Filter)
	if err != nil {
		return err
	}
	sorted := slices.Clone(s.flows)
	slices.SortStableFunc(sorted, func(a, b flow.Flow) int {
		if q.Newest {
			a, b = b, a
		}
		return cmp.Compare(a.Time, b.Time)
	})
	n := 0
	for i := range sorted {
		f := &sorted[i]
		if f.Time < q.From || f.Time >= q.To || !match(f) {
			continue
		}
		if n++; q.Limit > 0 && n > q.Limit || !each(f) {
			break
		}
	}
	return s.err
}

// collect returns the source ports of the flows of a stream that ends.
func collect(t *testing.T, conn *grpc.ClientConn, req *observerpb.GetFlowsRequest) []int {
	t.Helper()
	stream, err := observerpb.NewObserverClient(conn).GetFlows(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.GetLostEvents() != nil {
			t.Errorf("lost: %v", r.GetLostEvents())
		}
		if f := r.GetFlow(); f != nil {
			got = append(got, int(f.GetL4().GetTCP().GetSourcePort()))
		}
	}
}

func numbers(from, to int) []int {
	var out []int
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func TestGetFlowsFromTheRing(t *testing.T) {
	base := time.Now().Add(-time.Hour)
	live := ring.New(16)
	live.Add(records(base, 1, 21)) // holds 5 to 20
	conn := serve(t, New(Config{Live: live}))
	at := func(i int) *timestamppb.Timestamp { return timestamppb.New(base.Add(time.Duration(i) * time.Second)) }
	port := func(p ...string) []*flowpb.FlowFilter { return []*flowpb.FlowFilter{{SourcePort: p}} }
	for name, tt := range map[string]struct {
		req  *observerpb.GetFlowsRequest
		want []int
	}{
		"all":                {&observerpb.GetFlowsRequest{}, numbers(5, 21)},
		"last":               {&observerpb.GetFlowsRequest{Number: 3}, numbers(18, 21)},
		"more than there is": {&observerpb.GetFlowsRequest{Number: 500}, numbers(5, 21)},
		"--all":              {&observerpb.GetFlowsRequest{Number: 1<<64 - 1}, numbers(5, 21)},
		"first":              {&observerpb.GetFlowsRequest{Number: 3, First: true}, numbers(5, 8)},
		"since":              {&observerpb.GetFlowsRequest{Since: at(18)}, numbers(18, 21)},
		"until, inclusive":   {&observerpb.GetFlowsRequest{Until: at(7)}, numbers(5, 8)},
		"since and until":    {&observerpb.GetFlowsRequest{Since: at(10), Until: at(12)}, numbers(10, 13)},
		"last until":         {&observerpb.GetFlowsRequest{Number: 2, Until: at(12)}, numbers(11, 13)},
		"last since":         {&observerpb.GetFlowsRequest{Number: 5, Since: at(19)}, numbers(19, 21)},
		"first since":        {&observerpb.GetFlowsRequest{Number: 2, First: true, Since: at(12)}, numbers(12, 14)},
		"whitelist":          {&observerpb.GetFlowsRequest{Whitelist: port("3", "9", "20")}, []int{9, 20}},
		"last of whitelist":  {&observerpb.GetFlowsRequest{Number: 1, Whitelist: port("3", "9", "15")}, []int{15}},
		"blacklist":          {&observerpb.GetFlowsRequest{Whitelist: port("10-14"), Blacklist: port("11", "13")}, []int{10, 12, 14}},
		"nothing":            {&observerpb.GetFlowsRequest{Whitelist: port("99")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := gocmp.Diff(tt.want, collect(t, conn, tt.req)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGetFlowsRefuses(t *testing.T) {
	conn := serve(t, New(Config{Live: ring.New(16)}))
	for want, req := range map[string]*observerpb.GetFlowsRequest{
		"first and follow exclude each other":      {First: true, Follow: true},
		"since is later than until":                {Since: timestamppb.New(time.Unix(9, 0)), Until: timestamppb.New(time.Unix(5, 0))},
		"source_ip: \"x\" is neither":              {Whitelist: []*flowpb.FlowFilter{{SourceIp: []string{"x"}}}},
		"filter field encrypted is not supported":  {Blacklist: []*flowpb.FlowFilter{{Encrypted: []bool{true}}}},
		"field_mask: a flow has no field \"nope\"": {FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"nope"}}},
		"since: 0 s and -1 ns is not a time":       {Since: &timestamppb.Timestamp{Nanos: -1}},
	} {
		stream, err := observerpb.NewObserverClient(conn).GetFlows(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if c := status.Code(err); c != codes.InvalidArgument && c != codes.Unimplemented || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// The ring holds 136 to 199, the store 0 to 159: whatever is asked, each flow comes once and in order.
func TestSeam(t *testing.T) {
	base := time.Now().Add(time.Hour) // after the start of the server
	live := ring.New(64)
	live.Add(records(base, 0, 200)) // holds 136 to 199
	history := &store{flows: records(base, 0, 160)}
	conn := serve(t, New(Config{Live: live, History: history}))
	at := func(i int) *timestamppb.Timestamp { return timestamppb.New(base.Add(time.Duration(i) * time.Second)) }
	for name, tt := range map[string]struct {
		req  *observerpb.GetFlowsRequest
		want []int
	}{
		"since, in both":             {&observerpb.GetFlowsRequest{Since: at(20)}, numbers(20, 200)},
		"since, ring only":           {&observerpb.GetFlowsRequest{Since: at(150)}, numbers(150, 200)},
		"stored only":                {&observerpb.GetFlowsRequest{Since: at(20), Until: at(40)}, numbers(20, 41)},
		"across":                     {&observerpb.GetFlowsRequest{Since: at(130), Until: at(140)}, numbers(130, 141)},
		"first":                      {&observerpb.GetFlowsRequest{Number: 5, First: true}, numbers(0, 5)},
		"first, across":              {&observerpb.GetFlowsRequest{Number: 150, First: true}, numbers(0, 150)},
		"last, ring only":            {&observerpb.GetFlowsRequest{Number: 10}, numbers(190, 200)},
		"last, across":               {&observerpb.GetFlowsRequest{Number: 100}, numbers(100, 200)},
		"last, until":                {&observerpb.GetFlowsRequest{Number: 10, Until: at(139)}, numbers(130, 140)},
		"last, stored only":          {&observerpb.GetFlowsRequest{Number: 10, Until: at(50)}, numbers(41, 51)},
		"all is what is in the ring": {&observerpb.GetFlowsRequest{}, numbers(136, 200)},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := gocmp.Diff(tt.want, collect(t, conn, tt.req)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a former run stored is joined with the ring of this one at the start of the server.
func TestSeamAfterARestart(t *testing.T) {
	base := time.Now().Add(-150 * time.Second)
	live := ring.New(1024)
	s := New(Config{Live: live, History: &store{flows: records(base, 0, 200)}})
	live.Add(records(base, 100, 250)) // the first of them were sent again by a collector
	conn := serve(t, s)
	got := collect(t, conn, &observerpb.GetFlowsRequest{Since: timestamppb.New(base)})
	if diff := gocmp.Diff(numbers(0, 250), got); diff != "" {
		t.Error(diff)
	}
	got = collect(t, conn, &observerpb.GetFlowsRequest{Number: 160})
	if diff := gocmp.Diff(numbers(90, 250), got); diff != "" {
		t.Error(diff)
	}
}

// Without since the newest flows are not looked for in all of the past.
func TestNewestReach(t *testing.T) {
	base := time.Now().Add(-90 * time.Minute)
	conn := serve(t, New(Config{Live: ring.New(16), History: &store{flows: []flow.Flow{record(base, 0), record(base, 3600)}}}))
	if diff := gocmp.Diff([]int{3600}, collect(t, conn, &observerpb.GetFlowsRequest{Number: 10})); diff != "" {
		t.Error(diff)
	}
	if diff := gocmp.Diff([]int{0, 3600}, collect(t, conn, &observerpb.GetFlowsRequest{Number: 10, Since: timestamppb.New(base)})); diff != "" {
		t.Error(diff)
	}
}

func TestStorageError(t *testing.T) {
	live := ring.New(16)
	conn := serve(t, New(Config{Live: live, History: &store{err: errors.New("disk on fire")}}))
	stream, err := observerpb.NewObserverClient(conn).GetFlows(t.Context(), &observerpb.GetFlowsRequest{Since: timestamppb.New(time.Unix(1, 0))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "read stored flows: disk on fire") {
		t.Errorf("error = %v", err)
	}
}

func TestFieldMask(t *testing.T) {
	base := time.Now()
	live := ring.New(4)
	live.Add(records(base, 1, 2))
	conn := serve(t, New(Config{Live: live}))
	stream, err := observerpb.NewObserverClient(conn).GetFlows(t.Context(), &observerpb.GetFlowsRequest{FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"source.pod_name"}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := &observerpb.GetFlowsResponse{
		ResponseTypes: &observerpb.GetFlowsResponse_Flow{Flow: &flowpb.Flow{Source: &flowpb.Endpoint{PodName: "cart-0"}}},
		NodeName:      "default/n1", Time: timestamppb.New(base.Add(time.Second)),
	}
	if diff := gocmp.Diff(want, r, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkGetFlows is what the stock client gets out of a full ring.
func BenchmarkGetFlows(b *testing.B) {
	live := ring.New(1 << 14)
	live.Add(records(time.Now(), 0, 1<<14))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(Config{Live: live}).Run(ctx, listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	client := observerpb.NewObserverClient(conn)
	for b.Loop() {
		stream, err := client.GetFlows(ctx, &observerpb.GetFlowsRequest{})
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(live.Cap())/b.Elapsed().Seconds(), "flows/s")
	conn.Close()
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
