package enrich

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addr(s string) flow.Addr { return flow.AddrFrom(netip.MustParseAddr(s)) }

func addrs(list ...string) map[flow.Addr]struct{} {
	m := make(map[flow.Addr]struct{})
	for _, s := range list {
		m[addr(s)] = struct{}{}
	}
	return m
}

// newTest returns an Enricher of node n1, 192.168.0.1/24, with one pod, without anything running.
func newTest(cfg Config) *Enricher {
	cfg.Node, cfg.Cluster = "n1", "c"
	e := New(cfg)
	e.local.current.Store(&addrSet{addrs: addrs("192.168.0.1", "fe80::1"), broadcasts: addrs("192.168.0.255")})
	for _, o := range []*meta.Object{
		{Kind: meta.Pod, Namespace: "shop", Name: "cart-1", Workload: "cart", Node: "n1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		{Kind: meta.Node, Name: "n2", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.2")}},
	} {
		e.directory.Update(meta.Update{Object: o})
	}
	return e
}

func (e *Enricher) one(f flow.Flow) flow.Flow {
	b := flow.Batch{Flows: []flow.Flow{f}}
	e.Enrich(&b)
	return b.Flows[0]
}

func key(e *flow.Endpoint) string {
	group, name := e.Key()
	return fmt.Sprintf("%s/%s (%s %d)", group, name, e.Kind, e.Identity)
}

func TestEndpoints(t *testing.T) {
	e := newTest(Config{MaxPrivate: 2})
	for _, tc := range []struct{ addr, want string }{
		{"10.0.0.1", fmt.Sprintf("shop/cart (pod %d)", meta.Identity("shop", nil))},
		{"192.168.0.1", "host n1/n1 (host 1)"},
		{"127.0.0.1", "host n1/n1 (host 1)"},
		{"127.9.9.9", "host n1/n1 (host 1)"},
		{"::1", "host n1/n1 (host 1)"},
		{"fe80::1", "host n1/n1 (host 1)"},
		{"192.168.0.2", "host n2/n2 (host 6)"},
		{"8.8.8.8", "world/world (world 2)"},
		{"2001:db8::1", "world/world (world 2)"},
		{"224.0.0.251", "world/multicast (world 2)"},
		{"ff02::fb", "world/multicast (world 2)"},
		{"255.255.255.255", "world/broadcast (world 2)"},
		{"192.168.0.255", "world/broadcast (world 2)"},
		{"0.0.0.0", "world/unspecified (world 2)"},
		{"::", "world/unspecified (world 2)"},
		{"fe80::7", "world/link-local (world 2)"},
		{"febf::7", "world/link-local (world 2)"},
		{"10.7.7.7", "world/10.7.7.7 (world 2)"},
		{"fd00::7", "world/fd00::7 (world 2)"},
		{"172.16.0.1", "world/private (world 2)"},
		{"100.64.0.1", "world/private (world 2)"},
		{"169.254.1.1", "world/private (world 2)"},
		{"10.7.7.7", "world/10.7.7.7 (world 2)"},
		{"172.32.0.1", "world/world (world 2)"},
		{"100.128.0.1", "world/world (world 2)"},
	} {
		f := e.one(flow.Flow{SrcAddr: addr("10.0.0.1"), DstAddr: addr(tc.addr), Time: 1})
		if got := key(f.Dst); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.addr, got, tc.want)
		}
		if f.Src.Pod != "cart-1" {
			t.Errorf("%s: source %s", tc.addr, key(f.Src))
		}
	}
}

func TestNames(t *testing.T) {
	const sec = int64(1e9)
	e := newTest(Config{})
	ask := func(at int64, name string, ttl uint32, answers ...string) {
		e.one(flow.Flow{Time: at * sec, Kind: flow.KindL7, L7: &flow.L7{Protocol: flow.L7DNS, Operation: "A", Resource: name,
			Answers: answers, MinTTL: ttl, Answered: true}})
	}
	dst := func(start, at int64, a string) string {
		_, name := e.one(flow.Flow{Start: start * sec, Time: at * sec, DstAddr: addr(a)}).Dst.Key()
		return name
	}
	ask(100, "api.example.com", 5, "alias.example.net", "192.0.2.1", "192.0.2.2", "10.0.0.1")
	ask(100, "long.example.com", 600, "2001:db8::9")
	for _, tc := range []struct {
		start, at int64
		addr      string
		want      string
	}{
		{99, 100, "192.0.2.1", "world"}, // began before anyone asked
		{100, 100, "192.0.2.1", "api.example.com"},
		{161, 162, "192.0.2.2", "world"},
		{160, 161, "192.0.2.2", "api.example.com"}, // at least a minute
		{120, 500, "192.0.2.1", "api.example.com"}, // a connection keeps its name
		{550, 551, "192.0.2.1", "api.example.com"}, // and its traffic the address's
		{700, 701, "192.0.2.1", "world"},
		{701, 701, "2001:db8::9", "world"},
		{700, 700, "2001:db8::9", "long.example.com"},
		{101, 101, "10.0.0.1", "cart"}, // a pod is a pod
	} {
		if got := dst(tc.start, tc.at, tc.addr); got != tc.want {
			t.Errorf("%s from %d at %d: %q, want %q", tc.addr, tc.start, tc.at, got, tc.want)
		}
	}
	ask(800, "api.example.com", 5, "192.0.2.1")
	ask(830, "other.example.com", 5, "192.0.2.1")
	if got := []string{dst(820, 840, "192.0.2.1"), dst(830, 840, "192.0.2.1"), dst(130, 140, "192.0.2.2")}; !cmp.Equal(got, []string{"api.example.com", "other.example.com", "api.example.com"}) {
		t.Errorf("behind a second name: %q", got)
	}
	if a, b := e.one(flow.Flow{Start: 130 * sec, DstAddr: addr("192.0.2.2")}).Dst, e.names.named("api.example.com"); a != b {
		t.Error("one name has two endpoints")
	}
}

func TestGenerations(t *testing.T) {
	g := newGenerations[int, int](8)
	g.put(-1, 7)
	for i := range 1000 {
		g.put(i, i)
		if v, ok := g.get(-1); !ok || v != 7 {
			t.Fatalf("what is used was forgotten at %d", i)
		}
		if len(g.young) > 8 || len(g.old) > 8 {
			t.Fatal("bound exceeded")
		}
	}
	if _, ok := g.get(3); ok {
		t.Error("what is not used is still there")
	}
	g.drop(-1)
	if _, ok := g.get(-1); ok {
		t.Error("dropped and still there")
	}
}

// source tells one object and waits.
type source struct{ o *meta.Object }

func (s source) Watch(ctx context.Context, emit func(meta.Update)) error {
	emit(meta.Update{Object: s.o})
	<-ctx.Done()
	return nil
}

// batch makes n flows between pods, this node's processes and named and unnamed addresses of the world.
func batch(e *Enricher, n int) *flow.Batch {
	for i := range 1000 {
		e.directory.Update(meta.Update{Object: &meta.Object{Kind: meta.Pod, Namespace: "ns", Name: fmt.Sprint(i),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}}})
	}
	e.names.learn(&flow.L7{Operation: "A", Resource: "example.com", Answers: []string{"192.0.2.1"}, MinTTL: 3600}, 0)
	nginx := &flow.Process{PID: 7, Comm: "nginx"}
	b := new(flow.Batch)
	for i := range n {
		f := b.Next()
		f.Time, f.Start, f.Proto, f.SrcPort, f.DstPort, f.Kind = 1, 1, flow.ProtoTCP, uint16(i), 80, flow.KindUpdate
		f.SrcAddr = flow.Addr{10: 0xff, 11: 0xff, 12: 10, 13: 1, 14: byte(i % 3), 15: byte(i)}
		f.DstAddr = flow.Addr{10: 0xff, 11: 0xff, 12: 10, 13: 1, 14: byte(i % 2), 15: byte(i * 7)}
		switch i % 8 {
		case 0:
			f.DstAddr = addr("8.8.8.8")
		case 1:
			f.DstAddr = addr("192.0.2.1")
		case 2:
			f.DstAddr = addr("192.168.0.1")
			f.Process, f.ProcessDst = nginx, true
		}
	}
	return b
}

func TestEnrichDoesNotAllocate(t *testing.T) {
	e := newTest(Config{Processes: true})
	b := batch(e, 512)
	e.Enrich(b)
	if n := testing.AllocsPerRun(50, func() { e.Enrich(b) }); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}

func BenchmarkEnrich(b *testing.B) {
	e := newTest(Config{Processes: true})
	batch := batch(e, 512)
	b.ReportAllocs()
	for b.Loop() {
		e.Enrich(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/flow")
}
