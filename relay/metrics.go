package relay

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/relay/merge"
	"github.com/parallax-flow/parallax/relay/pair"
)

// counts are what the loop counts, cumulative but for waiting.
type counts struct {
	received, duplicates, sent uint64
	waiting                    int
	merge                      merge.Stats
	pair                       pair.Stats
	delay                      histogram
}

// histogram counts delays; its owner is the loop, which can't afford an atomic operation for each flow.
type histogram struct {
	buckets [len(delayBounds)]uint64 // not cumulative
	count   uint64
	sum     int64 // ns
}

// delayBounds are in ns.
var delayBounds = [...]int64{50e6, 100e6, 250e6, 400e6, 500e6, 600e6, 700e6, 800e6, 1e9, 2e9, 5e9}

func (h *histogram) observe(ns int64) {
	h.count++
	h.sum += ns
	for i, bound := range delayBounds {
		if ns <= bound {
			h.buckets[i]++
			return
		}
	}
}

func (h *histogram) cumulative() map[float64]uint64 {
	all, n := make(map[float64]uint64, len(delayBounds)), uint64(0)
	for i, bound := range delayBounds {
		n += h.buckets[i]
		all[float64(bound)/1e9] = n
	}
	return all
}

// metrics is the relay's prometheus.Collector: what the loop counted last, and the ledger and consumers as they are.
type metrics struct {
	relay *Relay
	mu    sync.Mutex
	last  counts
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("parallax_"+name, help, labels, nil)
}

var (
	descFlows      = desc("relay_flows_total", "Flows handed to the consumers.")
	descReceived   = desc("relay_received_flows_total", "Flows that collectors sent, duplicates left out.")
	descDuplicates = desc("relay_duplicate_flows_total", "Flows that were sent again after a reconnect and dropped.")
	descPaired     = desc("relay_paired_flows_total", "Observations absorbed into the path of another flow.")
	descUnpaired   = desc("relay_unpaired_flows_total", "Observations sent on as secondary because their primary was not there.")
	descElected    = desc("relay_elected_flows_total", "Flows of unknown endpoints that count for want of a better observation.")
	descLate       = desc("relay_late_flows_total", "Flows delivered out of order: they arrived behind the merge window.")
	descEarly      = desc("relay_early_flows_total", "Flows released before their time because the merge buffer was full.")
	descAhead      = desc("relay_ahead_flows_total", "Flows with a time in the future: the clock of their node is ahead of the relay's.")
	descNamed      = desc("relay_named_endpoints_total", "Endpoints that a collector did not know and the relay filled in.")
	descDelay      = desc("relay_delay_seconds", "Time from a flow's event to its way out of the relay.")
	descWaiting    = desc("relay_waiting_flows", "Flows in the merge buffer.")
	descQueue      = desc("relay_queue_batches", "Batches between the streams of the collectors and the merge loop.")
	descNodes      = desc("relay_nodes", "Nodes by state of their collector's connection.", "state")
	descConsumers  = desc("relay_consumers", "Consumers that are subscribed.", "consumer")
	descConsQueue  = desc("relay_consumer_queue_batches", "Batches that wait for a consumer.", "consumer")
	descConsFlows  = desc("relay_consumer_flows_total", "Flows queued for a consumer.", "consumer")
	descConsLost   = desc("relay_consumer_lost_flows_total", "Flows that a consumer lost because it was too slow.", "consumer")
	descProduced   = desc("produced_total", "Records that a node made or lost before they were made, as its collector reports.", "node")
	descDelivered  = desc("delivered_total", "Records of a node that were handed to the consumers.", "node")
	descInFlight   = desc("in_flight", "Records of a node that are neither delivered nor lost yet.", "node")
	descLost       = desc("lost_total", "Records of a node that were lost, by stage.", "node", "stage")
)

// stages are those at which the relay or a collector of its version lose records.
var stages = [...]string{flow.StageKernelRing, flow.StageDecode, flow.StagePublish, flow.StageRelayIngest, flow.StageRelayMerge}

func newMetrics(r *Relay, reg prometheus.Registerer) *metrics {
	m := &metrics{relay: r}
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

func (m *metrics) set(c *counts) {
	m.mu.Lock()
	m.last = *c
	m.mu.Unlock()
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descFlows, descReceived, descDuplicates, descPaired, descUnpaired, descElected, descLate, descEarly, descAhead, descNamed, descDelay, descWaiting,
		descQueue, descNodes, descConsumers, descConsQueue, descConsFlows, descConsLost, descProduced, descDelivered, descInFlight, descLost,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	c := m.last
	m.mu.Unlock()
	out := sink(ch)
	out.counter(descFlows, c.sent)
	out.counter(descReceived, c.received)
	out.counter(descDuplicates, c.duplicates)
	out.counter(descPaired, c.pair.Joined)
	out.counter(descUnpaired, c.pair.Alone)
	out.counter(descElected, c.pair.Elected)
	out.counter(descLate, c.merge.Late)
	out.counter(descEarly, c.merge.Early)
	out.counter(descAhead, c.merge.Ahead)
	out.counter(descNamed, m.relay.deps.Names.Filled())
	out.gauge(descWaiting, c.waiting)
	out.gauge(descQueue, len(m.relay.events))
	ch <- prometheus.MustNewConstHistogram(descDelay, c.delay.count, float64(c.delay.sum)/1e9, c.delay.cumulative())
	m.consumers(out)
	m.nodes(out)
}

func (m *metrics) consumers(out sink) {
	for _, s := range m.relay.Consumers() {
		out.gauge(descConsumers, s.Present, s.Name)
		out.gauge(descConsQueue, s.Queued, s.Name)
		out.counter(descConsFlows, s.Flows, s.Name)
		out.counter(descConsLost, s.Dropped, s.Name)
	}
}

func (m *metrics) nodes(out sink) {
	connected, gone := 0, 0
	for _, n := range m.relay.Nodes() {
		if n.Connected {
			connected++
		} else {
			gone++
		}
	}
	out.gauge(descNodes, connected, "connected")
	out.gauge(descNodes, gone, "disconnected")
	for node, t := range m.relay.book.Totals() {
		out.counter(descProduced, t.Produced, node)
		out.counter(descDelivered, t.Delivered, node)
		out.gauge(descInFlight, int(t.InFlight), node)
		for stage, n := range t.Lost {
			out.counter(descLost, n, node, stage)
		}
		for _, stage := range stages {
			if _, ok := t.Lost[stage]; !ok { // a series that begins with the first loss has no increase to see
				out.counter(descLost, 0, node, stage)
			}
		}
	}
}

// sink shortens the making of metrics.
type sink chan<- prometheus.Metric

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s sink) gauge(d *prometheus.Desc, v int, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
}
