package clickhouse

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/storagetest"
)

// BenchmarkWrite gives rows/s into the embedded engine with all its views, and the size of a flow at rest.
func BenchmarkWrite(b *testing.B) {
	s, e := newStore(b)
	const rows = 50_000
	start := time.Now().Add(-time.Hour).Truncate(time.Hour).UnixNano()
	traffic := storagetest.New(1, start, 1000)
	var batches [][]flow.Flow
	for range 8 {
		batches = append(batches, traffic.Next(nil, rows))
	}
	n := 0
	b.ResetTimer()
	for b.Loop() {
		if err := s.Write(context.Background(), batches[n%len(batches)], ""); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)*rows/b.Elapsed().Seconds(), "rows/s")
	b.StopTimer()
	_ = e
}

// BenchmarkSize stores an hour of the shop's traffic at 300 flows/s and reports bytes per flow at rest.
func BenchmarkSize(b *testing.B) {
	s, e := newStore(b)
	ctx := context.Background()
	start := time.Now().Add(-2 * time.Hour).Truncate(time.Hour).UnixNano()
	traffic := storagetest.New(1, start, 300)
	const rows = 1_000_000
	var batch []flow.Flow
	for range rows / 50_000 {
		batch = traffic.Next(batch[:0], 50_000)
		if err := s.Write(ctx, batch, ""); err != nil {
			b.Fatal(err)
		}
	}
	for _, table := range []string{"flows", "edges_1m", "ops_1m"} {
		if err := e.Exec(ctx, "OPTIMIZE TABLE "+table+" FINAL", nil); err != nil {
			b.Fatal(err)
		}
		size, err := s.number(ctx, "SELECT toUInt64(sum(bytes_on_disk)) FROM system.parts WHERE active AND table = '"+table+"'", nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(size)/rows, table+"-B/flow")
	}
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	if os.Getenv("COLUMNS_OUT") != "" {
		var name proto.ColStr
		var size proto.ColUInt64
		s.query(ctx, "SELECT concat(table,'.',name), data_compressed_bytes FROM system.columns WHERE table in ('flows','edges_1m','ops_1m') ORDER BY data_compressed_bytes DESC LIMIT 60", nil,
			proto.Results{{Data: &name}, {Data: &size}}, func() error {
				for i := range size {
					fmt.Printf("%-30s %8.3f\n", name.Row(i), float64(size[i])/rows)
				}
				return nil
			})
	}
	for _, span := range []time.Duration{15 * time.Minute, time.Hour} {
		q := query.Edges{Range: query.Range{From: start, To: start + int64(span)}}
		t := time.Now()
		edges, err := s.Edges(ctx, q)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Println(span, len(edges), time.Since(t))
	}
}
