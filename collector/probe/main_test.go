package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/collector/decode"
	"github.com/parallax-flow/parallax/collector/l7"
	"github.com/parallax-flow/parallax/collector/netns"
	"github.com/parallax-flow/parallax/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test needs root")
	}
	t.Skip("this test needs root")
}

// host is a network namespace.
type host struct {
	t    testing.TB
	name string
	path string
}

var hosts atomic.Uint32

func newHost(t testing.TB) *host {
	t.Helper()
	requireRoot(t)
	name := fmt.Sprintf("plxt-probe-%d-%d", os.Getpid(), hosts.Add(1))
	h := &host{t: t, name: name, path: "/run/netns/" + name}
	must(t, netns.OnThread(func() error {
		ns, err := vnetns.NewNamed(name)
		if err != nil {
			return err
		}
		return ns.Close()
	}))
	t.Cleanup(func() {
		if err := vnetns.DeleteNamed(name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	})
	h.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do runs f in the namespace. Sockets made there stay there.
func (h *host) do(f func() error) {
	h.t.Helper()
	must(h.t, netns.Do(h.path, f))
}

func (h *host) inode() uint32 {
	h.t.Helper()
	inode, err := netns.Inode(h.path)
	if err != nil {
		h.t.Fatal(err)
	}
	return inode
}

func (h *host) exec(args ...string) {
	h.t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", h.name}, args...)...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// join connects node and pod by a veth: the node's end is named name and has the first address of subnet n, the pod's
// end is eth0 with the second.
func join(node, pod *host, name string, n byte) (nodeIP, podIP netip.Addr) {
	node.t.Helper()
	nodeIP, podIP = netip.AddrFrom4([4]byte{10, 99, n, 1}), netip.AddrFrom4([4]byte{10, 99, n, 2})
	node.do(func() error {
		ns, err := vnetns.GetFromPath(pod.path)
		if err != nil {
			return err
		}
		defer ns.Close()
		v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
		v.Name = name
		if err := netlink.LinkAdd(v); err != nil {
			return err
		}
		return up(name, nodeIP)
	})
	pod.do(func() error { return up("eth0", podIP) })
	return nodeIP, podIP
}

func up(name string, ip netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// running is a probe that runs, with the flows that came of its records.
type running struct {
	*Probe
	t      testing.TB
	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex
	flows   []flow.Flow
	payload []l7.Segment
	changed chan struct{}
	hold    chan struct{} // while not nil and open, the reader stands still
}

func start(t testing.TB, cfg Config) *running {
	t.Helper()
	return startHeld(t, cfg, nil)
}

// startHeld starts a probe whose reader stands still at its first record until hold is closed.
func startHeld(t testing.TB, cfg Config, hold chan struct{}) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Probe: New(cfg), t: t, cancel: cancel, done: make(chan error, 1), changed: make(chan struct{}, 1), hold: hold}
	d, err := decode.New(decode.Config{Node: &flow.Node{Name: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		r.done <- r.Run(ctx, func(rec []byte) {
			if r.hold != nil {
				<-r.hold
			}
			var b flow.Batch
			r.mu.Lock()
			defer r.mu.Unlock()
			if err := d.Decode(rec, &b, r.segment); err != nil {
				t.Errorf("record of %d bytes: %v", len(rec), err)
			}
			r.flows = append(r.flows, b.Flows...)
		}, func() {
			select {
			case r.changed <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() { r.stop() })
	select {
	case <-r.Ready():
	case err := <-r.done:
		r.done <- nil
		t.Fatal(err)
	}
	return r
}

func (r *running) segment(s *l7.Segment) {
	c := *s
	c.Payload = slices.Clone(s.Payload)
	r.payload = append(r.payload, c)
}

// stop ends the probe and returns all flows. It may be called twice.
func (r *running) stop() []flow.Flow {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Error(err)
	}
	r.done <- nil
	return r.flows
}

const patience = 20 * time.Second

// wait returns the first flow of which is holds.
func (r *running) wait(what string, is func(*flow.Flow) bool) flow.Flow {
	r.t.Helper()
	deadline := time.After(patience)
	for seen := 0; ; {
		r.mu.Lock()
		flows := r.flows
		r.mu.Unlock()
		for ; seen < len(flows); seen++ {
			if is(&flows[seen]) {
				return flows[seen]
			}
		}
		select {
		case <-r.changed:
		case <-deadline:
			r.t.Fatalf("no %s among %d flows: %+v", what, len(flows), r.Stats())
		}
	}
}

// eventually waits for what no channel tells.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
