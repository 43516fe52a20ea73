package pair

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

const ms = int64(1e6)

var (
	nodeA, nodeB = &flow.Node{Name: "a", Boot: 1}, &flow.Node{Name: "b", Boot: 2}

	podA  = &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "a", Pod: "pod-a"}
	podB  = &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "b", Pod: "pod-b"}
	podC  = &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "c", Pod: "on a node without a collector"}
	hostA = &flow.Endpoint{Kind: flow.EndpointHost, NodeName: "a"}
	procA = &flow.Endpoint{Kind: flow.EndpointProcess, NodeName: "a"}
	procB = &flow.Endpoint{Kind: flow.EndpointProcess, NodeName: "b"}
	world = &flow.Endpoint{Kind: flow.EndpointWorld}
	vip   = &flow.Endpoint{Kind: flow.EndpointService, NodeName: ""}
)

func owned(node string) bool { return node == "a" || node == "b" }

// seen returns an observation of pod a talking to pod b.
func seen(time int64, node *flow.Node, point flow.Point, change ...func(*flow.Flow)) *flow.Flow {
	f := &flow.Flow{
		Time: time * ms, Src: podA, Dst: podB, Node: node, Point: point, SrcPort: 4000, DstPort: 80, Proto: flow.ProtoTCP, Kind: flow.KindNew, Packets: 1,
	}
	for _, c := range change {
		c(f)
	}
	return f
}

func l7(resource string) func(*flow.Flow) {
	return func(f *flow.Flow) { f.Kind, f.L7 = flow.KindL7, &flow.L7{Resource: resource, Operation: "GET"} }
}

func kind(k flow.Kind) func(*flow.Flow) { return func(f *flow.Flow) { f.Kind = k } }

// pass takes flows through the Pairer in the order of their arrival, and out in the order of their time, and describes what came out.
func pass(p *Pairer, flows ...*flow.Flow) []string {
	tickets := make(map[*flow.Flow]Ticket)
	for _, f := range flows {
		tickets[f] = p.Join(f)
	}
	sorted := slices.Clone(flows)
	slices.SortStableFunc(sorted, func(a, b *flow.Flow) int { return int(a.Time - b.Time) })
	var out []string
	for _, f := range sorted {
		if p.Settle(tickets[f], f) {
			out = append(out, describe(f))
		}
		*f = flow.Flow{} // its memory is used again
	}
	return out
}

func describe(f *flow.Flow) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d %s:%s", f.Time/ms, f.Node.Name, f.Point)
	if f.Secondary {
		s.WriteString(" secondary")
	}
	for _, h := range f.Path {
		fmt.Fprintf(&s, " [%d %s:%s]", h.Time/ms, h.Node.Name, h.Point)
	}
	return s.String()
}

func TestPairing(t *testing.T) {
	const fromEP, toNet, fromNet, toEP = flow.PointFromEndpoint, flow.PointToNetwork, flow.PointFromNetwork, flow.PointToEndpoint
	for _, tc := range []struct {
		name  string
		flows []*flow.Flow // in order of arrival
		want  []string
	}{
		{"four observations are one flow", []*flow.Flow{
			seen(100, nodeA, fromEP), seen(101, nodeA, toNet), seen(102, nodeB, fromNet), seen(103, nodeB, toEP),
		}, []string{"100 a:from-endpoint [101 a:to-network] [102 b:from-network] [103 b:to-endpoint]"}},
		{"whatever order they arrive in", []*flow.Flow{
			seen(103, nodeB, toEP), seen(101, nodeA, toNet), seen(100, nodeA, fromEP), seen(102, nodeB, fromNet),
		}, []string{"100 a:from-endpoint [101 a:to-network] [102 b:from-network] [103 b:to-endpoint]"}},
		{"the other clock is behind", []*flow.Flow{
			seen(100, nodeA, fromEP), seen(80, nodeB, toEP), seen(79, nodeB, fromNet),
		}, []string{"100 a:from-endpoint [79 b:from-network] [80 b:to-endpoint]"}},
		{"too far apart", []*flow.Flow{
			seen(100, nodeA, fromEP), seen(351, nodeB, toEP),
		}, []string{"100 a:from-endpoint", "351 b:to-endpoint secondary"}},
		{"just near enough", []*flow.Flow{
			seen(100, nodeA, fromEP), seen(350, nodeB, toEP),
		}, []string{"100 a:from-endpoint [350 b:to-endpoint]"}},
		{"without a primary each goes on", []*flow.Flow{
			seen(101, nodeA, toNet), seen(102, nodeB, fromNet),
		}, []string{"101 a:to-network secondary", "102 b:from-network secondary"}},
		{"kinds are apart", []*flow.Flow{
			seen(100, nodeA, fromEP), seen(101, nodeB, toEP, kind(flow.KindClose)), seen(102, nodeA, fromEP, kind(flow.KindUpdate)), seen(103, nodeB, toEP, kind(flow.KindUpdate)),
		}, []string{"100 a:from-endpoint", "101 b:to-endpoint secondary", "102 a:from-endpoint [103 b:to-endpoint]"}},
		{"states with other flags are apart", []*flow.Flow{
			seen(100, nodeA, fromEP, kind(flow.KindState), func(f *flow.Flow) { f.TCPFlags = flow.TCPAck }),
			seen(101, nodeB, toEP, kind(flow.KindState), func(f *flow.Flow) { f.TCPFlags = flow.TCPFin }),
			seen(102, nodeB, toEP, kind(flow.KindState), func(f *flow.Flow) { f.TCPFlags = flow.TCPAck }),
		}, []string{"100 a:from-endpoint [102 b:to-endpoint]", "101 b:to-endpoint secondary"}},
		{"connections are apart", []*flow.Flow{
			seen(100, nodeA, fromEP), seen(101, nodeB, toEP, func(f *flow.Flow) { f.SrcPort++ }),
		}, []string{"100 a:from-endpoint", "101 b:to-endpoint secondary"}},
		{"equal requests pair one to one", []*flow.Flow{
			seen(100, nodeA, fromEP, l7("/")), seen(110, nodeA, fromEP, l7("/")), seen(120, nodeA, fromEP, l7("/")),
			seen(101, nodeB, toEP, l7("/")), seen(111, nodeB, toEP, l7("/")), seen(121, nodeB, toEP, l7("/")),
		}, []string{"100 a:from-endpoint [101 b:to-endpoint]", "110 a:from-endpoint [111 b:to-endpoint]", "120 a:from-endpoint [121 b:to-endpoint]"}},
		{"requests with other content are apart", []*flow.Flow{
			seen(100, nodeA, fromEP, l7("/a")), seen(101, nodeA, fromEP, l7("/b")), seen(102, nodeB, toEP, l7("/b")), seen(103, nodeB, toEP, l7("/a")),
		}, []string{"100 a:from-endpoint [103 b:to-endpoint]", "101 a:from-endpoint [102 b:to-endpoint]"}},
		{"one place never sees an event twice", []*flow.Flow{
			seen(100, nodeA, fromEP), seen(101, nodeA, fromEP), seen(102, nodeB, toEP),
		}, []string{"100 a:from-endpoint [102 b:to-endpoint]", "101 a:from-endpoint"}},
		{"drops stay as they are", []*flow.Flow{
			seen(100, nodeB, toEP, kind(flow.KindDrop)), seen(101, nodeA, fromEP, kind(flow.KindDrop)),
		}, []string{"100 b:to-endpoint", "101 a:from-endpoint"}},
		{"verdicts of both ends stay as they are, and join nothing", []*flow.Flow{
			seen(100, nodeA, fromEP), seen(100, nodeA, fromEP, kind(flow.KindVerdict)), seen(103, nodeB, toEP), seen(103, nodeB, toEP, kind(flow.KindVerdict)),
		}, []string{"100 a:from-endpoint [103 b:to-endpoint]", "100 a:from-endpoint", "103 b:to-endpoint"}},
		{"an unknown endpoint counts where it is seen first", []*flow.Flow{
			seen(100, nodeA, fromEP, unknown), seen(101, nodeA, toNet, unknown),
		}, []string{"100 a:from-endpoint [101 a:to-network]"}},
		{"or where it comes from the network", []*flow.Flow{
			seen(100, nodeA, fromEP, unknown), seen(101, nodeA, toNet, unknown), seen(102, nodeB, fromNet, unknown),
		}, []string{"102 b:from-network [100 a:from-endpoint] [101 a:to-network]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := New(owned)
			for range 2 { // the second time with memory that was used before
				var again []*flow.Flow
				for _, f := range tc.flows {
					c := *f
					again = append(again, &c)
				}
				if diff := cmp.Diff(tc.want, pass(p, again...)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if p.chains.count != 0 {
					t.Errorf("%d chains are left", p.chains.count)
				}
			}
		})
	}
}

// Another point's view of an exchange has a start of its own: the time that the server took is less than the client's wait.
func TestHopOfAnExchangeHasItsStart(t *testing.T) {
	p := New(owned)
	client, server := seen(100, nodeA, flow.PointFromEndpoint, l7("/")), seen(99, nodeB, flow.PointToEndpoint, l7("/"))
	client.Start, server.Start = 90*ms, 91*ms
	first, second := p.Join(client), p.Join(server)
	if p.Settle(second, server) || !p.Settle(first, client) || len(client.Path) != 1 || client.Path[0].Start != 91*ms {
		t.Errorf("%s, path %+v", describe(client), client.Path)
	}
}

func unknown(f *flow.Flow) { f.Src, f.Dst = world, world }

// What arrives while its event is half gone.
func TestLateArrivals(t *testing.T) {
	p := New(owned)
	first, second := seen(100, nodeA, flow.PointFromEndpoint), seen(101, nodeA, flow.PointToNetwork)
	t1, t2 := p.Join(first), p.Join(second)
	if !p.Settle(t1, first) || len(first.Path) != 1 {
		t.Errorf("primary: %s", describe(first))
	}
	late := seen(102, nodeB, flow.PointToEndpoint)
	t3 := p.Join(late)
	if p.Settle(t2, second) {
		t.Error("an observation in the path of its primary was sent on as well")
	}
	if !p.Settle(t3, late) || !late.Secondary {
		t.Error("an observation that came behind its primary was not sent on as secondary")
	}
	if want := (Stats{Joined: 1, Alone: 1}); p.Stats() != want {
		t.Errorf("%+v, want %+v", p.Stats(), want)
	}
}

// Thousands of equal requests on one connection, in batches of one node after the other, take linear time and pair in order.
func TestManyEqualRequests(t *testing.T) {
	const n = 20_000
	p := New(owned)
	var flows []*flow.Flow
	for i := range int64(n) {
		f := seen(0, nodeA, flow.PointFromEndpoint, l7("/"))
		f.Time = i * 20_000
		flows = append(flows, f)
	}
	for i := range int64(n) {
		f := seen(0, nodeB, flow.PointToEndpoint, l7("/"))
		f.Time = i*20_000 + 1
		flows = append(flows, f)
	}
	tickets := make([]Ticket, len(flows))
	for i, f := range flows {
		tickets[i] = p.Join(f)
	}
	for i := range n {
		if !p.Settle(tickets[i], flows[i]) || len(flows[i].Path) != 1 || flows[i].Path[0].Time != flows[n+i].Time {
			t.Fatalf("request %d: %s", i, describe(flows[i]))
		}
		if p.Settle(tickets[n+i], flows[n+i]) {
			t.Fatalf("request %d was sent twice", i)
		}
	}
}

// Whatever is seen where, every observation comes out once: by itself or in one path. Nothing is left behind, and no event has two primaries
// among what was joined.
func TestEveryObservationComesOutOnce(t *testing.T) {
	points := []flow.Point{flow.PointFromEndpoint, flow.PointToNetwork, flow.PointFromNetwork, flow.PointToEndpoint}
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		p := New(owned)
		type waiting struct {
			f *flow.Flow
			t Ticket
		}
		var in []waiting
		seenOut := make(map[int64]int) // by time, which is unique here
		settle := func(w waiting) {
			if p.Settle(w.t, w.f) {
				seenOut[w.f.Time]++
				if w.f.Secondary && len(w.f.Path) > 0 {
					t.Fatal("a secondary with a path")
				}
				for i, h := range w.f.Path {
					seenOut[h.Time]++
					if i > 0 && h.Time < w.f.Path[i-1].Time {
						t.Fatal("a path out of order")
					}
				}
			}
			*w.f = flow.Flow{}
		}
		const n = 3000
		for i := range int64(n) {
			node := []*flow.Node{nodeA, nodeB}[r.IntN(2)]
			f := seen(0, node, points[r.IntN(4)], func(f *flow.Flow) {
				f.Time = i*ms + r.Int64N(ms)
				f.SrcPort = uint16(r.IntN(4))
				f.Kind = flow.Kind(1 + r.IntN(int(flow.KindVerdict)))
				f.Ifindex = uint32(r.IntN(3))
				if r.IntN(3) == 0 {
					unknown(f)
				}
			})
			in = append(in, waiting{f, p.Join(f)})
			if len(in) > 400 {
				k := 0
				if r.IntN(4) == 0 {
					k = r.IntN(20) // not quite in order
				}
				settle(in[k])
				in = slices.Delete(in, k, k+1)
			}
		}
		for _, w := range in {
			settle(w)
		}
		if len(seenOut) != n || p.chains.count != 0 {
			t.Fatalf("seed %d: %d of %d came out, %d chains left", seed, len(seenOut), n, p.chains.count)
		}
		for at, k := range seenOut {
			if k != 1 {
				t.Fatalf("seed %d: observation at %d came out %d times", seed, at, k)
			}
		}
		if p.Stats().Joined == 0 || p.Stats().Elected == 0 || p.Stats().Alone == 0 {
			t.Errorf("seed %d: %+v, the test doesn't try everything", seed, p.Stats())
		}
	}
}

func TestTableGrows(t *testing.T) {
	table := newTable()
	var all []*chain
	for i := range uint64(5000) {
		c := &chain{key: key{i % 7, i}}
		table.put(c)
		all = append(all, c)
	}
	for i, c := range all {
		if table.get(&c.key) != c {
			t.Fatalf("chain %d is not found", i)
		}
	}
	for _, c := range all {
		table.remove(c)
	}
	if table.count != 0 || table.get(&key{1, 1}) != nil {
		t.Error("something is left")
	}
}
