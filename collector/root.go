// Package collector is the node agent. It reads what the datapath saw, joins requests with responses, names both ends,
// keeps the newest flows for its own Observer API and pushes all of them to the relay.
//
// One goroutine per node runs probe, decode, l7, enrich, ring and publish over batches: nothing on that path waits or
// locks, and records leave in the order of their events but for exchanges, which leave with their response. What is lost
// is counted by stage: see Ledger.
package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parallax-flow/parallax/collector/decode"
	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/collector/enrich"
	"github.com/parallax-flow/parallax/collector/l7"
	"github.com/parallax-flow/parallax/collector/probe"
	"github.com/parallax-flow/parallax/collector/publish"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/flow/ring"
)

// Config of a Collector. Zero values of the parts are their defaults.
type Config struct {
	Node     *flow.Node // required
	RingSize int        // flows kept for the Observer API; default 65536
	Confined bool       // report only drops in the node's own network namespace and its pods', not in all of the machine
	Probe    probe.Config
	Enforce  enforce.Config // Node and NetNS are those of Node and Probe
	L7       l7.Config
	Enrich   enrich.Config
	Publish  publish.Config
}

// Deps of a Collector.
type Deps struct {
	Sources  []meta.Source
	Policies []enforce.PolicySource
	Log      *slog.Logger
}

// Collector observes one node.
type Collector struct {
	cfg     Config
	log     *slog.Logger
	probe   *probe.Probe
	enforce *enforce.Enforcer
	decoder *decode.Decoder
	tracker *l7.Tracker
	enrich  *enrich.Enricher
	ring    *ring.Ring
	publish *publish.Publisher
	local   *locals
	ready   chan struct{}
	begun   int64 // Unix ns

	// Owned by the pipeline's goroutine.
	batch   flow.Batch
	seq     uint64
	expired int64 // wall clock ns of the last look for requests without response
	lost    map[string]uint64

	undecoded uint64

	tracked atomic.Pointer[l7.Stats] // a copy for others than the pipeline
}

const (
	batchSize      = 1024
	defaultRing    = 1 << 16
	expireInterval = int64(time.Second)
)

// New returns a Collector that does nothing yet.
func New(cfg Config, deps Deps) (*Collector, error) {
	if cfg.Node == nil {
		return nil, errors.New("collector: no node given")
	}
	if cfg.RingSize == 0 {
		cfg.RingSize = defaultRing
	}
	cfg.Enforce.Node, cfg.Enforce.NetNS = cfg.Node.Name, cfg.Probe.NetNS
	if err := cfg.Enforce.Validate(); err != nil {
		return nil, err
	}
	log := deps.Log.With("node", cfg.Node.Name)
	if cfg.Enforce.Logger == nil {
		cfg.Enforce.Logger = log
	}
	datapath := probe.New(cfg.Probe)
	enforcer := enforce.New(cfg.Enforce, datapath, deps.Policies...)
	decoder, err := decode.New(decode.Config{Node: cfg.Node, Policy: enforcer.Decision})
	if err != nil {
		return nil, err
	}
	cfg.L7.Node = cfg.Node
	cfg.Enrich.Node = cfg.Node.Name
	c := &Collector{
		cfg:     cfg,
		log:     log,
		probe:   datapath,
		enforce: enforcer,
		decoder: decoder,
		tracker: l7.New(cfg.L7),
		ring:    ring.New(cfg.RingSize),
		lost:    map[string]uint64{},
		ready:   make(chan struct{}),
		begun:   time.Now().UnixNano(),
	}
	c.local = newLocals(cfg.Node.Name, cfg.Probe.NetNS, cfg.Confined, c.probe)
	sources := make([]meta.Source, len(deps.Sources))
	for i, s := range deps.Sources {
		sources[i] = tap{enforcer.Tap(s), c.local.update}
	}
	c.enrich = enrich.New(cfg.Enrich, sources...)
	cfg.Publish.Node = cfg.Node
	c.publish = publish.New(cfg.Publish)
	return c, nil
}

// Ring holds the newest flows, for the Observer API.
func (c *Collector) Ring() *ring.Ring { return c.ring }

// Run observes until ctx ends. It returns the first failure of a part, nil on cancel. The publisher outlives the
// pipeline, so that what was seen before the end is sent.
func (c *Collector) Run(ctx context.Context) error {
	if err := c.local.begin(); err != nil {
		return err
	}
	sendCtx, sent := context.WithCancel(context.WithoutCancel(ctx))
	sending := make(chan error, 1)
	go func() { sending <- c.publish.Run(sendCtx) }()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.enrich.Run(gctx) })
	probeCtx, released := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer released() // the last verdicts are read: nothing is dropped unseen
		return c.enforce.Run(gctx)
	})
	g.Go(func() error {
		select {
		case <-c.enrich.Ready(): // else the first flows would have no names
			return c.probe.Run(probeCtx, c.record, c.flush)
		case <-gctx.Done():
			return nil
		}
	})
	g.Go(func() error { return c.await(gctx) })
	err := g.Wait()
	c.flush()
	sent()
	if perr := <-sending; err == nil {
		err = perr
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collector %s: %w", c.cfg.Node.Name, err)
	}
	return nil
}

// await closes ready when all parts are.
func (c *Collector) await(ctx context.Context) error {
	for _, part := range [...]<-chan struct{}{c.probe.Ready(), c.enforce.Ready()} {
		select {
		case <-part:
		case <-ctx.Done():
			return nil
		}
	}
	close(c.ready)
	return nil
}

// record takes one kernel record in.
func (c *Collector) record(rec []byte) {
	before := len(c.batch.Flows)
	if err := c.decoder.Decode(rec, &c.batch, c.segment); err != nil {
		c.undecoded++
		return
	}
	if n := len(c.batch.Flows); n > before && c.batch.Flows[n-1].Kind == flow.KindClose {
		c.tracker.Closed(&c.batch.Flows[n-1])
	}
	if len(c.batch.Flows) >= batchSize {
		c.deliver()
	}
}

func (c *Collector) segment(s *l7.Segment) { c.tracker.Segment(s, &c.batch) }

// flush hands on what has come together. The probe calls it when the rings are drained, and at least every 20 ms.
func (c *Collector) flush() {
	if now := time.Now().UnixNano(); now-c.expired >= expireInterval {
		c.expired = now
		c.tracker.Expire(now, &c.batch)
		c.account(now)
		tracked := c.tracker.Stats()
		c.tracked.Store(&tracked)
	}
	if len(c.batch.Flows) > 0 || len(c.batch.Lost) > 0 {
		c.deliver()
	}
}

func (c *Collector) deliver() {
	c.enrich.Enrich(&c.batch)
	for i := range c.batch.Flows {
		c.seq++
		c.batch.Flows[i].Seq = c.seq
	}
	c.ring.Add(c.batch.Flows)
	c.publish.Publish(&c.batch)
	c.batch.Reset()
}

// account puts a Lost record into the batch for each stage whose count grew.
func (c *Collector) account(now int64) {
	s := c.probe.Stats()
	for _, l := range [...]flow.Lost{
		{Stage: flow.StageKernelRing, Count: s.LostRing, Reason: "ring buffer full: the collector could not keep up"},
		{Stage: flow.StageDecode, Count: c.undecoded, Reason: "kernel record of unknown version or shape"},
	} {
		if l.Count > c.lost[l.Stage] {
			total := l.Count
			l.Node, l.Time, l.Count = c.cfg.Node, now, total-c.lost[l.Stage]
			c.lost[l.Stage] = total
			c.batch.Lost = append(c.batch.Lost, l)
		}
	}
}

// Ledger is the account of this boot as the collector knows it: Delivered is what the relay has acknowledged.
func (c *Collector) Ledger() flow.NodeLedger {
	s := c.publish.Stats()
	l := flow.NodeLedger{Node: c.cfg.Node, Connected: s.Connected, Since: c.begun, Produced: s.Produced, Delivered: s.Acknowledged, Lost: s.Lost}
	l.InFlight = s.Produced - s.Acknowledged
	for _, n := range s.Lost {
		l.InFlight -= n
	}
	return l
}

// Stats are the counters of a collector's parts.
type Stats struct {
	Probe   probe.Stats
	Enforce enforce.Stats
	L7      l7.Stats // as of the last second
}

// Stats may be called at any time from any goroutine.
func (c *Collector) Stats() Stats {
	s := Stats{Probe: c.probe.Stats(), Enforce: c.enforce.Stats()}
	if tracked := c.tracked.Load(); tracked != nil {
		s.L7 = *tracked
	}
	return s
}

// Ready is closed when the datapath is loaded and attached, and policy was put into force or could not be, which
// Stats().Enforce says. While a source of policies or metadata does not answer nothing is in force, and this stays open.
func (c *Collector) Ready() <-chan struct{} { return c.ready }
