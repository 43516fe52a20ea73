package enforce_test

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/policytest"
)

// attempt is a real connection: TCP, or a datagram or ping that comes back.
type attempt struct {
	policytest.Probe
	tuple
	service bool    // the probe goes to one
	beyond  []tuple // as its backends see it
	fd      int
	passed  bool
	refused bool // it passed, and nobody listens
	dropped bool
	wrong   error
}

// begin sends the first packet. It returns nil where the kernel has no way to send it at all.
func (r *rig) begin(p policytest.Probe) *attempt {
	r.t.Helper()
	a := &attempt{Probe: p, fd: -1}
	r.spaces[p.Src.Addr].do(func() (err error) {
		family, kind, proto, hello := method(p)
		if a.fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto); err != nil {
			return err
		}
		if err := unix.Bind(a.fd, sockaddr(netip.AddrPortFrom(p.Src.Addr, 0))); err != nil {
			return fmt.Errorf("bind %s: %w", p.Src.Addr, err)
		}
		own, err := unix.Getsockname(a.fd)
		if err != nil {
			return err
		}
		a.tuple = tuple{addrPort(own), netip.AddrPortFrom(p.Dst.Addr, p.Port), p.Proto}
		if err := unix.Connect(a.fd, sockaddr(a.dst)); err != nil && err != unix.EINPROGRESS && err != unix.ECONNREFUSED {
			return fmt.Errorf("connect %s: %w", p, err)
		} else if err == unix.ECONNREFUSED {
			a.passed, a.refused = true, true
		}
		if proto != 0 { // a ping socket: the kernel sets the identifier, which stands for both ports
			a.tuple.dst = netip.AddrPortFrom(p.Dst.Addr, a.tuple.src.Port())
			a.tuple.proto = flow.Proto(proto)
		}
		if hello != nil {
			if _, err := unix.Write(a.fd, hello); err != nil && err != unix.ECONNREFUSED {
				return fmt.Errorf("send %s: %w", p, err)
			}
		}
		return nil
	})
	return a
}

// method returns the socket for p, and what to send first if that is not the kernel's to do.
func method(p policytest.Probe) (family, kind, proto int, hello []byte) {
	family, kind = unix.AF_INET, unix.SOCK_STREAM
	if p.Src.Addr.Is6() {
		family = unix.AF_INET6
	}
	switch p.Proto {
	case flow.ProtoUDP:
		kind, hello = unix.SOCK_DGRAM, []byte("echo")
	case flow.ProtoICMP:
		kind, proto, hello = unix.SOCK_DGRAM, unix.IPPROTO_ICMP, []byte{8, 7: 1} // echo request, number 1
		if family == unix.AF_INET6 {
			proto, hello[0] = unix.IPPROTO_ICMPV6, 128
		}
	}
	return family, kind, proto, hello
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// look sees whether an answer came: a connection, a refusal, an echo.
func (a *attempt) look() {
	fds := []unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLOUT}}
	if a.Proto != flow.ProtoTCP {
		fds[0].Events = unix.POLLIN
	}
	if n, err := unix.Poll(fds, 0); err != nil || n == 0 {
		return
	}
	code, err := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		a.wrong = err
	case code == 0 || unix.Errno(code) == unix.ECONNREFUSED:
		a.passed, a.refused = true, a.refused || code != 0
	default:
		a.wrong = unix.Errno(code)
	}
}

// finish waits until each attempt has passed or is known to be dropped.
func (r *rig) finish(list []*attempt) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for open := true; open; {
		open = false
		for _, a := range list {
			if a.passed || a.dropped {
				continue
			}
			if a.look(); a.wrong != nil {
				r.t.Fatalf("%s: %v", a.Probe, a.wrong)
			}
			for _, at := range append([]tuple{a.tuple}, a.beyond...) {
				for _, f := range r.decided(at) {
					a.dropped = a.dropped || f.Verdict == flow.VerdictDropped
				}
			}
			open = open || !a.passed && !a.dropped
			if open && time.Now().After(deadline) {
				r.t.Fatalf("%s (%v): neither an answer nor a drop; decisions %+v, beyond %v, probe %+v", a.Probe, a.tuple, r.decided(a.tuple), a.beyond, r.probe.Stats())
			}
		}
		if open {
			time.Sleep(200 * time.Microsecond)
		}
	}
	for _, a := range list {
		if a.dropped {
			a.look() // what is said to be dropped must not pass as well
		}
	}
}

func (a *attempt) close() { _ = unix.Close(a.fd) }

// try makes the connections all at once.
func (r *rig) try(probes ...policytest.Probe) []*attempt {
	r.t.Helper()
	w := policytest.World{Inventory: policy.FromMeta(r.services)}
	list := make([]*attempt, len(probes))
	for i, p := range probes {
		list[i] = r.begin(p)
		backends, service := w.Backends(p)
		list[i].service, list[i].beyond = service, list[i].behind(backends)
	}
	r.finish(list)
	for _, a := range list {
		a.close()
	}
	return list
}
