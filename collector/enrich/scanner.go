package enrich

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/flow"
)

// socketKey names a local socket. Remote is zero for one that is not connected, local.addr is zero for one that takes
// any address.
type socketKey struct {
	local, remote         flow.Addr
	localPort, remotePort uint16
	proto                 flow.Proto
}

// owned are the sockets whose owner is known; immutable.
type owned map[socketKey]*flow.Endpoint

// identified is the answer to a process in scanner.wanted.
type identified struct {
	process  *flow.Process
	endpoint *flow.Endpoint
}

// scanner finds the owners of sockets, and what processes are a part of, when the hot path asks for it. It takes at
// most 2 % of a core: the next search waits 50 times as long as the last one took.
type scanner struct {
	netns    string
	interval time.Duration
	proc     procfs
	initial  bool // numbers in proc are the kernel's

	handle *netlink.Handle
	ns     netns.NsHandle

	wanted  chan *flow.Process // processes to identify
	found   chan identified    // what they are
	missed  chan struct{}      // a socket without a known owner
	sockets atomic.Pointer[owned]

	parts  *parts
	owners map[uint32]uint32 // socket inode -> pid; owned by run
}

const (
	maxWanted = 256
	dutyCycle = 50
)

func newScanner(cfg Config) *scanner {
	s := &scanner{
		netns: cfg.NetNS, interval: cfg.ScanInterval, proc: procfs(cfg.Proc),
		wanted: make(chan *flow.Process, maxWanted), found: make(chan identified, maxWanted), missed: make(chan struct{}, 1),
		parts:  &parts{node: cfg.Node, cluster: cfg.Cluster, endpoints: make(map[partKey]*flow.Endpoint)},
		owners: make(map[uint32]uint32),
	}
	s.sockets.Store(&owned{})
	return s
}

func (s *scanner) open() (err error) {
	s.initial = s.proc.isInitial()
	s.ns, s.handle, err = openNetlink(s.netns, unix.NETLINK_INET_DIAG)
	return err
}

func (s *scanner) close() {
	s.handle.Close()
	s.ns.Close()
}

func (s *scanner) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	resting := false
	for {
		missed := s.missed
		if resting {
			missed = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.wanted:
			select {
			case s.found <- identified{p, s.identify(p)}:
			case <-ctx.Done():
				return nil
			}
		case <-missed:
			began := time.Now()
			s.scan(ctx)
			timer.Reset(max(s.interval, dutyCycle*time.Since(began)))
			resting = true
		case <-timer.C:
			resting = false
		}
	}
}

// identify says what p is a part of. A process that is gone, or whose number another has by now, is its command name.
func (s *scanner) identify(p *flow.Process) *flow.Endpoint {
	if s.initial && s.proc.hasComm(p.PID, p.Comm) {
		if kind, name := s.proc.identify(p.PID); kind != "" {
			return s.parts.endpoint(kind, name)
		}
	}
	return s.parts.endpoint(kindProcess, p.Comm)
}

// scan replaces the view of sockets. An error leaves the old view: names are then missing, which is no reason to stop.
func (s *scanner) scan(ctx context.Context) {
	sockets := s.dump()
	s.findOwners(ctx, sockets)
	next := make(owned, len(sockets))
	named := make(map[uint32]*flow.Endpoint)
	for inode, key := range sockets {
		pid, ok := s.owners[inode]
		if !ok {
			continue
		}
		e, ok := named[pid]
		if !ok {
			if kind, name := s.proc.identify(pid); kind != "" {
				e = s.parts.endpoint(kind, name)
			}
			named[pid] = e
		}
		if e != nil {
			next[key] = e
		}
	}
	s.sockets.Store(&next)
}

// dump lists TCP and UDP sockets by inode.
func (s *scanner) dump() map[uint32]socketKey {
	all := make(map[uint32]socketKey)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcp, err := s.handle.SocketDiagTCP(family)
		if err == nil || errors.Is(err, netlink.ErrDumpInterrupted) {
			addSockets(all, flow.ProtoTCP, tcp)
		}
		udp, err := s.handle.SocketDiagUDP(family)
		if err == nil || errors.Is(err, netlink.ErrDumpInterrupted) {
			addSockets(all, flow.ProtoUDP, udp)
		}
	}
	return all
}

func addSockets(all map[uint32]socketKey, proto flow.Proto, list []*netlink.Socket) {
	for _, so := range list {
		if so.INode != 0 { // else nobody has it open: time-wait, or not accepted yet
			all[so.INode] = socketKey{
				addrOf(so.ID.Source), addrOf(so.ID.Destination), so.ID.SourcePort, so.ID.DestinationPort, proto,
			}
		}
	}
}

// addrOf makes both "any" addresses the zero one.
func addrOf(ip net.IP) flow.Addr {
	a, _ := netip.AddrFromSlice(ip)
	if a.Unmap().IsUnspecified() {
		return flow.Addr{}
	}
	return flow.AddrFrom(a)
}

// findOwners forgets inodes that are gone and looks for the owners of new ones, newest processes first.
func (s *scanner) findOwners(ctx context.Context, sockets map[uint32]socketKey) {
	for inode := range s.owners {
		if _, ok := sockets[inode]; !ok {
			delete(s.owners, inode)
		}
	}
	missing := len(sockets) - len(s.owners)
	if missing == 0 {
		return
	}
	for _, pid := range s.proc.pids() {
		if missing == 0 || ctx.Err() != nil {
			return
		}
		s.proc.sockets(pid, func(inode uint32) bool {
			if _, ok := sockets[inode]; ok {
				if _, ok := s.owners[inode]; !ok {
					s.owners[inode] = pid
					missing--
				}
			}
			return missing > 0
		})
	}
}
