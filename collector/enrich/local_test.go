package enrich

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// TestRun runs everything in this network namespace, which needs no privilege.
func TestRun(t *testing.T) {
	e := New(Config{Node: "n1", Processes: true}, source{&meta.Object{Kind: meta.Pod, Namespace: "x", Name: "p", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Ready()
	if set := e.local.current.Load(); !set.has(addr("127.0.0.1")) {
		t.Error("loopback is not local")
	}
	for e.directory.Len(meta.Pod) == 0 {
		runtime.Gosched()
	}
	if f := e.one(flow.Flow{SrcAddr: addr("10.0.0.9"), DstAddr: addr("127.0.0.1"), Time: 1}); f.Src.Pod != "p" || f.Dst.Kind != flow.EndpointHost {
		t.Errorf("%s -> %s", key(f.Src), key(f.Dst))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRunFails(t *testing.T) {
	e := New(Config{Node: "n1", NetNS: "/nonexistent"})
	if err := e.Run(t.Context()); err == nil {
		t.Error("no error without a network namespace")
	}
}

// TestNetNS follows the addresses of another network namespace.
func TestNetNS(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	name := fmt.Sprintf("plxt-enrich-%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", name)
	defer ip("netns", "del", name)
	ip("-n", name, "addr", "add", "10.55.0.1/24", "brd", "+", "dev", "lo")

	e := New(Config{Node: "n9", NetNS: "/run/netns/" + name})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Ready()
	set := e.local.current.Load()
	if !set.has(addr("10.55.0.1")) || set.has(addr("10.55.0.2")) || !set.isBroadcast(addr("10.55.0.255")) {
		t.Errorf("addresses %v, broadcasts %v", set.addrs, set.broadcasts)
	}
	ip("-n", name, "addr", "add", "10.55.0.2/24", "dev", "lo")
	for !e.local.current.Load().has(addr("10.55.0.2")) {
		runtime.Gosched()
	}
	ip("-n", name, "addr", "del", "10.55.0.2/24", "dev", "lo")
	for e.local.current.Load().has(addr("10.55.0.2")) {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
