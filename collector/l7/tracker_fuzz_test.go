package l7

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/parallax-flow/parallax/flow"
)

// FuzzTracker plays what the bytes say against a small Tracker and holds its books: nothing is counted twice or
// forgotten, every list agrees with every other, no bound is passed.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{0x00, 1, 0x10, 1, 0x41, 9, 0x80, 0, 0xf0, 255})
	f.Add([]byte{0x05, 1, 0x15, 1, 0x06, 3, 0x26, 2, 0x07, 1, 0xff, 200})
	payloads := [][]byte{
		[]byte(get("/a")), []byte(get("/a") + get("/b")), []byte("HEAD / HTTP/1.1\r\n\r\n"), []byte(ok), []byte(ok + ok), []byte(chunked),
		[]byte("HTTP/1.1 100 Continue\r\n\r\n"), []byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
		[]byte("GET /cut"), []byte("garbage"), query(f, 1, "a", dns.TypeA), query(f, 1, "b", dns.TypeA), query(f, 1, "a", dns.TypeAAAA),
		reply(f, 1, "a", dns.TypeA, 0), reply(f, 1, "b", dns.TypeA, 3),
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		tr := New(Config{MaxConns: 3, MaxPending: 5, MaxPendingPerConn: 2, MaxStrings: 4, CloseGrace: 5, Timeout: 40, DNSTimeout: 20, IdleTimeout: 60})
		var out flow.Batch
		now, emitted := int64(100), 0
		for i := 0; i+1 < len(script); i += 2 {
			op, arg := script[i], script[i+1]
			s := Segment{Time: now, SrcAddr: client, DstAddr: server, SrcPort: uint16(op >> 6), Proto: flow.ProtoTCP,
				Reply: op&0x10 != 0, Seq: uint32(arg) * 1000, Protocol: flow.L7HTTP}
			switch kind := int(op & 0xf); {
			case op&0x20 != 0 && kind < 4:
				tr.Closed(&flow.Flow{Time: now, Proto: flow.ProtoTCP, SrcAddr: client, DstAddr: server, SrcPort: s.SrcPort})
			case kind == len(payloads):
				now += int64(arg)
				tr.Expire(now, &out)
			default:
				s.Payload = payloads[kind]
				s.PayloadLen = len(s.Payload)
				if kind >= 10 {
					s.Protocol = flow.L7DNS
				}
				tr.Segment(&s, &out)
				now += int64(arg & 3)
			}
			emitted += len(out.Flows)
			out.Reset()
			checkBooks(t, tr, emitted)
		}
		tr.Expire(now+1000, &out)
		checkBooks(t, tr, emitted+len(out.Flows))
		if tr.Pending() != 0 || len(tr.conns) != 0 {
			t.Errorf("%d pending, %d connections at the end", tr.Pending(), len(tr.conns))
		}
	})
}

func checkBooks(t *testing.T, tr *Tracker, emitted int) {
	t.Helper()
	s, onConns := tr.Stats(), 0
	for _, c := range tr.conns {
		n := 0
		for p := c.head; p != nil; p = p.next {
			n++
			if p.conn != c || p.next == nil && p != c.tail {
				t.Fatal("a connection's queue is broken")
			}
		}
		if n != c.n || n > tr.cfg.MaxPendingPerConn {
			t.Fatalf("%d requests in a queue of %d", n, c.n)
		}
		onConns += n
	}
	requests, lookups := length(&tr.requests), length(&tr.lookups)
	if requests != onConns || lookups != len(tr.queries) || requests+lookups != tr.npending || length(&tr.byUse) != len(tr.conns) {
		t.Fatalf("lists disagree: %d on connections, %d in time order, %d lookups, %d queries, %d pending, %d connections, %d by use",
			onConns, requests, lookups, len(tr.queries), tr.npending, len(tr.conns), length(&tr.byUse))
	}
	if tr.npending > tr.cfg.MaxPending || len(tr.conns) > tr.cfg.MaxConns {
		t.Fatalf("%d pending, %d connections", tr.npending, len(tr.conns))
	}
	if s.Requests != s.Exchanges+s.Unanswered+s.Evicted+s.Resynced+uint64(tr.npending) || s.Exchanges+s.Unanswered != uint64(emitted) ||
		s.Responses != s.Exchanges+s.Orphans {
		t.Fatalf("the books do not balance: %+v, %d pending, %d emitted", s, tr.npending, emitted)
	}
}

func length[T any](l *list[T]) int {
	n := 0
	for e := l.first; e != nil; e = e.next {
		n++
	}
	return n
}
