// Package memory keeps the newest flows in memory and answers the same questions as a database does, by looking at each. When
// it is full the oldest flows go: what it held is gone at the end of the process.
package memory

import (
	"context"
	"slices"
	"sync"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/rollup"
)

// DefaultCapacity is about 100 MB of flows.
const DefaultCapacity = 200_000

// maxTokens is how many batches are remembered, so that a repeated one is not stored twice.
const maxTokens = 1000

// Store is a bounded store of flows. It is safe for concurrent use.
type Store struct {
	mu     sync.RWMutex
	ring   []flow.Flow // in order of arrival from next on, once it is full
	next   int
	tokens []string
	closed bool
}

// New returns a Store for up to capacity flows; 0 means DefaultCapacity.
func New(capacity int) *Store {
	if capacity <= 0 {
		capacity = DefaultCapacity
	}
	return &Store{ring: make([]flow.Flow, 0, capacity)}
}

// Close forgets all flows.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring, s.next, s.tokens = nil, 0, nil
	s.closed = true
	return nil
}

// Write stores flows. A batch that was stored before with the same token is not stored again; an empty token stores always.
func (s *Store) Write(_ context.Context, flows []flow.Flow, token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if token != "" {
		if slices.Contains(s.tokens, token) {
			return nil
		}
		s.tokens = append(s.tokens, token)
		if len(s.tokens) > maxTokens {
			s.tokens = slices.Delete(s.tokens, 0, len(s.tokens)-maxTokens)
		}
	}
	for _, f := range flows {
		f.Path = slices.Clone(f.Path) // it may be part of the caller's batch
		if len(s.ring) < cap(s.ring) {
			s.ring = append(s.ring, f)
			continue
		}
		s.ring[s.next] = f
		s.next = (s.next + 1) % len(s.ring)
	}
	return nil
}

// each calls visit for each flow of r that match selects, in no order.
func (s *Store) each(r query.Range, match func(*flow.Flow) bool, visit func(*flow.Flow)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.ring {
		if f := &s.ring[i]; f.Time >= r.From && f.Time < r.To && match(f) {
			visit(f)
		}
	}
}

// Flows calls yield for each flow that q asks for, in order of time, until yield returns false.
func (s *Store) Flows(ctx context.Context, q query.Flows, yield func(*flow.Flow) bool) error {
	match, err := filter.Compile(q.Filter)
	if err != nil {
		return err
	}
	var found []flow.Flow
	s.each(q.Range, match, func(f *flow.Flow) { found = append(found, *f) })
	slices.SortStableFunc(found, func(a, b flow.Flow) int {
		switch {
		case a.Time == b.Time:
			return 0
		case (a.Time < b.Time) == !q.Newest:
			return -1
		}
		return 1
	})
	if q.Limit > 0 && len(found) > q.Limit {
		found = found[:q.Limit]
	}
	for i := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !yield(&found[i]) {
			return nil
		}
	}
	return nil
}

// Edges returns the map of q.Range, sorted by source and destination.
func (s *Store) Edges(_ context.Context, q query.Edges) ([]query.Edge, error) {
	match, err := rollup.Match(q.Filter)
	if err != nil {
		return nil, err
	}
	var sum rollup.Edges
	s.each(q.Range, match, sum.Add)
	return sum.Result(), nil
}

// Served returns the latency of what each node of the map answered, sorted by node.
func (s *Store) Served(_ context.Context, q query.Edges) ([]query.Served, error) {
	match, err := rollup.Match(q.Filter)
	if err != nil {
		return nil, err
	}
	var sum rollup.Served
	s.each(q.Range, match, sum.Add)
	return sum.Result(), nil
}

// Timeline returns the counts of each step of q, also where they are 0.
func (s *Store) Timeline(_ context.Context, q query.Timeline) ([]query.Bucket, error) {
	match, err := rollup.Match(q.Filter)
	if err != nil {
		return nil, err
	}
	t, err := rollup.NewTimeline(q.Range, q.Step)
	if err != nil {
		return nil, err
	}
	s.each(q.Range, match, t.Add)
	return t.Result(), nil
}

// Detail returns what an edge or a node is made of.
func (s *Store) Detail(_ context.Context, q query.Detail) (query.DetailResult, error) {
	match, err := rollup.Match(q.Filter)
	if err != nil {
		return query.DetailResult{}, err
	}
	d, err := rollup.NewDetail(q)
	if err != nil {
		return query.DetailResult{}, err
	}
	s.each(q.Range, match, d.Add)
	return d.Result(), nil
}

// Groups returns the groups of the map that have traffic in r, sorted.
func (s *Store) Groups(_ context.Context, r query.Range) ([]string, error) {
	return s.names(r, func(e *flow.Endpoint) string { return query.KeyOf(e).Group }, func(f *flow.Flow) bool { return !f.Secondary }), nil
}

// Namespaces returns the Kubernetes namespaces that have flows in r, sorted.
func (s *Store) Namespaces(_ context.Context, r query.Range) ([]string, error) {
	return s.names(r, func(e *flow.Endpoint) string {
		if e == nil {
			return ""
		}
		return e.Namespace
	}, func(*flow.Flow) bool { return true }), nil
}

func (s *Store) names(r query.Range, name func(*flow.Endpoint) string, match func(*flow.Flow) bool) []string {
	set := make(map[string]struct{})
	s.each(r, match, func(f *flow.Flow) {
		set[name(f.Src)] = struct{}{}
		set[name(f.Dst)] = struct{}{}
	})
	delete(set, "")
	var out []string
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Oldest returns the time of the oldest flow, 0 if there is none.
func (s *Store) Oldest(context.Context) (int64, error) {
	var oldest int64
	s.each(query.Range{To: 1<<63 - 1}, func(*flow.Flow) bool { return true }, func(f *flow.Flow) {
		if oldest == 0 || f.Time < oldest {
			oldest = f.Time
		}
	})
	return oldest, nil
}
