// Package otel sends the exchanges that the relay has joined to an OpenTelemetry collector, Jaeger or whatever else takes OTLP, as spans.
//
// Add never blocks: it turns flows into spans and queues them, at most Config.MaxSpans. One goroutine, that of Run, sends them in batches
// and repeats what fails for a while that it can hope for, as long as it runs. While the endpoint is away the queue fills up, and
// what comes then is dropped and counted. A batch that was sent twice because its answer was lost has the same span ids again.
package otel

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/span"
)

// Exporter sends spans. Add and Stats may be called from any goroutine.
type Exporter struct {
	config Config
	log    *slog.Logger
	sender sender        // of Run
	full   chan struct{} // a batch waits

	mu    sync.Mutex
	queue []exchange
	stats Stats
}

// exchange is a flow with the spans that it makes.
type exchange struct {
	flow  flow.Flow // without its path
	spans []span.Span
}

// Stats count spans, cumulative but for Waiting. Made = Sent + Rejected + Refused + Dropped + Unsampled + Waiting.
type Stats struct {
	Made      uint64
	Sent      uint64 // taken by the endpoint
	Rejected  uint64 // left out by the endpoint of a batch that it took (partial success)
	Refused   uint64 // of batches that the endpoint will never take
	Dropped   uint64 // no room in the queue, or not sent before the end
	Unsampled uint64
	Waiting   uint64 // queued or being sent
	Retries   uint64 // attempts that failed and were repeated
	Failing   string // the last error while the endpoint takes nothing, else empty
}

// New returns an Exporter that does nothing until Run. The error is one of Config.Check.
func New(c Config, deps Deps) (*Exporter, error) {
	c.fill()
	if err := c.Check(); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	e := &Exporter{config: c, log: deps.Log, full: make(chan struct{}, 1)}
	if deps.Registerer != nil {
		e.register(deps.Registerer)
	}
	return e, nil
}

// Add queues the spans of flows. It keeps none of flows' memory but what their pointers share.
func (e *Exporter) Add(flows []flow.Flow) {
	var buf [2]span.Span
	for i := range flows {
		f := &flows[i]
		if f.Kind != flow.KindL7 {
			continue
		}
		if spans := span.Append(buf[:0], f); len(spans) > 0 {
			e.add(f, spans)
		}
	}
}

func (e *Exporter) add(f *flow.Flow, spans []span.Span) {
	n := uint64(len(spans))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Made += n
	switch {
	case !spans[0].Sampled(e.config.Ratio) && !spans[0].Failed && !spans[n-1].Failed:
		e.stats.Unsampled += n
		return
	case e.stats.Waiting+n > uint64(e.config.MaxSpans):
		e.stats.Dropped += n
		return
	}
	x := exchange{flow: *f, spans: append([]span.Span(nil), spans...)}
	x.flow.Path = nil // it shares memory with those of many other flows
	e.queue = append(e.queue, x)
	e.stats.Waiting += n
	if len(e.queue) >= e.config.Batch/2 {
		select {
		case e.full <- struct{}{}:
		default:
		}
	}
}

// Stats returns a snapshot.
func (e *Exporter) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats
}

// Run sends until ctx ends, then what still waits for at most Config.Drain, and returns nil. It can be run once.
func (e *Exporter) Run(ctx context.Context) (err error) {
	if e.sender, err = newSender(&e.config); err != nil {
		return err
	}
	defer e.sender.close()
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(e.config.Drain, cancel) })()
	tick := time.NewTicker(e.config.Age)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			e.flush(sending, ctx)
		case <-e.full:
			e.flush(sending, ctx)
		}
	}
	e.flush(sending, ctx)
	return nil
}

// flush sends all that waits. Once running has ended each batch has one attempt left, and none when ctx has.
func (e *Exporter) flush(ctx, running context.Context) {
	for {
		batch, n := e.take()
		if n == 0 {
			return
		}
		outcome := e.deliver(ctx, running, batch, n)
		e.mu.Lock()
		e.stats.Waiting -= n
		e.stats.Sent += outcome.sent
		e.stats.Rejected += outcome.rejected
		e.stats.Refused += outcome.refused
		e.stats.Dropped += outcome.dropped
		e.mu.Unlock()
	}
}

// take removes a batch from the queue and returns how many spans it has.
func (e *Exporter) take() (batch []exchange, n uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := 0
	for ; k < len(e.queue) && (n == 0 || n+uint64(len(e.queue[k].spans)) <= uint64(e.config.Batch)); k++ {
		n += uint64(len(e.queue[k].spans))
	}
	batch = append(batch, e.queue[:k]...)
	rest := copy(e.queue, e.queue[k:])
	clear(e.queue[rest:])
	e.queue = e.queue[:rest]
	return batch, n
}

// outcome is what became of the spans of one batch.
type outcome struct{ sent, rejected, refused, dropped uint64 }

// Bounds of the pause between two attempts.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 15 * time.Second
)

// deliver sends one batch of n spans until the endpoint has taken or refused it, or an attempt failed after running has ended.
func (e *Exporter) deliver(ctx, running context.Context, batch []exchange, n uint64) outcome {
	request := encode(batch, e.config.Version)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		attempt, cancel := context.WithTimeout(ctx, e.config.Timeout)
		rejected, err := e.sender.send(attempt, request)
		cancel()
		if err == nil {
			e.recovered()
			rejected = min(rejected, n)
			return outcome{sent: n - rejected, rejected: rejected}
		}
		if err.final {
			e.log.Warn("the OTLP endpoint refused spans", "endpoint", e.config.Endpoint, "spans", n, "err", err.error)
			return outcome{refused: n}
		}
		if running.Err() != nil {
			return outcome{dropped: n}
		}
		e.failed(err)
		wait := max(pause/2+rand.N(pause), err.after) // apart from other relays that failed at the same moment
		select {
		case <-time.After(wait):
		case <-running.Done():
		}
	}
}

// failed notes an attempt that is repeated, and logs the first of a row.
func (e *Exporter) failed(err *sendError) {
	e.mu.Lock()
	first := e.stats.Failing == ""
	e.stats.Failing = err.Error()
	e.stats.Retries++
	e.mu.Unlock()
	if first {
		e.log.Warn("the OTLP endpoint does not take spans, trying again", "endpoint", e.config.Endpoint, "err", err.error)
	}
}

func (e *Exporter) recovered() {
	e.mu.Lock()
	failing := e.stats.Failing != ""
	e.stats.Failing = ""
	e.mu.Unlock()
	if failing {
		e.log.Info("the OTLP endpoint takes spans again", "endpoint", e.config.Endpoint)
	}
}
