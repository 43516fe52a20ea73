package main

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/collector"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/metrics"
	"github.com/parallax-flow/parallax/relay"
	"github.com/parallax-flow/parallax/relay/fanout"
)

// seriesFlag is the bound of metrics, the same for all that one process exports.
func seriesFlag(f *pflag.FlagSet, series *int) {
	f.IntVar(series, "metrics-max-series", metrics.DefaultMaxSeries, "series that each metric of flows may have; what is beyond counts in one called overflow")
}

func checkSeries(series int) error {
	if series < 100 || series > 10_000_000 {
		return fmt.Errorf("--metrics-max-series %d: choose 100 to 10000000", series)
	}
	return nil
}

// countFlows counts what the relay hands out until the relay has ended.
func countFlows(r *relay.Relay, m *metrics.Metrics) func(context.Context) error {
	sub := r.Subscribe("metrics", 256)
	return func(context.Context) error {
		for b := range sub.C() {
			m.Observe(b.Flows)
			m.Lost(b.Lost, fanout.Stage)
		}
		return nil
	}
}

// countObserved counts what c observes, behind its ring, until ctx ends.
func countObserved(c *collector.Collector, series int, reg prometheus.Registerer) func(context.Context) error {
	m := metrics.New(metrics.Config{MaxSeries: series, Primary: countsHere}, reg)
	return func(ctx context.Context) error {
		told := map[string]uint64{}
		return m.Follow(ctx, c.Ring(), func() {
			for stage, n := range c.Ledger().Lost {
				m.Lost([]flow.Lost{{Stage: stage, Count: n - told[stage]}}, "")
				told[stage] = n
			}
		})
	}
}

// countsHere is the relay's rule as far as one node can tell: it takes every node that has a name for observed.
func countsHere(f *flow.Flow) bool {
	return flow.RoleOf(f, func(string) bool { return true }) != flow.RoleSecondary
}

// reading is a figure of the collector.
type reading struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*collector.Stats) uint64
}

func counting(name, help string, value func(*collector.Stats) uint64) reading {
	return reading{prometheus.NewDesc("parallax_"+name, help, nil, nil), prometheus.CounterValue, value}
}

func level(name, help string, value func(*collector.Stats) uint64) reading {
	return reading{prometheus.NewDesc("parallax_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

var readings = []reading{
	counting("probe_events_total", "Records that the datapath made.", func(f *collector.Stats) uint64 { return f.Probe.Produced }),
	counting("probe_events_lost_total", "Records for which the ring buffer had no room.", func(f *collector.Stats) uint64 { return f.Probe.LostRing }),
	counting("probe_packets_total", "Packets seen at the interfaces; segments of a GSO packet count each.", func(f *collector.Stats) uint64 { return f.Probe.Packets }),
	counting("probe_packets_untracked_total", "Packets not tracked because the flow table was full.", func(f *collector.Stats) uint64 { return f.Probe.LostTable }),
	counting("probe_packets_unparsed_total", "Packets that are not IP, cut or malformed.", func(f *collector.Stats) uint64 { return f.Probe.Unparsed }),
	counting("probe_hints_lost_total", "Process names and ports of fragments for which their tables had no room.", func(f *collector.Stats) uint64 { return f.Probe.LostHint }),
	counting("probe_drops_total", "Packets that the kernel dropped where this collector looks.", func(f *collector.Stats) uint64 { return f.Probe.Drops }),
	level("probe_interfaces", "Interfaces that are observed.", func(f *collector.Stats) uint64 { return uint64(f.Probe.Interfaces) }),
	level("probe_interfaces_failed", "Interfaces to which the programs could not be attached.", func(f *collector.Stats) uint64 { return uint64(f.Probe.InterfacesFailed) }),

	level("policy_endpoints", "Pods of this node that policies can bind.", func(f *collector.Stats) uint64 { return uint64(f.Enforce.Endpoints) }),
	level("policy_endpoints_bound", "Of these: pods whose interface was found and holds their policies.", func(f *collector.Stats) uint64 { return uint64(f.Enforce.Owned) }),
	level("policy_endpoints_unbound", "Pods that no policy binds because their interface was not found or two claim their address.", func(f *collector.Stats) uint64 {
		return uint64(f.Enforce.Searched + f.Enforce.Contested)
	}),
	level("policy_entries", "Keys that policy holds in the kernel's tables.", func(f *collector.Stats) uint64 {
		return uint64(f.Enforce.Records + f.Enforce.Peers + f.Enforce.CIDRs + f.Enforce.Services + f.Enforce.Entries)
	}),
	counting("policy_writes_total", "Changes of policy that were put into force.", func(f *collector.Stats) uint64 { return f.Enforce.Writes }),
	counting("policy_write_failures_total", "Changes of policy that the kernel refused: the last good state stayed in force.", func(f *collector.Stats) uint64 { return f.Enforce.Failures }),
	level("policy_failing", "1 while the policies as they are now could not be put into force.", func(f *collector.Stats) uint64 {
		if f.Enforce.FailingSince.IsZero() {
			return 0
		}
		return 1
	}),

	counting("tracker_requests_total", "Application requests seen, without retransmissions.", func(f *collector.Stats) uint64 { return f.L7.Requests }),
	counting("tracker_responses_total", "Application responses seen, without retransmissions.", func(f *collector.Stats) uint64 { return f.L7.Responses }),
	counting("tracker_exchanges_total", "Requests joined with their response.", func(f *collector.Stats) uint64 { return f.L7.Exchanges }),
	counting("tracker_unanswered_total", "Requests given up without a response.", func(f *collector.Stats) uint64 { return f.L7.Unanswered }),
	counting("tracker_orphans_total", "Responses whose request was not seen.", func(f *collector.Stats) uint64 { return f.L7.Orphans }),
	counting("tracker_retransmits_total", "Messages seen again.", func(f *collector.Stats) uint64 { return f.L7.Retransmits }),
	counting("tracker_malformed_total", "Segments that are not what their first bytes promised.", func(f *collector.Stats) uint64 { return f.L7.Malformed }),
	counting("tracker_evicted_total", "Requests forgotten to stay within the bounds of memory.", func(f *collector.Stats) uint64 { return f.L7.Evicted }),
	counting("tracker_resynced_total", "Requests whose response was provably missed.", func(f *collector.Stats) uint64 { return f.L7.Resynced }),
	level("tracker_pending", "Requests that wait for a response.", func(f *collector.Stats) uint64 {
		return f.L7.Requests - f.L7.Exchanges - f.L7.Unanswered - f.L7.Evicted - f.L7.Resynced
	}),
}

// datapath is a collector as a prometheus.Collector.
type datapath struct{ stats func() collector.Stats }

// Describe implements prometheus.Collector.
func (d datapath) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range readings {
		ch <- r.desc
	}
}

// Collect implements prometheus.Collector.
func (d datapath) Collect(ch chan<- prometheus.Metric) {
	now := d.stats()
	for _, r := range readings {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, float64(r.value(&now)))
	}
}
