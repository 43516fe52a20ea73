package wire

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/parallax-flow/parallax/flow"
)

// traffic returns a batch as a node of a busy cluster makes it: 40 local pods that talk to 60 others, a few thousand
// connections over a tenth of a second, one in ten flows with an HTTP exchange, one in fifty dropped.
func traffic(n int, l7 bool) *flow.Batch {
	r := rand.New(rand.NewPCG(7, 7))
	node := &flow.Node{Name: "node-1", Cluster: "default", Boot: 0x1234567890abcdef}
	drop := &flow.Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv", Code: 3}
	endpoints := make([]*flow.Endpoint, 100)
	addrs := make([]flow.Addr, len(endpoints))
	for i := range endpoints {
		w := fmt.Sprintf("service-%02d", i/3)
		endpoints[i] = &flow.Endpoint{
			Kind: flow.EndpointPod, Identity: uint32(10000 + i/3), Namespace: fmt.Sprintf("team-%d", i%5), Workload: w, WorkloadKind: "Deployment",
			Pod: fmt.Sprintf("%s-7d9c5b%04x-%05x", w, i*7919, i*104729), NodeName: fmt.Sprintf("node-%d", i%4), Cluster: "default",
			Labels: []string{"app.kubernetes.io/name=" + w, "app.kubernetes.io/version=1.4.2", "pod-template-hash=7d9c5b"},
		}
		addrs[i] = flow.Addr{10: 0xff, 11: 0xff, 12: 10, 13: 244, 14: byte(i % 4), 15: byte(i)}
	}
	b, now := &flow.Batch{}, int64(1_790_000_000_000_000_000)
	for i := range n {
		src, dst := r.IntN(40), r.IntN(100)
		now += r.Int64N(50_000)
		f := b.Next()
		*f = flow.Flow{
			Time: now, Start: now - r.Int64N(5e9), Src: endpoints[src], Dst: endpoints[dst], Node: node, SrcAddr: addrs[src], DstAddr: addrs[dst],
			Packets: 1 + r.Uint64N(20), Bytes: 60 + r.Uint64N(9000), ReplyPackets: 1 + r.Uint64N(20), ReplyBytes: 60 + r.Uint64N(60000),
			Seq: uint64(i + 1), Cookie: uint64(40000 + r.IntN(4000)), HandshakeRTT: 40 + r.Uint32N(400), Ifindex: uint32(10 + src),
			SrcPort: uint16(32768 + r.IntN(28000)),
			DstPort: []uint16{80, 8080, 443, 5432, 6379}[dst%5], TCPFlags: flow.TCPAck | flow.TCPPsh, Proto: flow.ProtoTCP, Kind: flow.Kind(1 + r.IntN(4)),
			Verdict: flow.VerdictForwarded, Point: flow.PointFromEndpoint, Direction: flow.DirectionEgress, Reply: r.IntN(2) == 0,
		}
		switch {
		case i%50 == 0:
			f.Kind, f.Verdict, f.Drop = flow.KindDrop, flow.VerdictDropped, drop
		case l7 && i%10 == 0:
			f.Kind = flow.KindL7
			f.L7 = &flow.L7{
				Protocol: flow.L7HTTP, Operation: "GET", Resource: fmt.Sprintf("/api/v1/items/%d", r.IntN(500)), Host: "shop.example", Version: "HTTP/1.1",
				TraceParent: fmt.Sprintf("00-%016x%016x-%016x-01", r.Uint64(), r.Uint64(), r.Uint64()), UserAgent: "Go-http-client/1.1",
				Latency: r.Int64N(5e7), Status: 200, Answered: true,
			}
		}
	}
	return b
}

// decided is traffic of which one flow in ten is a policy's verdict and one in fifty a drop by policy.
func decided(n int) *flow.Batch {
	b := traffic(n, true)
	decisions := make([]*flow.Decision, 50)
	for i := range decisions {
		ref := flow.PolicyRef{Kind: "NetworkPolicy", Namespace: fmt.Sprintf("team-%d", i%5), Name: fmt.Sprintf("allow-service-%02d", i)}
		decisions[i] = &flow.Decision{Match: flow.PolicyMatchL3L4, Rule: i % 3, Policies: []flow.PolicyRef{ref}, Text: ref.String() + " ingress[0]: from pods app=web of this namespace, ports 8080/TCP"}
	}
	denied := &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}
	for i := range b.Flows {
		f := &b.Flows[i]
		switch {
		case f.Drop != nil:
			f.Drop, f.Policy = denied, decisions[i%len(decisions)]
		case i%10 == 1:
			f.Kind, f.L7, f.Policy = flow.KindVerdict, nil, decisions[i%len(decisions)]
		}
	}
	return b
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	t.Run("plain", func(t *testing.T) { steadyState(t, traffic(4096, false)) })
	t.Run("decided", func(t *testing.T) {
		b := decided(4096)
		for i := range b.Flows {
			b.Flows[i].L7 = nil
		}
		steadyState(t, b)
	})
}

func steadyState(t *testing.T, b *flow.Batch) {
	e, d := NewEncoder(), NewDecoder()
	var out flow.Batch
	var data []byte
	round := func() {
		out.Reset()
		var err error
		if data, err = e.Encode(data[:0], b); err != nil {
			t.Fatal(err)
		}
		if err := d.Decode(data, &out); err != nil {
			t.Fatal(err)
		}
	}
	round()
	if n := testing.AllocsPerRun(20, round); n > 0 {
		t.Errorf("%v allocations for a batch of known endpoints, want 0", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{256, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchEncode(b, traffic(size, true)) })
	}
	b.Run("decided", func(b *testing.B) { benchEncode(b, decided(4096)) })
}

func benchEncode(b *testing.B, batch *flow.Batch) {
	e := NewEncoder()
	var data []byte
	b.ReportAllocs()
	for b.Loop() {
		data, _ = e.Encode(data[:0], batch)
	}
	report(b, len(batch.Flows))
	b.ReportMetric(float64(len(data))/float64(len(batch.Flows)), "bytes/flow")
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{256, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchDecode(b, traffic(size, true)) })
	}
	b.Run("decided", func(b *testing.B) { benchDecode(b, decided(4096)) })
}

func benchDecode(b *testing.B, batch *flow.Batch) {
	d, data := NewDecoder(), encode(b, batch)
	var out flow.Batch
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := d.Decode(data, &out); err != nil {
			b.Fatal(err)
		}
	}
	report(b, len(batch.Flows))
}

func report(b *testing.B, size int) {
	b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "flows/s")
}
