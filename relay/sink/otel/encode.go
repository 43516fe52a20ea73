package otel

import (
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/span"
)

// scopeName names the instrumentation in every span.
const scopeName = "github.com/parallax-flow/parallax"

// encode makes one request of batch: the spans of each endpoint under a resource of its own, in the order in which the endpoints
// come.
func encode(batch []exchange, version string) *collectorpb.ExportTraceServiceRequest {
	r := &collectorpb.ExportTraceServiceRequest{}
	scopes := make(map[*flow.Endpoint]*tracepb.ScopeSpans)
	for i := range batch {
		f := &batch[i].flow
		for j := range batch[i].spans {
			s := &batch[i].spans[j]
			e := s.Service(f)
			scope := scopes[e]
			if scope == nil {
				scope = &tracepb.ScopeSpans{Scope: &commonpb.InstrumentationScope{Name: scopeName, Version: version}, SchemaUrl: semconv.SchemaURL}
				scopes[e] = scope
				r.ResourceSpans = append(r.ResourceSpans, &tracepb.ResourceSpans{
					Resource: &resourcepb.Resource{Attributes: resource(e)}, ScopeSpans: []*tracepb.ScopeSpans{scope}, SchemaUrl: semconv.SchemaURL,
				})
			}
			scope.Spans = append(scope.Spans, message(f, s))
		}
	}
	return r
}

// flags of a span: its parent is in another process (trace.proto, SpanFlags).
const parentIsRemote = uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)

// parentIsLocal says that the parent is in the same process: the caller's own span is that of the client.
const parentIsLocal = uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)

func message(f *flow.Flow, s *span.Span) *tracepb.Span {
	m := &tracepb.Span{
		TraceId: s.Trace[:], SpanId: s.ID[:], Name: clean(span.Name(f.L7)),
		StartTimeUnixNano: uint64(max(s.Start, 0)), EndTimeUnixNano: uint64(max(s.End, s.Start, 0)),
		Kind: tracepb.Span_SPAN_KIND_CLIENT, Flags: parentIsLocal,
		Attributes: attributes(f, s),
		Status:     &tracepb.Status{},
	}
	if s.Side == span.Server {
		m.Kind, m.Flags = tracepb.Span_SPAN_KIND_SERVER, parentIsRemote
	}
	if s.Parent == (span.ID{}) {
		m.Flags = 0
	} else {
		m.ParentSpanId = s.Parent[:]
	}
	if s.Failed {
		m.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR}
		if !f.L7.Answered {
			m.Status.Message = "no response" // the conventions want none where the status code says it all
		}
	}
	return m
}
