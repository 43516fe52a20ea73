package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/collector"
	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/collector/enrich"
	"github.com/parallax-flow/parallax/collector/probe"
	"github.com/parallax-flow/parallax/collector/publish"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble/server"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/internal/lifecycle"
)

// nodeOptions are the flags of a collector.
type nodeOptions struct {
	name     string
	cluster  string
	netns    string
	listen   string // Observer API; empty: none
	metrics  string // empty: none
	interval time.Duration
	ring     int
	series   int // of each metric
	confined bool
	kubernetes
	policy enforcement
	pods   inventory
}

func (o *nodeOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.name, "node-name", "", "name of this node (default: the host name)")
	f.StringVar(&o.cluster, "cluster", "", "name of the cluster that this node belongs to")
	f.StringVar(&o.netns, "netns", "", "path of the network namespace to observe (default: the process's own)")
	f.StringVar(&o.listen, "collector-listen", "127.0.0.1:4244", "address of the collector's Observer API")
	f.StringVar(&o.metrics, "collector-metrics", "127.0.0.1:9965", "address of the collector's /metrics")
	f.DurationVar(&o.interval, "flow-interval", 5*time.Second, "report of an active connection: 100ms to 1h")
	f.IntVar(&o.ring, "collector-ring", 1<<16, "flows that the collector keeps for its Observer API")
	o.kubernetes.register(f)
	o.pods.register(f)
	o.policy.register(f)
}

func (o *nodeOptions) validate() error {
	if o.interval < 100*time.Millisecond || o.interval > time.Hour {
		return fmt.Errorf("--flow-interval %v: choose 100ms to 1h", o.interval)
	}
	if o.ring < 1 || o.ring > 1<<24 {
		return fmt.Errorf("--collector-ring %d: choose 1 to %d", o.ring, 1<<24)
	}
	_, cluster := o.kubernetes.config("any", "", nil)
	return cmp.Or(o.kubernetes.validate(), o.pods.validate(), o.policy.validate(cluster, len(o.pods.files) > 0))
}

// onNode gives the options of another node on this machine, which has no API of its own.
func (o *nodeOptions) onNode(name, cluster, netns string) nodeOptions {
	return nodeOptions{name: name, cluster: cluster, netns: netns, interval: o.interval, ring: 4096, confined: true}
}

// collectorProcess is a collector with what serves it.
type collectorProcess struct {
	*collector.Collector
	name    string
	mode    enforce.Mode
	api     net.Listener
	metrics net.Listener
	server  *server.Server
	reg     *prometheus.Registry
	count   func(context.Context) error // makes the metrics of flows
	failed  chan error
}

// newCollector opens the collector's ports; nothing is observed before start.
func newCollector(o *nodeOptions, relay string, sources []meta.Source, log *slog.Logger) (*collectorProcess, error) {
	node, err := newNode(o.name, o.cluster)
	if err != nil {
		return nil, err
	}
	mode := o.policy.parsed()
	if mode != enforce.Observe { // the peers of its pods are everywhere
		o.kubernetes.allPods, o.kubernetes.decides = true, true
	}
	api, cluster := o.kubernetes.config(node.Name, o.cluster, log)
	policies := o.policy.sources(api, cluster, log)
	sources = slices.Concat(sources, o.kubernetes.sources(node.Name, o.cluster, log), o.pods.sources(o.cluster))
	p := &collectorProcess{name: node.Name, mode: mode, reg: newRegistry(), failed: make(chan error, 1)}
	registerRefused(p.reg, policies)
	p.Collector, err = collector.New(collector.Config{
		Node: node, RingSize: o.ring, Confined: o.confined,
		Probe:   probe.Config{NetNS: o.netns, Interval: o.interval, Logger: log.With("node", node.Name)},
		Enforce: enforce.Config{Mode: mode, Own: o.policy.own},
		Enrich:  enrich.Config{Cluster: o.cluster, NetNS: o.netns, Processes: o.netns == ""},
		Publish: publish.Config{Target: relay, Version: version, Log: log.With("node", node.Name), Registerer: p.reg},
	}, collector.Deps{Sources: sources, Policies: policies, Log: log})
	if err != nil {
		return nil, err
	}
	if o.listen != "" {
		if p.api, err = listen("the collector's Observer API", o.listen, "collector-listen"); err != nil {
			return nil, err
		}
		p.server = server.New(server.Config{
			Version: "parallax " + version, Live: p.Ring(),
			Ledger: func() []flow.NodeLedger { return []flow.NodeLedger{p.Ledger()} },
		})
	}
	if o.metrics != "" {
		if p.metrics, err = listen("the collector's metrics", o.metrics, "collector-metrics"); err != nil {
			p.closePorts()
			return nil, err
		}
		p.reg.MustRegister(datapath{p.Stats})
		p.count = countObserved(p.Collector, o.series, p.reg)
	}
	return p, nil
}

func (p *collectorProcess) closePorts() {
	for _, l := range []net.Listener{p.api, p.metrics} {
		if l != nil {
			_ = l.Close() // nothing was served yet
		}
	}
}

// start runs the collector and its ports on stack.
func (p *collectorProcess) start(stack *lifecycle.Stack) {
	if p.api != nil {
		stack.Go("observer of "+p.name, func(ctx context.Context) error { return p.server.Run(ctx, p.api) })
	}
	if p.metrics != nil {
		stack.Go("metrics of "+p.name, serveMetrics(p.metrics, p.reg))
		stack.Go("counters of "+p.name, p.count)
	}
	stack.Go("collector "+p.name, func(ctx context.Context) error {
		err := p.Run(ctx)
		p.failed <- err
		return err
	})
}

// policyPatience is how long the start waits for policies of which a source does not answer. They come into force when it
// does; until then the collector observes, and its log says what it waits for.
const policyPatience = 15 * time.Second

// ready waits until the collector observes, and enforces what it should.
func (p *collectorProcess) ready(ctx context.Context) error {
	var late <-chan time.Time
	if p.mode != enforce.Observe {
		late = time.After(policyPatience)
	}
	select {
	case <-p.Ready():
		return nil
	case <-late:
		return nil
	case err := <-p.failed:
		if err == nil && ctx.Err() == nil {
			err = fmt.Errorf("collector %s ended before it was ready", p.name)
		}
		return err
	case <-ctx.Done():
		return nil
	}
}
