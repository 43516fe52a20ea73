package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/flow"
)

func tcpInfo(t testing.TB, c *net.TCPConn) *unix.TCPInfo {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if ctlErr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); ctlErr != nil {
		t.Fatal(ctlErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// connect makes a TCP connection from client to a listener on server.
func connect(t testing.TB, client, server *host, ip netip.Addr) (c, s *net.TCPConn) {
	t.Helper()
	var l *net.TCPListener
	server.do(func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
		return err
	})
	defer l.Close()
	client.do(func() (err error) {
		c, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
		return err
	})
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c, s
}

// exchange sends up and down bytes, then ends the connection from the client's side, and returns once both ends know.
func exchange(t testing.TB, c, s *net.TCPConn, up, down int) {
	t.Helper()
	for _, step := range []struct {
		from, to *net.TCPConn
		n        int
	}{{c, s, up}, {s, c, down}} {
		go func() {
			if _, err := step.from.Write(make([]byte, step.n)); err != nil {
				t.Error(err)
			}
			if err := step.from.CloseWrite(); err != nil {
				t.Error(err)
			}
		}()
		if n, err := io.Copy(io.Discard, step.to); err != nil || int(n) != step.n {
			t.Fatalf("read %d of %d bytes: %v", n, step.n, err)
		}
	}
	const tcpClose = 7 // include/net/tcp_states.h
	eventually(t, "the connection ends", func() bool {
		return tcpInfo(t, c).State == tcpClose && tcpInfo(t, s).State == tcpClose
	})
}

func TestTCPConnectionIsExact(t *testing.T) {
	node, pod := newHost(t), newHost(t)
	nodeIP, podIP := join(node, pod, "plxt0", 1)
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{}})
	c, s := connect(t, pod, node, nodeIP)
	const up, down = 300_000, 7_000
	exchange(t, c, s, up, down)
	port := uint16(c.LocalAddr().(*net.TCPAddr).Port)
	r.wait("close", func(f *flow.Flow) bool { return f.Kind == flow.KindClose && f.SrcPort == port })

	var kinds []flow.Kind
	var sum flow.Flow
	for _, f := range r.stop() {
		if f.Proto != flow.ProtoTCP || f.SrcPort != port {
			continue
		}
		kinds = append(kinds, f.Kind)
		sum.Packets, sum.ReplyPackets = sum.Packets+f.Packets, sum.ReplyPackets+f.ReplyPackets
		sum.Bytes, sum.ReplyBytes = sum.Bytes+f.Bytes, sum.ReplyBytes+f.ReplyBytes
		if f.SrcAddr.Netip() != podIP || f.DstAddr.Netip() != nodeIP || f.Point != flow.PointFromEndpoint || f.Direction != flow.DirectionEgress {
			t.Errorf("%v -> %v at %v %v", f.SrcAddr, f.DstAddr, f.Point, f.Direction)
		}
		if f.Kind == flow.KindClose && f.HandshakeRTT == 0 {
			t.Error("no handshake time")
		}
		if d := time.Since(time.Unix(0, f.Time)); d < 0 || d > time.Minute || f.Start > f.Time {
			t.Errorf("time %v ago, start %v before", d, time.Duration(f.Time-f.Start))
		}
	}
	if diff := cmp.Diff([]flow.Kind{flow.KindNew, flow.KindState, flow.KindState, flow.KindClose}, kinds); diff != "" {
		t.Error(diff)
	}
	ci, si := tcpInfo(t, c), tcpInfo(t, s)
	// IPv4 header 20, TCP header 20, time stamps 12; a SYN has 8 more (MSS, SACK permitted, window scale).
	// The SYN-ACK is not the accepted socket's: a request sent it.
	want := flow.Flow{Packets: uint64(ci.Segs_out), ReplyPackets: uint64(si.Segs_out) + 1}
	want.Bytes, want.ReplyBytes = up+52*want.Packets+8, down+52*want.ReplyPackets+8
	if ci.Total_retrans+si.Total_retrans > 0 { // the sizes of what was sent again are not known; the packets are
		want.Bytes, want.ReplyBytes = sum.Bytes, sum.ReplyBytes
	}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Error(diff)
	}
}

func TestLoopbackIsCountedOnceAndKnowsItsProcess(t *testing.T) {
	node := newHost(t)
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{}})
	c, s := connect(t, node, node, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	exchange(t, c, s, 50_000, 50_000)
	port := uint16(c.LocalAddr().(*net.TCPAddr).Port)
	r.wait("close", func(f *flow.Flow) bool { return f.Kind == flow.KindClose && f.SrcPort == port })
	var packets, replies uint64
	for _, f := range r.stop() {
		if f.Proto != flow.ProtoTCP || f.SrcPort != port {
			continue
		}
		packets, replies = packets+f.Packets, replies+f.ReplyPackets
		if f.Point != flow.PointToHost || f.Direction != flow.DirectionEgress {
			t.Errorf("at %v %v", f.Point, f.Direction)
		}
		if f.Process == nil || f.Process.PID != uint32(os.Getpid()) || f.Process.Comm == "" || f.ProcessDst || f.Cookie == 0 {
			t.Errorf("%v: process %+v of dst %t, cookie %d", f.Kind, f.Process, f.ProcessDst, f.Cookie)
		}
	}
	if ci, si := tcpInfo(t, c), tcpInfo(t, s); packets != uint64(ci.Segs_out) || replies != uint64(si.Segs_out)+1 {
		t.Errorf("%d and %d packets, sent %d and %d", packets, replies, ci.Segs_out, si.Segs_out+1)
	}
}

func TestPayloadIsTakenNearestToTheEndpoint(t *testing.T) {
	node, pod, world := newHost(t), newHost(t), newHost(t)
	gateway, podIP := join(node, pod, "plxt0", 1)
	_, worldIP := join(node, world, "up0", 2)
	node.exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
	node.exec("ip", "route", "add", "default", "via", worldIP.String())
	pod.exec("ip", "route", "add", "default", "via", gateway.String())
	world.exec("ip", "route", "add", "10.99.1.0/24", "via", "10.99.2.1")
	const request, response = "GET /a HTTP/1.1\r\nHost: world\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"
	for _, step := range []struct {
		name      string
		endpoints []flow.Addr
		points    []flow.Point // of the request, in order
	}{
		{"no endpoint known", nil, []flow.Point{flow.PointFromEndpoint, flow.PointToNetwork}},
		{"endpoint known", []flow.Addr{flow.AddrFrom(podIP)}, []flow.Point{flow.PointFromEndpoint}},
	} {
		t.Run(step.name, func(t *testing.T) {
			r := start(t, Config{NetNS: node.path, DropScope: []uint32{}})
			must(t, r.SetLocalEndpoints(step.endpoints))
			c, s := connect(t, pod, world, worldIP)
			send(t, c, s, request)
			send(t, s, c, response)
			r.stop()
			var requests, responses []flow.Point
			for _, p := range r.payload {
				want, points := request, &requests
				if p.Reply {
					want, points = response, &responses
				}
				if string(p.Payload) != want || p.PayloadLen != len(want) || p.Protocol != flow.L7HTTP || p.SrcAddr.Netip() != podIP {
					t.Errorf("payload %q of %d bytes, from %v", p.Payload, p.PayloadLen, p.SrcAddr)
				}
				*points = append(*points, p.Point)
			}
			if diff := cmp.Diff(step.points, requests); diff != "" {
				t.Error(diff)
			}
			slices.Reverse(responses)
			if diff := cmp.Diff(step.points, responses); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// send writes to one end and waits for it at the other.
func send(t testing.TB, from, to *net.TCPConn, message string) {
	t.Helper()
	if _, err := io.WriteString(from, message); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, len(message))); err != nil {
		t.Fatal(err)
	}
}

func TestInterfaceThatAppearsLater(t *testing.T) {
	node, a, b := newHost(t), newHost(t), newHost(t)
	join(node, a, "plxt0", 1)
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{}})
	if got := r.Stats().Interfaces; got != 2 {
		t.Errorf("%d interfaces observed, want lo and plxt0", got)
	}
	nodeIP, podIP := join(node, b, "plxt1", 2)
	eventually(t, "the new interface is observed", func() bool { return r.Stats().Interfaces == 3 })
	connect(t, b, node, nodeIP)
	r.wait("flow", func(f *flow.Flow) bool { return f.SrcAddr.Netip() == podIP && f.Kind == flow.KindNew })
	node.exec("ip", "link", "delete", "plxt1")
	eventually(t, "the interface is forgotten", func() bool { return r.Stats().Interfaces == 2 })
	if got := r.Stats().InterfacesFailed; got != 0 {
		t.Errorf("%d interfaces failed", got)
	}
}

func TestDefaultRouteMakesUplink(t *testing.T) {
	node, gateway := newHost(t), newHost(t)
	nodeIP, peerIP := join(node, gateway, "plxt0", 1)
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{}})
	connect(t, node, gateway, peerIP)
	r.wait("flow to the endpoint", func(f *flow.Flow) bool {
		return f.Kind == flow.KindNew && f.Point == flow.PointToEndpoint && f.Direction == flow.DirectionIngress && f.SrcAddr.Netip() == nodeIP
	})
	node.exec("ip", "route", "add", "default", "via", peerIP.String())
	eventually(t, "the interface is taken for the uplink", func() bool {
		connect(t, node, gateway, peerIP)
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, f := range r.flows {
			if f.Point == flow.PointToNetwork && f.Direction == flow.DirectionEgress {
				return true
			}
		}
		return false
	})
}

// refuse has client connect to a port of server where nobody listens, and returns the port.
func refuse(t testing.TB, client, server *host, ip netip.Addr) uint16 {
	t.Helper()
	var port int
	server.do(func() error { // a port that was just free
		l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
		if err != nil {
			return err
		}
		port = l.Addr().(*net.TCPAddr).Port
		return l.Close()
	})
	client.do(func() error {
		c, err := net.DialTimeout("tcp4", netip.AddrPortFrom(ip, uint16(port)).String(), patience)
		if err == nil {
			c.Close()
			return errors.New("closed port accepts")
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		return nil
	})
	return uint16(port)
}

func TestDropAtClosedPort(t *testing.T) {
	node, pod := newHost(t), newHost(t)
	nodeIP, podIP := join(node, pod, "plxt0", 1)
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{node.inode()}})
	port := refuse(t, pod, node, nodeIP)
	f := r.wait("drop", func(f *flow.Flow) bool { return f.Kind == flow.KindDrop && f.DstPort == port })
	if f.Drop.Reason != "NO_SOCKET" || f.Drop.Symbol != "tcp_v4_rcv" {
		t.Errorf("dropped by %s with %s", f.Drop.Symbol, f.Drop.Reason)
	}
	if f.SrcAddr.Netip() != podIP || f.DstAddr.Netip() != nodeIP || f.TCPFlags != flow.TCPSyn || f.Verdict != flow.VerdictDropped || f.Bytes != 60 {
		t.Errorf("%+v", f)
	}
	if s := r.Stats(); s.Drops == 0 {
		t.Errorf("no drops in %+v", s)
	}
}

func TestDropByNetfilter(t *testing.T) {
	node, pod := newHost(t), newHost(t)
	nodeIP, _ := join(node, pod, "plxt0", 1)
	node.exec("nft", "add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c udp dport 7777 drop")
	r := start(t, Config{NetNS: node.path, DropScope: []uint32{node.inode()}})
	sendUDP(t, pod, netip.AddrPortFrom(nodeIP, 7777), 1)
	f := r.wait("drop", func(f *flow.Flow) bool { return f.Kind == flow.KindDrop && f.DstPort == 7777 })
	if f.Drop.Reason != "NETFILTER_DROP" || f.Drop.Symbol == "" {
		t.Errorf("dropped by %q with %s", f.Drop.Symbol, f.Drop.Reason)
	}
}

// sendUDP sends n datagrams of 10 bytes from one port.
func sendUDP(t testing.TB, from *host, to netip.AddrPort, n int) (port uint16) {
	t.Helper()
	from.do(func() error {
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer c.Close()
		port = uint16(c.LocalAddr().(*net.UDPAddr).Port)
		for sent := 0; sent < n; {
			// A port unreachable that came back is reported in place of sending.
			if _, err := c.Write(make([]byte, 10)); err == nil {
				sent++
			} else if !errors.Is(err, unix.ECONNREFUSED) {
				return err
			}
		}
		return nil
	})
	return port
}

func TestTwoProbesAndScopes(t *testing.T) {
	var nodes, pods [2]*host
	var ips [2]netip.Addr
	var probes [2]*running
	for i := range nodes {
		nodes[i], pods[i] = newHost(t), newHost(t)
		ips[i], _ = join(nodes[i], pods[i], "plxt0", byte(i+1))
		probes[i] = start(t, Config{NetNS: nodes[i].path, DropScope: []uint32{nodes[i].inode()}})
	}
	for round, owner := range [][2]int{{0, 1}, {1, 0}} { // which probe sees the drops of node 0, of node 1
		for i := range nodes {
			port := refuse(t, pods[i], nodes[i], ips[i])
			probes[owner[i]].wait("drop", func(f *flow.Flow) bool {
				return f.Kind == flow.KindDrop && f.DstPort == port && f.DstAddr.Netip() == ips[i]
			})
			other := probes[1-owner[i]]
			other.mu.Lock()
			for _, f := range other.flows {
				if f.Kind == flow.KindDrop && f.DstPort == port && f.DstAddr.Netip() == ips[i] {
					t.Errorf("round %d: drop outside of the scope is reported", round)
				}
			}
			other.mu.Unlock()
		}
		for i := range probes {
			if err := probes[i].SetScope([]uint32{nodes[1-i].inode()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range probes {
		for _, f := range probes[i].stop() {
			if f.Kind == flow.KindNew && f.DstAddr.Netip() == ips[1-i] {
				t.Errorf("probe %d sees traffic of the other node: %+v", i, f)
			}
		}
	}
}

func TestIdleConnectionsAreReportedAndClosed(t *testing.T) {
	node, pod := newHost(t), newHost(t)
	nodeIP, _ := join(node, pod, "plxt0", 1)
	r := start(t, Config{
		NetNS: node.path, DropScope: []uint32{}, Interval: 100 * time.Millisecond, Timeouts: Timeouts{UDP: 2500 * time.Millisecond},
	})
	const n = 5
	port := sendUDP(t, pod, netip.AddrPortFrom(nodeIP, 9), n)
	r.wait("close", func(f *flow.Flow) bool { return f.Kind == flow.KindClose && f.SrcPort == port })
	var kinds []flow.Kind
	var packets, bytes uint64
	for _, f := range r.stop() {
		if f.Proto == flow.ProtoUDP && f.SrcPort == port {
			kinds = append(kinds, f.Kind)
			packets, bytes = packets+f.Packets, bytes+f.Bytes
			if f.Point != flow.PointFromEndpoint || f.DstPort != 9 {
				t.Errorf("%v of %v at %v to port %d", f.Kind, f.Proto, f.Point, f.DstPort)
			}
		}
	}
	if diff := cmp.Diff([]flow.Kind{flow.KindNew, flow.KindUpdate, flow.KindClose}, kinds); diff != "" {
		t.Error(diff)
	}
	if packets != n || bytes != n*38 {
		t.Errorf("%d packets of %d bytes, want %d of %d", packets, bytes, n, n*38)
	}
}

func TestRingOverflowIsCountedExactly(t *testing.T) {
	node, pod := newHost(t), newHost(t)
	nodeIP, _ := join(node, pod, "plxt0", 1)
	hold := make(chan struct{})
	r := startHeld(t, Config{NetNS: node.path, DropScope: []uint32{}, RingBytes: os.Getpagesize(), WakeBytes: 64}, hold)
	const flows, each = 100, 3
	for range flows {
		sendUDP(t, pod, netip.AddrPortFrom(nodeIP, 9), each)
	}
	close(hold)
	var packets uint64
	for _, f := range r.stop() {
		if f.Proto == flow.ProtoUDP && f.DstPort == 9 {
			packets += f.Packets
		}
	}
	s := r.Stats()
	if s.LostRing == 0 {
		t.Errorf("nothing was lost: %+v", s)
	}
	if s.Produced != s.Delivered+s.LostRing {
		t.Errorf("produced %d, delivered %d, lost %d", s.Produced, s.Delivered, s.LostRing)
	}
	if packets != flows*each {
		t.Errorf("%d packets reported, %d sent: a lost record must leave its counts to the next", packets, flows*each)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	for name, m := range map[string]Mechanism{"tcx": MechanismTCX, "clsact": MechanismClsact} {
		t.Run(name, func(t *testing.T) {
			node, pod := newHost(t), newHost(t)
			nodeIP, podIP := join(node, pod, "plxt0", 1)
			before := descriptors(t)
			r := start(t, Config{NetNS: node.path, DropScope: []uint32{}, Mechanism: m})
			c, s := connect(t, pod, node, nodeIP)
			r.wait("flow", func(f *flow.Flow) bool { return f.SrcAddr.Netip() == podIP && f.Kind == flow.KindNew })
			c.Close()
			s.Close()
			r.stop()
			node.do(func() error { return attachedNothing(t, "plxt0") })
			eventually(t, "all descriptors are closed", func() bool { return len(descriptors(t)) <= len(before) })
		})
	}
}

// descriptors lists what is open.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil {
			out = append(out, target)
		}
	}
	return out
}

func TestRunRefuses(t *testing.T) {
	requireRoot(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"missing namespace": {Config{NetNS: "/run/netns/plxt-none"}, "does not exist"},
		"no namespace":      {Config{NetNS: file}, "is not a network namespace"},
		"ring":              {Config{RingBytes: 5000}, "power of two"},
		"pattern":           {Config{Interfaces: Interfaces{Include: []string{"["}}}, "syntax error"},
		"interval":          {Config{Interval: -time.Second}, "at least 1ms"},
	} {
		t.Run(name, func(t *testing.T) {
			err := New(c.cfg).Run(context.Background(), func([]byte) {}, func() {})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	requireRoot(t)
	seen := map[string]bool{}
	for _, f := range Check() {
		if seen[f.Name] || f.Name == "" || f.Detail == "" || f.Lost == "" || strings.Contains(f.Detail, "\n") {
			t.Errorf("%+v", f)
		}
		seen[f.Name] = true
		t.Log(fmt.Sprintf("%-15s %-5t %s", f.Name, f.Have, f.Detail))
		if f.Name == "flow programs" && !f.Have {
			t.Errorf("flow programs: %s", f.Detail)
		}
	}
}
