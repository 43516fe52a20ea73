// Package clickhouse keeps flows in ClickHouse, be it a server or the engine in this process: one schema, one dialect, one
// codec. Writes are synchronous; a batch that is written again with the same token is stored once. Queries carry limits on
// time and memory.
package clickhouse

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
)

// engine runs statements. Parameters are in ClickHouse's TabSeparated escapes.
type engine interface {
	Exec(ctx context.Context, sql string, params map[string]string) error
	// Select calls block after each block of rows was decoded into columns.
	Select(ctx context.Context, sql string, params map[string]string, columns proto.Result, block func() error) error
	// Insert writes one block; settings is the list of a SETTINGS clause.
	Insert(ctx context.Context, table, settings string, input proto.Input) error
	Close() error
}

// Config is what a Store may keep and use.
type Config struct {
	RawTTL, RollupTTL time.Duration // how long flows and the map are kept; whole days, at least one
	MaxQueryMemory    int64         // bytes, for each query
	MaxQueryTime      time.Duration
}

// Store is a ClickHouse database of flows. It is safe for concurrent use.
type Store struct {
	engine   engine
	config   Config
	settings string // of each query

	mu      sync.Mutex // guards encoder
	encoder *encoder
}

// Open brings the schema of the database behind e up to date. It owns e from then on, also
// where it fails.
func Open(ctx context.Context, e engine, c Config) (*Store, error) {
	s := &Store{engine: e, config: c, encoder: newEncoder()}
	s.settings = fmt.Sprintf(" SETTINGS max_memory_usage = %d, max_bytes_before_external_sort = %d, max_execution_time = %.3f, "+
		"max_threads = 2",
		c.MaxQueryMemory, c.MaxQueryMemory/2, c.MaxQueryTime.Seconds())
	if err := s.migrate(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return s, nil
}

// Close releases the engine.
func (s *Store) Close() error { return s.engine.Close() }

// insertSettings make a repeated batch harmless: each table, and each one behind a view, knows the tokens of the last thousand.
const insertSettings = "insert_deduplicate = 1, deduplicate_blocks_in_dependent_materialized_views = 1, max_threads = 1, insert_deduplication_token = '%s'"

// Write stores flows before it returns. token names the batch; it is up to 64 letters, digits and dashes, and a batch that
// was stored before with the same token is not stored again. An empty token stores always.
func (s *Store) Write(ctx context.Context, flows []flow.Flow, token string) error {
	if len(flows) == 0 {
		return nil
	}
	if token == "" { // without one the engine would name each block by a hash of all that it holds: slower, and equal batches would be one
		token = rand.Text()
	}
	if len(token) > 64 || strings.ContainsFunc(token, func(r rune) bool {
		return !(r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		return fmt.Errorf("%q is not a token of up to 64 letters, digits and dashes", token)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engine.Insert(ctx, "flows_in", fmt.Sprintf(insertSettings, token), s.encoder.encode(flows))
}

// query runs sql, a SELECT without SETTINGS.
func (s *Store) query(ctx context.Context, sql string, p params, columns proto.Result, block func() error) error {
	return s.engine.Select(ctx, sql+s.settings, p, columns, block)
}
