package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/relay"
	"github.com/parallax-flow/parallax/relay/fanout"
	"github.com/parallax-flow/parallax/storage"
	"github.com/parallax-flow/parallax/ui/api"
)

// newNode names a node for this boot of its collector.
func newNode(name, cluster string) (*flow.Node, error) {
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name of this host: %w: give one with --node-name", err)
		}
		name = host
	}
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return &flow.Node{Name: name, Cluster: cluster, Boot: binary.NativeEndian.Uint64(b[:]) | 1}, nil
}

// listen opens a port for what, before anything else is made: a busy one is a person's mistake, told in one line.
func listen(what, address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen for %s on %s: address already in use: is Parallax running already? choose another with --%s", what, address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w: choose another with --%s", what, err, flag)
	}
	return l, nil
}

// openStorage opens url; empty means the embedded engine under data.
func openStorage(ctx context.Context, url, data string) (*storage.Store, string, error) {
	url = cmp.Or(url, "embedded:"+filepath.Join(data, "clickhouse"))
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := storage.Open(ctx, url, storage.Options{})
	return s, storage.Redact(url), err
}

// newRegistry returns a registry with the metrics that every Go process should have.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// serveMetrics answers /metrics and /healthz on l until ctx ends.
func serveMetrics(l net.Listener, r *prometheus.Registry) func(context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // a scrape that is cut is scraped again
		defer stop()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve metrics: %w", err)
		}
		return nil
	}
}

// storeFlows writes what the relay hands out to the store until the relay has ended. What a full queue loses goes to lost.
func storeFlows(r *relay.Relay, w *storage.Writer, lost *unstored) func(context.Context) error {
	sub := r.Subscribe("storage", 256)
	return func(ctx context.Context) error {
		writing, stop := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan error, 1)
		go func() { done <- w.Run(writing) }()
		for b := range sub.C() {
			w.Add(b.Flows)
			for _, l := range b.Lost {
				if l.Stage == fanout.Stage {
					lost.add(l)
				}
			}
		}
		stop()
		return <-done
	}
}

// showFlows feeds the live view until the relay has ended.
func showFlows(r *relay.Relay, live *api.Live) func(context.Context) error {
	sub := r.Subscribe("ui", 256)
	return func(context.Context) error {
		for b := range sub.C() {
			live.Add(b.Flows)
		}
		return nil
	}
}

// newLogger logs to standard error, for people.
func newLogger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}
