// Package fanout hands the relay's flows to its consumers.
//
// Every consumer has a queue of its own and sees the batches in order. All of them share the same memory: a consumer must not
// change a flow, and copies what it keeps for long. A consumer whose queue is full loses whole batches; nobody
// waits for it. What it lost is counted, and the next batch that it gets begins with a Lost record that says so.
package fanout

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/parallax-flow/parallax/flow"
)

// Stage is the Stage of the Lost records that Hub makes.
const Stage = "relay.fanout"

// Hub is the point from which batches go out.
type Hub struct {
	mu     sync.Mutex
	subs   []*Subscription
	past   map[string]Stats // of consumers that are gone, by name
	closed bool
}

// Subscription is one consumer's end.
type Subscription struct {
	hub   *Hub
	name  string
	queue int
	ch    chan flow.Batch

	missed  map[lostKey]*flow.Lost // to be told; under hub.mu
	closed  bool                   // under hub.mu
	flows   atomic.Uint64
	dropped atomic.Uint64
}

type lostKey struct {
	node  *flow.Node
	stage string
}

// Stats describe the consumers of one name.
type Stats struct {
	Name    string
	Present int    // how many there are now
	Queued  int    // batches that wait
	Flows   uint64 // put into their queues
	Dropped uint64 // flows lost because a queue was full
}

// Subscribe adds a consumer with room for queue batches, at least one. It sees what is published from now on. name is a label of
// metrics: one of a few words ("storage", "ui"), not an address; several consumers may share it.
func (h *Hub) Subscribe(name string, queue int) *Subscription {
	queue = max(queue, 1)
	// One more than batches may use: the last word, about what was lost, must not be lost.
	s := &Subscription{hub: h, name: name, queue: queue, ch: make(chan flow.Batch, queue+1), missed: make(map[lostKey]*flow.Lost)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		s.closed = true
		close(s.ch)
		return s
	}
	h.subs = append(h.subs, s)
	return s
}

// C delivers batches until the subscription or the relay ends; then it is closed, behind the last batch.
func (s *Subscription) C() <-chan flow.Batch { return s.ch }

// Dropped returns how many flows were lost because the queue was full.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for i, other := range s.hub.subs {
		if other == s {
			s.hub.subs = append(s.hub.subs[:i:i], s.hub.subs[i+1:]...)
			s.hub.remember(s)
			break
		}
	}
	s.end()
}

func (s *Subscription) end() {
	if s.closed {
		return
	}
	s.closed = true
	if len(s.missed) > 0 {
		s.ch <- flow.Batch{Lost: s.tell(nil)} // into the place that is kept for it
	}
	close(s.ch)
}

// Publish hands b to all consumers. Neither b's slices nor what they point to may be changed afterwards. now is in Unix ns.
func (h *Hub) Publish(b flow.Batch, now int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		s.put(b, now)
	}
}

// Close ends all subscriptions, present and future.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, s := range h.subs {
		s.end()
		h.remember(s)
	}
	h.subs = nil
}

func (h *Hub) remember(s *Subscription) {
	if h.past == nil {
		h.past = make(map[string]Stats)
	}
	p := h.past[s.name]
	h.past[s.name] = Stats{Name: s.name, Flows: p.Flows + s.flows.Load(), Dropped: p.Dropped + s.dropped.Load()}
}

// Stats returns the sums over all consumers of one name, past and present, sorted by name.
func (h *Hub) Stats() []Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	sums := maps.Clone(h.past)
	if sums == nil {
		sums = make(map[string]Stats)
	}
	for _, s := range h.subs {
		p := sums[s.name]
		sums[s.name] = Stats{
			Name: s.name, Present: p.Present + 1, Queued: p.Queued + len(s.ch), Flows: p.Flows + s.flows.Load(), Dropped: p.Dropped + s.dropped.Load(),
		}
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b Stats) int { return strings.Compare(a.Name, b.Name) })
}

func (s *Subscription) put(b flow.Batch, now int64) {
	if len(s.ch) >= s.queue {
		s.miss(b, now)
		return
	}
	if len(s.missed) > 0 {
		b.Lost = s.tell(b.Lost)
	}
	s.ch <- b // does not block: the hub is the only sender
	s.flows.Add(uint64(len(b.Flows)))
}

// miss keeps account of a batch that had no room, and of what the batch itself had to say.
func (s *Subscription) miss(b flow.Batch, now int64) {
	if n := uint64(len(b.Flows)); n > 0 {
		s.dropped.Add(n)
		s.note(flow.Lost{Time: now, Stage: Stage, Reason: "consumer " + s.name + " is too slow", Count: n})
	}
	for _, l := range b.Lost {
		s.note(l)
	}
}

func (s *Subscription) note(l flow.Lost) {
	k := lostKey{l.Node, l.Stage}
	if known, ok := s.missed[k]; ok {
		l.Count += known.Count
	}
	s.missed[k] = &l
}

// tell returns what was missed followed by lost, in memory of its own, and forgets it.
func (s *Subscription) tell(lost []flow.Lost) []flow.Lost {
	all := make([]flow.Lost, 0, len(s.missed)+len(lost))
	for _, l := range s.missed {
		all = append(all, *l)
	}
	clear(s.missed)
	return append(all, lost...)
}
