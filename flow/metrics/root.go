// Package metrics counts flows for Prometheus: Hubble's metric families under Hubble's names and labels, so that its dashboards
// work, and those that Hubble has not. Relay and collector use it alike.
//
// An event counts once, where its traffic is primary (flow.RoleOf). One goroutine calls Observe, off the path of the flows: behind a
// queue of the relay's fan-out, or behind the collector's ring (Follow). Who falls behind misses flows; that is counted.
//
// The labels of a family are bounded: it has at most Config.MaxSeries series. What would need one more counts in a series of which all
// labels are "overflow", and in parallax_metrics_overflow_total. Series that nothing used for Config.Idle make room first.
//
// Source and destination are those of Hubble for the same event. In families about one packet or message (hubble_drop_total,
// hubble_tcp_flags_total, hubble_icmp_total, hubble_dns_*) the source is who sent it; in all others it is the initiator of the connection.
package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/ring"
)

// DefaultMaxSeries is how many series a metric has at most if Config does not say it.
const DefaultMaxSeries = 10_000

// Config of Metrics. The zero value of a field is its default.
type Config struct {
	MaxSeries int           // of each metric, as Prometheus counts them: a histogram needs one for each bucket and three more
	Idle      time.Duration // a full metric forgets series that were not used for this long; default 1 h
	// Primary says whether f counts. The default is that of a relay, which has decided it: !f.Secondary.
	Primary func(f *flow.Flow) bool
}

// Metrics are the families. Its methods belong to one goroutine; Prometheus may gather at any time.
type Metrics struct {
	primary func(*flow.Flow) bool
	hubble  hubbleFamilies
	own     ownFamilies
	lost    *prometheus.CounterVec
	missed  prometheus.Counter
	clock   *clock
}

// New makes the families and registers them with reg.
func New(c Config, reg prometheus.Registerer) *Metrics {
	if c.MaxSeries <= 0 {
		c.MaxSeries = DefaultMaxSeries
	}
	if c.Idle <= 0 {
		c.Idle = time.Hour
	}
	if c.Primary == nil {
		c.Primary = func(f *flow.Flow) bool { return !f.Secondary }
	}
	m := &Metrics{primary: c.Primary, clock: &clock{idle: int64(c.Idle)}}
	b := &builder{
		reg: reg, max: c.MaxSeries, clock: m.clock,
		overflow: newCounterVec(reg, "parallax_metrics_overflow_total", "Observations that counted in a metric's overflow series because it has as many series as it may.", "metric"),
		series:   newGaugeVec(reg, "parallax_metrics_series", "Series of a metric; a histogram has one for each bucket and three more.", "metric"),
	}
	m.hubble = newHubbleFamilies(b)
	m.own = newOwnFamilies(b)
	m.lost = newCounterVec(reg, "hubble_lost_events_total", "Records that are missing, by what lost them in the words of Hubble.", "source")
	for _, source := range lostSources {
		m.lost.WithLabelValues(source)
	}
	m.missed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "parallax_metrics_missed_flows_total", Help: "Flows that are missing in the metrics because counting them fell behind.",
	})
	reg.MustRegister(m.missed)
	return m
}

// Observe counts flows. It keeps none of them, and allocates nothing for what it has seen before.
func (m *Metrics) Observe(flows []flow.Flow) {
	m.clock.now = time.Now().UnixNano()
	for i := range flows {
		f := &flows[i]
		if m.primary(f) {
			m.hubble.observe(f)
			m.own.observe(f)
		}
	}
}

// The sources of lost events, as Hubble names them (flow.proto, LostEventSource).
const (
	lostKernel   = "perf_event_ring_buffer"
	lostQueue    = "observer_events_queue"
	lostObserver = "hubble_ring_buffer"
)

var lostSources = [...]string{lostKernel, lostQueue, lostObserver}

// Lost counts records that are missing. Those of the stage ownStage were lost by the caller itself, before Observe.
func (m *Metrics) Lost(lost []flow.Lost, ownStage string) {
	for i := range lost {
		source := lostQueue
		switch lost[i].Stage {
		case flow.StageKernelRing:
			source = lostKernel
		case ownStage:
			source = lostObserver
			m.missed.Add(float64(lost[i].Count))
		}
		m.lost.WithLabelValues(source).Add(float64(lost[i].Count))
	}
}

// Follow counts what is added to r from now on until ctx ends, and returns nil. It calls tick between two reads, at most once a second:
// the caller may count there what was lost. tick may be nil.
func (m *Metrics) Follow(ctx context.Context, r *ring.Ring, tick func()) error {
	_, next := r.Bounds()
	reader := r.Reader(next)
	buf := make([]flow.Flow, 1024)
	var ticked time.Time
	for {
		n, lost, err := reader.Next(ctx, buf)
		if err != nil {
			return nil
		}
		if lost != nil {
			m.Lost([]flow.Lost{*lost}, lost.Stage)
		}
		m.Observe(buf[:n])
		if now := time.Now(); tick != nil && now.Sub(ticked) >= time.Second {
			ticked = now
			tick()
		}
	}
}
