package relay

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/relay/names"
)

// Two collectors that know their own pods alone see one connection. With the cluster's names it counts once, at its source,
// and has both names, also in those records that cannot be joined.
func TestNamesComeBeforePairing(t *testing.T) {
	for _, tc := range []struct {
		name      string
		known     bool
		secondary int
	}{{"with names", true, 1}, {"without", false, 0}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := meta.NewDirectory(meta.Config{})
				from, to := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.1.1")
				if tc.known {
					dir.Update(meta.Update{Object: &meta.Object{Kind: meta.Pod, Namespace: "shop", Name: "cart-1", Node: "a", Addrs: []netip.Addr{from}}})
					dir.Update(meta.Update{Object: &meta.Object{Kind: meta.Pod, Namespace: "data", Name: "redis-0", Node: "b", Addrs: []netip.Addr{to}}})
				}
				reg := prometheus.NewPedanticRegistry()
				r := New(Config{}, Deps{Registerer: reg, Names: names.New(dir, "")})
				sub := r.Subscribe("test", 10)
				stop := runLoop(r)
				a, b := &flow.Node{Name: "a", Boot: 1}, &flow.Node{Name: "b", Boot: 1}
				feedA, feedB := connect(r, a), connect(r, b)
				world := &flow.Endpoint{Kind: flow.EndpointWorld, Name: "redis.data.svc.cluster.local"}
				seen := func(at time.Duration, node *flow.Node, p flow.Point, src, dst *flow.Endpoint) flow.Flow {
					return flow.Flow{
						Time: time.Now().Add(-at).UnixNano(), Node: node, Kind: flow.KindUpdate, Point: p, Src: src, Dst: dst,
						SrcAddr: flow.AddrFrom(from), DstAddr: flow.AddrFrom(to), SrcPort: 40000, DstPort: 6379, Proto: flow.ProtoTCP,
					}
				}
				// Interval reports that were made at other times: nothing to join.
				feedA.send(t, seen(400*time.Millisecond, a, flow.PointFromEndpoint, &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "cart-1", NodeName: "a"}, world))
				feedB.send(t, seen(0, b, flow.PointToEndpoint, nil, &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "data", Pod: "redis-0", NodeName: "b"}))
				time.Sleep(time.Second)
				stop()
				secondary, flows := 0, 0
				for batch := range sub.C() {
					for i := range batch.Flows {
						f := &batch.Flows[i]
						flows++
						if f.Secondary {
							secondary++
						}
						if tc.known && (f.Src.Pod != "cart-1" || f.Dst.Pod != "redis-0") {
							t.Errorf("from %+v to %+v", f.Src, f.Dst)
						}
					}
				}
				if flows != 2 || secondary != tc.secondary {
					t.Errorf("%d flows, %d secondary, want 2 and %d", flows, secondary, tc.secondary)
				}
				if got, want := gather(t, reg)["parallax_relay_named_endpoints_total"], float64(2*tc.secondary); got != want {
					t.Errorf("%v endpoints named, want %v", got, want)
				}
			})
		})
	}
}
