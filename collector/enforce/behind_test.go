package enforce_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
)

// TestServicesAreNews changes, removes and brings back a service.
func TestServicesAreNews(t *testing.T) {
	d := newTables()
	policies := read(t, doc("c", "p", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: z}}}]}]}"))
	e := begin(t, d, nil, enforce.Static(policies))
	objects := simplePods()
	for _, o := range objects {
		e.Update(meta.Update{Object: o})
	}
	if s := settled(t, e); s.Services != 1 {
		t.Errorf("%+v", s)
	}
	forward := objects[3].Forwards[0]
	more := forward
	more.To = append(slices.Clone(more.To), netip.MustParseAddrPort("10.0.0.2:8080"))
	for _, c := range []struct {
		name    string
		u       meta.Update
		allowed bool
		known   bool
	}{
		{"another backend", meta.Update{Object: service("c", "s", more)}, false, true},
		{"the old backends", meta.Update{Object: service("c", "s", forward)}, true, true},
		{"no virtual address", meta.Update{Object: service("c", "s")}, false, false},
		{"back again", meta.Update{Object: service("c", "s", forward)}, true, true},
		{"deleted", meta.Update{Object: service("c", "s"), Deleted: true}, false, false},
	} {
		e.Update(c.u)
		settled(t, e)
		d.mu.Lock()
		number, known := d.services[policy.ServiceKey{Addr: flow.AddrFrom(forward.Addr), Port: 80, Proto: flow.ProtoTCP}]
		allowed := false
		for k := range d.entries {
			allowed = allowed || k.Kind == policy.PeerService && k.Peer == number
		}
		d.mu.Unlock()
		if known != c.known || allowed != c.allowed {
			t.Errorf("%s: known %t, allowed %t", c.name, known, allowed)
		}
	}
}

// TestGonePodsStayBehindTheirService deletes a pod before its service knows.
func TestGonePodsStayBehindTheirService(t *testing.T) {
	d := newTables()
	policies := read(t, doc("c", "p", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: z}}}]}]}"))
	e := begin(t, d, nil, enforce.Static(policies))
	objects := simplePods()
	x, z, s := objects[0], objects[2], objects[3]
	for _, o := range objects {
		e.Update(meta.Update{Object: o})
	}
	successor := *z
	successor.Addrs = nil
	other := *objects[1]
	other.Name, other.Addrs = "other", z.Addrs
	for _, c := range []struct {
		name      string
		u         meta.Update
		peers     int
		endpoints int
		allowed   bool
	}{
		{"a pod that is behind none", meta.Update{Object: x, Deleted: true}, 2, 2, true},
		{"the backend", meta.Update{Object: z, Deleted: true}, 2, 1, true},
		{"its successor", meta.Update{Object: &successor}, 2, 2, true},
		{"another pod of the address", meta.Update{Object: &other}, 2, 3, false},
		{"the backend again", meta.Update{Object: z}, 2, 3, false},
		{"not the other", meta.Update{Object: &other, Deleted: true}, 2, 2, true},
		{"the backend once more", meta.Update{Object: z, Deleted: true}, 2, 1, true},
		{"the service", meta.Update{Object: service("c", "s"), Deleted: true}, 1, 1, false},
		{"the service again", meta.Update{Object: s}, 1, 1, false},
	} {
		e.Update(c.u)
		stats := settled(t, e)
		d.mu.Lock()
		allowed := false
		for k := range d.entries {
			allowed = allowed || k.Kind == policy.PeerService
		}
		if stats.Endpoints != c.endpoints || len(d.peers) != c.peers || allowed != c.allowed {
			t.Errorf("%s: %d endpoints, %d peers, service allowed %t", c.name, stats.Endpoints, len(d.peers), allowed)
		}
		d.mu.Unlock()
	}
}
