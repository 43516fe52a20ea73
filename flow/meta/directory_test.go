package meta

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

// clock is a hand-set wall clock, in seconds.
type clock struct{ sec int64 }

func (c *clock) now() time.Time { return time.Unix(c.sec, 0) }

func pod(ns, name string, addrs ...string) *Object {
	o := &Object{Kind: Pod, Namespace: ns, Name: name, Workload: name + "-w", WorkloadKind: "Deployment", Node: "n1"}
	for _, a := range addrs {
		o.Addrs = append(o.Addrs, netip.MustParseAddr(a))
	}
	return o
}

func newTest() (*Directory, *clock) {
	c := &clock{sec: 1000}
	return NewDirectory(Config{Node: "n1", Grace: 10 * time.Second, Keep: 100 * time.Second, Now: c.now}), c
}

func (d *Directory) name(addr string, sec int64) string {
	e := d.Lookup(flow.AddrFrom(netip.MustParseAddr(addr)), sec*1e9)
	if e == nil {
		return ""
	}
	if e.Pod != "" {
		return e.Pod
	}
	return e.Name
}

func TestLookupByTime(t *testing.T) {
	d, c := newTest()
	a, b := pod("x", "a", "10.0.0.1"), pod("x", "b", "10.0.0.1")
	d.Update(Update{Object: a})
	c.sec = 1100
	d.Update(Update{Object: &Object{Kind: Pod, Namespace: "x", Name: "a"}, Deleted: true})
	if got := []string{d.name("10.0.0.1", 1), d.name("10.0.0.1", 1110), d.name("10.0.0.1", 1111)}; !cmp.Equal(got, []string{"a", "a", ""}) {
		t.Errorf("after the deletion: %q", got)
	}
	c.sec = 1130
	d.Update(Update{Object: b})
	for sec, want := range map[int64]string{1: "a", 1099: "a", 1100: "b", 1111: "b", 1200: "b"} {
		if got := d.name("10.0.0.1", sec); got != want {
			t.Errorf("at %d: %q, want %q", sec, got, want)
		}
	}
	c.sec = 1140 // taken over without a deletion
	d.Update(Update{Object: pod("x", "c", "10.0.0.1")})
	for sec, want := range map[int64]string{1099: "a", 1139: "b", 1140: "c"} {
		if got := d.name("10.0.0.1", sec); got != want {
			t.Errorf("at %d: %q, want %q", sec, got, want)
		}
	}
}

// TestForwardsNameNothing holds that where a service leads says nothing about who has an address.
func TestForwardsNameNothing(t *testing.T) {
	d, _ := newTest()
	service := Object{Kind: Service, Namespace: "x", Name: "s", Addrs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}}
	d.Update(Update{Object: &service})
	endpoint := d.Lookup(flow.AddrFrom(service.Addrs[0]), 1)
	leads := service
	leads.Forwards = []Forward{{Addr: netip.MustParseAddr("192.0.2.1"), Port: 80, Proto: flow.ProtoTCP, To: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}}}
	d.Update(Update{Object: &leads})
	if got := []string{d.name("192.0.2.1", 1), d.name("10.0.0.1", 1)}; !cmp.Equal(got, []string{"", ""}) {
		t.Errorf("named by where a service leads: %q", got)
	}
	if d.Lookup(flow.AddrFrom(service.Addrs[0]), 1) != endpoint {
		t.Error("another endpoint for the same names")
	}
	if got := d.Objects(Service); len(got) != 1 || got[0] != &leads {
		t.Errorf("what is known last: %+v", got)
	}
}

func TestForgetsWithTime(t *testing.T) {
	d, c := newTest()
	for i := range 1000 {
		o := pod("x", fmt.Sprint("p", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250), "10.9.9.9")
		d.Update(Update{Object: o})
		d.Update(Update{Object: o, Deleted: true})
		c.sec += 10
	}
	held := 0
	for i := range d.shards {
		for _, s := range d.shards[i].Load().slots {
			if s.timeline == nil {
				continue
			}
			held++
			if len(s.timeline.former) > maxFormer {
				t.Errorf("%d former owners", len(s.timeline.former))
			}
		}
	}
	if held > len(d.shards)*2 || len(d.claims) != 0 || len(d.objects) != 0 || d.Len(Pod) != 0 {
		t.Errorf("%d addresses, %d claims, %d objects are held after all pods are gone", held, len(d.claims), len(d.objects))
	}
}

func TestEndpoints(t *testing.T) {
	d, _ := newTest()
	addr := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	p := pod("shop", "cart-1", "10.0.0.1", "fd00::1")
	p.Labels = map[string]string{"b": "2", "a": "1", "pod-template-hash": "x"}
	for _, o := range []*Object{
		p,
		{Kind: Pod, Namespace: "kube-system", Name: "proxy", Addrs: addr("192.168.0.1"), HostNetwork: true},
		{Kind: Node, Name: "n1", Addrs: addr("192.168.0.1"), Cluster: "c"},
		{Kind: Node, Name: "n2", Addrs: addr("192.168.0.2")},
		{Kind: Service, Namespace: "shop", Name: "cart", Addrs: addr("10.96.0.1")},
		{Kind: Service, Namespace: "shop", Name: "lb", Addrs: addr("192.168.0.1")},
		{Kind: Namespace, Name: "empty"},
	} {
		d.Update(Update{Object: o})
	}
	shop := Identity("shop", nil)
	cart := &flow.Endpoint{Kind: flow.EndpointPod, Identity: Identity("shop", map[string]string{"a": "1", "b": "2"}), Namespace: "shop", Pod: "cart-1",
		Workload: "cart-1-w", WorkloadKind: "Deployment", NodeName: "n1", Labels: []string{"a=1", "b=2", "pod-template-hash=x"}}
	for a, want := range map[string]*flow.Endpoint{
		"10.0.0.1": cart, "fd00::1": cart,
		"192.168.0.1": {Kind: flow.EndpointHost, Identity: 1, Name: "n1", NodeName: "n1", Cluster: "c"},
		"192.168.0.2": {Kind: flow.EndpointHost, Identity: 6, Name: "n2", NodeName: "n2"},
		"10.96.0.1":   {Kind: flow.EndpointService, Identity: shop, Namespace: "shop", Name: "cart"},
		"1.1.1.1":     nil,
	} {
		if diff := cmp.Diff(want, d.Lookup(flow.AddrFrom(netip.MustParseAddr(a)), 0)); diff != "" {
			t.Errorf("%s: %s", a, diff)
		}
	}
	if diff := cmp.Diff([]string{"empty", "kube-system", "shop"}, d.Namespaces()); diff != "" {
		t.Error(diff)
	}
	if d.Len(Pod) != 2 || d.Len(Service) != 2 || len(d.Objects(Node)) != 2 || d.Objects(Node)[0].Name != "n1" {
		t.Errorf("%d pods, %d services, nodes %v", d.Len(Pod), d.Len(Service), d.Objects(Node))
	}

	// What holds an address by rank gives it back to the next.
	d.Update(Update{Object: &Object{Kind: Node, Name: "n1"}, Deleted: true})
	if got := d.name("192.168.0.1", 1001); got != "lb" {
		t.Errorf("behind the node's deletion: %q", got)
	}
}

func TestSameContentKeepsEndpoint(t *testing.T) {
	d, _ := newTest()
	at := flow.AddrFrom(netip.MustParseAddr("10.0.0.1"))
	d.Update(Update{Object: pod("x", "a", "10.0.0.1")})
	first := d.Lookup(at, 0)
	d.Update(Update{Object: pod("x", "a", "10.0.0.1")})
	if d.Lookup(at, 2000e9) != first {
		t.Error("an unchanged pod got a new endpoint")
	}
	changed := pod("x", "a", "10.0.0.1")
	changed.Labels = map[string]string{"v": "2"}
	d.Update(Update{Object: changed})
	if e := d.Lookup(at, 2000e9); e == first || len(e.Labels) != 1 {
		t.Errorf("changed labels are not there: %+v", e)
	}
	if d.Lookup(at, 999e9) != first {
		t.Error("the past changed")
	}
	d.Update(Update{Object: pod("x", "a", "10.0.0.2")})
	if d.name("10.0.0.1", 2000) != "" || d.name("10.0.0.2", 2000) != "a" {
		t.Error("a moved pod keeps its former address")
	}
}

func TestIdentity(t *testing.T) {
	a := Identity("ns", map[string]string{"a": "1", "b": "2"})
	if a < FirstIdentity || a != Identity("ns", map[string]string{"b": "2", "a": "1"}) {
		t.Errorf("identity %d is not stable", a)
	}
	for _, other := range []uint32{
		Identity("ns", map[string]string{"a": "1"}), Identity("other", map[string]string{"a": "1", "b": "2"}), Identity("ns", map[string]string{"a": "1b", "": "2"}),
	} {
		if other == a {
			t.Errorf("different label sets share identity %d", a)
		}
	}
}

type sourceFunc func(ctx context.Context, emit func(Update)) error

func (f sourceFunc) Watch(ctx context.Context, emit func(Update)) error { return f(ctx, emit) }

func TestRun(t *testing.T) {
	d, _ := newTest()
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Run(ctx, sourceFunc(func(ctx context.Context, emit func(Update)) error {
		emit(Update{Object: pod("x", "a", "10.0.0.1")})
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}))
	if err != nil || d.name("10.0.0.1", 0) != "a" {
		t.Errorf("%v, %q", err, d.name("10.0.0.1", 0))
	}
	broken := errors.New("broken")
	err = d.Run(t.Context(),
		sourceFunc(func(ctx context.Context, _ func(Update)) error { <-ctx.Done(); return nil }),
		sourceFunc(func(context.Context, func(Update)) error { return broken }))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestConcurrentLookup(t *testing.T) {
	d := NewDirectory(Config{})
	at := flow.AddrFrom(netip.MustParseAddr("10.0.0.1"))
	d.Update(Update{Object: pod("x", "a", "10.0.0.1")})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 500 {
				d.Update(Update{Object: pod("x", fmt.Sprint(w, i), fmt.Sprintf("10.%d.%d.%d", w, i/250, i%250))})
				if d.Lookup(at, 0) == nil {
					t.Error("an owner vanished")
				}
			}
		})
	}
	wg.Wait()
}

func fill(n int) (*Directory, []flow.Addr) {
	d := NewDirectory(Config{})
	addrs := make([]flow.Addr, n)
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		addrs[i] = flow.AddrFrom(a)
		d.Update(Update{Object: &Object{Kind: Pod, Namespace: "x", Name: a.String(), Addrs: []netip.Addr{a}}})
	}
	return d, addrs
}

func TestManyAddresses(t *testing.T) {
	const n = 20_000
	d, addrs := fill(n)
	largest := 0
	for i := range d.shards {
		largest = max(largest, d.shards[i].Load().used)
	}
	if mean := n / len(d.shards); largest > 2*mean {
		t.Errorf("a shard holds %d of %d addresses, the mean is %d", largest, n, mean)
	}
	for _, a := range addrs {
		if e := d.Lookup(a, 1); e == nil || e.Pod != a.String() {
			t.Fatalf("%s: %v", a, e)
		}
		a[0] = 1
		if d.Lookup(a, 1) != nil {
			t.Fatalf("%s was never there", a)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	d, addrs := fill(100)
	if n := testing.AllocsPerRun(100, func() { d.Lookup(addrs[7], 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, addrs := fill(n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if d.Lookup(addrs[i%n], 1) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	const n = 10_000
	d, addrs := fill(n)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		o := &Object{Kind: Pod, Namespace: "y", Name: "pod", Addrs: []netip.Addr{addrs[i%n].Netip()}}
		d.Update(Update{Object: o}) // moves from address to address
	}
}
