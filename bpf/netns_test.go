package bpf

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// totals sums what all flow events of a connection report.
type totals struct {
	Packets, Bytes [2]uint64
	Kinds          []string
}

func total(all []any, initiator string) (sum totals) {
	for _, v := range all {
		e, ok := v.(*FlowEvent)
		if !ok || endpoint(e.Tuple.Saddr, e.Tuple.Sport) != initiator {
			continue
		}
		for i := range 2 {
			sum.Packets[i] += e.Packets[i]
			sum.Bytes[i] += e.Bytes[i]
		}
		sum.Kinds = append(sum.Kinds, kindNames[e.Kind])
	}
	return sum
}

func closed(initiator string) func([]any) bool {
	return func(all []any) bool {
		kinds := total(all, initiator).Kinds
		return len(kinds) > 0 && kinds[len(kinds)-1] == "CLOSE"
	}
}

// A real connection over veth: events in order, packets and bytes exact, the same on both sides.
func TestConnection(t *testing.T) {
	for _, address := range []string{"10.77.0.1", "fd77::1"} {
		t.Run(address, func(t *testing.T) {
			server, client := pair(t)
			hour := func(c *Config) { c.Interval = 1 << 42 }
			near, far := server.observe("plxt0", RoleEndpoint, hour), client.observe("plxt0", RoleNetwork, hour)

			const size = 3 << 20 // far beyond one segment, so that GSO packets are among it
			l := server.listen(net.JoinHostPort(address, "0"))
			received, accepted := make(chan int64), make(chan net.Conn, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					close(received)
					return
				}
				accepted <- c
				n, _ := io.Copy(io.Discard, c)
				received <- n
			}()
			c := client.dial("tcp", l.Addr().String())
			initiator := c.LocalAddr().String()
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n := <-received; n != size {
				t.Fatalf("received %d bytes", n)
			}
			peer := <-accepted
			sacked := tcpInfo(t, peer).Rcv_ooopack
			peer.Close()
			if _, err := io.Copy(io.Discard, c); err != nil { // until the server's FIN
				t.Fatal(err)
			}
			info := tcpInfo(t, c)
			c.Close()

			here := total(near.wait("close", closed(initiator)), initiator)
			there := total(far.wait("close", closed(initiator)), initiator)
			if diff := cmp.Diff(here, there); diff != "" {
				t.Errorf("both ends of a cable differ (-server +client):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"NEW", "STATE", "STATE", "CLOSE"}, here.Kinds); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			ip := uint64(20)
			if strings.Contains(address, ":") {
				ip = 40
			}
			// Each segment has TCP with timestamps, the SYN eight bytes more (MSS, SACK permitted, window scale).
			if want := size + info.Bytes_retrans + here.Packets[0]*(ip+32) + 8; here.Bytes[0] != want {
				t.Errorf("%d packets of the client have %d bytes, want %d", here.Packets[0], here.Bytes[0], want)
			}
			// On a slow machine a segment may come twice or before its turn, and is answered with SACK blocks, which nobody counts.
			if want := here.Packets[1]*(ip+32) + 8; here.Bytes[1] != want && info.Bytes_retrans == 0 && sacked == 0 {
				t.Errorf("%d packets of the server have %d bytes, want %d", here.Packets[1], here.Bytes[1], want)
			}
			if here.Packets != [2]uint64{uint64(info.Segs_out), uint64(info.Segs_in)} {
				t.Errorf("%d packets, the client's kernel says %d and %d", here.Packets, info.Segs_out, info.Segs_in)
			}
			if lost := near.stat(StatLostRing) + near.stat(StatLostTable) + near.stat(StatLostHint); lost != 0 {
				t.Errorf("%d losses", lost)
			}
		})
	}
}

// An HTTP exchange over veth: payload of both directions, in segments whose data is not in the linear part.
func TestHTTPPayload(t *testing.T) {
	server, client := pair(t)
	r := server.observe("plxt0", RoleEndpoint, nil)
	l := server.listen("10.77.0.1:0")
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	})}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	c := client.dial("tcp", l.Addr().String())
	fmt.Fprintf(c, "GET /orders?id=1 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	all := r.wait("two messages", func(all []any) bool {
		n := 0
		for _, v := range all {
			if _, ok := v.(*payload); ok {
				n++
			}
		}
		return n == 2
	})
	var got []string
	for _, v := range all {
		if p, ok := v.(*payload); ok {
			first, _, _ := strings.Cut(p.Data, "\r\n")
			got = append(got, fmt.Sprintf("%s reply %d whole %v", first, p.Reply, int(p.PayloadLen) == len(p.Data)))
			if endpoint(p.Tuple.Saddr, p.Tuple.Sport) != c.LocalAddr().String() {
				t.Errorf("initiator %s", endpoint(p.Tuple.Saddr, p.Tuple.Sport))
			}
		}
	}
	want := []string{"GET /orders?id=1 HTTP/1.1 reply 0 whole true", "HTTP/1.1 503 Service Unavailable reply 1 whole true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
}

// On loopback each packet is seen once, and the connection carries the process that made the client's socket.
func TestLoopbackProcess(t *testing.T) {
	host := newSpace(t)
	r := host.observe("lo", RoleHost, nil)
	attachProcess(t, r)
	l := host.listen("127.0.0.1:0")
	c := host.dial("tcp", l.Addr().String())
	initiator := c.LocalAddr().String()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cookie := socketCookie(t, c)
	c.Close()
	accepted.Close()
	all := r.wait("close", closed(initiator))
	if sum := total(all, initiator); sum.Packets != [2]uint64{4, 2} && sum.Packets != [2]uint64{4, 3} && sum.Packets != [2]uint64{3, 3} {
		t.Errorf("%v packets: seen more than once?", sum.Packets)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		e := v.(*FlowEvent)
		got := strings.TrimRight(string(e.Comm[:]), "\x00")
		if e.Pid != uint32(os.Getpid()) || got != strings.TrimSpace(string(comm)) || e.PidResponder != 0 || e.Cookie != cookie {
			t.Errorf("%s: pid %d, command %q, of responder %d, cookie %d", summary(e), e.Pid, got, e.PidResponder, e.Cookie)
		}
	}
	var p Process
	if err := r.SockProc.Lookup(cookie, &p); err == nil {
		t.Errorf("a closed socket is still known: %+v", p)
	}
}

// A device without link header: the packet begins with IP, both ways.
func TestLayer3Device(t *testing.T) {
	host := newSpace(t)
	tun := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: "plxt1"}, Mode: netlink.TUNTAP_MODE_TUN, Queues: 1,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_MULTI_QUEUE_DEFAULTS,
	}
	host.do(func() error { return netlink.LinkAdd(tun) })
	device := tun.Fds[0]
	t.Cleanup(func() { device.Close() })
	host.up("plxt1", "10.78.0.1/24")
	r := host.observe("plxt1", RoleNetwork, nil)

	c := host.dial("udp", "10.78.0.2:53")
	local := netip.MustParseAddrPort(c.LocalAddr().String())
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	answer := datagram(t, net.IP{10, 78, 0, 2}, net.IP{10, 78, 0, 1}, 53, local.Port(), "answer")[14:]
	if _, err := device.Write(answer); err != nil {
		t.Fatal(err)
	}
	all := r.wait("answer", func(all []any) bool { return len(all) == 3 })
	want := []string{
		fmt.Sprintf("NEW %s > 10.78.0.2:53 p17 out packets 1+0 bytes 36+0 flags 00", local),
		fmt.Sprintf(`PAYLOAD %s > 10.78.0.2:53 l7 2 reply 0 len 8 "question"`, local),
		fmt.Sprintf(`PAYLOAD %s > 10.78.0.2:53 l7 2 reply 1 len 6 "answer"`, local),
	}
	if diff := cmp.Diff(want, describe(all)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// Headers that are not in the linear part of the packet are made linear: here only the Ethernet header is.
func TestNonLinear(t *testing.T) {
	host := newSpace(t)
	r := host.observe("lo", RoleHost, nil)
	p := segment(t, true, syn, 1, strings.Repeat("x", 8000)) // more than a page: the kernel makes small packets linear
	vnet := []byte{0, 0, 14, 0, 0, 0, 0, 0, 0, 0}            // struct virtio_net_hdr; hdr_len says how much is linear
	host.do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		const ipv4BigEndian = 0x0008
		return unix.Sendto(fd, append(vnet, p...), 0, &unix.SockaddrLinklayer{Protocol: ipv4BigEndian, Ifindex: ifLoopback})
	})
	expect(t, r, "NEW 10.0.0.2:40000 > 10.0.0.1:80 p6 out packets 1+0 bytes 8040+0 flags 02")
	if got := r.stat(StatUnparsed); got != 0 {
		t.Errorf("%d packets unparsed", got)
	}
}

// The same programs as classifiers of clsact, the way of kernels before 6.6: they see the packets, and let them pass.
func TestClsact(t *testing.T) {
	server, client := pair(t)
	r := newRig(t, nil)
	server.attachClsact(r, "plxt0", RoleEndpoint)
	l := server.listen("10.77.0.1:0")
	c := client.dial("tcp", l.Addr().String())
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	initiator := c.LocalAddr().String()
	c.Close()
	accepted.Close()
	all := r.wait("close", closed(initiator))
	if diff := cmp.Diff([]string{"NEW", "STATE", "STATE", "CLOSE"}, total(all, initiator).Kinds); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
