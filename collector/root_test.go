package collector

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

func TestRecordsBecomeFlowsInOrder(t *testing.T) {
	c, err := New(Config{Node: &flow.Node{Name: "n1", Boot: 1}}, Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		c.record(flowRecord(podAddr(i), podAddr(i+1), uint16(1000+i)))
	}
	c.record([]byte("not a record"))
	c.flush()
	if s := c.publish.Stats(); s.Produced != 11 || s.Lost[flow.StageDecode] != 1 {
		t.Errorf("produced %d, lost %v; want 10 flows and 1 lost record", s.Produced, s.Lost)
	}
	got := make([]flow.Flow, 20)
	n, _ := c.ring.Read(0, got)
	if n != 10 {
		t.Fatalf("%d flows in the ring, want 10", n)
	}
	for i, f := range got[:n] {
		if f.Seq != uint64(i+1) || f.SrcPort != uint16(1000+i) || f.Src == nil || f.Node.Name != "n1" {
			t.Errorf("flow %d: %+v", i, f)
		}
	}
	l := c.Ledger()
	if l.Produced != l.Delivered+l.InFlight+l.Lost[flow.StageDecode] {
		t.Errorf("ledger does not add up: %+v", l)
	}
}

// recorder notes what the datapath was told.
type recorder struct {
	addrs []flow.Addr
	scope []uint32
	err   error
}

func (r *recorder) SetLocalEndpoints(a []flow.Addr) error { r.addrs = a; return r.err }
func (r *recorder) SetScope(s []uint32) error             { r.scope = s; return r.err }

func TestLocalsFollowThePodsOfTheNode(t *testing.T) {
	var r recorder
	l := newLocals("n1", "", true, &r)
	if err := l.begin(); err != nil || len(r.scope) != 1 {
		t.Fatalf("scope %v, %v; want the process's own namespace", r.scope, err)
	}
	pod := func(name, node string, hostNetwork bool) *meta.Object {
		return &meta.Object{
			Kind: meta.Pod, Namespace: "shop", Name: name, Node: node, HostNetwork: hostNetwork, NetNS: "/proc/self/ns/net",
			Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		}
	}
	for _, o := range []*meta.Object{
		pod("here", "n1", false), pod("there", "n2", false), pod("host", "n1", true),
		{Kind: meta.Service, Namespace: "shop", Name: "here", Addrs: []netip.Addr{netip.MustParseAddr("10.9.9.9")}},
	} {
		if err := l.update(meta.Update{Object: o}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []flow.Addr{flow.AddrFrom(netip.MustParseAddr("10.0.0.1"))}; !slices.Equal(r.addrs, want) {
		t.Errorf("endpoints %v, want %v", r.addrs, want)
	}
	if len(r.scope) != 2 {
		t.Errorf("scope %v, want the node's and the pod's", r.scope)
	}
	if err := l.update(meta.Update{Object: pod("here", "n1", false), Deleted: true}); err != nil || len(r.addrs) != 0 || len(r.scope) != 1 {
		t.Errorf("after the pod went: endpoints %v, scope %v, %v", r.addrs, r.scope, err)
	}
	r.err = errors.New("map is full")
	if err := l.update(meta.Update{Object: pod("here", "n1", false)}); !errors.Is(err, r.err) {
		t.Errorf("got %v, want %v", err, r.err)
	}
}

func TestTapEndsWatchWithTheSeersError(t *testing.T) {
	want := errors.New("no")
	src := tap{source{}, func(meta.Update) error { return want }}
	if err := src.Watch(t.Context(), func(meta.Update) {}); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// source emits one update and waits.
type source struct{}

func (source) Watch(ctx context.Context, emit func(meta.Update)) error {
	emit(meta.Update{Object: &meta.Object{Kind: meta.Pod}})
	<-ctx.Done()
	return nil
}
