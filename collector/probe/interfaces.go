package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/collector/netns"
)

// interfaces keeps the programs attached to every interface of one network namespace that has a role, as interfaces
// and default routes come and go. All but the counters belongs to the goroutine of run.
type interfaces struct {
	cfg             *Config
	ingress, egress *ebpf.Program
	roles           *ebpf.Map // ifindex -> role
	release         func()    // called before all is detached
	log             *slog.Logger

	handle    *netlink.Handle
	mechanism Mechanism
	observed  map[int]*observed

	attached, failed atomic.Uint64
}

type observed struct {
	name string
	role Role
	on   attachment // nil: attaching failed, and is not tried again while the interface lives
}

// run attaches, calls ready once and follows changes until ctx ends. It leaves nothing attached. It must run in the
// namespace.
func (s *interfaces) run(ctx context.Context, ready func()) error {
	w, err := netns.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	defer context.AfterFunc(ctx, w.Close)()
	if s.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer s.handle.Close()
	s.mechanism, s.observed = s.cfg.Mechanism, make(map[int]*observed)
	defer s.detachAll()
	for called := false; ; {
		began := time.Now()
		if err := s.reconcile(); err != nil {
			return err
		}
		if !called {
			called = true
			ready()
		}
		// A router that changes its routes all the time may cost a tenth of a core, no more.
		if !sleep(ctx, 9*time.Since(began)) {
			return nil
		}
		if err := w.Wait(); ctx.Err() != nil {
			return nil // which closed the watcher
		} else if err != nil {
			return fmt.Errorf("watch interfaces: %w", err)
		}
	}
}

// reconcile makes what is attached equal to what is there. A list that was cut short by changes is no reason to detach:
// those changes wake us again.
func (s *interfaces) reconcile() error {
	links, err := netns.Whole(s.handle.LinkList)
	if err == nil {
		var uplinks map[int]bool
		if uplinks, err = netns.Whole(s.uplinks); err == nil {
			s.apply(links, uplinks)
			return nil
		}
	}
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil
	}
	return fmt.Errorf("list interfaces: %w", err)
}

func (s *interfaces) apply(links []netlink.Link, uplinks map[int]bool) {
	roles := s.cfg.Interfaces.roles(links, uplinks)
	for index := range s.observed {
		if roles[index] == RoleNone {
			s.drop(index)
		}
	}
	for _, l := range links {
		if a := l.Attrs(); roles[a.Index] != RoleNone {
			s.observe(a.Index, a.Name, roles[a.Index])
		}
	}
}

// uplinks returns the interfaces with a default route in the main table.
func (s *interfaces) uplinks() (map[int]bool, error) {
	up := make(map[int]bool)
	for _, family := range [...]int{unix.AF_INET, unix.AF_INET6} {
		routes, err := s.handle.RouteListFiltered(family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, err
		}
		for _, r := range routes {
			if r.LinkIndex != 0 {
				up[r.LinkIndex] = true
			}
			for _, hop := range r.MultiPath {
				up[hop.LinkIndex] = true
			}
		}
	}
	return up, nil
}

// observe attaches to the interface, or changes its role. The role is set before the programs run, which take an
// interface without one for not observed.
func (s *interfaces) observe(index int, name string, role Role) {
	o := s.observed[index]
	if o != nil && (o.role == role || o.on == nil) {
		return
	}
	if err := s.roles.Put(uint32(index), uint32(role)); err != nil {
		s.fail(index, name, role, fmt.Errorf("set role: %w", err))
		return
	}
	if o != nil {
		o.role = role
		return
	}
	on, mechanism, err := attach(s.handle, s.mechanism, index, s.ingress, s.egress)
	if err != nil {
		_ = s.roles.Delete(uint32(index))
		s.fail(index, name, role, err)
		return
	}
	s.mechanism = mechanism // what worked once is not asked again for each interface
	s.observed[index] = &observed{name, role, on}
	s.attached.Add(1)
	s.log.Debug("interface observed", "interface", name, "role", role.String())
}

func (s *interfaces) fail(index int, name string, role Role, err error) {
	if errors.Is(err, unix.ENODEV) {
		return // it went while we looked at it
	}
	if o := s.observed[index]; o != nil {
		s.drop(index)
	}
	s.observed[index] = &observed{name: name, role: role}
	s.failed.Add(1)
	s.log.Warn("interface is not observed", "interface", name, "role", role.String(), "error", err)
}

func (s *interfaces) drop(index int) {
	o := s.observed[index]
	delete(s.observed, index)
	if o.on == nil {
		s.failed.Add(^uint64(0))
		return
	}
	if err := o.on.detach(); err != nil {
		s.log.Warn("cannot detach from interface", "interface", o.name, "error", err)
	}
	_ = s.roles.Delete(uint32(index))
	s.attached.Add(^uint64(0))
}

func (s *interfaces) detachAll() {
	s.release()
	for index := range s.observed {
		s.drop(index)
	}
}

// sleep waits for d and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
