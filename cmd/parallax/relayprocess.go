package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble/server"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/flow/metrics"
	"github.com/parallax-flow/parallax/internal/lifecycle"
	"github.com/parallax-flow/parallax/relay"
	"github.com/parallax-flow/parallax/relay/names"
	"github.com/parallax-flow/parallax/relay/sink/otel"
	"github.com/parallax-flow/parallax/storage"
	"github.com/parallax-flow/parallax/ui/api"
)

// relayOptions are the flags of a relay.
type relayOptions struct {
	ingest  string
	listen  string
	metrics string
	storage string
	data    string
	window  time.Duration
	ring    int
	series  int // of each metric
	otlp    otlpOptions
	names   kubernetes // of the pods that a collector does not know
	cluster string     // whose nodes' flows these names are for; empty: all
}

func (o *relayOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.ingest, "ingest-listen", "127.0.0.1:4246", "address at which collectors push")
	f.StringVar(&o.listen, "listen", "127.0.0.1:4245", "address of the relay's Observer API")
	f.StringVar(&o.metrics, "relay-metrics", "127.0.0.1:9966", "address of the relay's /metrics")
	f.StringVar(&o.storage, "storage", "", "embedded:DIR, clickhouse://user:password@host:9000/database or memory: (default: embedded under --data)")
	f.StringVar(&o.data, "data", "data", "folder for what is stored")
	f.DurationVar(&o.window, "merge-window", relay.DefaultWindow, "how long a flow waits for those of other nodes: 50ms to 10s")
	f.IntVar(&o.ring, "relay-ring", relay.DefaultRingSize, "flows that the relay keeps in memory for live queries")
	o.otlp.register(f)
}

func (o *relayOptions) config() relay.Config {
	return relay.Config{Listen: o.ingest, Window: o.window, RingSize: o.ring}
}

func (o *relayOptions) validate() error {
	if err := cmp.Or(o.config().Check(), o.otlp.validate(), o.names.validate()); err != nil {
		return err
	}
	if o.storage != "" {
		if err := storage.Check(o.storage); err != nil {
			return err
		}
	}
	return checkSeries(o.series)
}

// relayProcess is a relay with its storage and what serves it.
type relayProcess struct {
	relay   *relay.Relay
	store   *storage.Store
	storeAt string
	writer  *storage.Writer
	live    *api.Live
	server  *server.Server
	reg     *prometheus.Registry
	counts  *metrics.Metrics
	spans   *otel.Exporter // nil: they go nowhere
	names   *meta.Directory
	sources []meta.Source // of names
	ingest  net.Listener
	api     net.Listener
	metrics net.Listener
	rate    rateMeter
	oldest  atomic.Int64 // first stored flow, Unix ns

	unstored unstored
}

// newRelay opens ports first and the storage last: a busy port must not leave a store behind.
func newRelay(ctx context.Context, o *relayOptions, log *slog.Logger) (p *relayProcess, err error) {
	p = &relayProcess{live: api.NewLive(), reg: newRegistry()}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.ingest, err = listen("collectors", o.ingest, "ingest-listen"); err != nil {
		return p, err
	}
	if p.api, err = listen("the Observer API", o.listen, "listen"); err != nil {
		return p, err
	}
	if p.metrics, err = listen("the relay's metrics", o.metrics, "relay-metrics"); err != nil {
		return p, err
	}
	if p.spans, err = newExporter(&o.otlp, p.reg, log); err != nil {
		return p, err
	}
	if p.store, p.storeAt, err = openStorage(ctx, o.storage, o.data); err != nil {
		return p, err
	}
	p.names = meta.NewDirectory(meta.Config{})
	p.sources = o.names.sources("", o.cluster, log)
	p.relay = relay.New(o.config(), relay.Deps{Log: log, Registerer: p.reg, Listener: p.ingest, Names: names.New(p.names, o.cluster)})
	p.writer = storage.NewWriter(p.store, storage.WriterConfig{Lost: p.unstored.add})
	p.counts = metrics.New(metrics.Config{MaxSeries: o.series}, p.reg)
	registerWriter(p.reg, p.writer)
	p.server = server.New(server.Config{Version: "parallax " + version, Live: p.relay.Ring(), History: p.store, Ledger: p.ledger})
	return p, nil
}

// start runs the relay on stack: consumers first, so that they are there before the first flow and end after the last.
func (p *relayProcess) start(stack *lifecycle.Stack) {
	stack.Go("storage writer", storeFlows(p.relay, p.writer, &p.unstored))
	stack.Go("live view", showFlows(p.relay, p.live))
	if p.spans != nil {
		stack.Go("spans", exportSpans(p.relay, p.spans))
	}
	stack.Go("counters", countFlows(p.relay, p.counts))
	stack.Go("relay", p.relay.Run)
	p.learn(stack, p.sources...)
	stack.Go("oldest", p.watchOldest)
	stack.Go("rate", p.rate.run(func() uint64 { return delivered(p.relay.Ledger()) }))
	stack.Go("observer", func(ctx context.Context) error { return p.server.Run(ctx, p.api) })
	stack.Go("relay metrics", serveMetrics(p.metrics, p.reg))
}

// learn makes the relay know the names that sources tell.
func (p *relayProcess) learn(stack *lifecycle.Stack, sources ...meta.Source) {
	if len(sources) > 0 {
		stack.Go("names", func(ctx context.Context) error { return p.names.Run(ctx, sources...) })
	}
}

// close gives back what newRelay opened, if nothing was started.
func (p *relayProcess) close() {
	for _, l := range []net.Listener{p.ingest, p.api, p.metrics} {
		if l != nil {
			_ = l.Close() // nothing was served yet
		}
	}
	if p.store != nil {
		_ = p.store.Close() // the error that brought us here matters more
	}
}

// ledger is the relay's account, with what did not reach the storage taken from what was delivered.
func (p *relayProcess) ledger() []flow.NodeLedger {
	all := p.relay.Ledger()
	for i := range all {
		p.unstored.settle(&all[i])
	}
	return all
}

func (p *relayProcess) status() api.Status {
	s := pageStatus(p.ledger(), p.storeAt, p.rate.perSecond())
	s.Error = p.writer.Stats().Failing
	s.Oldest = p.oldest.Load() / 1e6
	return s
}

// watchOldest asks the store now and then how far back it reaches.
func (p *relayProcess) watchOldest(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		if t, err := p.store.Oldest(ctx); err == nil { // else the writer's error tells
			p.oldest.Store(t)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// farewell says at the end what became of all records.
func (p *relayProcess) farewell() string {
	var produced, delivered, lost uint64
	for _, n := range p.ledger() {
		produced += n.Produced
		delivered += n.Delivered
		for _, l := range n.Lost {
			lost += l
		}
	}
	return fmt.Sprintf("parallax: %d records produced, %d delivered, %d lost", produced, delivered, lost)
}
