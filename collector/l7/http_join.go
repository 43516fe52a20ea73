package l7

import "github.com/parallax-flow/parallax/flow"

// seqWindow is how far behind the newest message of a connection another may begin and still be a retransmission of
// it. What is further behind belongs to a new connection that has the same ports.
const seqWindow = 1 << 20

// httpSegment reads the messages that begin in s: more than one where a peer pipelines.
func (t *Tracker) httpSegment(s *Segment, out *flow.Batch) {
	m := &t.http
	if !m.parse(s.Payload) {
		t.stats.Malformed++
		return
	}
	c := t.connOf(s)
	for b, seq := s.Payload, s.Seq; ; {
		if c.tunnel {
			return
		}
		var length int64 // of the whole message, -1 if unknown
		if m.status == 0 {
			length = t.httpRequest(c, s, seq, out)
		} else {
			length = t.httpResponse(c, s, seq, out)
		}
		if length < 0 || length >= int64(len(b)) {
			return
		}
		b, seq = b[length:], seq+uint32(length)
		if !m.parse(b) {
			return
		}
	}
}

// httpRequest queues the request in t.http, which begins at seq, and returns its length.
func (t *Tracker) httpRequest(c *conn, s *Segment, seq uint32, out *flow.Batch) int64 {
	m := &t.http
	length := int64(-1)
	if body := m.bodyLen(false); body >= 0 {
		length = int64(m.headLen) + body
	}
	if c.deadline != 0 && s.Time > c.deadline-int64(t.cfg.CloseGrace) {
		t.restart(c, s.Time, out)
	}
	if c.hasReq {
		if behind := int32(c.reqSeq - seq); behind >= 0 && behind < seqWindow {
			t.stats.Retransmits++
			return length
		} else if behind >= seqWindow {
			t.restart(c, s.Time, out)
		}
	}
	c.reqSeq, c.hasReq = seq, true
	c.requestsFromReply = s.Reply

	p := t.admit(s)
	p.swapped = s.Reply
	if length >= 0 {
		p.bytes = uint64(length)
	}
	t.describeRequest(p.l7)
	t.push(c, p)
	return length
}

// restart begins c anew: another connection has its addresses and ports.
func (t *Tracker) restart(c *conn, at int64, out *flow.Batch) {
	for c.head != nil {
		t.emit(c.head, at, nil, out)
		t.shift(c)
	}
	if c.deadline != 0 {
		t.closing.remove(&c.byClose)
	}
	c.hasReq, c.hasResp, c.nextKnown, c.tunnel = false, false, false, false
	c.owed, c.deadline = 0, 0
}

// httpResponse joins the response in t.http, which begins at seq, with the oldest request and returns its length.
func (t *Tracker) httpResponse(c *conn, s *Segment, seq uint32, out *flow.Batch) int64 {
	m := &t.http
	toHead := c.head != nil && c.owed == 0 && c.head.l7.Operation == "HEAD"
	length := int64(-1)
	if body := m.bodyLen(toHead); body >= 0 {
		length = int64(m.headLen) + body
	}
	if c.hasResp {
		if behind := int32(c.respSeq - seq); behind >= 0 && behind < seqWindow {
			t.stats.Retransmits++
			return length
		}
	}
	missed := c.nextKnown && seq != c.nextResp
	c.respSeq, c.hasResp = seq, true
	c.nextResp, c.nextKnown = seq+uint32(max(0, length)), length >= 0
	if m.status < 200 && m.status != 101 {
		t.stats.Interim++
		return length
	}
	t.stats.Responses++
	if missed {
		t.resync(c)
	}
	switch {
	case c.owed > 0:
		c.owed--
		t.stats.Orphans++
		return length
	case c.head == nil, s.Reply == c.requestsFromReply:
		t.stats.Orphans++
		return length
	}
	p := c.head
	p.replyBytes = uint64(max(0, s.PayloadLen))
	if length >= 0 {
		p.replyBytes = uint64(length)
	}
	p.l7.Status = m.status
	p.l7.Error = m.status >= 500
	c.tunnel = m.status == 101 || m.status < 300 && p.l7.Operation == "CONNECT"
	t.emit(p, s.Time, s, out)
	t.shift(c)
	return length
}

// resync gives up all requests of c but the newest. The stream of responses has a gap where the last one should have
// begun, so some were not seen; clients that pipeline are rare, so the one seen now answers the newest.
func (t *Tracker) resync(c *conn) {
	c.owed = 0
	for c.n > 1 {
		t.stats.Resynced++
		t.shift(c)
	}
}
