package probe

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/bpf"
	"github.com/parallax-flow/parallax/collector/decode"
	"github.com/parallax-flow/parallax/flow"
)

// memoryRing is a ring over plain memory, with what the kernel does to it (kernel/bpf/ringbuf.c).
type memoryRing struct {
	ring
	size uint64
}

func newMemoryRing(size int) *memoryRing {
	return &memoryRing{size: uint64(size), ring: ring{
		consumer: new(uint64), producer: new(uint64), data: make([]byte, 2*size), mask: uint64(size - 1),
	}}
}

// put appends a record with the given header bits; false: no room. Where a record crosses the end of the data it goes
// on in the second mapping, which in real memory is the first: here both are written.
func (m *memoryRing) put(rec []byte, bits uint32) bool {
	need := (uint64(len(rec)) + ringHeader + 7) &^ 7
	if *m.producer+need-*m.consumer > m.size {
		return false
	}
	buf := make([]byte, need)
	binary.NativeEndian.PutUint32(buf, uint32(len(rec))|bits)
	copy(buf[ringHeader:], rec)
	for i, b := range buf {
		at := (*m.producer + uint64(i)) & m.mask
		m.data[at], m.data[at+m.size] = b, b
	}
	*m.producer += need
	return true
}

func TestRingDrain(t *testing.T) {
	m := newMemoryRing(256)
	var got []string
	take := func(limit int) int { return m.drain(limit, func(rec []byte) { got = append(got, string(rec)) }) }
	if n := take(10); n != 0 {
		t.Errorf("%d records in an empty ring", n)
	}
	for round := range 40 { // several times around, with records across the end
		want := []string{"a", "seven..", "eight...", string(rune('A' + round))}
		for _, s := range want {
			if !m.put([]byte(s), 0) {
				t.Fatal("no room in a ring that was drained")
			}
		}
		m.put([]byte("thrown away"), ringDiscard)
		got = nil
		if n := take(3); n != 3 {
			t.Errorf("%d records, limit 3", n)
		}
		if n := take(3); n != 1 {
			t.Errorf("%d records left, want 1", n)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if *m.consumer != *m.producer {
			t.Fatalf("consumed to %d of %d", *m.consumer, *m.producer)
		}
	}
}

func TestRingStopsAtBusyRecord(t *testing.T) {
	m := newMemoryRing(256)
	m.put([]byte("first"), 0)
	busy := *m.producer
	m.put([]byte("second"), ringBusy)
	m.put([]byte("third"), 0)
	var got []string
	take := func() { m.drain(10, func(rec []byte) { got = append(got, string(rec)) }) }
	take()
	take()
	if diff := cmp.Diff([]string{"first"}, got); diff != "" {
		t.Error(diff)
	}
	binary.NativeEndian.PutUint32(m.data[busy:], uint32(len("second")))
	take()
	if diff := cmp.Diff([]string{"first", "second", "third"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDrainGivesWayToOtherWork(t *testing.T) {
	m := newMemoryRing(1 << 16)
	var delivered, swept atomic.Uint64
	endless := true
	l := &loop{ring: &m.ring, flush: func() {}, delivered: &delivered, swept: &swept, record: func(rec []byte) {
		if endless { // writers are as fast as the reader
			m.put([]byte("next"), 0)
		}
	}}
	m.put([]byte("first"), 0)
	if l.drain() {
		t.Error("a ring that fills as fast as it is read was emptied")
	}
	endless = false
	if !l.drain() {
		t.Error("the ring was not emptied")
	}
	if n := delivered.Load(); n == 0 {
		t.Error("nothing delivered")
	}
}

// BenchmarkRingToFlow takes flow records out of a ring and decodes them, as the pipeline does.
func BenchmarkRingToFlow(b *testing.B) {
	m := newMemoryRing(1 << 20)
	rec := make([]byte, 152)
	copy(rec, []byte{bpf.EventFlow, bpf.EventVersion})
	binary.NativeEndian.PutUint16(rec[2:], uint16(len(rec)))
	rec[120], rec[121] = 3, 1 // kind UPDATE, role ENDPOINT
	binary.NativeEndian.PutUint32(rec[108:], 4711)
	copy(rec[128:], "nginx")
	for m.put(rec, 0) {
	}
	full := *m.producer
	d, err := decode.New(decode.Config{Node: &flow.Node{Name: "bench"}})
	if err != nil {
		b.Fatal(err)
	}
	batch := &flow.Batch{Flows: make([]flow.Flow, 0, batchRecords)}
	record := func(rec []byte) {
		if err := d.Decode(rec, batch, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		got := m.drain(min(batchRecords, b.N-n), record)
		batch.Flows = batch.Flows[:0]
		if n += got; got == 0 {
			*m.consumer, *m.producer = 0, full // the records are still there
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
