package relay

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
	"github.com/parallax-flow/parallax/relay/ingest"
)

// seconds of cluster traffic as the collectors of four nodes encode it: every event is seen where it leaves a pod and where it
// enters one, one in ten is an HTTP exchange, one in fifty a drop. Each batch holds a tenth of a second of one node.
type traffic struct {
	nodes  []*flow.Node
	frames []timedFrame // in order of arrival
	flows  int
}

type timedFrame struct {
	node int
	now  int64
	wire.Batch
}

const benchStart = int64(1_790_000_000_000_000_000)

func makeTraffic(tb testing.TB, perBatch, rounds int) *traffic {
	tb.Helper()
	r := rand.New(rand.NewPCG(3, 3))
	t := &traffic{}
	var pods [][]*flow.Endpoint
	for n := range 4 {
		t.nodes = append(t.nodes, &flow.Node{Name: fmt.Sprintf("node-%d", n), Boot: uint64(n + 1)})
		pods = append(pods, nil)
		for p := range 25 {
			pods[n] = append(pods[n], &flow.Endpoint{
				Kind: flow.EndpointPod, Namespace: "shop", Pod: fmt.Sprintf("pod-%d-%d", n, p),
				Workload: fmt.Sprintf("app-%d", p), NodeName: t.nodes[n].Name,
				Labels: []string{"app=a", "version=1"},
			})
		}
	}
	drop := &flow.Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv"}
	encoder := wire.NewEncoder()
	numbers, produced := make([]uint64, 4), make([]uint64, 4)
	for round := range rounds {
		batches := make([]flow.Batch, 4)
		for i := range perBatch * 2 {
			src, dst, from, to := r.IntN(4), r.IntN(4), r.IntN(25), r.IntN(25)
			now := benchStart + int64(round)*100e6 + int64(i)*100e6/int64(perBatch*2)
			f := flow.Flow{
				Time: now, Start: now, Src: pods[src][from], Dst: pods[dst][to], Node: t.nodes[src], Packets: 3, Bytes: 900, ReplyPackets: 2, ReplyBytes: 5000,
				SrcAddr: flow.Addr{10: 255, 11: 255, 12: 10, 14: byte(src), 15: byte(from)}, DstAddr: flow.Addr{10: 255, 11: 255, 12: 10, 14: byte(dst), 15: byte(to)},
				SrcPort: uint16(32768 + r.IntN(28000)), DstPort: 8080, Proto: flow.ProtoTCP, Kind: flow.Kind(1 + r.IntN(4)), Verdict: flow.VerdictForwarded,
				Point: flow.PointFromEndpoint, Direction: flow.DirectionEgress, Ifindex: uint32(from + 1), Seq: uint64(i),
			}
			if i%10 == 0 {
				f.Kind, f.L7 = flow.KindL7, &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: fmt.Sprintf("/items/%d", r.IntN(300)), Status: 200, Answered: true}
			}
			if i%50 == 1 {
				f.Kind, f.Verdict, f.Drop = flow.KindDrop, flow.VerdictDropped, drop
			}
			*batches[src].Next() = f
			f.Time += 200_000
			f.Node, f.Point, f.Direction, f.Ifindex = t.nodes[dst], flow.PointToEndpoint, flow.DirectionIngress, uint32(to+100)
			*batches[dst].Next() = f
		}
		for n := range batches {
			for rest := batches[n].Flows; len(rest) > 0; {
				k := min(4096, len(rest))
				data, err := encoder.Encode(nil, &flow.Batch{Flows: rest[:k]})
				if err != nil {
					tb.Fatal(err)
				}
				rest = rest[k:]
				numbers[n]++
				produced[n] += uint64(k)
				t.flows += k
				t.frames = append(t.frames, timedFrame{node: n, now: benchStart + int64(round+1)*100e6 + int64(n)*10e6, Batch: wire.Batch{
					Counters: wire.Counters{Produced: produced[n]}, Number: numbers[n], Flows: k, Data: data,
				}})
			}
		}
	}
	return t
}

// BenchmarkPipeline takes messages of four nodes through decoding, merge, pairing, ring and one consumer, all on one core.
func BenchmarkPipeline(b *testing.B) {
	t := makeTraffic(b, 4096, 40)
	b.ReportAllocs()
	var cpu time.Duration // of the process: tells more than the clock where others use the machine too
	for b.Loop() {
		b.StopTimer()
		r := New(Config{}, Deps{})
		sub := r.Subscribe("bench", 100)
		l := newLoop(r)
		server := ingest.New(handler{r})
		streams, decoders := make([]*ingest.Stream, 4), make([]*wire.Decoder, 4)
		for n := range streams {
			streams[n] = ingest.NewStream(b.Context(), &wire.Hello{Node: t.nodes[n].Name, Boot: t.nodes[n].Boot, First: 1})
			decoders[n] = wire.NewDecoder()
			l.step(event{stream: streams[n], kind: streamOpened}, benchStart)
		}
		b.StartTimer()
		began := cpuTime()
		got := 0
		for i := range t.frames {
			f := t.frames[i]
			records, err := server.Decode(decoders[f.node], &f.Batch)
			if err != nil {
				b.Fatal(err)
			}
			l.step(event{stream: streams[f.node], kind: streamBatch, frame: &f.Batch, records: records}, f.now)
			for len(sub.C()) > 0 {
				got += len((<-sub.C()).Flows)
			}
		}
		l.merge.Flush(l.emit)
		l.handOut()
		for len(sub.C()) > 0 {
			got += len((<-sub.C()).Flows)
		}
		cpu += cpuTime() - began
		if in := r.book.Totals()["node-0"].InFlight; in != 0 || got == 0 || got == t.flows {
			b.Fatalf("%d of %d flows came out, %d in flight", got, t.flows, in)
		}
	}
	b.ReportMetric(float64(t.flows)*float64(b.N)/b.Elapsed().Seconds(), "flows/s")
	b.ReportMetric(float64(t.flows)*float64(b.N)/cpu.Seconds(), "flows/cpu-s")
	b.ReportMetric(float64(t.flows), "flows/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
