package clickhouse

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/storage/schema"
)

// migrate applies what the database lacks. A database of a later version is an error: older code must not write to it.
func (s *Store) migrate(ctx context.Context) error {
	migrations, err := schema.Migrations()
	if err != nil {
		return err
	}
	const applied = `CREATE TABLE IF NOT EXISTS parallax_migrations (version UInt32, name String, time DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY version`
	if err := s.engine.Exec(ctx, applied, nil); err != nil {
		return fmt.Errorf("create the table of migrations: %w", err)
	}
	done, err := s.number(ctx, "SELECT toUInt64(max(version)) FROM parallax_migrations", nil)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if done > uint64(len(migrations)) {
		return fmt.Errorf("the database has schema version %d, this program knows %d: use a newer program or another database", done, len(migrations))
	}
	for _, m := range migrations[done:] {
		for _, statement := range m.Statements {
			if err := s.engine.Exec(ctx, statement, nil); err != nil {
				return fmt.Errorf("apply %s: %w", m.Name, err)
			}
		}
		p := params{}
		sql := fmt.Sprintf("INSERT INTO parallax_migrations (version, name) SELECT toUInt32(%s), %s", p.num(int64(m.Version)), p.str(m.Name))
		if err := s.engine.Exec(ctx, sql, p); err != nil {
			return fmt.Errorf("note %s: %w", m.Name, err)
		}
	}
	return s.setTTL(ctx)
}

// setTTL makes the tables keep their rows as long as configured.
func (s *Store) setTTL(ctx context.Context) error {
	for _, t := range []struct {
		table, column string
		ttl           time.Duration
	}{
		{"flows", "toDateTime(time)", s.config.RawTTL},
		{"edges_1m", "time", s.config.RollupTTL},
		{"ops_1m", "time", s.config.RollupTTL},
	} {
		days := max(1, int(t.ttl/(24*time.Hour)))
		p := params{}
		has, err := s.number(ctx, fmt.Sprintf("SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = %s AND position(create_table_query, %s) > 0",
			p.str(t.table), p.str(fmt.Sprintf("TTL %s + toIntervalDay(%d)", t.column, days))), p)
		if err != nil {
			return fmt.Errorf("read the TTL of %s: %w", t.table, err)
		}
		if has > 0 {
			continue
		}
		sql := fmt.Sprintf("ALTER TABLE %s MODIFY TTL %s + INTERVAL %d DAY SETTINGS materialize_ttl_after_modify = 0", t.table, t.column, days)
		if err := s.engine.Exec(ctx, sql, nil); err != nil {
			return fmt.Errorf("set the TTL of %s: %w", t.table, err)
		}
	}
	return nil
}

// number runs a query whose result is one UInt64.
func (s *Store) number(ctx context.Context, sql string, p params) (n uint64, err error) {
	var c proto.ColUInt64
	err = s.query(ctx, sql, p, proto.Results{{Data: &c}}, func() error {
		n = c[0]
		return nil
	})
	return n, err
}
