// Package publish sends a collector's flows to the relay; flow/wire describes the protocol.
//
//	Publish --copy--> open batch --size, age--> encode --> queue --> stream
//	                                                         ^----- ack removes, reconnect sends again
//
// Publish never waits: it copies into the open batch. Order is kept. The queue is bounded in bytes; when it is full the oldest batch that was
// never sent is dropped and counted at collector.publish. A batch that was sent and not acknowledged is never dropped, because only the
// relay knows whether it arrived: counting it as lost could count it twice.
package publish

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
)

// maxFull bounds the batches that wait to be encoded; each takes about a megabyte.
const maxFull = 8

// Publisher sends flows to one relay. All methods may be called from any goroutine.
type Publisher struct {
	config Config
	full   chan struct{} // a batch is full
	queued chan struct{} // a batch was encoded, or draining began

	mu        sync.Mutex
	open      *buffer
	filled    []*buffer // to be encoded, oldest first
	spare     []*buffer
	produced  uint64
	lost      map[string]uint64    // cumulative, by stage
	untold    map[string]flow.Lost // to go out with the next batch, by stage
	queue     queue
	draining  bool // send what is there, then end
	abandoned bool // don't wait for it
	state     state
}

type state struct {
	connected bool
	err       error // why not
}

type buffer struct{ flows []flow.Flow }

// New returns a Publisher that keeps what it is given until Run sends it.
func New(config Config) *Publisher {
	config.fill()
	p := &Publisher{
		config: config, full: make(chan struct{}, 1), queued: make(chan struct{}, 1),
		open: &buffer{}, lost: make(map[string]uint64), untold: make(map[string]flow.Lost),
	}
	if config.Registerer != nil {
		config.Registerer.MustRegister(collector{p})
	}
	return p
}

// Publish takes the flows and lost records of b; it copies them. Lost records count what was lost before: it is through them that the
// relay's ledger knows.
func (p *Publisher) Publish(b *flow.Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.produced += uint64(len(b.Flows))
	for i := range b.Lost {
		p.produced += b.Lost[i].Count
		p.lose(b.Lost[i])
	}
	for rest := b.Flows; len(rest) > 0; {
		room := p.config.BatchFlows - len(p.open.flows)
		if room == 0 {
			if len(p.filled) == maxFull {
				p.lose(p.overflow(len(rest), "encoding is too slow"))
				return
			}
			p.closeOpen()
			continue
		}
		n := min(room, len(rest))
		p.open.flows = append(p.open.flows, rest[:n]...)
		rest = rest[n:]
	}
}

// closeOpen hands the open batch to the encoder. Call it with mu held.
func (p *Publisher) closeOpen() {
	p.filled = append(p.filled, p.open)
	if n := len(p.spare); n > 0 {
		p.open, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		p.open = &buffer{}
	}
	signal(p.full)
}

// lose counts l and keeps it for the next batch. Call it with mu held.
func (p *Publisher) lose(l flow.Lost) {
	p.lost[l.Stage] += l.Count
	p.tell(l)
}

// tell keeps l, which is counted already, for the next batch. Call it with mu held.
func (p *Publisher) tell(l flow.Lost) {
	l.Count += p.untold[l.Stage].Count
	l.Time = max(l.Time, p.untold[l.Stage].Time)
	p.untold[l.Stage] = l
}

func (p *Publisher) overflow(flows int, reason string) flow.Lost {
	return flow.Lost{Node: p.config.Node, Time: time.Now().UnixNano(), Stage: flow.StagePublish, Reason: reason, Count: uint64(flows)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends, and then for at most the flush timeout what was published before. It connects again, as often as need be,
// and returns nil at the end; the error is that of Config.Check.
func (p *Publisher) Run(ctx context.Context) error {
	if err := p.config.Check(); err != nil {
		return err
	}
	// The streams outlive ctx by the time for flushing.
	streams, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	connected := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		p.encode(ctx)
		p.drain()
		if !waitFor(connected, p.config.FlushTimeout) && p.abandon() {
			waitFor(connected, farewell)
		}
		stop()
		return nil
	})
	g.Go(func() error {
		defer close(connected)
		p.connect(streams)
		return nil
	})
	return g.Wait()
}

// farewell is the time for the last counters to reach the relay.
const farewell = time.Second

func waitFor(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// drain makes the stream end once everything is acknowledged.
func (p *Publisher) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	signal(p.queued)
}

// abandon counts what was never sent as lost and makes the stream end at once. It reports whether there is a stream.
func (p *Publisher) abandon() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.abandoned = true
	for _, b := range p.queue.dropUnsent() {
		p.drop(b, "the collector stopped before the relay could be reached")
	}
	signal(p.queued)
	return p.state.connected
}

// Stats describe a publisher.
type Stats struct {
	Connected    bool
	Err          error // why it is not connected, nil if that is not known
	Produced     uint64
	Acknowledged uint64            // flows that the relay handed to its consumers
	Lost         map[string]uint64 // by stage, those before the publisher included
	QueuedFlows  int               // encoded, not acknowledged
	QueuedBytes  int
}

// Stats returns the present state. Produced = Acknowledged + sum of Lost + what is in memory here or at the relay.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Connected: p.state.connected, Err: p.state.err, Produced: p.produced, Acknowledged: p.queue.acked, Lost: maps.Clone(p.lost),
		QueuedFlows: p.queue.flows, QueuedBytes: p.queue.bytes,
	}
}

func (p *Publisher) counters() wire.Counters {
	return wire.Counters{Produced: p.produced, Lost: maps.Clone(p.lost)}
}
