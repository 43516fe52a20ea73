package publish

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() Config { return Config{Node: &flow.Node{Name: "n", Boot: 1}} }

func TestCheck(t *testing.T) {
	if err := config().Check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"no node":         func(c *Config) { c.Node = nil },
		"no boot":         func(c *Config) { c.Node = &flow.Node{Name: "n"} },
		"batch too large": func(c *Config) { c.BatchFlows = wire.MaxFlows + 1 },
		"no port":         func(c *Config) { c.Target = "relay" },
		"short age":       func(c *Config) { c.BatchAge = 1 },
	} {
		c := config()
		change(&c)
		if err := c.Check(); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v", name, err)
		}
		if err := New(c).Run(t.Context()); err == nil {
			t.Errorf("%s: Run began", name)
		}
	}
}

// one is a batch of a single flow in ten bytes.
func one() *sealed { return &sealed{flows: 1, data: make([]byte, 10)} }

func numbers(batches []*sealed) (all []uint64) {
	for _, b := range batches {
		all = append(all, b.number)
	}
	return all
}

func TestQueueDropsOnlyWhatWasNeverSent(t *testing.T) {
	var q queue
	for range 3 {
		if dropped := q.add(one(), 50); dropped != nil {
			t.Fatal("dropped without need")
		}
	}
	first, second := q.take(), q.take()
	third := q.batches[2]
	q.add(one(), 50)
	q.add(one(), 50)
	if dropped := q.add(one(), 50); len(dropped) != 1 || dropped[0] != third {
		t.Errorf("dropped %v, want the oldest that was not sent", dropped)
	}
	if q.first() != 1 || q.flows != 5 || q.bytes != 50 {
		t.Errorf("first %d, %d flows, %d bytes", q.first(), q.flows, q.bytes)
	}
	// Numbers have no gap where a batch was dropped; a new stream begins with what was not acknowledged.
	q.ack(1)
	q.rewind()
	if q.first() != 2 || q.acked != 1 || q.take() != second || first.number != 1 {
		t.Errorf("behind the ack: first %d, %d acknowledged", q.first(), q.acked)
	}
	for q.take() != nil {
	}
	if diff := cmp.Diff([]uint64{2, 3, 4, 5}, numbers(q.batches)); diff != "" {
		t.Error(diff)
	}
	// Everything was sent: the newest has to go.
	newest := one()
	if dropped := q.add(newest, 40); len(dropped) != 1 || dropped[0] != newest {
		t.Errorf("dropped %v, want the newest", dropped)
	}
	q.ack(99)
	if q.first() != 6 || q.acked != 5 || q.bytes != 0 || q.next != 0 || q.sent != 0 {
		t.Errorf("at the end: %+v", q)
	}
}

func TestDroppedBatchesTellWhatTheyHadToTell(t *testing.T) {
	c := config()
	c.MaxBytes = 1
	p := New(c)
	p.Publish(&flow.Batch{Flows: make([]flow.Flow, 5), Lost: []flow.Lost{{Stage: flow.StageKernelRing, Count: 7}}})
	e := wire.NewEncoder()
	p.encodeFilled(e, true)
	p.Publish(&flow.Batch{Flows: make([]flow.Flow, 4)})
	p.encodeFilled(e, true)
	want := map[string]uint64{flow.StagePublish: 9, flow.StageKernelRing: 7}
	told := make(map[string]uint64)
	for stage, l := range p.untold {
		told[stage] = l.Count
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("to be told: %s", diff)
	}
	if s := p.Stats(); !cmp.Equal(s.Lost, want) || s.Produced != 16 || s.QueuedBytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBatchesTooLargeForAMessageAreSplit(t *testing.T) {
	p := New(config())
	b := &flow.Batch{}
	for i := range 10 {
		b.Next().Src = &flow.Endpoint{Name: fmt.Sprint(i) + strings.Repeat("x", wire.MaxBody/4)}
	}
	b.Next().Src = &flow.Endpoint{Name: strings.Repeat("x", wire.MaxBody)}
	p.Publish(b)
	p.encodeFilled(wire.NewEncoder(), true)
	if s := p.Stats(); s.QueuedFlows != 10 || s.Lost[flow.StagePublish] != 1 || s.Produced != 11 {
		t.Errorf("%+v", s)
	}
}

func TestFramesCarryTheCountersOfTheirTime(t *testing.T) {
	p := New(config())
	p.Publish(&flow.Batch{Flows: make([]flow.Flow, 3)})
	p.encodeFilled(wire.NewEncoder(), true)
	p.Publish(&flow.Batch{Flows: make([]flow.Flow, 2), Lost: []flow.Lost{{Stage: flow.StageDecode, Count: 1}}})
	b, err := wire.ParseBatch(p.nextFrame())
	if err != nil {
		t.Fatal(err)
	}
	want := wire.Counters{Produced: 6, Lost: map[string]uint64{flow.StageDecode: 1}}
	if diff := cmp.Diff(want, b.Counters); diff != "" || b.Flows != 3 || b.Number != 1 {
		t.Errorf("batch %d of %d flows: %s", b.Number, b.Flows, diff)
	}
	if p.nextFrame() != nil {
		t.Error("a frame without a batch")
	}
	if c, err := wire.ParseCounters(p.countersFrame()); err != nil || !cmp.Equal(*c, want) {
		t.Errorf("counters %+v, %v", c, err)
	}
}

func TestPublishDoesNotAllocate(t *testing.T) {
	p := New(config())
	e := wire.NewEncoder()
	b := &flow.Batch{Flows: make([]flow.Flow, 1000)}
	take := func() {
		p.encodeFilled(e, true)
		p.queue = queue{}
	}
	for range 10 { // make the buffers
		for range 4 {
			p.Publish(b)
		}
		take()
	}
	if n := testing.AllocsPerRun(3, func() { p.Publish(b) }); n > 0 {
		t.Errorf("%v allocations for 1000 flows, want 0", n)
	}
}

func BenchmarkPublish(b *testing.B) {
	p := New(config())
	batch := &flow.Batch{Flows: make([]flow.Flow, 256)}
	b.ReportAllocs()
	for b.Loop() {
		p.Publish(batch)
		if len(p.filled) > 0 { // what the encoder does, without encoding
			full := p.filled[0]
			full.flows = full.flows[:0]
			p.filled, p.spare = p.filled[:0], append(p.spare, full)
		}
	}
	b.ReportMetric(256*float64(b.N)/b.Elapsed().Seconds(), "flows/s")
}
