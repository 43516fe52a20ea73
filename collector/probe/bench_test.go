package probe

import (
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/bpf"
)

// BenchmarkThroughput sends over two veths by ten TCP connections each, in short turns: one veth is observed, the other is
// excluded. "ratio" is the median of observed / unobserved of neighbouring turns. Run it with -benchtime 600x: an iteration
// is one pair of turns, and a pair varies by a fifth. The drop tracepoint is attached all the time, and runs for drops alone.
func BenchmarkThroughput(b *testing.B) {
	node := newHost(b)
	r := start(b, Config{NetNS: node.path, DropScope: []uint32{node.inode()}, Interfaces: Interfaces{Exclude: []string{"plain"}}})
	// Several connections over each: one alone keeps the rate that it settled to by chance.
	const each = 10
	var c, s [2][each]*net.TCPConn
	for i, name := range []string{"plain", "observed"} {
		pod := newHost(b)
		ip, _ := join(node, pod, name, byte(i+1))
		for j := range each {
			c[i][j], s[i][j] = connect(b, pod, node, ip)
		}
	}
	eventually(b, "the interface is observed", func() bool { return r.Stats().Interfaces == 2 })
	runtime.GC() // what loading left must not be cleaned up while we measure
	for j := range each {
		transfer(b, c[0][j], s[0][j])
		transfer(b, c[1][j], s[1][j])
	}
	var plain, ratios []float64
	for b.Loop() {
		// Half of the pairs the other way round, so that a trend of the machine evens out.
		var rate [2]float64
		for i := range rate {
			i ^= len(ratios) % 2
			j := len(ratios) / 2 % each
			rate[i] = transfer(b, c[i][j], s[i][j])
		}
		plain, ratios = append(plain, rate[0]), append(ratios, rate[1]/rate[0])
	}
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(plain)/1e9*8, "Gbit/s-unobserved")
}

func median(v []float64) float64 {
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// transfer sends 128 MiB and returns the bytes per second.
func transfer(b *testing.B, c, s *net.TCPConn) float64 {
	b.Helper()
	const chunk, chunks = 128 << 10, 1 << 10
	began := time.Now()
	go func() {
		buf := make([]byte, chunk)
		for range chunks {
			if _, err := c.Write(buf); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	buf := make([]byte, chunk)
	for got := 0; got < chunk*chunks; {
		n, err := s.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
	return chunk * chunks / time.Since(began).Seconds()
}

// BenchmarkSweep makes one pass over a full table of 65,536 connections, none of them idle.
func BenchmarkSweep(b *testing.B) {
	s, flows := newFilledSweep(b)
	for name, pass := range map[string]func() error{
		"report": s.reportIdle,
		"expire": func() error {
			return s.expire(false, func([]byte) { b.Fatal("a record of a connection that is not idle") })
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(b, pass())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(flows), "ns/connection")
		})
	}
}

// newFilledSweep returns a sweep of a full flow table.
func newFilledSweep(t testing.TB) (*sweep, int) {
	t.Helper()
	requireRoot(t)
	spec, err := bpf.Plan(bpf.DefaultConfig())
	must(t, err)
	objects, err := spec.Load()
	must(t, err)
	t.Cleanup(func() { objects.Close() })
	cfg := Config{}
	cfg.setDefaults()
	s, err := newSweep(&datapath{objects: objects}, &cfg)
	must(t, err)
	t.Cleanup(s.close)
	n := int(objects.Flows.MaxEntries())
	keys, entries := make([]bpf.FlowKey, n), make([]bpf.FlowEntry, n)
	now := uint64(nanotime(unix.CLOCK_MONOTONIC))
	for i := range keys {
		copy(keys[i].Lo[12:], net.IPv4(10, 0, byte(i>>8), byte(i)).To4())
		keys[i].Proto = 17
		entries[i] = bpf.FlowEntry{LastSeen: now + 1e12, LastReport: now + 1e12, Packets: [2]uint64{1, 1}}
	}
	if _, err := objects.Flows.BatchUpdate(keys, entries, &ebpf.BatchOptions{}); err != nil {
		t.Fatal(err)
	}
	return s, n
}
