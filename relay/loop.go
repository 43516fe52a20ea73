package relay

import (
	"slices"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
	"github.com/parallax-flow/parallax/relay/ingest"
	"github.com/parallax-flow/parallax/relay/ledger"
	"github.com/parallax-flow/parallax/relay/merge"
	"github.com/parallax-flow/parallax/relay/pair"
)

// event is one thing that a stream tells the loop.
type event struct {
	stream  *ingest.Stream
	kind    eventKind
	frame   *wire.Batch
	records *ingest.Records
	count   *wire.Counters
}

type eventKind uint8

const (
	streamOpened eventKind = iota
	streamBatch
	streamCounters
	streamClosed // by the collector's wish
	streamBroken
)

// handler puts what the streams tell into the queue of the loop. It waits while the queue is full.
type handler struct{ r *Relay }

func (h handler) put(e event) error {
	select {
	case h.r.events <- e:
		return nil
	case <-e.stream.Context().Done():
		return e.stream.Context().Err()
	}
}

func (h handler) Open(s *ingest.Stream) error { return h.put(event{stream: s, kind: streamOpened}) }

func (h handler) Counters(s *ingest.Stream, c *wire.Counters) error {
	return h.put(event{stream: s, kind: streamCounters, count: c})
}

func (h handler) Batch(s *ingest.Stream, b *wire.Batch, records *ingest.Records) error {
	b.Data = nil // decoded: the bytes need not wait
	if records != nil && h.r.deps.Names != nil {
		h.r.deps.Names.Fill(s.Node, records.Flows) // here, on the stream's goroutine, before the loop asks whose traffic it is
	}
	return h.put(event{stream: s, kind: streamBatch, frame: b, records: records})
}

// Closed waits however long it takes: the loop runs until all streams are gone.
func (h handler) Closed(s *ingest.Stream, clean bool) {
	e := event{stream: s, kind: streamBroken}
	if clean {
		e.kind = streamClosed
	}
	h.r.events <- e
}

// Grace is how long a node whose stream broke still counts as observed: a collector comes back within that time and
// sends what it made meanwhile, so nobody else should count its traffic. A node whose collector ended the stream itself is
// not observed from then on.
const Grace = 5 * time.Second

// tick is the least time between two releases: it makes batches of what trickles.
const tick = 10 * time.Millisecond

// batchFlows is the most flows handed to the consumers at once.
const batchFlows = 4096

// loop owns the state behind the queue.
type loop struct {
	r      *Relay
	merge  *merge.Buffer[item]
	pair   *pair.Pairer
	nodes  map[nodeKey]*node
	owned  map[string]int64 // node name: observed until, Unix ns
	now    int64
	out    []flow.Flow // taken out, not yet handed out: at most batchFlows
	lost   []flow.Lost
	moved  []*node // whose flows were taken out since then
	counts counts
}

type nodeKey struct {
	name string
	boot uint64
}

// node is one boot of one collector.
type node struct {
	account   *ledger.Account
	stream    *ingest.Stream // nil while it is not connected
	next      uint64         // number of the batch that is to come
	pending   []*batch       // not acknowledged, in order of their numbers
	delivered int            // since the ledger was told
	moved     bool           // in loop.moved
	gone      int64          // when its stream ended, Unix ns
}

// batch is one that was received and whose flows wait.
type batch struct {
	node    *node
	number  uint64
	waiting int
	records *ingest.Records
}

// item is one flow in the merge buffer.
type item struct {
	flow   *flow.Flow
	batch  *batch
	ticket pair.Ticket
}

func newLoop(r *Relay) *loop {
	l := &loop{
		r: r, merge: merge.New[item](r.config.Window, r.config.Waiting), nodes: make(map[nodeKey]*node), owned: make(map[string]int64),
	}
	l.pair = pair.New(func(name string) bool { return l.owned[name] > l.now })
	return l
}

// run handles events until stop is closed, then hands out what waits, and refuses what still comes until ended is closed too.
func (l *loop) run(stop, ended <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case e := <-l.r.events:
			l.step(e, time.Now().UnixNano())
		case <-timer.C:
			l.release(time.Now().UnixNano())
		case <-stop:
			l.finish(ended)
			return
		case <-ended:
			l.finish(ended)
			return
		}
		if at, ok := l.merge.Next(); ok {
			timer.Reset(max(time.Duration(at-l.now), tick))
		}
	}
}

// finish acknowledges all that was received and ends the streams. What comes behind that is not acknowledged: the collectors send it to the
// next relay.
func (l *loop) finish(ended <-chan struct{}) {
	for n := len(l.r.events); n > 0; n-- {
		l.step(<-l.r.events, time.Now().UnixNano())
	}
	l.merge.Flush(l.emit)
	l.release(time.Now().UnixNano())
	for _, n := range l.nodes {
		if n.stream != nil {
			n.stream.End(ingest.ErrStopping)
		}
	}
	for {
		select {
		case e := <-l.r.events:
			l.refuse(e)
		case <-ended:
			for len(l.r.events) > 0 {
				l.refuse(<-l.r.events)
			}
			return
		}
	}
}

func (l *loop) refuse(e event) {
	switch e.kind {
	case streamOpened:
		e.stream.End(ingest.ErrStopping)
	case streamClosed, streamBroken:
		l.closed(e.stream, e.kind == streamClosed)
	}
}

// step releases what is due, then takes e.
func (l *loop) step(e event, now int64) {
	l.release(now)
	switch e.kind {
	case streamOpened:
		l.opened(e.stream)
	case streamBatch:
		l.batch(e)
	case streamCounters:
		if n := l.current(e.stream); n != nil {
			if err := n.account.Report(e.count); err != nil {
				e.stream.End(err)
			}
		}
	case streamClosed, streamBroken:
		l.closed(e.stream, e.kind == streamClosed)
	}
}

func (l *loop) opened(s *ingest.Stream) {
	key := nodeKey{s.Node.Name, s.Node.Boot}
	for k, other := range l.nodes {
		if k.name != key.name {
			if other.stream == nil && l.now-other.gone > int64(ledger.Keep) {
				delete(l.nodes, k)
			}
			continue
		}
		if other.stream != nil {
			other.stream.End(ledger.ErrClosed)
			other.stream = nil
		}
		if k != key {
			delete(l.nodes, k) // its batches hold on to it until they are through
		}
	}
	n := l.nodes[key]
	if n == nil {
		n = &node{next: 1}
		l.nodes[key] = n
	}
	n.stream = s
	n.account = l.r.book.Connect(s.Node, s.Hello.Version, s.Hello.Acked, l.now)
	n.next = max(n.next, s.Hello.First)
	l.owned[key.name] = forever
	n.acknowledge()
	l.r.log.Info("collector connected", "node", s.Node.Name, "address", s.Peer, "version", s.Hello.Version)
}

const forever = 1<<63 - 1

// current returns the node that s speaks for, nil if another stream has taken its place.
func (l *loop) current(s *ingest.Stream) *node {
	n := l.nodes[nodeKey{s.Node.Name, s.Node.Boot}]
	if n == nil || n.stream != s {
		return nil
	}
	return n
}

func (l *loop) closed(s *ingest.Stream, clean bool) {
	n := l.current(s)
	if n == nil {
		return
	}
	n.stream, n.gone = nil, l.now
	n.account.Disconnect(l.now)
	l.owned[s.Node.Name] = l.now + int64(Grace)
	if clean {
		delete(l.owned, s.Node.Name)
	}
	l.r.log.Info("collector disconnected", "node", s.Node.Name, "address", s.Peer, "clean", clean)
}

func (l *loop) batch(e event) {
	free := func() {
		if e.records != nil {
			e.records.Free()
		}
	}
	n := l.current(e.stream)
	if n == nil {
		free()
		return
	}
	switch number := e.frame.Number; {
	case number < n.next:
		l.counts.duplicates += uint64(e.frame.Flows)
		free()
		n.acknowledge()
		return
	case number > n.next:
		free()
		e.stream.End(wire.ErrMalformed)
		return
	}
	if err := n.account.Receive(&e.frame.Counters, e.frame.Flows); err != nil {
		l.r.log.Warn("collector refused", "node", e.stream.Node.Name, "error", err)
		free()
		e.stream.End(err)
		return
	}
	n.next++
	b := &batch{node: n, number: e.frame.Number, records: e.records}
	n.pending = append(n.pending, b)
	l.counts.received += uint64(e.frame.Flows)
	if e.records == nil {
		n.account.Lose(flow.StageRelayIngest, e.frame.Flows)
		l.lost = append(l.lost, flow.Lost{
			Node: e.stream.Node, Time: l.now, Stage: flow.StageRelayIngest, Reason: "batch could not be decoded", Count: uint64(e.frame.Flows),
		})
		n.acknowledge()
		return
	}
	l.take(b)
}

// take puts the records of b into the merge buffer.
func (l *loop) take(b *batch) {
	flows := b.records.Flows
	b.waiting = len(flows)
	l.lost = append(l.lost, b.records.Lost...)
	for i := range flows {
		f := &flows[i]
		l.merge.Add(f.Time, l.now, item{flow: f, batch: b, ticket: l.pair.Join(f)})
	}
	if b.waiting == 0 {
		b.done()
		b.node.acknowledge()
	}
	l.release(l.now)
}

// done frees the memory of a batch whose flows are all through.
func (b *batch) done() {
	b.records.Free()
	b.records = nil
}

// release hands out what is due at time now.
func (l *loop) release(now int64) {
	if now < l.now-int64(l.r.config.Window) {
		// The clock was set back. What waits can't be compared with what is to come.
		l.merge.Flush(l.emit)
		l.now = now
	}
	l.now = max(l.now, now)
	l.merge.Release(l.now, l.emit)
	l.handOut()
	l.counts.merge, l.counts.pair, l.counts.waiting = l.merge.Stats(), l.pair.Stats(), l.merge.Len()
	l.r.metrics.set(&l.counts)
}

// emit takes one flow out of the merge buffer.
func (l *loop) emit(it item) {
	f, b := it.flow, it.batch
	if l.pair.Settle(it.ticket, f) {
		if len(l.out) == batchFlows {
			l.handOut()
		}
		l.out = append(l.out, *f)
		l.counts.delay.observe(l.now - f.Time)
	}
	b.node.delivered++
	if !b.node.moved {
		b.node.moved = true
		l.moved = append(l.moved, b.node)
	}
	if b.waiting--; b.waiting == 0 {
		b.done()
	}
}

// handOut gives what was taken out to ring and consumers and acknowledges it. The consumers share a copy of just the right size.
func (l *loop) handOut() {
	if len(l.out) > 0 || len(l.lost) > 0 {
		l.r.ring.Add(l.out)
		l.r.hub.Publish(flow.Batch{Flows: slices.Clone(l.out), Lost: l.lost}, l.now)
		l.counts.sent += uint64(len(l.out))
		l.out, l.lost = l.out[:0], nil
	}
	for i, n := range l.moved {
		n.acknowledge()
		n.moved, l.moved[i] = false, nil
	}
	l.moved = l.moved[:0]
}

// acknowledge tells the collector, and the ledger, how far its batches are through.
func (n *node) acknowledge() {
	done := 0
	for done < len(n.pending) && n.pending[done].records == nil {
		done++
	}
	n.pending = slices.Delete(n.pending, 0, done)
	if n.delivered > 0 {
		n.account.Deliver(n.delivered)
		n.delivered = 0
	}
	if n.stream != nil {
		first := n.next
		if len(n.pending) > 0 {
			first = n.pending[0].number
		}
		n.stream.Ack(first - 1)
	}
}
