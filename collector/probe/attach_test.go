package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/collector/netns"
	"github.com/parallax-flow/parallax/flow"
)

// attachedNothing returns an error unless the interface of this namespace is as it was made.
func attachedNothing(t testing.TB, name string) error {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		res, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
		if errors.Is(err, unix.EINVAL) {
			break // a kernel without tcx
		}
		if err != nil {
			return err
		}
		if len(res.Programs) != 0 {
			return fmt.Errorf("%s: %d programs at %v", name, len(res.Programs), at)
		}
	}
	qdiscs, err := netlink.QdiscList(l)
	if err != nil {
		return err
	}
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			return fmt.Errorf("%s still has a clsact qdisc", name)
		}
	}
	return nil
}

// logged collects the warnings of a probe.
type logged struct {
	slog.Handler
	mu       sync.Mutex
	warnings []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Level >= slog.LevelWarn {
		l.warnings = append(l.warnings, r.Message)
	}
	return nil
}

func TestInterfaceThatRefusesIsLeftOut(t *testing.T) {
	node, a, b := newHost(t), newHost(t), newHost(t)
	join(node, a, "plxt0", 1)
	nodeIP, podIP := join(node, b, "plxt1", 2)
	// It takes filters for egress, and runs them at ingress.
	node.exec("tc", "qdisc", "add", "dev", "plxt0", "ingress")
	log := &logged{}
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{}, Mechanism: MechanismClsact, Logger: slog.New(log)})
	if s := r.Stats(); s.Interfaces != 2 || s.InterfacesFailed != 1 {
		t.Errorf("%d interfaces observed, %d failed; want 2 and 1", s.Interfaces, s.InterfacesFailed)
	}
	connect(t, b, node, nodeIP)
	r.wait("flow at the other interface", func(f *flow.Flow) bool { return f.SrcAddr.Netip() == podIP })
	r.stop()
	if diff := cmp.Diff([]string{"interface is not observed"}, log.warnings); diff != "" {
		t.Error(diff)
	}
	node.do(func() error {
		l, err := netlink.LinkByName("plxt0")
		if err != nil {
			return err
		}
		if filters, err := netlink.FilterList(l, parents[0]); err != nil || len(filters) != 0 {
			t.Errorf("%d filters are left, error %v", len(filters), err)
		}
		return attachedNothing(t, "plxt1")
	})
}

func TestClsactOfAKilledCollectorIsTakenOver(t *testing.T) {
	node, pod := newHost(t), newHost(t)
	join(node, pod, "plxt0", 1)
	node.do(func() error { // what a killed collector leaves
		l, err := netlink.LinkByName("plxt0")
		if err != nil {
			return err
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.SchedCLS, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
		})
		if err != nil {
			return err
		}
		defer prog.Close()
		_, err = attachClsact(h, l.Attrs().Index, prog, prog)
		return err
	})
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{}, Mechanism: MechanismClsact})
	if s := r.Stats(); s.Interfaces != 2 {
		t.Errorf("%d interfaces observed, want 2", s.Interfaces)
	}
	r.stop()
	node.do(func() error { return attachedNothing(t, "plxt0") })
}

func TestFirstThreadStaysInItsNamespace(t *testing.T) {
	node, pod := newHost(t), newHost(t)
	join(node, pod, "plxt0", 1)
	first := func() string {
		ns, err := os.Readlink("/proc/self/ns/net")
		must(t, err)
		return ns
	}
	before := first()
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{}})
	if now := first(); now != before {
		t.Errorf("first thread is in %s, was in %s", now, before)
	}
	r.stop()
	if now := first(); now != before {
		t.Errorf("first thread is in %s behind the end, was in %s", now, before)
	}
}

func TestAnotherProgramBeforeOurs(t *testing.T) {
	node, pod := newHost(t), newHost(t)
	nodeIP, podIP := join(node, pod, "plxt0", 1)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{ // passes every packet itself: what is behind it sees none
		Type: ebpf.SchedCLS, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	must(t, err)
	defer prog.Close()
	node.do(func() error {
		l, err := netlink.LinkByName("plxt0")
		if err != nil {
			return err
		}
		cni, err := link.AttachTCX(link.TCXOptions{Interface: l.Attrs().Index, Program: prog, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			t.Cleanup(func() { cni.Close() })
		}
		return err
	})
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{}, Mechanism: MechanismTCX})
	connect(t, pod, node, nodeIP)
	r.wait("flow", func(f *flow.Flow) bool { return f.SrcAddr.Netip() == podIP && f.Kind == flow.KindNew })
}

func TestWithoutPrivileges(t *testing.T) {
	requireRoot(t)
	err := netns.OnThread(func() error { // capabilities are the thread's, which ends
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			t.Error(err)
		}
		if f := Check()[0]; f.Have || f.Detail != ErrPermission.Error() {
			t.Errorf("check: %+v", f)
		}
		return New(Config{}).Run(context.Background(), func([]byte) {}, func() {})
	})
	if !errors.Is(err, ErrPermission) {
		t.Errorf("error %v", err)
	}
}
