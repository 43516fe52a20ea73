package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parallax-flow/parallax/flow"
)

const (
	rateWindow      = 60        // seconds, as Hubble's flows_rate
	namespaceWindow = time.Hour // as Hubble's GetNamespaces
	sampleMost      = 100_000   // flows looked at per second: beyond that namespaces are sampled from the newest ones
)

type namespace struct{ cluster, name string }

// sampler follows the ring for figures over time.
type sampler struct {
	live Live

	mu     sync.Mutex
	counts []sample // one a second, oldest first, at most rateWindow + 1
	seen   map[namespace]int64
	seq    uint64
	buf    []flow.Flow
}

type sample struct {
	at   time.Time
	next uint64
}

func (s *sampler) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.sample(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *sampler) sample(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, next := s.live.Bounds()
	s.counts = append(s.counts, sample{now, next})
	if len(s.counts) > rateWindow+1 {
		s.counts = slices.Delete(s.counts, 0, len(s.counts)-rateWindow-1)
	}
	s.namespaces(next)
	for n, last := range s.seen {
		if last < now.Add(-namespaceWindow).UnixNano() {
			delete(s.seen, n)
		}
	}
}

// namespaces reads what was added since the last call.
func (s *sampler) namespaces(next uint64) {
	if s.seen == nil {
		s.seen, s.buf = map[namespace]int64{}, make([]flow.Flow, batch)
	}
	if next-s.seq > sampleMost {
		s.seq = next - sampleMost
	}
	for s.seq < next {
		n, first := s.live.Read(s.seq, s.buf)
		if n == 0 {
			return
		}
		for i := range s.buf[:n] {
			f := &s.buf[i]
			for _, e := range [...]*flow.Endpoint{f.Src, f.Dst} {
				if e != nil && e.Namespace != "" {
					key := namespace{e.Cluster, e.Namespace}
					s.seen[key] = max(s.seen[key], f.Time)
				}
			}
		}
		s.seq = first + uint64(n)
	}
}

// active returns the namespaces that had flows within the window before now, in no order.
func (s *sampler) active(now time.Time) []namespace {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, next := s.live.Bounds()
	s.namespaces(next)
	var out []namespace
	for n, last := range s.seen {
		if last >= now.Add(-namespaceWindow).UnixNano() {
			out = append(out, n)
		}
	}
	return out
}

// rate is flows per second over the window, or since the start if that is shorter.
func (s *sampler) rate() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.counts) < 2 {
		return 0
	}
	first, last := s.counts[0], s.counts[len(s.counts)-1]
	return float64(last.next-first.next) / last.at.Sub(first.at).Seconds()
}
