package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/collector/enrich"
	"github.com/parallax-flow/parallax/collector/netns"
	"github.com/parallax-flow/parallax/collector/probe"
	"github.com/parallax-flow/parallax/collector/publish"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
)

// twoPods makes a node with two pods and returns the paths of the three namespaces. The pods are 10.98.0.2 and .3.
func twoPods(t *testing.T) (node string, pods [2]string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test needs root")
		}
		t.Skip("this test needs root")
	}
	ip := func(lines ...string) {
		t.Helper()
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	name := func(s string) string { return fmt.Sprintf("plxt-collector-%d-%s", os.Getpid(), s) }
	for _, s := range []string{"node", "0", "1"} {
		ip("netns add " + name(s))
		t.Cleanup(func() { ip("netns del " + name(s)) })
	}
	exec := func(s string, line string) { ip("netns exec " + name(s) + " ip " + line) }
	exec("node", "addr add 10.98.0.1/32 dev lo")
	exec("node", "link set lo up")
	for i, s := range []string{"0", "1"} {
		pods[i] = "/run/netns/" + name(s)
		exec("node", fmt.Sprintf("link add plxt%s type veth peer name eth0 netns %s", s, name(s)))
		exec("node", "link set plxt"+s+" up")
		exec("node", fmt.Sprintf("route add 10.98.0.%d/32 dev plxt%s src 10.98.0.1", i+2, s))
		exec(s, fmt.Sprintf("addr add 10.98.0.%d/32 dev eth0", i+2))
		exec(s, "link set eth0 up")
		exec(s, "route add 10.98.0.1 dev eth0 scope link")
		exec(s, "route add default via 10.98.0.1 dev eth0")
	}
	node = "/run/netns/" + name("node")
	if err := netns.Do(node, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	return node, pods
}

// objects is a source of metadata.
type objects []*meta.Object

func (list objects) Watch(ctx context.Context, emit func(meta.Update)) error {
	for _, o := range list {
		emit(meta.Update{Object: o})
	}
	<-ctx.Done()
	return nil
}

// nowhere is a relay that is not there: a Parallax that runs on this machine plays no part.
const nowhere = "127.0.0.1:1"

// TestCollectorEnforces denies a connection between two pods: the flow says by which policy, between whom, and behind the
// end of Run the connection is made.
func TestCollectorEnforces(t *testing.T) {
	node, pods := twoPods(t)
	client, server := netip.MustParseAddr("10.98.0.2"), netip.MustParseAddr("10.98.0.3")
	deny := policy.Policy{Ref: policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "nobody"}}
	deny.Sections[policy.Ingress].Isolates = true
	c, err := New(Config{
		Node:    &flow.Node{Name: "n1", Boot: 1},
		Probe:   probe.Config{NetNS: node, DropScope: []uint32{}},
		Enforce: enforce.Config{Mode: enforce.Enforce},
		Enrich:  enrich.Config{NetNS: node},
		Publish: publish.Config{Target: nowhere},
	}, Deps{
		Sources: []meta.Source{objects{
			{Kind: meta.Node, Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("10.98.0.1")}},
			{Kind: meta.Pod, Namespace: "shop", Name: "client", Node: "n1", NetNS: pods[0], Addrs: []netip.Addr{client}},
			{Kind: meta.Pod, Namespace: "shop", Name: "server", Node: "n1", NetNS: pods[1], Addrs: []netip.Addr{server}},
		}},
		Policies: []enforce.PolicySource{enforce.Static([]policy.Policy{deny})},
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	select {
	case <-c.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	if s := c.Stats().Enforce; !s.InForce || s.Endpoints != 2 || s.Owned != 2 {
		t.Errorf("ready, and %+v", s)
	}

	var l net.Listener
	if err := netns.Do(pods[1], func() (err error) { l, err = net.Listen("tcp4", netip.AddrPortFrom(server, 0).String()); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed := make(chan error, 1)
	go func() {
		dialed <- netns.Do(pods[0], func() error { // waits, and sends its SYN again until it is let through
			conn, err := net.Dial("tcp4", l.Addr().String())
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	}()
	f := firstDrop(t, c)
	if f.Src == nil || f.Src.Pod != "client" || f.Dst == nil || f.Dst.Pod != "server" || f.Drop.Reason != flow.DropPolicyDenied || f.Dropped() == 0 ||
		f.Policy.Text != "ingress default deny because of NetworkPolicy shop/nobody" || f.Point != flow.PointToEndpoint {
		t.Errorf("drop %+v of %+v", f, f.Policy)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-dialed; err != nil {
		t.Errorf("behind the end: %v", err)
	}
}

// firstDrop waits for a drop by policy in the collector's ring.
func firstDrop(t *testing.T, c *Collector) flow.Flow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	buf := make([]flow.Flow, 64)
	for seq := uint64(0); ; {
		if err := c.Ring().Wait(ctx, seq); err != nil {
			t.Fatalf("no drop: %v, %+v", err, c.Stats())
		}
		n, first := c.Ring().Read(seq, buf)
		for _, f := range buf[:n] {
			if f.Kind == flow.KindDrop && f.Policy != nil {
				return f
			}
		}
		seq = first + uint64(n)
	}
}

func TestCollectorRefusesBadEnforcement(t *testing.T) {
	for want, cfg := range map[string]Config{
		"no node given":                   {},
		`pattern "[" of owned interfaces`: {Node: &flow.Node{Name: "n1", Boot: 1}, Enforce: enforce.Config{Mode: enforce.Audit, Own: []string{"["}}},
	} {
		if _, err := New(cfg, Deps{Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	c, err := New(Config{
		Node: &flow.Node{Name: "n1", Boot: 1}, Enforce: enforce.Config{Mode: enforce.Enforce}, Publish: publish.Config{Target: nowhere},
	}, Deps{
		Policies: []enforce.PolicySource{brokenSource{}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("run with a source that fails: %v", err)
	}
}

var errBroken = errors.New("broken")

type brokenSource struct{}

func (brokenSource) WatchPolicies(context.Context, func([]policy.Policy)) error { return errBroken }
