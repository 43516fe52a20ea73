package hubble

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

// TestService: a pod's service is that of Hubble's flow, not a DNS name, and comes back.
func TestService(t *testing.T) {
	redis := &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "data", Pod: "redis-0", Workload: "redis", Name: "redis-ha"}
	address := &flow.Endpoint{Kind: flow.EndpointService, Namespace: "shop", Name: "cart"}
	f := &flow.Flow{Kind: flow.KindNew, Proto: flow.ProtoTCP, Src: redis, Dst: address}
	p := ToProto(f)
	if s, d := p.GetSourceService(), p.GetDestinationService(); s.GetName() != "redis-ha" || s.GetNamespace() != "data" || d.GetName() != "cart" || d.GetNamespace() != "shop" {
		t.Errorf("services %v and %v", s, d)
	}
	if n := append(p.GetSourceNames(), p.GetDestinationNames()...); len(n) > 0 {
		t.Errorf("DNS names %v", n)
	}
	if diff := cmp.Diff(redis, endpointFromProto(p.GetSource(), p.GetSourceNames(), p.GetSourceService())); diff != "" {
		t.Error(diff)
	}
}
