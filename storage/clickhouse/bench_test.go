package clickhouse

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/storagetest"
)

// BenchmarkWrite gives rows/s into the embedded engine with all its views, and the size of a flow at rest.
func BenchmarkWrite(b *testing.B) {
	s, _ := newStore(b)
	const rows = 100_000
	start := time.Now().Add(-time.Hour).Truncate(time.Hour).UnixNano()
	traffic := storagetest.New(1, start, 1000)
	var batches [][]flow.Flow
	for range 4 {
		batches = append(batches, traffic.Next(nil, rows))
	}
	n, used := 0, cpuTime(b)
	b.ResetTimer()
	for b.Loop() {
		if err := s.Write(context.Background(), batches[n%len(batches)], ""); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)*rows/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/(float64(n)*rows), "cpu-ns/row")
}

// cpuTime is what the process has used so far, the engine's threads and its merges included. Unlike the time on the clock it
// says something on a machine that is shared.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkSize stores half an hour of the shop's traffic at 300 flows/s and reports bytes per flow at rest, and how long the map takes.
func BenchmarkSize(b *testing.B) { benchmarkSize(b, (*storagetest.Traffic).Next) }

// BenchmarkSizePolicies is BenchmarkSize with policies that decide on every second connection: 6 % of the records.
func BenchmarkSizePolicies(b *testing.B) {
	benchmarkSize(b, func(t *storagetest.Traffic, flows []flow.Flow, n int) []flow.Flow {
		return t.WithPolicies().Next(flows, n)
	})
}

func benchmarkSize(b *testing.B, next func(t *storagetest.Traffic, flows []flow.Flow, n int) []flow.Flow) {
	s, e := newStore(b)
	ctx := context.Background()
	start := time.Now().Add(-2 * time.Hour).Truncate(time.Hour).UnixNano()
	traffic := storagetest.New(1, start, 300)
	const rows = 500_000
	var batch []flow.Flow
	for range rows / 50_000 {
		batch = next(traffic, batch[:0], 50_000)
		if err := s.Write(ctx, batch, ""); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() { // nothing is timed: the metrics are what is reported
	}
	b.ReportMetric(0, "ns/op")
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
	for _, q := range []struct {
		name string
		span time.Duration
	}{{"map-15min-ms", 15 * time.Minute}, {"map-24h-ms", 24 * time.Hour}} {
		best := time.Hour
		for range 5 {
			t := time.Now()
			if _, err := s.Edges(ctx, query.Edges{Range: query.Range{From: start, To: start + int64(q.span)}}); err != nil {
				b.Fatal(err)
			}
			best = min(best, time.Since(t))
		}
		b.ReportMetric(float64(best.Microseconds())/1000, q.name)
	}
}
