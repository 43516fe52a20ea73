package l7

import "github.com/parallax-flow/parallax/flow"

// connKey names a connection at one interface, as the datapath oriented it.
type connKey struct {
	src, dst     flow.Addr
	sport, dport uint16
	ifindex      uint32
}

func keyOf(s *Segment) connKey {
	return connKey{s.SrcAddr, s.DstAddr, s.SrcPort, s.DstPort, s.Ifindex}
}

// queryKey names a DNS query in flight. The type is part of it: a stub resolver may ask for A and AAAA under one id.
type queryKey struct {
	conn      connKey
	id, qtype uint16
}

// pending is a request without a response yet.
type pending struct {
	byTime link[pending] // in Tracker.requests or Tracker.lookups
	next   *pending      // behind it on the connection, or in the free list
	conn   *conn         // HTTP only
	l7     *flow.L7
	time   int64
	cookie uint64
	pid    uint32
	bytes  uint64

	replyBytes uint64
	key        connKey
	id, qtype  uint16 // DNS only
	proto      flow.Proto
	point      flow.Point
	direction  flow.Direction
	swapped    bool // the request came from what the datapath took for the responder
}

// conn is an HTTP connection. It outlives its requests, so that a retransmission is known as one.
type conn struct {
	byUse      link[conn]
	byClose    link[conn]
	head, tail *pending // oldest request first; in the free list: head is nil and next is in freeNext
	freeNext   *conn
	key        connKey
	used       int64 // time of the last segment
	deadline   int64 // not 0: closed, forget it then
	n          int   // length of the list at head
	owed       int   // responses that will come for requests given up while others wait behind them

	reqSeq, respSeq   uint32 // of the newest request and response
	nextResp          uint32 // where the next response begins, if nextKnown
	hasReq, hasResp   bool
	nextKnown         bool
	tunnel            bool // after 101 or CONNECT: no longer HTTP
	requestsFromReply bool // requests come from what the datapath took for the responder
}

// connOf returns the connection of s, making room for a new one if it must.
func (t *Tracker) connOf(s *Segment) *conn {
	key := keyOf(s)
	c := t.conns[key]
	if c == nil {
		if len(t.conns) >= t.cfg.MaxConns {
			t.evictConn(t.byUse.front())
		}
		if c = t.freeConn; c != nil {
			t.freeConn = c.freeNext
		} else {
			c = new(conn)
		}
		*c = conn{key: key}
		c.byUse.owner, c.byClose.owner = c, c
		t.conns[key] = c
	} else {
		t.byUse.remove(&c.byUse)
	}
	c.used = max(c.used, s.Time)
	t.byUse.pushBack(&c.byUse)
	return c
}

// evictConn forgets c and counts what it still waited for.
func (t *Tracker) evictConn(c *conn) {
	for c.head != nil {
		t.stats.Evicted++
		t.shift(c)
	}
	t.dropConn(c)
}

// dropConn forgets c, which has no pending request.
func (t *Tracker) dropConn(c *conn) {
	if c.deadline != 0 {
		t.closing.remove(&c.byClose)
	}
	t.byUse.remove(&c.byUse)
	delete(t.conns, c.key)
	c.freeNext, t.freeConn = t.freeConn, c
}

// admit makes a pending request from s, evicting the oldest of all if the Tracker is full.
func (t *Tracker) admit(s *Segment) *pending {
	if t.npending >= t.cfg.MaxPending {
		t.evictOldest()
	}
	p := t.freePending
	if p != nil {
		t.freePending = p.next
	} else {
		p = new(pending)
	}
	*p = pending{
		l7: &t.records.take(1)[0], time: s.Time, cookie: s.Cookie, pid: s.PID, bytes: uint64(max(0, s.PayloadLen)),
		key: keyOf(s), proto: s.Proto, point: s.Point, direction: s.Direction,
	}
	p.byTime.owner = p
	p.l7.Protocol = s.Protocol
	t.npending++
	t.stats.Requests++
	return p
}

func (t *Tracker) evictOldest() {
	t.stats.Evicted++
	r, q := t.requests.front(), t.lookups.front()
	if r == nil || (q != nil && q.time < r.time) {
		t.dropQuery(q)
		return
	}
	r.conn.owed++
	t.shift(r.conn)
}

// push queues p behind the other requests of c.
func (t *Tracker) push(c *conn, p *pending) {
	if c.n >= t.cfg.MaxPendingPerConn {
		t.stats.Evicted++
		c.owed++
		t.shift(c)
	}
	p.conn = c
	if c.tail != nil {
		c.tail.next = p
	} else {
		c.head = p
		c.owed = 0 // a client with nothing in flight got every response, or will not take one
	}
	c.tail = p
	c.n++
	t.requests.pushBack(&p.byTime)
}

// shift drops the oldest request of c. It is also the oldest of c in t.requests: both are in the order of arrival.
func (t *Tracker) shift(c *conn) {
	p := c.head
	if c.head = p.next; c.head == nil {
		c.tail = nil
	}
	c.n--
	t.requests.remove(&p.byTime)
	t.release(p)
}

func (t *Tracker) dropQuery(p *pending) {
	delete(t.queries, queryKey{p.key, p.id, p.qtype})
	t.lookups.remove(&p.byTime)
	t.release(p)
}

func (t *Tracker) release(p *pending) {
	*p = pending{next: t.freePending}
	t.freePending = p
	t.npending--
}
