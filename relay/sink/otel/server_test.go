package otel

import (
	"context"
	"net"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/grpc"
)

// endpointServer takes spans as the trace service of OTLP, by gRPC and by HTTP. answers are given first, one for each request.
type endpointServer struct {
	mu       sync.Mutex
	answers  []func() (*collectorpb.ExportTraceServiceResponse, error)
	got      []*collectorpb.ExportTraceServiceRequest // those that were taken
	attempts int
}

func (s *endpointServer) Export(_ context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts++
	resp, err := &collectorpb.ExportTraceServiceResponse{}, error(nil)
	if len(s.answers) > 0 {
		resp, err = s.answers[0]()
		s.answers = s.answers[1:]
	}
	if err == nil {
		s.got = append(s.got, r)
	}
	return resp, err
}

func (s *endpointServer) spans() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.got {
		for _, rs := range r.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				n += len(ss.GetSpans())
			}
		}
	}
	return n
}

// start serves by gRPC on a port of the kernel's choice.
func (s *endpointServer) start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.serve(t, l)
	return l.Addr().String()
}

func (s *endpointServer) serve(t *testing.T, l net.Listener) {
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var r collectorpb.ExportTraceServiceRequest
			if err := decode(&r); err != nil {
				return nil, err
			}
			return s.Export(ctx, &r)
		}}},
	}, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// first returns the only request that s took.
func (s *endpointServer) first(t *testing.T) []*tracepb.ResourceSpans {
	t.Helper()
	if len(s.got) != 1 {
		t.Fatalf("%d requests, want 1", len(s.got))
	}
	return s.got[0].GetResourceSpans()
}
