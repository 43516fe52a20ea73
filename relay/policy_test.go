package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

// Both ends decide on one connection and one of them denies: each record comes out as it was made, once, and none is secondary.
func TestDecisionsPassUnharmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{}, Deps{})
		sub := r.Subscribe("test", 10)
		stop := runLoop(r)
		a, b := &flow.Node{Name: "a", Boot: 1}, &flow.Node{Name: "b", Boot: 1}
		feedA, feedB := connect(r, a), connect(r, b)
		src, dst := &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "a"}, &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "b"}
		allow := flow.PolicyRef{Kind: "NetworkPolicy", Namespace: "shop", Name: "allow-dns"}
		deny := []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "data", Name: "default-deny"}, {Kind: "NetworkPolicy", Namespace: "data", Name: "redis"}}
		denied, why := &flow.Decision{Rule: -1, Policies: deny, Text: "ingress default deny"}, &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}
		at := time.Now().UnixNano()
		record := func(after int64, node *flow.Node, k flow.Kind, v flow.Verdict, p flow.Point, d *flow.Decision) flow.Flow {
			f := flow.Flow{
				Time: at + after, Node: node, Kind: k, Verdict: v, Point: p, Policy: d, Src: src, Dst: dst, SrcPort: 40000, DstPort: 6379, Proto: flow.ProtoTCP,
			}
			if v == flow.VerdictDropped {
				f.Drop = why
			}
			return f
		}
		want := []flow.Flow{
			record(1, a, flow.KindVerdict, flow.VerdictForwarded, flow.PointFromEndpoint, &flow.Decision{Match: flow.PolicyMatchL3L4, Rule: 2, Policies: []flow.PolicyRef{allow}}),
			record(2, b, flow.KindVerdict, flow.VerdictDropped, flow.PointToEndpoint, denied),
			record(3, b, flow.KindDrop, flow.VerdictDropped, flow.PointToEndpoint, denied),
			record(4, b, flow.KindVerdict, flow.VerdictAudit, flow.PointToEndpoint, denied),
		}
		want[2].Packets, want[2].Bytes = 3, 180
		feedA.send(t, want[0])
		feedB.send(t, want[1:]...)
		time.Sleep(time.Second)
		stop()
		var got []flow.Flow
		for batch := range sub.C() {
			got = append(got, batch.Flows...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
