package clickhouse

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/embedded"
	"github.com/parallax-flow/parallax/storage/schema"
)

var update = flag.Bool("update", false, "write the golden files")

// TestSchema compares what the migrations make with the golden file, so that a change of the schema is seen in review.
func TestSchema(t *testing.T) {
	s, _ := newStore(t)
	var create proto.ColStr
	var got strings.Builder
	err := s.query(t.Context(), "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name", nil,
		proto.Results{{Data: &create}}, func() error {
			for i := range create.Rows() {
				q := strings.NewReplacer(" (`", " (\n    `", ", `", ",\n    `", ") ENGINE", ")\nENGINE").Replace(create.Row(i))
				got.WriteString(q + "\n\n")
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "schema.sql")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("schema (-want +got); run with -update if it is meant:\n%s", diff)
	}
}

func TestMigrate(t *testing.T) {
	s, e := newStore(t)
	ctx := t.Context()
	ttl := func(table, want string) {
		t.Helper()
		p := params{}
		sql := "SELECT count() FROM system.tables WHERE name = " + p.str(table) + " AND position(create_table_query, " + p.str(want) + ") > 0"
		if n, err := s.number(ctx, sql, p); err != nil || n != 1 {
			t.Errorf("%s has not %q: %v", table, want, err)
		}
	}
	ttl("flows", "TTL toDateTime(time) + toIntervalDay(7)")
	ttl("edges_1m", "TTL time + toIntervalDay(90)")

	c := testConfig
	c.RawTTL = 3 * 24 * time.Hour
	again, err := Open(ctx, e, c)
	if err != nil {
		t.Fatalf("opened a second time: %v", err)
	}
	ttl("flows", "TTL toDateTime(time) + toIntervalDay(3)")
	if n, err := again.number(ctx, "SELECT count() FROM parallax_migrations", nil); err != nil || n != 4 {
		t.Errorf("%d migrations noted, %v; want 4", n, err)
	}

	if err := e.Exec(ctx, "INSERT INTO parallax_migrations (version, name) VALUES (99, 'later')", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, e, c); err == nil || !strings.Contains(err.Error(), "schema version 99") {
		t.Errorf("a later database gave %v, want an error", err)
	}
}

// TestLimits proves that a query that wants too much fails and leaves the engine whole.
func TestLimits(t *testing.T) {
	s, _ := newStore(t)
	s.config.MaxQueryMemory, s.config.MaxQueryTime = 20<<20, time.Second
	small, err := Open(t.Context(), s.engine, s.config)
	if err != nil {
		t.Fatal(err)
	}
	for name, sql := range map[string]string{
		"memory": "SELECT toUInt64(length(groupArray(number))) FROM numbers(100000000)",
		"time":   "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := small.number(t.Context(), sql, nil); err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line", err)
			}
			if err := small.Write(t.Context(), []flow.Flow{full(time.Now().UnixNano())}, ""); err != nil {
				t.Errorf("write after that: %v", err)
			}
		})
	}
}

// TestEncodeAllocations: what is encoded again and again costs no memory.
func TestEncodeAllocations(t *testing.T) {
	e := newEncoder()
	flows := make([]flow.Flow, 1000)
	f := full(1)
	f.L7.Answers, f.L7.Resource = nil, "/cart"
	for i := range flows {
		flows[i] = f
		flows[i].Time += int64(i)
	}
	e.encode(flows)
	if n := testing.AllocsPerRun(10, func() { e.encode(flows) }); n > 20 {
		t.Errorf("%v allocations for 1000 flows, want none for a flow", n)
	}
}

// TestOldStore opens a store of the first release, whose upgrade to the schema with policies was broken off once: what it holds
// is still counted, and decisions are kept from then on.
func TestOldStore(t *testing.T) {
	library, err := embedded.Library("")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	e, err := embedded.Open(ctx, embedded.Config{Dir: t.TempDir(), Library: library})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	migrations, err := schema.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour).Truncate(time.Minute).UnixNano()
	p := params{}
	sql := []string{"CREATE TABLE parallax_migrations (version UInt32, name String, time DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY version"}
	for _, m := range migrations[:3] {
		sql = append(sql, m.Statements...)
	}
	sql = append(sql, "INSERT INTO parallax_migrations (version, name) SELECT number + 1, 'old' FROM numbers(3)",
		"INSERT INTO flows_in (time, kind, verdict, drop_reason, packets, src_group, src_name, dst_group, dst_name) SELECT "+p.nanos(at)+
			" + toIntervalNanosecond(number), 'drop', 'dropped', 'NO_SOCKET', 1, 'shop', 'a', 'shop', 'b' FROM numbers(5)")
	sql = append(sql, migrations[3].Statements[:3]...)
	for _, statement := range sql {
		if err := e.Exec(ctx, statement, p); err != nil {
			t.Fatalf("%v in %.80s", err, statement)
		}
	}
	s, err := Open(ctx, e, testConfig)
	if err != nil {
		t.Fatal(err)
	}
	denied := full(at + 10)
	denied.Kind, denied.Verdict, denied.L7, denied.Secondary = flow.KindDrop, flow.VerdictDropped, nil, false
	denied.Drop = &flow.Drop{Reason: flow.DropPolicyDenied}
	denied.Policy = &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "shop", Name: "x"}}}
	if err := s.Write(ctx, []flow.Flow{denied}, ""); err != nil {
		t.Fatal(err)
	}
	minute := int64(time.Minute)
	for name, r := range map[string]query.Range{"flows": {From: at, To: at + minute}, "rollup": {From: at - 20*minute, To: at + minute}} {
		edges, err := s.Edges(ctx, query.Edges{Range: r})
		if err != nil || len(edges) != 2 || edges[0].Drops != 5 || edges[0].DropReason != "NO_SOCKET" || edges[1].Drops != 6 || len(edges[1].Decisions) != 1 {
			t.Errorf("%s: %+v, %v; want 5 drops of before and 6 by one policy", name, edges, err)
		}
	}
	for _, statement := range append(slices.Clone(migrations[3].Statements), "OPTIMIZE TABLE edges_1m FINAL") {
		if err := e.Exec(ctx, statement, nil); err != nil {
			t.Errorf("again: %v in %.80s", err, statement)
		}
	}
	if n, err := s.number(ctx, "SELECT sum(drops) FROM edges_1m", nil); err != nil || n != 11 {
		t.Errorf("%d drops after a merge, %v; want 11", n, err)
	}
}
