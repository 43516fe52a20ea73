// Package l7 joins the application messages that the datapath saw into exchanges: a request with its response, as
// one flow of KindL7. One file holds one protocol's parser; nothing here does I/O.
//
// Exchanges leave in the order of their responses. A request that is never answered leaves through Expire. State is
// bounded: when a bound is reached the oldest goes, and Stats counts it. Nothing is guessed: a response whose request
// was not seen is counted, not reported.
//
// An exchange takes one flow.L7 from a chunk of 64, and a string for each text that was not seen lately; a traceparent is
// always a new one. So it allocates 1/64 times with known texts.
//
// What a person would not want to leave the node is dropped here: query values, matrix parameters, userinfo, and every
// header but Host, User-Agent and traceparent, which are the only ones that are ever read into a string.
package l7

import "github.com/parallax-flow/parallax/flow"

// Stats counts what a Tracker did since New. Requests = Exchanges + Unanswered + Evicted + Resynced + still pending.
type Stats struct {
	Requests    uint64 // requests and queries taken in, without retransmissions
	Responses   uint64 // responses seen, without retransmissions and interim (1xx) ones
	Exchanges   uint64 // flows emitted with a response
	Unanswered  uint64 // flows emitted without one
	Orphans     uint64 // responses whose request was not seen, or was given up before
	Retransmits uint64 // messages seen again
	Interim     uint64 // HTTP 1xx other than 101
	Malformed   uint64 // segments that are not what their first bytes promised
	Skipped     uint64 // multicast DNS messages
	Evicted     uint64 // pending requests dropped to stay within a bound; never reported
	Resynced    uint64 // pending requests whose response was provably missed; never reported
}

// Tracker holds the requests that wait for their response. It is not safe for concurrent use.
type Tracker struct {
	cfg   Config
	stats Stats

	conns   map[connKey]*conn
	byUse   list[conn] // least recently used first
	closing list[conn] // order of the calls of Closed
	queries map[queryKey]*pending

	requests list[pending] // HTTP, in the order of arrival
	lookups  list[pending] // DNS, in the order of arrival
	npending int

	freePending *pending
	freeConn    *conn

	strings interner
	records slab[flow.L7]
	answers slab[string]
	http    httpMessage
	dns     dnsMessage
	scratch []byte
}

// New makes a Tracker; zero fields of cfg get their defaults.
func New(cfg Config) *Tracker {
	cfg.setDefaults()
	return &Tracker{
		cfg:     cfg,
		conns:   make(map[connKey]*conn),
		queries: make(map[queryKey]*pending),
		strings: newInterner(cfg.MaxStrings),
		records: slab[flow.L7]{chunk: 64},
		answers: slab[string]{chunk: 256},
	}
}

// Stats returns the counters.
func (t *Tracker) Stats() Stats { return t.stats }

// Pending returns how many requests wait for a response.
func (t *Tracker) Pending() int { return t.npending }

// Segment takes one message start and appends the exchanges that it completes to out. Nothing of s is kept.
func (t *Tracker) Segment(s *Segment, out *flow.Batch) {
	switch s.Protocol {
	case flow.L7HTTP:
		t.httpSegment(s, out)
	case flow.L7DNS:
		t.dnsSegment(s, out)
	}
}

// Closed says that the connection of f, a flow of KindClose, has ended. Its pending requests are emitted as unanswered
// by the first Expire that is CloseGrace behind f.Time: a response may still sit in another CPU's ring.
func (t *Tracker) Closed(f *flow.Flow) {
	if f.Proto != flow.ProtoTCP {
		return
	}
	c := t.conns[connKey{f.SrcAddr, f.DstAddr, f.SrcPort, f.DstPort, f.Ifindex}]
	if c == nil || c.deadline != 0 {
		return
	}
	c.deadline = f.Time + int64(t.cfg.CloseGrace)
	t.closing.pushBack(&c.byClose)
}

// Expire appends to out an unanswered exchange for each request that waited longer than its timeout at now (Unix ns),
// and forgets idle connections. Time of such a flow is the moment of giving up. Call it about once per second.
func (t *Tracker) Expire(now int64, out *flow.Batch) {
	for c := t.closing.front(); c != nil && c.deadline <= now; c = t.closing.front() {
		for c.head != nil {
			t.emit(c.head, c.deadline, nil, out)
			t.shift(c)
		}
		t.dropConn(c)
	}
	for p := t.requests.front(); p != nil && p.time+int64(t.cfg.Timeout) <= now; p = t.requests.front() {
		t.emit(p, p.time+int64(t.cfg.Timeout), nil, out)
		p.conn.owed++
		t.shift(p.conn)
	}
	for p := t.lookups.front(); p != nil && p.time+int64(t.cfg.DNSTimeout) <= now; p = t.lookups.front() {
		t.emit(p, p.time+int64(t.cfg.DNSTimeout), nil, out)
		t.dropQuery(p)
	}
	for c := t.byUse.front(); c != nil && c.used+int64(t.cfg.IdleTimeout) <= now; c = t.byUse.front() {
		t.evictConn(c)
	}
}

// emit appends the flow of p. reply is the response's segment, nil if none was seen.
func (t *Tracker) emit(p *pending, at int64, reply *Segment, out *flow.Batch) {
	f := out.Next()
	f.Time, f.Start = at, p.time
	f.Node = t.cfg.Node
	f.L7 = p.l7
	f.Kind, f.Verdict = flow.KindL7, flow.VerdictForwarded
	f.SrcAddr, f.DstAddr = p.key.src, p.key.dst
	f.SrcPort, f.DstPort = p.key.sport, p.key.dport
	f.Ifindex = p.key.ifindex
	f.Proto, f.Point, f.Direction = p.proto, p.point, p.direction
	f.Cookie, f.PID = p.cookie, p.pid
	if reply != nil && f.Cookie == 0 {
		f.Cookie, f.PID = reply.Cookie, reply.PID
	}
	f.Bytes, f.ReplyBytes = p.bytes, p.replyBytes
	if p.swapped {
		f.SrcAddr, f.DstAddr = f.DstAddr, f.SrcAddr
		f.SrcPort, f.DstPort = f.DstPort, f.SrcPort
		f.Point, f.Direction = f.Point.Opposite(), mirrorDirection(f.Direction)
	}
	dst, known := ownerSide(f.Point)
	if f.ProcessDst = dst; !known {
		f.Cookie, f.PID = 0, 0
	}
	if reply == nil {
		p.l7.Latency, p.l7.Error = -1, true
		t.stats.Unanswered++
		return
	}
	f.Reply = true
	p.l7.Answered = true
	p.l7.Latency = max(0, at-p.time)
	t.stats.Exchanges++
}

// ownerSide tells whose socket the datapath saw at p: that of Dst, or of Src. On the loopback interface both are local.
func ownerSide(p flow.Point) (dst, known bool) {
	switch p {
	case flow.PointToEndpoint, flow.PointFromNetwork, flow.PointFromOverlay:
		return true, true
	case flow.PointFromEndpoint, flow.PointToNetwork, flow.PointToOverlay:
		return false, true
	}
	return false, false
}

func mirrorDirection(d flow.Direction) flow.Direction {
	switch d {
	case flow.DirectionIngress:
		return flow.DirectionEgress
	case flow.DirectionEgress:
		return flow.DirectionIngress
	}
	return d
}
