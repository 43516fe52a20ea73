package l7

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/parallax-flow/parallax/flow"
)

var (
	client = flow.AddrFrom(netip.MustParseAddr("10.0.0.1"))
	server = flow.AddrFrom(netip.MustParseAddr("10.0.0.2"))
)

// wire makes segments of one connection with a clock of milliseconds and real sequence numbers.
type wire struct {
	t   *testing.T
	tr  *Tracker
	out flow.Batch
	seq [2]uint32
	seg Segment
}

func newWire(t *testing.T, cfg Config) *wire {
	return &wire{t: t, tr: New(cfg), seq: [2]uint32{1000, 5000}, seg: Segment{
		SrcAddr: client, DstAddr: server, SrcPort: 40000, DstPort: 80, Proto: flow.ProtoTCP, Ifindex: 3,
		Point: flow.PointToEndpoint, Direction: flow.DirectionIngress, Protocol: flow.L7HTTP,
	}}
}

func (w *wire) at(ms int64, reply bool, payload string) {
	w.raw(ms, reply, w.seq[side(reply)], payload)
	w.seq[side(reply)] += uint32(len(payload))
}

func (w *wire) raw(ms int64, reply bool, seq uint32, payload string) {
	s := w.seg
	s.Time, s.Reply, s.Seq, s.Payload, s.PayloadLen = ms*1e6, reply, seq, []byte(payload), len(payload)
	w.tr.Segment(&s, &w.out)
}

func side(reply bool) int {
	if reply {
		return 1
	}
	return 0
}

// want compares the flows so far, one line each, and the accounting.
func (w *wire) want(lines ...string) {
	w.t.Helper()
	var got []string
	for _, f := range w.out.Flows {
		answer := "-"
		if f.L7.Answered {
			answer = fmt.Sprint(f.L7.Status)
		}
		got = append(got, fmt.Sprintf("%d+%d %s %s %s err=%v %d/%d", f.Start/1e6, (f.Time-f.Start)/1e6,
			f.L7.Operation, f.L7.Resource, answer, f.L7.Error, f.Bytes, f.ReplyBytes))
	}
	if diff := cmp.Diff(lines, got); diff != "" {
		w.t.Error(diff)
	}
	s := w.tr.Stats()
	if s.Requests != s.Exchanges+s.Unanswered+s.Evicted+s.Resynced+uint64(w.tr.Pending()) {
		w.t.Errorf("requests unaccounted for: %+v, %d pending", s, w.tr.Pending())
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\n\r\n" }

const (
	ok      = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
)

func TestExchange(t *testing.T) {
	node := &flow.Node{Name: "n1"}
	w := newWire(t, Config{Node: node})
	w.seg.Cookie, w.seg.PID = 11, 12
	w.at(100, false, get("/a"))
	w.at(130, true, "HTTP/1.1 503 Unavailable\r\nContent-Length: 3\r\n\r\n")
	want := []flow.Flow{{
		Time: 130e6, Start: 100e6, Node: node, Kind: flow.KindL7, Verdict: flow.VerdictForwarded,
		SrcAddr: client, DstAddr: server, SrcPort: 40000, DstPort: 80, Proto: flow.ProtoTCP, Ifindex: 3, Cookie: 11, PID: 12, ProcessDst: true,
		Point: flow.PointToEndpoint, Direction: flow.DirectionIngress, Reply: true, Bytes: 19, ReplyBytes: 50,
		L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/a", Version: "HTTP/1.1", Status: 503, Latency: 30e6, Answered: true, Error: true},
	}}
	if diff := cmp.Diff(want, w.out.Flows); diff != "" {
		t.Error(diff)
	}
}

func TestSwappedConnection(t *testing.T) {
	w := newWire(t, Config{})
	w.at(1, true, get("/"))
	w.at(2, false, ok)
	w.want("1+1 GET / 200 err=false 18/38")
	f := w.out.Flows[0]
	got := []any{f.SrcAddr, f.DstPort, f.Point, f.Direction, f.ProcessDst}
	if diff := cmp.Diff([]any{server, uint16(40000), flow.PointFromEndpoint, flow.DirectionEgress, false}, got); diff != "" {
		t.Error(diff)
	}
}

// TestOwnerOnLoopback: both sockets are local, so whose the process is stays open.
func TestOwnerOnLoopback(t *testing.T) {
	w := newWire(t, Config{})
	w.seg.Point, w.seg.Direction, w.seg.Cookie, w.seg.PID = flow.PointToHost, flow.DirectionEgress, 11, 12
	w.at(1, false, get("/"))
	w.at(2, true, ok)
	if f := w.out.Flows[0]; f.Cookie != 0 || f.PID != 0 || f.Point != flow.PointToHost {
		t.Errorf("%+v", f)
	}
}

func TestHTTPJoin(t *testing.T) {
	for name, tc := range map[string]struct {
		play  func(w *wire)
		want  []string
		stats Stats
	}{
		"keep-alive": {
			func(w *wire) {
				w.at(1, false, get("/1"))
				w.at(2, true, ok)
				w.at(3, false, get("/2"))
				w.at(5, true, ok)
			},
			[]string{"1+1 GET /1 200 err=false 19/38", "3+2 GET /2 200 err=false 19/38"},
			Stats{Requests: 2, Responses: 2, Exchanges: 2},
		},
		"pipelined in one packet, answered in one packet": {
			func(w *wire) {
				w.at(1, false, get("/1")+get("/2")+"POST /3 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"+get("/4"))
				w.at(2, true, ok+ok)
				w.at(3, true, ok)
				w.at(4, true, ok)
			},
			[]string{"1+1 GET /1 200 err=false 19/38", "1+1 GET /2 200 err=false 19/38", "1+2 POST /3 200 err=false 41/38", "1+3 GET /4 200 err=false 19/38"},
			Stats{Requests: 4, Responses: 4, Exchanges: 4},
		},
		"pipelined without known lengths": {
			func(w *wire) {
				w.at(1, false, get("/1"))
				w.at(2, false, get("/2"))
				w.at(3, true, chunked)
				w.at(4, true, "2\r\nok\r\n0\r\n\r\n")
				w.at(5, true, chunked)
			},
			[]string{"1+2 GET /1 200 err=false 19/47", "2+3 GET /2 200 err=false 19/47"},
			Stats{Requests: 2, Responses: 2, Exchanges: 2, Malformed: 1},
		},
		"100 continue": {
			func(w *wire) {
				w.at(1, false, "PUT / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
				w.at(2, true, "HTTP/1.1 100 Continue\r\n\r\n")
				w.at(3, true, "HTTP/1.1 103 Early Hints\r\n\r\n"+ok)
			},
			[]string{"1+2 PUT / 200 err=false 60/38"},
			Stats{Requests: 1, Responses: 1, Exchanges: 1, Interim: 2},
		},
		"101 ends HTTP": {
			func(w *wire) {
				w.at(1, false, get("/ws"))
				w.at(2, true, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
				w.at(3, false, get("/not-http"))
			},
			[]string{"1+1 GET /ws 101 err=false 20/36"},
			Stats{Requests: 1, Responses: 1, Exchanges: 1},
		},
		"HEAD, 304 and 204 have no body": {
			func(w *wire) {
				w.at(1, false, "HEAD /1 HTTP/1.1\r\n\r\n"+get("/2")+get("/3")+get("/4"))
				w.at(2, true, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"+
					"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n"+"HTTP/1.1 204 No Content\r\n\r\n"+ok)
			},
			[]string{"1+1 HEAD /1 200 err=false 20/40", "1+1 GET /2 304 err=false 19/50", "1+1 GET /3 204 err=false 19/27", "1+1 GET /4 200 err=false 19/38"},
			Stats{Requests: 4, Responses: 4, Exchanges: 4},
		},
		"retransmissions": {
			func(w *wire) {
				w.raw(1, false, 1000, get("/1"))
				w.raw(2, false, 1000, get("/1"))
				w.raw(3, true, 5000, ok)
				w.raw(4, false, 1019, get("/2"))
				w.raw(5, true, 5000, ok)
				w.raw(6, true, 5038, ok)
			},
			[]string{"1+2 GET /1 200 err=false 19/38", "4+2 GET /2 200 err=false 19/38"},
			Stats{Requests: 2, Responses: 2, Exchanges: 2, Retransmits: 2},
		},
		"sequence numbers wrap": {
			func(w *wire) {
				w.raw(1, false, 0xfffffff0, get("/1"))
				w.raw(2, true, 0xfffffff8, ok)
				w.raw(3, false, 3, get("/2"))
				w.raw(4, true, 30, ok)
			},
			[]string{"1+1 GET /1 200 err=false 19/38", "3+1 GET /2 200 err=false 19/38"},
			Stats{Requests: 2, Responses: 2, Exchanges: 2},
		},
		"response without request": {
			func(w *wire) { w.at(1, true, ok) }, nil, Stats{Responses: 1, Orphans: 1},
		},
		"missed response does not shift the next": {
			func(w *wire) {
				w.at(1, false, get("/1"))
				w.at(2, true, ok)
				w.at(3, false, get("/2"))
				w.seq[1] += 38 // its response was not seen
				w.at(5, false, get("/3"))
				w.at(6, true, ok)
			},
			[]string{"1+1 GET /1 200 err=false 19/38", "5+1 GET /3 200 err=false 19/38"},
			Stats{Requests: 3, Responses: 2, Exchanges: 2, Resynced: 1},
		},
		"late response is not the next request's": {
			func(w *wire) {
				w.at(1, false, get("/1"))
				w.at(20_000, false, get("/2"))
				w.tr.Expire(31_000e6, &w.out)
				w.at(32_000, true, chunked)
				w.at(33_000, true, chunked)
			},
			[]string{"1+30000 GET /1 - err=true 19/0", "20000+13000 GET /2 200 err=false 19/47"},
			Stats{Requests: 2, Responses: 2, Exchanges: 1, Unanswered: 1, Orphans: 1},
		},
		"ports reused without a close": {
			func(w *wire) {
				w.raw(1, false, 1<<30, get("/old"))
				w.raw(2, false, 77, get("/new"))
				w.raw(3, true, 9, ok)
			},
			[]string{"1+1 GET /old - err=true 21/0", "2+1 GET /new 200 err=false 21/38"},
			Stats{Requests: 2, Responses: 1, Exchanges: 1, Unanswered: 1},
		},
		"both peers send requests": {
			func(w *wire) {
				w.at(1, false, get("/1"))
				w.at(2, false, ok)
			},
			nil, Stats{Requests: 1, Responses: 1, Orphans: 1},
		},
		"oldest of a connection is evicted": {
			func(w *wire) {
				w.tr.cfg.MaxPendingPerConn = 2
				w.at(1, false, get("/1")+get("/2")+get("/3"))
				w.at(2, true, ok+ok+ok)
			},
			[]string{"1+1 GET /2 200 err=false 19/38", "1+1 GET /3 200 err=false 19/38"},
			Stats{Requests: 3, Responses: 3, Exchanges: 2, Orphans: 1, Evicted: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Config{})
			w.t = t
			tc.play(w)
			w.want(tc.want...)
			if diff := cmp.Diff(tc.stats, w.tr.Stats()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClosed(t *testing.T) {
	w := newWire(t, Config{CloseGrace: 100 * time.Millisecond})
	closing := func(ms int64) {
		w.tr.Closed(&flow.Flow{Time: ms * 1e6, Kind: flow.KindClose, Proto: flow.ProtoTCP, SrcAddr: client, DstAddr: server, SrcPort: 40000, DstPort: 80, Ifindex: 3})
	}
	w.at(1, false, get("/1")+get("/2"))
	closing(10)
	closing(11)
	w.at(9, true, ok) // read behind the close, from another ring
	w.tr.Expire(50e6, &w.out)
	w.want("1+8 GET /1 200 err=false 19/38")
	w.tr.Expire(110e6, &w.out)
	w.want("1+8 GET /1 200 err=false 19/38", "1+109 GET /2 - err=true 19/0")
	if len(w.tr.conns) != 0 || w.tr.byUse.front() != nil || w.tr.closing.front() != nil {
		t.Error("the connection is still there")
	}

	w.out.Reset()
	w.at(200, false, get("/3"))
	closing(210)
	w.at(250, false, get("/4")) // the ports serve a new connection
	w.tr.Expire(400e6, &w.out)
	w.at(410, true, ok)
	w.want("200+50 GET /3 - err=true 19/0", "250+160 GET /4 200 err=false 19/38")
}

func TestBounds(t *testing.T) {
	tr := New(Config{MaxConns: 4, MaxPending: 6})
	var out flow.Batch
	send := func(port uint16, n int, proto flow.L7Protocol, payload []byte) {
		tr.Segment(&Segment{Time: int64(port), SrcAddr: client, DstAddr: server, SrcPort: port, DstPort: 80, Proto: flow.ProtoTCP,
			Protocol: proto, Seq: uint32(n), Payload: payload, PayloadLen: len(payload)}, &out)
	}
	for port := range uint16(100) {
		for n := range 3 {
			send(port, 100*n, flow.L7HTTP, []byte(get("/")))
		}
		send(port, 0, flow.L7DNS, query(t, 1, "a", dns.TypeA))
	}
	s := tr.Stats()
	if len(tr.conns) > 4 || tr.Pending() > 6 || len(tr.queries) > 6 || s.Requests != 400 || s.Evicted != 400-uint64(tr.Pending()) || len(out.Flows) != 0 {
		t.Errorf("%d conns, %d pending, %+v, %d flows", len(tr.conns), tr.Pending(), s, len(out.Flows))
	}
	tr.Expire(int64(time.Hour), &out)
	if len(tr.conns) != 0 || tr.Pending() != 0 || len(tr.queries) != 0 || tr.requests.front() != nil || tr.lookups.front() != nil {
		t.Error("not empty after an hour")
	}
}

func TestInterner(t *testing.T) {
	in := newInterner(10)
	for i := range 1000 {
		if s := fmt.Sprint(i % 100); in.get([]byte(s)) != s {
			t.Fatal("wrong string")
		}
		in.get([]byte("kept"))
		if len(in.young) > 10 || len(in.old) > 10 {
			t.Fatal("bound exceeded")
		}
	}
	if n := testing.AllocsPerRun(100, func() { in.get([]byte("kept")) }); n != 0 {
		t.Errorf("%v allocations for a known string", n)
	}
}

func dnsWire(t *testing.T) *wire {
	w := newWire(t, Config{})
	w.seg.Protocol, w.seg.Proto, w.seg.DstPort = flow.L7DNS, flow.ProtoUDP, 53
	return w
}

func TestDNSJoin(t *testing.T) {
	w := dnsWire(t)
	name := "Web.Shop.svc.cluster.local"
	w.raw(1, false, 0, string(query(t, 5, name, dns.TypeA)))
	w.raw(2, false, 0, string(query(t, 5, name, dns.TypeAAAA)))
	w.raw(3, false, 0, string(query(t, 5, name, dns.TypeA))) // again
	w.raw(4, true, 0, string(reply(t, 5, name, dns.TypeAAAA, dns.RcodeSuccess)))
	w.raw(6, true, 0, string(reply(t, 5, name, dns.TypeA, dns.RcodeSuccess,
		name+". 30 IN CNAME b.", "b. 5 IN A 10.9.9.9")))
	w.raw(7, true, 0, string(reply(t, 5, name, dns.TypeA, dns.RcodeSuccess))) // orphan
	w.raw(8, false, 0, string(query(t, 6, "nope", 65280)))
	w.raw(9, true, 0, string(reply(t, 6, "other", 65280, dns.RcodeSuccess))) // not its question
	w.raw(9, true, 0, string(reply(t, 6, "nope", 65280, dns.RcodeNameError)))
	w.raw(10, false, 0, string(query(t, 7, "first", dns.TypeA)))
	w.raw(11, false, 0, string(query(t, 7, "second", dns.TypeA)))
	w.tr.Expire(11e6+10e9, &w.out)
	low := strings.ToLower(name)
	w.want("2+2 AAAA "+low+" 0 err=false 44/44", "1+5 A "+low+" 0 err=false 44/75", "8+1 TYPE65280 nope 3 err=true 22/22",
		"10+1 A first - err=true 23/0", "11+10000 A second - err=true 24/0")
	l7 := w.out.Flows[1].L7
	if diff := cmp.Diff(&flow.L7{Protocol: flow.L7DNS, Operation: "A", Resource: low, Answers: []string{"b", "10.9.9.9"}, Latency: 5e6, MinTTL: 5, Answered: true}, l7); diff != "" {
		t.Error(diff)
	}
	if s := w.tr.Stats(); s.Orphans != 2 || s.Retransmits != 1 {
		t.Errorf("%+v", s)
	}
}

func TestMulticastDNS(t *testing.T) {
	w := dnsWire(t)
	w.seg.DstPort = 5353
	w.raw(1, false, 0, string(query(t, 0, "printer.local", dns.TypeA)))
	w.tr.Expire(1e12, &w.out)
	w.want()
	if s := w.tr.Stats(); s != (Stats{Skipped: 1}) {
		t.Errorf("%+v", s)
	}
}

// TestAllocations holds the cost of an exchange with known strings: the records come from chunks of 64.
func TestAllocations(t *testing.T) {
	for name, step := range exchanges(t) {
		for range 5000 {
			step() // every connection is known then
		}
		if n := testing.AllocsPerRun(1000, step); n > 0.1 {
			t.Errorf("%s: %v allocations per exchange", name, n)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	for name, step := range exchanges(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}

// exchanges returns functions that each run one whole exchange on one of many connections.
func exchanges(t testing.TB) map[string]func() {
	run := func(proto flow.L7Protocol, request, response []byte) func() {
		tr := New(Config{})
		var out flow.Batch
		n, now := uint32(0), int64(0)
		return func() {
			n++
			now += 1000
			s := Segment{Time: now, SrcAddr: client, DstAddr: server, SrcPort: uint16(n % 4096), DstPort: 80, Proto: flow.ProtoTCP,
				Protocol: proto, Seq: n / 4096 * 1000, Payload: request, PayloadLen: len(request)}
			tr.Segment(&s, &out)
			s.Reply, s.Payload, s.PayloadLen = true, response, len(response)
			tr.Segment(&s, &out)
			if len(out.Flows) == 512 {
				tr.Expire(now, &out)
				out.Reset()
			}
		}
	}
	request := "GET /api/v1/cart?user=12345 HTTP/1.1\r\nHost: cart.shop.svc.cluster.local\r\nUser-Agent: Go-http-client/1.1\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"
	response := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 512\r\n\r\n"
	return map[string]func(){
		"http": run(flow.L7HTTP, []byte(request), []byte(response)),
		"dns": run(flow.L7DNS, query(t, 9, "cart.shop.svc.cluster.local", dns.TypeA),
			reply(t, 9, "cart.shop.svc.cluster.local", dns.TypeA, 0, "cart.shop.svc.cluster.local. 30 IN A 10.0.0.7")),
	}
}
