package bpf

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func expect(t *testing.T, r *rig, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), describe(r.records())); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

const request, response = "GET /a HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"

func TestTCPLife(t *testing.T) {
	r := newRig(t, nil)
	r.in(segment(t, true, syn, 100, ""))
	expect(t, r, "NEW 10.0.0.2:40000 > 10.0.0.1:80 p6 in  packets 1+0 bytes 40+0 flags 02")
	r.in(segment(t, true, syn, 100, "")) // retransmission: the same connection
	r.out(segment(t, false, syn|ack, 500, ""))
	expect(t, r)
	r.in(segment(t, true, ack, 101, ""))
	expect(t, r, "STATE 10.0.0.2:40000 > 10.0.0.1:80 p6 in  packets 2+1 bytes 80+40 flags 10")
	r.in(segment(t, true, psh|ack, 101, request))
	r.out(segment(t, false, ack, 501, ""), segment(t, false, psh|ack, 501, response))
	expect(t, r,
		`PAYLOAD 10.0.0.2:40000 > 10.0.0.1:80 l7 1 reply 0 len 19 "GET /a HTTP/1.1\r\n\r\n"`,
		`PAYLOAD 10.0.0.2:40000 > 10.0.0.1:80 l7 1 reply 1 len 19 "HTTP/1.1 200 OK\r\n\r\n"`)
	r.out(segment(t, false, fin|ack, 520, ""))
	expect(t, r, "STATE 10.0.0.2:40000 > 10.0.0.1:80 p6 out reply packets 1+3 bytes 59+139 flags 11")
	r.in(segment(t, true, ack, 120, ""), segment(t, true, fin|ack, 120, ""))
	expect(t, r)
	r.out(segment(t, false, ack, 521, ""))
	expect(t, r, "CLOSE 10.0.0.2:40000 > 10.0.0.1:80 p6 out reply packets 2+1 bytes 80+40 flags 11")

	r.in(segment(t, true, ack, 121, "")) // a straggler belongs to the closed connection
	expect(t, r)
	r.in(segment(t, true, syn, 9000, ""))
	expect(t, r,
		"CLOSE 10.0.0.2:40000 > 10.0.0.1:80 p6 in  packets 1+0 bytes 40+0 flags 10",
		"NEW 10.0.0.2:40000 > 10.0.0.1:80 p6 in  packets 1+0 bytes 40+0 flags 02")
	if got := r.stat(StatPackets); got != 13 {
		t.Errorf("packets %d, want 13", got)
	}
	if produced, lost := r.stat(StatEvents), r.stat(StatLostRing); produced != 8 || lost != 0 {
		t.Errorf("produced %d, lost %d, want 8 and 0", produced, lost)
	}
}

func TestTCPHandshakeTimes(t *testing.T) {
	r := newRig(t, nil)
	r.in(segment(t, true, syn, 1, "")).out(segment(t, false, syn|ack, 1, "")).in(segment(t, true, ack, 2, ""))
	all := r.records()
	e := all[len(all)-1].(*FlowEvent)
	// The clock's origin is boot, so a value that is not a difference would be far out of range.
	if e.Kind != KindState || e.HandshakeUs < e.SynackUs || e.HandshakeUs > 10e6 || e.FirstTs >= e.Ts {
		t.Errorf("handshake %d us, syn-ack %d us, first %d, now %d", e.HandshakeUs, e.SynackUs, e.FirstTs, e.Ts)
	}
}

func TestTCPReset(t *testing.T) {
	r := newRig(t, nil)
	r.in(segment(t, true, syn, 1, "")).out(segment(t, false, rst|ack, 0, ""))
	expect(t, r,
		"NEW 10.0.0.2:40000 > 10.0.0.1:80 p6 in  packets 1+0 bytes 40+0 flags 02",
		"CLOSE 10.0.0.2:40000 > 10.0.0.1:80 p6 out reply packets 0+1 bytes 0+40 flags 14")
	r.out(segment(t, false, rst, 0, "")) // closed already
	expect(t, r)
}

func TestTCPPortReuse(t *testing.T) {
	r := newRig(t, nil)
	r.in(segment(t, true, syn, 1, "")).out(segment(t, false, syn|ack, 1, "")).in(segment(t, true, ack, 2, ""))
	r.records()
	r.in(segment(t, true, psh|ack, 2, "xxxx")) // its end is never seen
	r.in(segment(t, true, syn, 7777, ""))
	expect(t, r,
		"CLOSE 10.0.0.2:40000 > 10.0.0.1:80 p6 in  packets 1+0 bytes 44+0 flags 18",
		"NEW 10.0.0.2:40000 > 10.0.0.1:80 p6 in  packets 1+0 bytes 40+0 flags 02")
}

// Who is the initiator where no SYN was seen.
func TestInitiator(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		name   string
		packet []byte
		want   string
	}{
		{"data of the client", segment(t, true, ack, 1, ""), "10.0.0.2:40000 > 10.0.0.1:80"},
		{"data of the server", segment(t, false, ack, 1, ""), "10.0.0.2:40000 > 10.0.0.1:80"},
		{"syn-ack", segment(t, false, syn|ack, 1, ""), "10.0.0.2:40000 > 10.0.0.1:80"},
		{"two high ports", datagram(t, client4, server4, 7000, 6000, ""), "10.0.0.2:7000 > 10.0.0.1:6000"},
		{"two high ports, other way", datagram(t, server4, client4, 6000, 7000, ""), "10.0.0.1:6000 > 10.0.0.2:7000"},
		{"two low ports", datagram(t, server4, client4, 123, 500, ""), "10.0.0.1:123 > 10.0.0.2:500"},
		{"an answer of a low port", datagram(t, server4, client4, 123, 5000, ""), "10.0.0.2:5000 > 10.0.0.1:123"},
		{"same address, two ports", datagram(t, server4, server4, 9000, 8000, ""), "10.0.0.1:9000 > 10.0.0.1:8000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := describe(r.forget().in(c.packet).records())
			if len(got) != 1 || !strings.HasPrefix(got[0], "NEW "+c.want+" ") {
				t.Errorf("got %q, want NEW of %s", got, c.want)
			}
		})
	}
}

func TestRoles(t *testing.T) {
	data := segment(t, true, ack, 1, "")
	for _, c := range []struct {
		name    string
		role    Role
		in, out uint64
	}{
		{"none", RoleNone, 0, 0}, {"endpoint", RoleEndpoint, 1, 1}, {"network", RoleNetwork, 1, 1},
		{"overlay", RoleOverlay, 1, 1}, {"host sees each packet once", RoleHost, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, first := range []string{"in", "out"} { // the flow table may or may not know the flow
				r := newRig(t, nil)
				r.role(ifLoopback, c.role)
				if first == "in" {
					r.in(data).out(data)
				} else {
					r.out(data).in(data)
				}
				if got := r.stat(StatPackets); got != c.in+c.out {
					t.Errorf("%s first: %d packets, want %d", first, got, c.in+c.out)
				}
			}
		})
	}
	t.Run("unknown interface", func(t *testing.T) {
		r := newRig(t, nil)
		if err := r.Interfaces.Delete(uint32(ifLoopback)); err != nil {
			t.Fatal(err)
		}
		r.in(data).in([]byte(strings.Repeat("x", 60)))
		if got := r.stat(StatPackets); got != 0 || len(r.table()) != 0 {
			t.Errorf("%d packets, %d flows, want none", got, len(r.table()))
		}
	})
}

func TestUpdateInterval(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Interval = time.Nanosecond })
	query := datagram(t, client4, server4, 7000, 6000, "abcd")
	r.in(query)
	r.records()
	tick()
	r.in(query)
	expect(t, r, "UPDATE 10.0.0.2:7000 > 10.0.0.1:6000 p17 in  packets 1+0 bytes 32+0 flags 00")

	r = newRig(t, func(c *Config) { c.Interval = time.Hour })
	r.in(query, query)
	expect(t, r, "NEW 10.0.0.2:7000 > 10.0.0.1:6000 p17 in  packets 1+0 bytes 32+0 flags 00")
}

// tick waits until the coarse clock has moved on.
func tick() {
	var a, b unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &a)
	for b = a; b == a; _ = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &b) {
		time.Sleep(time.Millisecond)
	}
}

// A connection that fell silent is reported by the iterator, once, and only if something is left to report.
func TestReportIdle(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Interval = time.Nanosecond })
	query := datagram(t, client4, server4, 7000, 6000, "abcd")
	r.out(query)
	expect(t, r, "NEW 10.0.0.2:7000 > 10.0.0.1:6000 p17 out packets 1+0 bytes 32+0 flags 00")
	r.reportIdle()
	expect(t, r)
	for k, e := range r.table() {
		e.Packets, e.Bytes = [2]uint64{3, 4}, [2]uint64{300, 400}
		if err := r.Flows.Put(k, e); err != nil {
			t.Fatal(err)
		}
	}
	tick()
	r.reportIdle()
	expect(t, r, "UPDATE 10.0.0.2:7000 > 10.0.0.1:6000 p17 out packets 3+4 bytes 300+400 flags 00")
	r.reportIdle()
	expect(t, r)
}

func (r *rig) reportIdle() {
	r.t.Helper()
	it, err := link.AttachIter(link.IterOptions{Program: r.ReportIdle, Map: r.Flows})
	if err != nil {
		r.t.Fatal(err)
	}
	defer it.Close()
	rd, err := it.Open()
	if err != nil {
		r.t.Fatal(err)
	}
	defer rd.Close()
	if _, err := io.Copy(io.Discard, rd); err != nil {
		r.t.Fatal(err)
	}
}

func TestFlowTableFull(t *testing.T) {
	const room, connections = 4, 10
	r := newRig(t, func(c *Config) { c.MaxFlows = room })
	for port := range uint16(connections) {
		r.in(datagram(t, client4, server4, 7000+port, 6000, ""))
	}
	if got := len(r.table()); got != room {
		t.Errorf("%d flows, want %d", got, room)
	}
	if got := r.stat(StatLostTable); got != connections-room {
		t.Errorf("%d packets lost, want %d", got, connections-room)
	}
	if got := r.stat(StatPackets); got != connections {
		t.Errorf("%d packets, want %d", got, connections)
	}
}

// What finds no room in the ring is counted, and its packets come with a later record or stay in the table.
func TestRingFull(t *testing.T) {
	const packets = 200
	r := newRig(t, func(c *Config) { c.RingBytes, c.WakeBytes, c.Interval = 4096, 4096, time.Nanosecond })
	for i := range packets {
		r.in(datagram(t, client4, server4, 7000+uint16(i%50), 6000, ""))
	}
	all := r.records()
	produced, lost := r.stat(StatEvents), r.stat(StatLostRing)
	if lost == 0 || produced != uint64(len(all))+lost {
		t.Errorf("produced %d, delivered %d, lost %d", produced, len(all), lost)
	}
	var sum uint64
	for _, v := range all {
		sum += v.(*FlowEvent).Packets[0]
	}
	for _, e := range r.table() {
		sum += e.Packets[0]
	}
	if sum != packets {
		t.Errorf("records and table hold %d packets, want %d", sum, packets)
	}
}

// The reader is woken when the pending bytes cross the threshold, not by each record.
func TestWakeup(t *testing.T) {
	const recordBytes, threshold = 152 + 8, 4096
	r := newRig(t, func(c *Config) { c.WakeBytes = threshold })
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ep)
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, r.Events.FD(), &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	woken := func() bool {
		n, err := unix.EpollWait(ep, make([]unix.EpollEvent, 1), 0)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	query := datagram(t, client4, server4, 7000, 53, "payload")
	r.in(query).records()
	r.in(query) // payload goes another way into the ring
	if woken() {
		t.Fatal("woken by a payload")
	}
	r.records()
	for i := range uint16(threshold/recordBytes) + 1 {
		if woken() {
			t.Fatalf("woken by %d records", i)
		}
		r.in(datagram(t, client4, server4, 7001+i, 6000, ""))
	}
	if !woken() {
		t.Error("not woken at the threshold")
	}
}

func TestPayload(t *testing.T) {
	dns := strings.Repeat("q", 20)
	for _, c := range []struct {
		name   string
		role   Role
		local  net.IP
		change func(*Config)
		packet []byte
		want   []string
	}{
		{name: "dns", packet: datagram(t, client4, server4, 7000, 53, dns),
			want: []string{`PAYLOAD 10.0.0.2:7000 > 10.0.0.1:53 l7 2 reply 0 len 20 "qqqqqqqqqqqqqqqqqqqq"`}},
		{name: "dns answer", packet: datagram(t, server6, client6, 53, 7000, dns),
			want: []string{`PAYLOAD [fd00::2]:7000 > [fd00::1]:53 l7 2 reply 1 len 20 "qqqqqqqqqqqqqqqqqqqq"`}},
		{name: "mdns", packet: datagram(t, client4, net.IP{224, 0, 0, 251}, 5353, 5353, dns),
			want: []string{`PAYLOAD 10.0.0.2:5353 > 224.0.0.251:5353 l7 2 reply 0 len 20 "qqqqqqqqqqqqqqqqqqqq"`}},
		{name: "dns off", change: func(c *Config) { c.DNS = false }, packet: datagram(t, client4, server4, 7000, 53, dns)},
		{name: "cut at the limit", change: func(c *Config) { c.PayloadMax = 5 }, packet: datagram(t, client4, server4, 7000, 53, dns),
			want: []string{`PAYLOAD 10.0.0.2:7000 > 10.0.0.1:53 l7 2 reply 0 len 20 "qqqqq"`}},
		{name: "no payload", packet: datagram(t, client4, server4, 7000, 53, "")},
		{name: "http off", change: func(c *Config) { c.HTTP = false }, packet: segment(t, true, ack, 1, request)},
		{name: "not http", packet: segment(t, true, ack, 1, "GETTING / HTTP/1.1\r\n")},
		{name: "delete", packet: segment(t, true, ack, 1, "DELETE / HTTP/1.1\r\n"),
			want: []string{`PAYLOAD 10.0.0.2:40000 > 10.0.0.1:80 l7 1 reply 0 len 19 "DELETE / HTTP/1.1\r\n"`}},
		{name: "options", packet: segment(t, true, ack, 1, "OPTIONS * HTTP/1.1\r\n"),
			want: []string{`PAYLOAD 10.0.0.2:40000 > 10.0.0.1:80 l7 1 reply 0 len 20 "OPTIONS * HTTP/1.1\r\n"`}},
		{name: "network, both ends elsewhere", role: RoleNetwork, local: net.IP{10, 9, 9, 9}, packet: segment(t, true, ack, 1, request),
			want: []string{`PAYLOAD 10.0.0.2:40000 > 10.0.0.1:80 l7 1 reply 0 len 19 "GET /a HTTP/1.1\r\n\r\n"`}},
		{name: "network, client observed at its own interface", role: RoleNetwork, local: client4, packet: segment(t, true, ack, 1, request)},
		{name: "overlay, server observed at its own interface", role: RoleOverlay, local: server4, packet: segment(t, true, ack, 1, request)},
		{name: "endpoint, observed here", role: RoleEndpoint, local: client4, packet: segment(t, true, ack, 1, request),
			want: []string{`PAYLOAD 10.0.0.2:40000 > 10.0.0.1:80 l7 1 reply 0 len 19 "GET /a HTTP/1.1\r\n\r\n"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.change)
			if c.role != RoleNone {
				r.role(ifLoopback, c.role)
			}
			if c.local != nil {
				if err := r.LocalEndpoints.Put([16]byte(c.local.To16()), uint32(1)); err != nil {
					t.Fatal(err)
				}
			}
			got := []string{}
			for _, line := range describe(r.in(c.packet).records()) {
				if strings.HasPrefix(line, "PAYLOAD") {
					got = append(got, line)
				}
			}
			if diff := cmp.Diff(append([]string{}, c.want...), got); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
		})
	}
}

// A connection that never looks like HTTP is left alone, and looked at again after the next interval.
func TestPayloadLookingStops(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Interval = time.Hour })
	noise := segment(t, true, ack, 1, "binary protocol")
	for range 16 {
		r.in(noise)
	}
	r.records()
	r.in(segment(t, true, ack, 1, request))
	expect(t, r)
}

// TestPayloadBehindLongBody: a connection that spoke HTTP does so again after any number of packets of a body.
func TestPayloadBehindLongBody(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Interval = time.Hour })
	r.in(segment(t, true, ack, 1, request), segment(t, false, ack, 1, "HTTP/1.1 200 OK\r\n\r\n"))
	for range 100 {
		r.in(segment(t, false, ack, 20, strings.Repeat("body", 100)))
	}
	r.records()
	r.in(segment(t, true, ack, 20, request), segment(t, false, ack, 40020, "HTTP/1.1 204 No\r\n\r\n"))
	expect(t, r,
		`PAYLOAD 10.0.0.2:40000 > 10.0.0.1:80 l7 1 reply 0 len 19 "GET /a HTTP/1.1\r\n\r\n"`,
		`PAYLOAD 10.0.0.2:40000 > 10.0.0.1:80 l7 1 reply 1 len 19 "HTTP/1.1 204 No\r\n\r\n"`)
}
