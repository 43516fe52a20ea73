package collector

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/parallax-flow/parallax/bpf"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// BenchmarkRecordToEnriched is what one kernel record costs until it is a flow with names on both ends: decode and
// enrich, in batches, on one core. The records are those of 1000 connections between 200 pods, one in ten to the world.
func BenchmarkRecordToEnriched(b *testing.B) {
	c, err := New(Config{Node: &flow.Node{Name: "bench", Boot: 1}}, Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 200 {
		c.enrich.Directory().Update(meta.Update{Object: &meta.Object{
			Kind: meta.Pod, Namespace: "shop", Name: fmt.Sprintf("pod-%d", i), Workload: fmt.Sprintf("app-%d", i%20), WorkloadKind: "Deployment",
			Node: "bench", Labels: map[string]string{"app": fmt.Sprintf("app-%d", i%20)}, Addrs: []netip.Addr{podAddr(i)},
		}})
	}
	records := make([][]byte, 1000)
	for i := range records {
		dst := podAddr((i * 7) % 200)
		if i%10 == 0 {
			dst = netip.AddrFrom4([4]byte{198, 51, 100, byte(i / 10)})
		}
		records[i] = flowRecord(podAddr(i%200), dst, uint16(40000+i))
	}
	run := func(n int) {
		for i := range n {
			if err := c.decoder.Decode(records[i%len(records)], &c.batch, nil); err != nil {
				b.Fatal(err)
			}
			if len(c.batch.Flows) == batchSize {
				c.enrich.Enrich(&c.batch)
				c.batch.Reset()
			}
		}
	}
	run(4 * batchSize)
	b.ReportAllocs()
	b.ResetTimer()
	run(b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func podAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(1 + i%250)})
}

// flowRecord is a plx_flow_event of bpf/headers/event.h: an interval report at a pod's interface.
func flowRecord(src, dst netip.Addr, sport uint16) []byte {
	r := make([]byte, 152)
	r[0], r[1] = bpf.EventFlow, bpf.EventVersion
	binary.NativeEndian.PutUint16(r[2:], uint16(len(r)))
	for i, v := range []uint64{9, 1, 10, 12, 5000, 7000} { // ts, first_ts, packets, bytes
		binary.NativeEndian.PutUint64(r[8+8*i:], v)
	}
	s, d := src.As16(), dst.As16()
	copy(r[64:], s[:])
	copy(r[80:], d[:])
	binary.NativeEndian.PutUint16(r[96:], sport)
	binary.NativeEndian.PutUint16(r[98:], 8080)
	r[100] = 6
	binary.NativeEndian.PutUint32(r[104:], 3) // ifindex
	r[120], r[121] = 3, 1                     // UPDATE, role endpoint
	return r
}
