// Package storage keeps flows and answers questions about them: in a ClickHouse server, in the ClickHouse engine inside this
// process, or in memory. The URL decides, the answers are the same.
//
// A Store writes when it is told to; a Writer gathers flows to batches, repeats what fails and counts what is lost.
package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/clickhouse"
	"github.com/parallax-flow/parallax/storage/embedded"
	"github.com/parallax-flow/parallax/storage/memory"
	"github.com/parallax-flow/parallax/storage/remote"
)

// Options are what a store may keep and use. The zero value gives the defaults.
type Options struct {
	RawTTL         time.Duration // how long flows are kept, whole days; default 7 days
	RollupTTL      time.Duration // how long the map is kept, whole days; default 90 days
	MaxMemory      int64         // bytes that the embedded engine may use; default 2 GiB
	MaxQueryMemory int64         // bytes that one query may use; default 1 GiB
	MaxQueryTime   time.Duration // default 30 s
	MemoryFlows    int           // flows that memory: keeps; default memory.DefaultCapacity
	Library        string        // path of libchdb.so; default: embedded.Library
}

func (o *Options) setDefaults() {
	const day = 24 * time.Hour
	setDefault(&o.RawTTL, 7*day)
	setDefault(&o.RollupTTL, 90*day)
	setDefault(&o.MaxMemory, 2<<30)
	setDefault(&o.MaxQueryMemory, 1<<30)
	setDefault(&o.MaxQueryTime, 30*time.Second)
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// database is a kind of store.
type database interface {
	Write(ctx context.Context, flows []flow.Flow, token string) error
	Flows(ctx context.Context, q query.Flows, yield func(*flow.Flow) bool) error
	Edges(ctx context.Context, q query.Edges) ([]query.Edge, error)
	Served(ctx context.Context, q query.Edges) ([]query.Served, error)
	Timeline(ctx context.Context, q query.Timeline) ([]query.Bucket, error)
	Detail(ctx context.Context, q query.Detail) (query.DetailResult, error)
	Groups(ctx context.Context, r query.Range) ([]string, error)
	Namespaces(ctx context.Context, r query.Range) ([]string, error)
	Oldest(ctx context.Context) (int64, error)
	Close() error
}

// Store is an open store. It is safe for concurrent use.
type Store struct{ db database }

// Open opens the store that url names: "embedded:DIR", "clickhouse://user:pass@host:9000/db" or "memory:". It makes what is
// missing: the directory, the database, the tables. An error is one line that says what is wrong with what.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	o.setDefaults()
	target, err := parse(url)
	if err != nil {
		return nil, err
	}
	config := clickhouse.Config{RawTTL: o.RawTTL, RollupTTL: o.RollupTTL, MaxQueryMemory: o.MaxQueryMemory, MaxQueryTime: o.MaxQueryTime}
	switch target := target.(type) {
	case embedded.Config:
		if target.Library = o.Library; target.Library == "" {
			if target.Library, err = embedded.Library(""); err != nil {
				return nil, err
			}
		}
		target.MaxMemory = o.MaxMemory
		engine, err := embedded.Open(ctx, target)
		if err != nil {
			return nil, err
		}
		return open(clickhouse.Open(ctx, engine, config))
	case remote.Config:
		engine, err := remote.Open(ctx, target)
		if err != nil {
			return nil, err
		}
		return open(clickhouse.Open(ctx, engine, config))
	}
	return &Store{memory.New(o.MemoryFlows)}, nil
}

func open(db *clickhouse.Store, err error) (*Store, error) {
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return &Store{db}, nil
}

// Write stores flows before it returns.
func (s *Store) Write(ctx context.Context, flows []flow.Flow) error {
	return s.db.Write(ctx, flows, "")
}

// Flows calls yield for each flow that q asks for, in order of time, until yield returns false. The Flow is yield's only
// during the call; what it points to may be kept.
func (s *Store) Flows(ctx context.Context, q query.Flows, yield func(*flow.Flow) bool) error {
	return s.db.Flows(ctx, q, yield)
}

// Edges returns the map of q.Range, sorted by source and destination. A range up to 15 minutes is exact, a longer one is
// widened to whole minutes. Of q.Filter a map knows groups, workloads, verdict, drop reason, policy, protocol, failure, and
// text in names, drop reasons and policies; a filter with other fields is answered record by record, in time proportional to their number.
func (s *Store) Edges(ctx context.Context, q query.Edges) ([]query.Edge, error) {
	return s.db.Edges(ctx, q)
}

// Served returns the latency of what each node of the map answered, whoever asked, sorted by node; nodes that answered
// nothing are left out. Range and filter are as for Edges.
func (s *Store) Served(ctx context.Context, q query.Edges) ([]query.Served, error) {
	return s.db.Served(ctx, q)
}

// Timeline returns the counts of each step of q, also where they are 0: at most 5000. Steps begin at multiples of q.Step.
// Ranges and filters are as for Edges.
func (s *Store) Timeline(ctx context.Context, q query.Timeline) ([]query.Bucket, error) {
	return s.db.Timeline(ctx, q)
}

// Detail returns what an edge or a node is made of. Steps are as for Timeline, ranges and filters as for Edges. Resources are
// given as routes, with {id} for what differs from one exchange to the next.
func (s *Store) Detail(ctx context.Context, q query.Detail) (query.DetailResult, error) {
	return s.db.Detail(ctx, q)
}

// Groups returns the groups of the map that have traffic in r, sorted: namespaces, "host NAME", "world".
func (s *Store) Groups(ctx context.Context, r query.Range) ([]string, error) {
	return s.db.Groups(ctx, r)
}

// Namespaces returns the Kubernetes namespaces that have flows in r, sorted.
func (s *Store) Namespaces(ctx context.Context, r query.Range) ([]string, error) {
	return s.db.Namespaces(ctx, r)
}

// Oldest returns the time of the oldest stored flow, Unix ns; 0 if there is none.
func (s *Store) Oldest(ctx context.Context) (int64, error) { return s.db.Oldest(ctx) }

// Close waits for running calls and releases what the store holds. All that was written is kept.
func (s *Store) Close() error { return s.db.Close() }
