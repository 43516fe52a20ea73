package bpf

import (
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// space is a network namespace without a name: the kernel removes it with the last handle, also after a kill.
type space struct {
	t      testing.TB
	handle netns.NsHandle
	nl     *netlink.Handle
}

func newSpace(t testing.TB) *space {
	t.Helper()
	requireRoot(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	handle, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(old); err != nil {
		t.Fatal(err)
	}
	nl, err := netlink.NewHandleAt(handle)
	if err != nil {
		t.Fatal(err)
	}
	s := &space{t: t, handle: handle, nl: nl}
	t.Cleanup(func() {
		nl.Close()
		handle.Close()
	})
	s.up("lo")
	return s
}

// do runs f in the namespace. Sockets that f makes stay in it.
func (s *space) do(f func() error) {
	s.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		s.t.Fatal(err)
	}
	defer old.Close()
	if err := netns.Set(s.handle); err != nil {
		s.t.Fatal(err)
	}
	err = f()
	if back := netns.Set(old); back != nil {
		panic(back) // the thread must not go on in the wrong namespace
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *space) inum() uint32 {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.handle), &st); err != nil {
		s.t.Fatal(err)
	}
	return uint32(st.Ino)
}

func (s *space) link(name string) netlink.Link {
	s.t.Helper()
	l, err := s.nl.LinkByName(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *space) up(name string, addrs ...string) {
	s.t.Helper()
	l := s.link(name)
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			s.t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := s.nl.AddrAdd(l, addr); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.nl.LinkSetUp(l); err != nil {
		s.t.Fatal(err)
	}
}

// observe loads a datapath for s and attaches it to an interface.
func (s *space) observe(name string, role Role, change func(*Config)) *rig {
	s.t.Helper()
	r := newRig(s.t, func(c *Config) {
		c.NetNS = s.inum()
		if change != nil {
			change(c)
		}
	})
	s.attach(r, name, role)
	return r
}

func (s *space) attach(r *rig, name string, role Role) {
	s.t.Helper()
	index := s.link(name).Attrs().Index
	if err := r.Interfaces.Delete(uint32(ifLoopback)); err != nil {
		s.t.Fatal(err)
	}
	r.role(index, role)
	s.do(func() error {
		for _, a := range []struct {
			prog *ebpf.Program
			at   ebpf.AttachType
		}{{r.Ingress, ebpf.AttachTCXIngress}, {r.Egress, ebpf.AttachTCXEgress}} {
			l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: a.prog, Attach: a.at})
			if err != nil {
				return err
			}
			s.t.Cleanup(func() { l.Close() })
		}
		return nil
	})
}

// attachClsact is attach by the way of kernels before 6.6.
func (s *space) attachClsact(r *rig, name string, role Role) {
	s.t.Helper()
	index := s.link(name).Attrs().Index
	if err := r.Interfaces.Delete(uint32(ifLoopback)); err != nil {
		s.t.Fatal(err)
	}
	r.role(index, role)
	if err := s.nl.QdiscAdd(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}); err != nil {
		s.t.Fatal(err)
	}
	for parent, prog := range map[uint32]*ebpf.Program{netlink.HANDLE_MIN_INGRESS: r.Ingress, netlink.HANDLE_MIN_EGRESS: r.Egress} {
		if err := s.nl.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
			Fd:          prog.FD(), Name: "plxt", DirectAction: true,
		}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func attachDrop(t testing.TB, r *rig, scope ...*space) {
	t.Helper()
	for _, s := range scope {
		if err := r.Scope.Put(s.inum(), uint8(1)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: r.Drop, AttachType: ebpf.AttachTraceRawTp})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func attachProcess(t testing.TB, r *rig) {
	t.Helper()
	for _, a := range []struct {
		prog *ebpf.Program
		at   ebpf.AttachType
	}{{r.SockCreate, ebpf.AttachCGroupInetSockCreate}, {r.SockRelease, ebpf.AttachCgroupInetSockRelease}} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup2(t), Attach: a.at, Program: a.prog})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
}

// pair makes two namespaces joined by veth, without IPv6 chatter: server has 10.77.0.1, client 10.77.0.2.
func pair(t testing.TB) (server, client *space) {
	t.Helper()
	server, client = newSpace(t), newSpace(t)
	if err := server.nl.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "plxt0"}, PeerName: "plxt0", PeerNamespace: netlink.NsFd(client.handle),
	}); err != nil {
		t.Fatal(err)
	}
	server.up("plxt0", "10.77.0.1/24", "fd77::1/64")
	client.up("plxt0", "10.77.0.2/24", "fd77::2/64")
	return server, client
}

func (s *space) listen(address string) net.Listener {
	s.t.Helper()
	var l net.Listener
	s.do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	s.t.Cleanup(func() { l.Close() })
	return l
}

func (s *space) dial(network, address string) net.Conn {
	s.t.Helper()
	var c net.Conn
	s.do(func() (err error) {
		c, err = net.Dial(network, address)
		return err
	})
	s.t.Cleanup(func() { c.Close() })
	return c
}

// cgroup2 finds the mount of the cgroup2 hierarchy.
func cgroup2(t testing.TB) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	t.Fatal("no cgroup2 hierarchy is mounted")
	return ""
}

func socketCookie(t testing.TB, c net.Conn) (cookie uint64) {
	t.Helper()
	control(t, c, func(fd int) (err error) {
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		return err
	})
	return cookie
}

func tcpInfo(t testing.TB, c net.Conn) (info *unix.TCPInfo) {
	t.Helper()
	control(t, c, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info
}

func control(t testing.TB, c net.Conn, f func(fd int) error) {
	t.Helper()
	rc, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil || ferr != nil {
		t.Fatal(err, ferr)
	}
}
