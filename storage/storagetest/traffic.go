// Package storagetest makes traffic for tests and benchmarks of stores: the records that a small shop on two nodes gives,
// with names, paths and timing as a relay hands them on. The same seed gives the same records.
package storagetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// Traffic makes records.
type Traffic struct {
	rand    *rand.Rand
	now     int64
	gap     int64 // mean time between two records, ns
	nodes   []*flow.Node
	seq     []uint64
	cookie  uint64
	calls   []call
	pending []flow.Flow // later records of connections that are under way, a heap would be more than is needed: they come at random
	drops   []*flow.Drop
}

// pod is one end of a connection.
type pod struct {
	endpoint *flow.Endpoint
	addr     flow.Addr
	node     int // index of its node, -1: outside
	pid      uint32
	ifindex  uint32
}

// call is one client workload that uses one service.
type call struct {
	weight   int
	src, dst []*pod
	port     uint16
	proto    flow.Proto
	l7       flow.L7Protocol
	paths    []string
	latency  time.Duration
	failing  float64
	policy   *policy // nil: nothing decides
}

// New returns Traffic that begins at start, Unix ns, with rate records a second.
func New(seed uint64, start int64, rate int) *Traffic {
	t := &Traffic{rand: rand.New(rand.NewPCG(seed, 1)), now: start, gap: int64(time.Second) / int64(rate), cookie: 4096}
	for i := range 2 {
		t.nodes = append(t.nodes, &flow.Node{Name: fmt.Sprintf("node-%d", i+1), Cluster: "lab", Boot: seed<<32 + uint64(i) + 1})
	}
	t.seq = make([]uint64, len(t.nodes))
	t.drops = []*flow.Drop{{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv", Code: 3}, {Reason: "NETFILTER_DROP", Symbol: "nft_do_chain", Code: 8}}
	front, cart, catalog := t.deploy("shop", "frontend", 3), t.deploy("shop", "cart", 2), t.deploy("shop", "catalog", 2)
	pay, redis, postgres := t.deploy("payment", "checkout", 2), t.deploy("data", "redis", 1), t.deploy("data", "postgres", 1)
	dns, world := t.deploy("kube-system", "coredns", 2), t.world(40)
	agent := []*pod{{endpoint: &flow.Endpoint{Kind: flow.EndpointProcess, Identity: 1, Workload: "kubelet", WorkloadKind: "Unit", NodeName: "node-1"},
		addr: v4(192, 168, 0, 1), pid: 812, ifindex: 2}}
	const ms = time.Millisecond
	t.calls = []call{
		{20, world, front, 80, flow.ProtoTCP, flow.L7HTTP, []string{"/", "/product/%d", "/cart", "/static/app.js", "/checkout"}, 40 * ms, 0.01, nil},
		{25, front, catalog, 8080, flow.ProtoTCP, flow.L7HTTP, []string{"/api/v1/products/%d", "/api/v1/search", "/healthz"}, 8 * ms, 0.01, nil},
		{15, front, cart, 8080, flow.ProtoTCP, flow.L7HTTP, []string{"/cart/%d/items", "/cart/%d"}, 5 * ms, 0.02, nil},
		{4, front, pay, 8443, flow.ProtoTCP, flow.L7HTTP, []string{"/charge"}, 90 * ms, 0.15, nil},
		{10, cart, redis, 6379, flow.ProtoTCP, flow.L7Unknown, nil, 0, 0, nil},
		{10, catalog, postgres, 5432, flow.ProtoTCP, flow.L7Unknown, nil, 0, 0, nil},
		{12, front, dns, 53, flow.ProtoUDP, flow.L7DNS, []string{"catalog.shop.svc.cluster.local", "cart.shop.svc.cluster.local", "nothing.shop.svc.cluster.local"}, ms, 0.1, nil},
		{4, agent, front, 8081, flow.ProtoTCP, flow.L7HTTP, []string{"/healthz"}, 2 * ms, 0, nil},
	}
	return t
}

func v4(a, b, c, d byte) flow.Addr { return flow.Addr{10: 0xff, 11: 0xff, 12: a, 13: b, 14: c, 15: d} }

func (t *Traffic) deploy(namespace, workload string, replicas int) []*pod {
	pods := make([]*pod, replicas)
	for i := range pods {
		node := i % len(t.nodes)
		last := byte(t.rand.IntN(250) + 2)
		pods[i] = &pod{
			endpoint: &flow.Endpoint{Kind: flow.EndpointPod, Identity: 1000 + t.rand.Uint32N(60000), Namespace: namespace,
				Pod: fmt.Sprintf("%s-%08x-%05x", workload, t.rand.Uint32(), t.rand.IntN(1<<20)), Workload: workload, WorkloadKind: "Deployment",
				NodeName: t.nodes[node].Name, Cluster: "lab", Labels: []string{"app=" + workload, "namespace=" + namespace, "version=v1"}},
			addr: v4(10, 244, byte(node), last), node: node, pid: 1000 + t.rand.Uint32N(30000), ifindex: 4 + uint32(last),
		}
	}
	return pods
}

func (t *Traffic) world(n int) []*pod {
	pods := make([]*pod, n)
	e := &flow.Endpoint{Kind: flow.EndpointWorld, Identity: 2}
	for i := range pods {
		pods[i] = &pod{endpoint: e, addr: v4(203, 0, byte(t.rand.IntN(250)), byte(t.rand.IntN(250))), node: -1, ifindex: 2}
	}
	return pods
}

// open is how many records of connections that are under way there are, about.
const open = 400

// Next appends n records to flows, in order of time.
func (t *Traffic) Next(flows []flow.Flow, n int) []flow.Flow {
	for range n {
		t.now += int64(float64(t.gap) * t.rand.ExpFloat64())
		if len(t.pending) > open || len(t.pending) > 0 && t.rand.IntN(5) > 0 {
			i := t.rand.IntN(len(t.pending))
			f := t.pending[i]
			t.pending[i] = t.pending[len(t.pending)-1]
			t.pending = t.pending[:len(t.pending)-1]
			flows = append(flows, t.finish(f))
			continue
		}
		flows = append(flows, t.finish(t.connect()))
	}
	return flows
}

// connect makes the first record of a connection and plans the others.
func (t *Traffic) connect() flow.Flow {
	c := t.pick()
	src, dst := c.src[t.rand.IntN(len(c.src))], c.dst[t.rand.IntN(len(c.dst))]
	at, point, direction := src.node, flow.PointFromEndpoint, flow.DirectionEgress
	if at < 0 {
		at, point, direction = dst.node, flow.PointToEndpoint, flow.DirectionIngress
	}
	t.cookie += 1 + t.rand.Uint64N(3)
	f := flow.Flow{
		Time: t.now, Start: t.now, Src: src.endpoint, Dst: dst.endpoint, Node: t.nodes[at], SrcAddr: src.addr, DstAddr: dst.addr,
		Cookie: t.cookie, PID: src.pid, Ifindex: src.ifindex, SrcPort: 32768 + uint16(t.rand.IntN(28000)), DstPort: c.port, Proto: c.proto,
		Kind: flow.KindNew, Verdict: flow.VerdictForwarded, Point: point, Direction: direction, Packets: 1, Bytes: 60,
	}
	if c.proto == flow.ProtoTCP {
		f.TCPFlags = flow.TCPSyn
	}
	if src.node != dst.node || t.rand.IntN(2) == 0 {
		f.Path = t.path(&f, src, dst)
	}
	if c.policy != nil && t.decide(c.policy, f) {
		return f
	}
	if t.rand.IntN(60) == 0 {
		f.Kind, f.Verdict, f.Drop, f.Path, f.PID, f.Cookie = flow.KindDrop, flow.VerdictDropped, t.drops[t.rand.IntN(len(t.drops))], nil, 0, 0
		return f
	}
	t.plan(c, f)
	return f
}

func (t *Traffic) pick() *call {
	sum := 0
	for i := range t.calls {
		sum += t.calls[i].weight
	}
	n := t.rand.IntN(sum)
	for i := range t.calls {
		if n -= t.calls[i].weight; n < 0 {
			return &t.calls[i]
		}
	}
	return nil
}

// plan adds the records that follow f: handshake, exchanges, end.
func (t *Traffic) plan(c *call, f flow.Flow) {
	exchanges := 1 + t.rand.IntN(6)
	if c.proto == flow.ProtoTCP {
		state := f
		state.Kind, state.TCPFlags, state.HandshakeRTT, state.Packets, state.Bytes, state.ReplyPackets, state.ReplyBytes =
			flow.KindState, flow.TCPAck, 100+t.rand.Uint32N(400), 1, 52, 1, 60
		t.pending = append(t.pending, state)
	}
	if c.l7 == flow.L7Unknown {
		exchanges = 0
	}
	for range exchanges {
		x := f
		x.Kind, x.TCPFlags, x.Packets, x.ReplyPackets = flow.KindL7, 0, 1, 1
		x.L7 = t.exchange(c)
		size := uint64(len(x.L7.Resource)) // the same resource has the same size
		x.Bytes, x.ReplyBytes = 180+size, 300+size*size%3000
		t.pending = append(t.pending, x)
	}
	end := f
	end.Kind, end.TCPFlags = flow.KindClose, flow.TCPFin|flow.TCPAck|flow.TCPPsh
	end.Packets, end.ReplyPackets = uint64(2+exchanges*2), uint64(1+exchanges*2)
	end.Bytes, end.ReplyBytes = end.Packets*52+uint64(exchanges)*(300+t.rand.Uint64N(200)), end.ReplyPackets*52+uint64(exchanges)*(300+t.rand.Uint64N(3000))
	t.pending = append(t.pending, end)
}

func (t *Traffic) exchange(c *call) *flow.L7 {
	resource := c.paths[t.rand.IntN(len(c.paths))]
	for i := range len(resource) {
		if resource[i] == '%' {
			resource = fmt.Sprintf(resource, t.rand.IntN(500))
			break
		}
	}
	failed := t.rand.Float64() < c.failing
	l := &flow.L7{Protocol: c.l7, Resource: resource, Answered: true, Error: failed,
		Latency: int64(float64(c.latency) * (0.5 + t.rand.ExpFloat64()))}
	if c.l7 == flow.L7DNS {
		l.Operation, l.MinTTL, l.Answers = "A", 30, []string{"10.96.0.17"}
		if failed {
			l.Status, l.MinTTL, l.Answers = 3, 0, nil
		}
		return l
	}
	l.Operation, l.Version, l.Host, l.UserAgent, l.Status = "GET", "HTTP/1.1", c.dst[0].endpoint.Workload, "Go-http-client/1.1", 200
	if failed {
		l.Status = 503
	}
	return l
}

// path makes the observations on the way from src to dst.
func (t *Traffic) path(f *flow.Flow, src, dst *pod) []flow.Hop {
	at := f.Time
	hop := func(node int, point flow.Point, direction flow.Direction, ifindex uint32) flow.Hop {
		at += 4000 + t.rand.Int64N(60000)
		return flow.Hop{Node: t.nodes[node], Time: at, Packets: f.Packets, Bytes: f.Bytes, Ifindex: ifindex, Point: point, Direction: direction}
	}
	switch {
	case src.node < 0:
		return []flow.Hop{hop(dst.node, flow.PointFromNetwork, flow.DirectionIngress, 2)}
	case src.node == dst.node:
		return []flow.Hop{hop(dst.node, flow.PointToEndpoint, flow.DirectionIngress, dst.ifindex)}
	}
	return []flow.Hop{
		hop(src.node, flow.PointToNetwork, flow.DirectionEgress, 2),
		hop(dst.node, flow.PointFromNetwork, flow.DirectionIngress, 2),
		hop(dst.node, flow.PointToEndpoint, flow.DirectionIngress, dst.ifindex),
	}
}

// finish gives f its time and number.
func (t *Traffic) finish(f flow.Flow) flow.Flow {
	delta := t.now - f.Time
	f.Time = t.now
	if f.L7 != nil {
		f.Start = f.Time - f.L7.Latency
	}
	if len(f.Path) > 0 {
		hops := make([]flow.Hop, len(f.Path))
		for i, h := range f.Path {
			h.Time += delta + t.rand.Int64N(5000)
			h.Packets, h.Bytes = f.Packets, f.Bytes
			if f.L7 != nil { // the request went the same way as the response
				h.Start = f.Start + h.Time - f.Time + t.rand.Int64N(5000)
			}
			hops[i] = h
		}
		f.Path = hops
	}
	node := 0
	if f.Node == t.nodes[1] {
		node = 1
	}
	t.seq[node] += 1 + t.rand.Uint64N(4) // the numbers between went to observations that are hops now
	f.Seq = t.seq[node]
	return f
}
