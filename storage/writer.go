package storage

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// WriterConfig bounds a Writer. The zero value gives the defaults.
type WriterConfig struct {
	Queue    int           // flows that wait to be written; what comes beyond is lost and counted; default 500,000
	Batch    int           // flows that are written at once; default 100,000
	Age      time.Duration // a flow waits at most this long while the store answers; default 1 s
	RetryFor time.Duration // a batch that the store does not take is given up after this time; default 10 min
	Drain    time.Duration // at the end what waits is written within this time; default 10 s
	// Lost is told of flows that will not be stored, for each node. It is called by Add and Run and must not block. May be nil.
	Lost func(flow.Lost)
}

// WriterStats is what a Writer has done since it was made. Taken = Stored + Lost + Waiting.
type WriterStats struct {
	Taken, Stored, Lost uint64
	Waiting             uint64 // in the queue or being written
	Batches, Retries    uint64
	Failing             string // last error while the store does not take a batch, else empty
}

// Writer gathers flows to batches and writes them. Add never blocks; one goroutine, that of Run, writes.
type Writer struct {
	config WriterConfig
	write  func(ctx context.Context, flows []flow.Flow, token string) error
	prefix string // of tokens, differs for each Writer
	full   chan struct{}
	spare  []flow.Flow // the last batch's memory, Run's

	mu    sync.Mutex
	queue []flow.Flow
	stats WriterStats
}

// NewWriter returns a Writer to s. It does nothing before Run.
func NewWriter(s *Store, c WriterConfig) *Writer {
	setDefault(&c.Queue, 500_000)
	setDefault(&c.Batch, 100_000)
	setDefault(&c.Age, time.Second)
	setDefault(&c.RetryFor, 10*time.Minute)
	setDefault(&c.Drain, 10*time.Second)
	if c.Lost == nil {
		c.Lost = func(flow.Lost) {}
	}
	return &Writer{config: c, write: s.db.Write, prefix: rand.Text(), full: make(chan struct{}, 1)}
}

// Add queues flows. It copies them; what they point to must not change any more.
func (w *Writer) Add(flows []flow.Flow) {
	w.mu.Lock()
	room := min(len(flows), w.config.Queue-int(w.stats.Waiting))
	for _, f := range flows[:room] {
		f.Path = slices.Clone(f.Path)
		w.queue = append(w.queue, f)
	}
	w.stats.Taken += uint64(len(flows))
	w.stats.Waiting += uint64(room)
	w.stats.Lost += uint64(len(flows) - room)
	full := len(w.queue) >= w.config.Batch
	w.mu.Unlock()
	if full {
		select {
		case w.full <- struct{}{}:
		default:
		}
	}
	w.lose(flows[room:], "the queue to the storage is full")
}

// Stats returns a snapshot.
func (w *Writer) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// Run writes until ctx ends, then what still waits, and returns nil.
func (w *Writer) Run(ctx context.Context) error {
	// Writes outlive ctx by the time to drain: the outcome of one that is broken off would be unknown.
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(w.config.Drain, cancel) })()
	tick := time.NewTicker(w.config.Age)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			w.flush(writing, 1)
		case <-w.full:
			w.flush(writing, w.config.Batch)
		}
	}
	for w.Stats().Waiting > 0 { // each turn takes a batch out, stored or lost
		w.flush(writing, 1)
	}
	return nil
}

// flush writes a batch if at least least flows wait, and then full ones as long as there are any: what comes while it
// writes waits for its turn, or a store that is slow would get ever smaller batches.
func (w *Writer) flush(ctx context.Context, least int) {
	for ; ; least = w.config.Batch {
		batch, token := w.take(least)
		if len(batch) == 0 {
			return
		}
		err := w.store(ctx, batch, token)
		w.mu.Lock()
		w.stats.Waiting -= uint64(len(batch))
		if err == nil {
			w.stats.Stored += uint64(len(batch))
		} else {
			w.stats.Lost += uint64(len(batch))
		}
		w.mu.Unlock()
		if err != nil {
			w.lose(batch, "the storage does not take them: "+err.Error())
		}
		clear(batch)
		w.spare = batch[:0]
	}
}

// take removes a batch from the queue and names it; nothing if fewer than least flows wait.
func (w *Writer) take(least int) ([]flow.Flow, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), w.config.Batch)
	if n < least {
		return nil, ""
	}
	batch := append(w.spare, w.queue[:n]...)
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	w.stats.Batches++
	return batch, fmt.Sprintf("%s-%d", w.prefix, w.stats.Batches)
}

// Bounds of the pause between two attempts.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// store writes batch, again and again until the store takes it, time is up or ctx ends. The token stays the same, so that an
// attempt whose answer was lost is not stored twice.
func (w *Writer) store(ctx context.Context, batch []flow.Flow, token string) error {
	deadline := time.Now().Add(w.config.RetryFor)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := w.write(ctx, batch, token)
		w.note(err)
		if err == nil || time.Now().Add(pause).After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// note keeps the outcome of an attempt.
func (w *Writer) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Failing = ""
	if err != nil {
		w.stats.Failing = err.Error()
		w.stats.Retries++
	}
}

// lose reports flows as lost, once for each node.
func (w *Writer) lose(flows []flow.Flow, reason string) {
	if len(flows) == 0 {
		return
	}
	counts := make(map[*flow.Node]uint64)
	for i := range flows {
		counts[flows[i].Node]++
	}
	now := time.Now().UnixNano()
	for node, n := range counts {
		w.config.Lost(flow.Lost{Node: node, Time: now, Stage: flow.StageStorage, Reason: reason, Count: n})
	}
}
