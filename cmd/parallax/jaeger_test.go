package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parallax-flow/parallax/deploy/lab"
	"github.com/parallax-flow/parallax/internal/tool"
	"github.com/parallax-flow/parallax/ui/api"
)

// TestTracesInJaeger runs the product with a real Jaeger, makes requests whose traceparent is known, and finds their spans through Jaeger's
// query API; then through the product's own API and CLI, live and after a restart.
func TestTracesInJaeger(t *testing.T) {
	needRoot(t)
	j := startJaeger(t)
	p := newProduct(t)
	const dir = "/run/parallax/e2e-jaeger"
	if err := lab.Clean(dir); err != nil {
		t.Fatal(err)
	}
	p.start("--demo", "--demo-dir", dir, "--demo-rate", "2", "--otlp-endpoint", j.otlp, "--otlp-insecure")
	p.waitObserving()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	client, err := lab.Attach(ctx, dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.log.String())
	}
	type request struct {
		to, workload string
		status       int
		failed       [2]bool // client's span, server's span
		exchange     *lab.Exchange
		spans        []jaegerSpan
	}
	requests := []*request{
		{to: "cart", workload: "shop/cart", status: 200},
		{to: "checkout", workload: "shop/checkout", status: 503, failed: [2]bool{true, true}},
		{to: "cart", workload: "shop/cart", status: 404, failed: [2]bool{true, false}},
	}
	for _, r := range requests {
		url := fmt.Sprintf("http://%s.shop.svc.cluster.local:8080/e2e/jaeger/%d/30", r.to, r.status)
		if r.exchange, err = client.Do(ctx, "shop/frontend", "GET", url); err != nil || r.exchange.Status != r.status {
			t.Fatalf("%s: %+v, %v", url, r.exchange, err)
		}
	}
	for _, r := range requests {
		t.Run(fmt.Sprintf("%s %d", r.to, r.status), func(t *testing.T) {
			id, parent := r.exchange.Trace[3:35], r.exchange.Trace[36:52]
			r.spans = j.trace(t, p, id, 2)
			flows := p.observe(t, "--trace-id", id)
			if len(flows) != 1 {
				t.Fatalf("%d flows have the trace, want 1", len(flows))
			}
			latency := time.Duration(flows[0].GetL7().GetLatencyNs())
			for i, s := range r.spans {
				want := jaegerSpan{
					TraceID: id, SpanID: s.SpanID, ParentSpanID: []string{parent, r.spans[0].SpanID}[i], Name: "GET /e2e/jaeger/{id}/{id}", Kind: []int{spanKindClient, spanKindServer}[i],
					service: []string{"frontend", r.to}[i], namespace: "shop", deployment: []string{"frontend", r.to}[i], httpStatus: r.status, failed: r.failed[i],
					start: s.start, took: s.took,
				}
				if s != want {
					t.Errorf("span %d:\n got %+v\nwant %+v", i, s, want)
				}
				if off := s.took - latency; off.Abs() > time.Millisecond || s.took < 30*time.Millisecond {
					t.Errorf("span %d took %v, the flow %v", i, s.took, latency)
				}
			}
			if c, s := r.spans[0], r.spans[1]; c.start.After(s.start) || c.start.Add(c.took).Before(s.start.Add(s.took)) {
				t.Errorf("the server's span is not within the client's, though both have one clock: %+v", r.spans)
			}
		})
	}
	if !slices.Contains(j.services(t), "frontend") {
		t.Errorf("Jaeger's services: %v", j.services(t))
	}
	sameInProduct := func(t *testing.T) {
		for _, r := range requests {
			var trace, page api.Trace
			if err := json.Unmarshal([]byte(p.cli(t, "trace", r.exchange.Trace, "-o", "json")), &trace); err != nil {
				t.Fatal(err)
			}
			p.eventually("the trace is stored", func() error { return p.get("/api/v1/trace?id="+trace.ID, &page) })
			for _, got := range []api.Trace{trace, page} {
				if len(got.Spans) != 2 {
					t.Fatalf("%d spans, want 2: %+v", len(got.Spans), got)
				}
				for i, s := range got.Spans {
					in := r.spans[i]
					off := time.Duration(s.DurationUs)*time.Microsecond - in.took
					if s.ID != in.SpanID || s.Parent != in.ParentSpanID || s.Failed != in.failed || s.Depth != i || off.Abs() > 4*time.Microsecond { // the storage keeps microseconds
						t.Errorf("%+v\nJaeger has %+v", s, in)
					}
				}
			}
		}
	}
	t.Run("the same in the product", sameInProduct)
	text := p.cli(t, "trace", requests[1].exchange.Trace)
	if !strings.Contains(text, "\nshop/frontend") || !strings.Contains(text, "\n  shop/checkout") || !strings.Contains(text, "503 failed") {
		t.Errorf("waterfall:\n%s", text)
	}
	p.checkSpanAccount(t)
	p.stop()
	t.Run("the same from history", func(t *testing.T) {
		p.start()
		sameInProduct(t)
		p.stop()
	})
}

// checkSpanAccount looks at the metrics: spans were sent and none was dropped.
func (p *product) checkSpanAccount(t *testing.T) {
	resp, err := http.Get("http://" + p.rMet + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := string(body)
	if !strings.Contains(text, `parallax_otel_spans_total{result="dropped"} 0`) || !strings.Contains(text, `parallax_otel_spans_total{result="refused"} 0`) ||
		strings.Contains(text, `parallax_otel_spans_total{result="sent"} 0`) {
		for line := range strings.Lines(text) {
			if strings.Contains(line, "parallax_otel") {
				t.Log(line)
			}
		}
		t.Error("spans were lost, or none was sent")
	}
}

// jaeger is a real Jaeger that keeps traces in memory.
type jaeger struct{ otlp, query string }

const jaegerConfig = `
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}
  telemetry:
    metrics: {level: none}
    logs: {level: warn}
extensions:
  jaeger_storage: {backends: {traces: {memory: {max_traces: 100000}}}}
  jaeger_query: {storage: {traces: traces}, http: {endpoint: %q}, grpc: {endpoint: %q}}
receivers:
  otlp: {protocols: {grpc: {endpoint: %q}}}
exporters:
  jaeger_storage_exporter: {trace_storage: traces}
`

func startJaeger(t *testing.T) *jaeger {
	t.Helper()
	bin := tool.Path(t, "jaeger")
	j := &jaeger{otlp: freeAddr(t), query: freeAddr(t)}
	config := filepath.Join(t.TempDir(), "jaeger.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, jaegerConfig, j.query, freeAddr(t), j.otlp), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--config", config)
	log := &output{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var services any
		if err := j.get("/api/v3/services", &services); err == nil {
			return j
		} else if time.Now().After(deadline) || len(exited) > 0 {
			t.Fatalf("Jaeger does not answer: %v\n%s", err, log.String())
		}
	}
}

func (j *jaeger) get(path string, into any) error {
	resp, err := http.Get("http://" + j.query + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s", path, resp.Status, body)
	}
	return json.Unmarshal(body, into)
}

func (j *jaeger) services(t *testing.T) []string {
	var answer struct{ Services []string }
	if err := j.get("/api/v3/services", &answer); err != nil {
		t.Error(err)
	}
	return answer.Services
}

// Values of opentelemetry.proto.trace.v1.Span.SpanKind and Status.StatusCode.
const (
	spanKindServer  = 2
	spanKindClient  = 3
	statusCodeError = 2
)

// jaegerSpan is a span as Jaeger gives it.
type jaegerSpan struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int

	service, namespace, deployment string
	httpStatus                     int
	failed                         bool
	start                          time.Time
	took                           time.Duration
}

type jaegerAttribute struct {
	Key   string
	Value struct{ StringValue, IntValue string }
}

// trace waits until Jaeger has n spans of trace id and returns them, the client's first.
func (j *jaeger) trace(t *testing.T, p *product, id string, n int) (spans []jaegerSpan) {
	t.Helper()
	p.eventually("Jaeger has the trace "+id, func() error {
		var answer struct {
			Result struct {
				ResourceSpans []struct {
					Resource   struct{ Attributes []jaegerAttribute }
					ScopeSpans []struct {
						Spans []struct {
							jaegerSpan
							StartTimeUnixNano, EndTimeUnixNano string
							Attributes                         []jaegerAttribute
							Status                             struct{ Code int }
						}
					}
				}
			}
		}
		if err := j.get("/api/v3/traces/"+id, &answer); err != nil {
			return err
		}
		spans = nil
		for _, r := range answer.Result.ResourceSpans {
			for _, scope := range r.ScopeSpans {
				for _, s := range scope.Spans {
					out := s.jaegerSpan
					out.service, out.namespace = attribute(r.Resource.Attributes, "service.name"), attribute(r.Resource.Attributes, "k8s.namespace.name")
					out.deployment = attribute(r.Resource.Attributes, "k8s.deployment.name")
					out.httpStatus, _ = strconv.Atoi(attribute(s.Attributes, "http.response.status_code"))
					out.failed = s.Status.Code == statusCodeError
					start, err1 := strconv.ParseInt(s.StartTimeUnixNano, 10, 64)
					end, err2 := strconv.ParseInt(s.EndTimeUnixNano, 10, 64)
					if err := errors.Join(err1, err2); err != nil {
						t.Fatal(err)
					}
					out.start, out.took = time.Unix(0, start), time.Duration(end-start)
					spans = append(spans, out)
				}
			}
		}
		if len(spans) != n {
			return fmt.Errorf("it has %d spans, want %d", len(spans), n)
		}
		return nil
	})
	slices.SortFunc(spans, func(a, b jaegerSpan) int { return cmp.Compare(b.Kind, a.Kind) })
	return spans
}

func attribute(all []jaegerAttribute, key string) string {
	for _, a := range all {
		if a.Key == key {
			return a.Value.StringValue + a.Value.IntValue
		}
	}
	return ""
}
