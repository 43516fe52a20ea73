package main

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/storage"
)

// unstored counts, per boot of a collector, the records that the relay handed out and the storage did not take.
type unstored struct {
	mu   sync.Mutex
	lost map[boot]uint64
}

type boot struct {
	node   string
	number uint64
}

func (u *unstored) add(l flow.Lost) {
	if l.Node == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.lost == nil {
		u.lost = map[boot]uint64{}
	}
	u.lost[boot{l.Node.Name, l.Node.Boot}] += l.Count
}

// settle moves what was not stored from Delivered of l to its Lost.
func (u *unstored) settle(l *flow.NodeLedger) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := min(u.lost[boot{l.Node.Name, l.Node.Boot}], l.Delivered)
	if n == 0 {
		return
	}
	lost := map[string]uint64{flow.StageStorage: n}
	for stage, count := range l.Lost {
		lost[stage] += count
	}
	l.Lost = lost
	l.Delivered -= n
}

// registerWriter exports the storage writer's counters.
func registerWriter(r prometheus.Registerer, w *storage.Writer) {
	counter := func(name, help string, value func(storage.WriterStats) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "parallax_storage_" + name, Help: help},
			func() float64 { return float64(value(w.Stats())) }))
	}
	counter("flows_stored_total", "Flows that the storage has taken.", func(s storage.WriterStats) uint64 { return s.Stored })
	counter("flows_lost_total", "Flows that the storage did not take.", func(s storage.WriterStats) uint64 { return s.Lost })
	counter("batches_total", "Batches written.", func(s storage.WriterStats) uint64 { return s.Batches })
	counter("retries_total", "Attempts to write that failed.", func(s storage.WriterStats) uint64 { return s.Retries })
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "parallax_storage_flows_waiting", Help: "Flows that wait to be stored.",
	}, func() float64 { return float64(w.Stats().Waiting) }))
}
