package names

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

var (
	addr  = netip.MustParseAddr("10.1.0.1")
	other = netip.MustParseAddr("198.51.100.1")
)

func directory() *meta.Directory {
	d := meta.NewDirectory(meta.Config{})
	d.Update(meta.Update{Object: &meta.Object{Kind: meta.Pod, Namespace: "shop", Name: "cart", Node: "a", Addrs: []netip.Addr{addr}}})
	return d
}

func TestFill(t *testing.T) {
	for _, tt := range []struct {
		name, cluster string
		was           *flow.Endpoint
		addr          netip.Addr
		want          string // pod
	}{
		{"nothing known", "", nil, addr, "cart"},
		{"unknown kind", "", &flow.Endpoint{}, addr, "cart"},
		{"the world, by address", "", &flow.Endpoint{Kind: flow.EndpointWorld, Name: "10.1.0.1"}, addr, "cart"},
		{"the world, by a DNS name", "", &flow.Endpoint{Kind: flow.EndpointWorld, Name: "cart.shop.svc.cluster.local"}, addr, "cart"},
		{"really the world", "", &flow.Endpoint{Kind: flow.EndpointWorld}, other, ""},
		{"nobody's and not known", "", nil, other, ""},
		{"a pod", "", &flow.Endpoint{Kind: flow.EndpointPod, Pod: "mine"}, addr, "mine"},
		{"a service", "", &flow.Endpoint{Kind: flow.EndpointService, Pod: "-"}, addr, "-"},
		{"a host", "", &flow.Endpoint{Kind: flow.EndpointHost, Pod: "-"}, addr, "-"},
		{"a process", "", &flow.Endpoint{Kind: flow.EndpointProcess, Pod: "-"}, addr, "-"},
		{"of this cluster", "west", nil, addr, "cart"},
		{"of another cluster", "east", nil, addr, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := New(directory(), tt.cluster)
			flows := []flow.Flow{{Src: tt.was, SrcAddr: flow.AddrFrom(tt.addr)}, {Dst: tt.was, DstAddr: flow.AddrFrom(tt.addr)}}
			n.Fill(&flow.Node{Name: "b", Cluster: "west"}, flows)
			filled := uint64(0)
			for _, e := range []*flow.Endpoint{flows[0].Src, flows[1].Dst} {
				pod := ""
				if e != nil {
					pod = e.Pod
				}
				if pod != tt.want {
					t.Errorf("%+v, want pod %q", e, tt.want)
				}
				if e != tt.was {
					filled++
				}
			}
			if diff := cmp.Diff(filled, n.Filled()); diff != "" {
				t.Errorf("filled: %s", diff)
			}
		})
	}
}

// TestFillByTime: an address that another pod took over is named by who had it at the time of the flow.
func TestFillByTime(t *testing.T) {
	now := time.Unix(1000, 0)
	d := meta.NewDirectory(meta.Config{Now: func() time.Time { return now }})
	first := &meta.Object{Kind: meta.Pod, Namespace: "shop", Name: "cart", Node: "a", Addrs: []netip.Addr{addr}}
	d.Update(meta.Update{Object: first})
	d.Update(meta.Update{Object: first, Deleted: true})
	now = time.Unix(1010, 0)
	d.Update(meta.Update{Object: &meta.Object{Kind: meta.Pod, Namespace: "data", Name: "redis", Node: "c", Addrs: []netip.Addr{addr}}})
	var flows []flow.Flow
	for _, at := range []int64{999, 1011} {
		flows = append(flows, flow.Flow{Time: time.Unix(at, 0).UnixNano(), DstAddr: flow.AddrFrom(addr)})
	}
	New(d, "").Fill(&flow.Node{Name: "b"}, flows)
	if diff := cmp.Diff([]string{"cart", "redis"}, []string{flows[0].Dst.Pod, flows[1].Dst.Pod}); diff != "" {
		t.Error(diff)
	}
}

func TestFillDoesNotAllocate(t *testing.T) {
	n, node := New(directory(), ""), &flow.Node{Name: "b"}
	flows := make([]flow.Flow, 100)
	if got := testing.AllocsPerRun(100, func() {
		for i := range flows {
			flows[i] = flow.Flow{SrcAddr: flow.AddrFrom(addr), DstAddr: flow.AddrFrom(other)}
		}
		n.Fill(node, flows)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// BenchmarkFill: one end known, one to be found, as a collector of one node leaves them.
func BenchmarkFill(b *testing.B) {
	n, node := New(directory(), ""), &flow.Node{Name: "b"}
	flows, known := make([]flow.Flow, 1000), &flow.Endpoint{Kind: flow.EndpointPod}
	b.ReportAllocs()
	for b.Loop() {
		for i := range flows {
			flows[i].Src, flows[i].Dst, flows[i].DstAddr = known, nil, flow.AddrFrom(addr)
		}
		n.Fill(node, flows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/flow")
}
