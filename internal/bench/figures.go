package main

// suites are the benchmarks, each with the figures that Parallax promises of it.
var suites = []suite{
	{pkg: "bpf", pattern: "^BenchmarkEstablished$", time: "3000000x", figures: []figure{
		{
			name: "added to a packet of an established TCP flow, IPv4", benchmark: "Established/tcp4", metric: "ns-added/packet",
			unit: "ns", goal: 200, better: "lower", issue: 2,
			method: "test runs of the tcx program less those of an empty program in turns, best of ten rounds each",
		},
		{
			name: "added to a packet of an established TCP flow, IPv6", benchmark: "Established/tcp6", metric: "ns-added/packet",
			unit: "ns", goal: 200, better: "lower", issue: 2,
			method: "as above",
		},
	}},
	{pkg: "bpf", pattern: "^BenchmarkPolicyEstablished$", time: "3000000x", figures: []figure{
		{
			name: "added to a packet of a TCP flow that policy allowed, IPv4", benchmark: "PolicyEstablished/tcp4", metric: "ns-added/packet",
			unit: "ns", goal: 200, better: "lower", issue: 3,
			method: "as above, at an interface that Parallax owns",
		},
		{
			name: "added to a packet of a UDP flow that policy denied", benchmark: "PolicyEstablished/denied_udp4", metric: "ns-added/packet",
			unit: "ns", goal: 200, better: "lower", issue: 3,
			method: "as above",
		},
	}},
	{pkg: "collector/enforce", pattern: "^BenchmarkCompileServices$", time: "10x", figures: []figure{{
		name: "policies to the datapath's tables, large cluster", benchmark: "CompileServices", metric: "ms/compile",
		unit: "ms", goal: 1000, better: "lower", issue: 3,
		method: "200 policies over 5,000 pods and 1,000 services, compiled for one of 50 nodes",
	}}},
	{pkg: "collector/probe", pattern: "^BenchmarkThroughput$", time: "600x", cpu: "2", figures: []figure{{
		name: "TCP throughput over veth, observed / not observed", benchmark: "Throughput", metric: "ratio",
		unit: "ratio", goal: 0.95, better: "higher", issue: 2,
		method: "ten connections over each of two veths, 128 MiB in turns, one veth observed; median of 600 neighbouring pairs",
	}}},
	{pkg: "collector", pattern: "^BenchmarkRecordToEnriched$", figures: []figure{
		{
			name: "kernel record to enriched flow, one core", benchmark: "RecordToEnriched", metric: "events/s",
			unit: "events/s", goal: 1_000_000, better: "higher", issue: 2,
			method: "decode and enrich of interval reports between 200 pods and the world, batches of 1024",
		},
		{
			name: "allocations per event, record to enriched flow", benchmark: "RecordToEnriched", metric: "allocs/op",
			unit: "allocs", goal: 0, better: "lower", issue: 2,
			method: "as above",
		},
	}},
	{pkg: "collector/probe", pattern: "^BenchmarkRingToFlow$", figures: []figure{{
		name: "ring buffer to decoded flow, one core", benchmark: "RingToFlow", metric: "events/s",
		unit: "events/s", goal: 1_000_000, better: "higher", issue: 2,
		method: "reading a full ring of flow records in place and decoding them",
	}}},
	{pkg: "relay", pattern: "^BenchmarkPipeline$", time: "10x", figures: []figure{{
		name: "relay: decode, merge, pair, ring and fan-out, one core", benchmark: "Pipeline", metric: "flows/cpu-s",
		unit: "flows/s", goal: 300_000, better: "higher", issue: 2,
		method: "batches of four nodes as they arrive, each event observed at up to four points; per second of the process's CPU time, GC included",
	}}},
	{pkg: "flow/wire", pattern: "^BenchmarkEncode$", figures: []figure{{
		name: "bytes per flow from node to relay", benchmark: "Encode/4096", metric: "bytes/flow",
		unit: "B", goal: 100, better: "lower", issue: 2,
		method: "batches of 4096 flows in the codec of flow/wire, compressed",
	}}},
	{pkg: "storage/clickhouse", pattern: "^BenchmarkWrite$", time: "10x", cpu: "2", figures: []figure{{
		name: "rows into the embedded engine with its views", benchmark: "Write", metric: "rows/s",
		unit: "rows/s", goal: 100_000, better: "higher", issue: 2,
		method: "batches of 50,000 flows of a shop's traffic, insert with all materialized views; the engine uses both cores",
	}}},
	{pkg: "storage/clickhouse", pattern: "^BenchmarkSize$", time: "1x", figures: []figure{{
		name: "bytes per stored flow", benchmark: "Size", metric: "flows-B/flow",
		unit: "B", goal: 15, better: "lower", issue: 2,
		method: "an hour of a shop's traffic at 300 flows/s, raw table after its parts are merged, from system.parts",
	}}},
}
