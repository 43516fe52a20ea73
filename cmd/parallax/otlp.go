package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/relay"
	"github.com/parallax-flow/parallax/relay/sink/otel"
)

// otlpOptions are the flags that say where a relay sends spans.
type otlpOptions struct {
	endpoint string // empty: nowhere
	insecure bool
	sample   float64
}

func (o *otlpOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.endpoint, "otlp-endpoint", "", "send spans there: HOST:4317 for gRPC, http://HOST:4318 or https:// for HTTP (default: nowhere)")
	f.BoolVar(&o.insecure, "otlp-insecure", false, "gRPC without TLS")
	f.Float64Var(&o.sample, "trace-sample", 1, "part of the traces that is sent, 0 to 1; what failed is sent always")
}

func (o *otlpOptions) config() otel.Config {
	return otel.Config{Endpoint: o.endpoint, Insecure: o.insecure, Ratio: o.sample, Version: version}
}

func (o *otlpOptions) validate() error {
	if o.endpoint == "" && o.insecure {
		return errors.New("--otlp-insecure: without --otlp-endpoint spans go nowhere")
	}
	if o.endpoint == "" {
		return nil
	}
	return o.config().Check()
}

// newExporter returns nil if spans go nowhere.
func newExporter(o *otlpOptions, reg prometheus.Registerer, log *slog.Logger) (*otel.Exporter, error) {
	if o.endpoint == "" {
		return nil, nil
	}
	return otel.New(o.config(), otel.Deps{Log: log, Registerer: reg})
}

// exportSpans sends what the relay hands out until the relay has ended.
func exportSpans(r *relay.Relay, e *otel.Exporter) func(context.Context) error {
	sub := r.Subscribe("otlp", 256)
	return func(ctx context.Context) error {
		sending, stop := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan error, 1)
		go func() { done <- e.Run(sending) }()
		for b := range sub.C() {
			e.Add(b.Flows)
		}
		stop()
		return <-done
	}
}
