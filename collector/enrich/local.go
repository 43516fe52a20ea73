package enrich

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/flow"
)

// addrSet is an immutable set of the addresses of a node.
type addrSet struct {
	addrs      map[flow.Addr]struct{}
	broadcasts map[flow.Addr]struct{}
}

func (s *addrSet) has(a flow.Addr) bool {
	if isLoopback(a) {
		return true
	}
	_, ok := s.addrs[a]
	return ok
}

// isBroadcast: 255.255.255.255 (RFC 919) or the broadcast address of a network that the node is in.
func (s *addrSet) isBroadcast(a flow.Addr) bool {
	if !a.Is4() {
		return false
	}
	_, ok := s.broadcasts[a]
	return ok || a[12]&a[13]&a[14]&a[15] == 0xff
}

// localAddrs follows the addresses in a network namespace.
type localAddrs struct {
	netns   string
	current atomic.Pointer[addrSet]
	ready   chan struct{}
}

func newLocalAddrs(netns string) *localAddrs {
	l := &localAddrs{netns: netns, ready: make(chan struct{})}
	l.current.Store(&addrSet{})
	return l
}

// settle is how long changes are let come together: a starting container makes several.
const settle = 50 * time.Millisecond

func (l *localAddrs) run(ctx context.Context) error {
	ns, handle, err := openNetlink(l.netns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer ns.Close()
	defer handle.Close()
	for first := true; ; first = false {
		if err := l.follow(ctx, ns, handle, first); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// follow reads all addresses at first and then at each change, until ctx ends or messages were lost.
func (l *localAddrs) follow(ctx context.Context, ns netns.NsHandle, handle *netlink.Handle, first bool) error {
	changes, done := make(chan netlink.AddrUpdate, 16), make(chan struct{})
	lost := make(chan struct{}, 1)
	err := netlink.AddrSubscribeWithOptions(changes, done, netlink.AddrSubscribeOptions{
		Namespace: &ns, ErrorCallback: func(error) {
			select {
			case lost <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		return fmt.Errorf("subscribe to addresses of %s: %w", l.where(), err)
	}
	defer func() {
		close(done)
		for range changes { // the sender ends by closing it
		}
	}()
	if err := l.read(handle); err != nil {
		return err
	}
	if first {
		close(l.ready)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
			return nil
		case _, ok := <-changes:
			if !ok {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
		for len(changes) > 0 {
			<-changes
		}
		if err := l.read(handle); err != nil {
			return err
		}
	}
}

// read replaces the snapshot.
func (l *localAddrs) read(handle *netlink.Handle) error {
	list, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	for range 3 {
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		list, err = handle.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // then a change is on its way to us
		return fmt.Errorf("list addresses of %s: %w", l.where(), err)
	}
	set := &addrSet{addrs: make(map[flow.Addr]struct{}), broadcasts: make(map[flow.Addr]struct{})}
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			set.addrs[flow.AddrFrom(ip)] = struct{}{}
		}
		if ip, ok := netip.AddrFromSlice(a.Broadcast); ok {
			set.broadcasts[flow.AddrFrom(ip)] = struct{}{}
		}
	}
	l.current.Store(set)
	return nil
}

func (l *localAddrs) where() string {
	if l.netns == "" {
		return "this network namespace"
	}
	return l.netns
}

// openNetlink opens sockets of families in the network namespace at path, or in this one. Close both results.
func openNetlink(path string, families ...int) (netns.NsHandle, *netlink.Handle, error) {
	ns := netns.None() // this one: to enter it again would take CAP_SYS_ADMIN
	if path != "" {
		var err error
		if ns, err = netns.GetFromPath(path); err != nil {
			return netns.None(), nil, fmt.Errorf("open network namespace %s: %w", path, err)
		}
	}
	handle, err := netlink.NewHandleAt(ns, families...)
	if err != nil {
		ns.Close()
		return netns.None(), nil, fmt.Errorf("open netlink in %s: %w", path, err)
	}
	return ns, handle, nil
}
