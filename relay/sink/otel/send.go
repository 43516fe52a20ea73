package otel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// sender makes one attempt to hand spans over.
type sender interface {
	// send returns how many spans the endpoint rejected of a request that it took.
	send(ctx context.Context, r *collectorpb.ExportTraceServiceRequest) (rejected uint64, err *sendError)
	close()
}

// sendError is an attempt that failed.
type sendError struct {
	error
	final bool          // the endpoint will never take this request
	after time.Duration // it asks not to try again before this time
}

// maxAfter bounds how long an endpoint can make the exporter wait.
const maxAfter = time.Minute

func newSender(c *Config) (sender, error) {
	at, err := parseEndpoint(c.Endpoint, c.Insecure)
	if err != nil {
		return nil, err
	}
	if at.http != "" {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = c.TLS
		return &httpSender{url: at.http, client: &http.Client{Transport: transport}, agent: "parallax/" + c.Version}, nil
	}
	creds := insecure.NewCredentials()
	if !c.Insecure {
		creds = credentials.NewTLS(c.TLS)
	}
	conn, err := grpc.NewClient(at.target, grpc.WithTransportCredentials(creds), grpc.WithUserAgent("parallax/"+c.Version))
	if err != nil {
		return nil, fmt.Errorf("OTLP endpoint %q: %w", c.Endpoint, err)
	}
	return &grpcSender{conn}, nil
}

// exportMethod is the one method of the trace service (trace_service.proto). The generated client of it would bring an HTTP gateway along.
const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

type grpcSender struct{ conn *grpc.ClientConn }

func (s *grpcSender) close() { _ = s.conn.Close() } // all that was to be sent is

func (s *grpcSender) send(ctx context.Context, r *collectorpb.ExportTraceServiceRequest) (uint64, *sendError) {
	var resp collectorpb.ExportTraceServiceResponse
	if err := s.conn.Invoke(ctx, exportMethod, r, &resp); err != nil {
		return 0, grpcError(err)
	}
	return rejected(&resp), nil
}

// grpcError says by the OTLP specification ("Failures", OTLP/gRPC) whether to try again.
func grpcError(err error) *sendError {
	s := status.Convert(err)
	e := &sendError{error: fmt.Errorf("%s: %s", s.Code(), s.Message())}
	told := false
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			e.after, told = min(info.GetRetryDelay().AsDuration(), maxAfter), true
		}
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
	case codes.ResourceExhausted:
		e.final = !told
	default:
		e.final = true
	}
	return e
}

func rejected(r *collectorpb.ExportTraceServiceResponse) uint64 {
	return uint64(max(r.GetPartialSuccess().GetRejectedSpans(), 0))
}

type httpSender struct {
	url    string
	client *http.Client
	agent  string
}

func (s *httpSender) close() { s.client.CloseIdleConnections() }

// maxAnswer bounds what is read of an answer, bytes.
const maxAnswer = 1 << 20

func (s *httpSender) send(ctx context.Context, r *collectorpb.ExportTraceServiceRequest) (uint64, *sendError) {
	body, err := proto.Marshal(r)
	if err != nil {
		return 0, &sendError{error: err, final: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return 0, &sendError{error: err, final: true}
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", s.agent)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, &sendError{error: err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return 0, httpError(resp)
	}
	var out collectorpb.ExportTraceServiceResponse
	if err != nil || proto.Unmarshal(answer, &out) != nil {
		return 0, nil // it said that it took the spans
	}
	return rejected(&out), nil
}

// httpError says by the OTLP specification ("Failures", OTLP/HTTP) whether to try again.
func httpError(resp *http.Response) *sendError {
	e := &sendError{error: errors.New(resp.Status)}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
			e.after = min(time.Duration(seconds)*time.Second, maxAfter)
		}
	default:
		e.final = true
	}
	return e
}
