// Package pair joins the observations of one event.
//
// A request between pods on two nodes is seen four times: as it leaves the pod, as it leaves the node, and twice
// on the other side. One of them, the primary, is sent on with the others in its Path; these are absorbed. An
// observation belongs to the same event if connection, kind and content are equal and the times differ by no more than the tolerance. Where an
// event repeats, the nth one seen at one place is the nth one seen at the other.
//
// A secondary whose primary is not there is sent on with Secondary set, even if its primary was lost: the
// node that owns the source counts this traffic in other records (an interval report that came at another time), or
// its ledger says what was lost. Making it a primary would count twice in the first case to repair the second.
package pair

import (
	"cmp"
	"hash/maphash"
	"slices"
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// Tolerance is the largest difference of time between two observations of one event: clocks of the nodes, the way between
// them, and interval reports that are not made at the same instant.
const Tolerance = 250 * time.Millisecond

// maxPlaces bounds the observations of one event that are joined.
const maxPlaces = 8

// Pairer joins what is in the merge buffer. It belongs to one goroutine. Every flow passes Join once, as it arrives, and Settle once, as it
// leaves; in between the flow must stay where it is.
type Pairer struct {
	owned  func(node string) bool
	seed   maphash.Seed
	chains table
	spareC []*chain
	spareE []*event
	hops   []flow.Hop // room for the paths of the next flows; never written twice
	stats  Stats
}

// Stats are cumulative.
type Stats struct {
	Joined  uint64 // observations absorbed into the path of their primary
	Alone   uint64 // secondaries that were sent on for want of their primary
	Elected uint64 // candidates that became primary
}

// chain holds the events of one key, oldest first, and for each place the first event that the place may still see.
type chain struct {
	key        key
	link       *chain // of the table
	head, tail *event
	n          int // places used
	places     [maxPlaces]place
	own        event // the first event, beside its chain in memory: most chains have no other
}

type place struct {
	node      *flow.Node
	next      *event // nil: all events of the chain are behind this place
	ifindex   uint32
	point     flow.Point
	direction flow.Direction
}

type event struct {
	chain      *chain
	prev, next *event
	time       int64                 // of the first observation that arrived
	waiting    [maxPlaces]*flow.Flow // joined and not settled; their memory is good as long
	early      []flow.Hop            // absorbed before the primary left
	n          uint8                 // observations that were joined
	unsettled  uint8
	primaries  uint8 // of the unsettled ones, those with role Primary
	seen       uint8 // bit set of places
	settled    bool  // the primary is gone: nothing more can be joined
}

// Ticket ties a flow to its event between Join and Settle.
type Ticket struct {
	event  *event
	number uint8
	role   flow.Role
}

// New returns a Pairer. owned says whether a collector observes a node; it is called from the goroutine of Join.
func New(owned func(node string) bool) *Pairer {
	return &Pairer{owned: owned, seed: maphash.MakeSeed(), chains: newTable()}
}

// Stats returns what was counted so far.
func (p *Pairer) Stats() Stats { return p.stats }

// Join notes that f arrived.
func (p *Pairer) Join(f *flow.Flow) Ticket {
	t := Ticket{role: flow.RoleOf(f, p.owned)}
	if f.Kind == flow.KindDrop || f.Kind == flow.KindVerdict { // each its own event: a packet's end, one end's decision
		return t
	}
	c := p.chain(f)
	at := c.place(f)
	if at < 0 {
		return t
	}
	e := c.find(at, f.Time)
	if e == nil {
		e = p.event(c, f.Time, at)
	}
	e.seen |= 1 << at
	t.event, t.number = e, e.n
	e.waiting[e.n] = f
	e.n++
	e.unsettled++
	if t.role == flow.RolePrimary {
		e.primaries++
	}
	return t
}

// Settle decides what becomes of f, which is about to leave: it sets Secondary and Path, or returns false if f was absorbed.
func (p *Pairer) Settle(t Ticket, f *flow.Flow) (send bool) {
	e := t.event
	if e == nil {
		f.Secondary = t.role == flow.RoleSecondary
		return true
	}
	e.waiting[t.number] = nil
	switch {
	case e.settled:
		p.stats.Joined++
	case t.role == flow.RolePrimary || t.role == flow.RoleCandidate && e.primaries == 0:
		send, e.settled = true, true
		f.Secondary, f.Path = false, p.path(e)
		if t.role == flow.RoleCandidate {
			p.stats.Elected++
		}
	case e.primaries > 0:
		e.early = append(e.early, hop(f))
		p.stats.Joined++
	default:
		send, f.Secondary = true, true
		p.stats.Alone++
	}
	if e.unsettled--; e.unsettled == 0 {
		p.remove(e)
	}
	return send
}

func hop(f *flow.Flow) flow.Hop {
	h := flow.Hop{
		Node: f.Node, Time: f.Time, Packets: f.Packets, Bytes: f.Bytes, Ifindex: f.Ifindex, Point: f.Point, Direction: f.Direction,
	}
	if f.L7 != nil {
		h.Start = f.Start
	}
	return h
}

// path returns the observations of e but for the primary and those that were sent on, in time order.
func (p *Pairer) path(e *event) []flow.Hop {
	if len(p.hops)+maxPlaces > cap(p.hops) {
		p.hops = make([]flow.Hop, 0, 512)
	}
	start := len(p.hops)
	p.hops = append(p.hops, e.early...)
	for _, f := range e.waiting[:e.n] {
		if f != nil {
			p.hops = append(p.hops, hop(f))
		}
	}
	path := p.hops[start:len(p.hops):len(p.hops)]
	if len(path) == 0 {
		return nil
	}
	slices.SortStableFunc(path, func(a, b flow.Hop) int { return cmp.Compare(a.Time, b.Time) })
	return path
}

func (p *Pairer) chain(f *flow.Flow) *chain {
	k := p.keyOf(f)
	c := p.chains.get(&k)
	if c != nil {
		return c
	}
	if n := len(p.spareC); n > 0 {
		c, p.spareC = p.spareC[n-1], p.spareC[:n-1]
	} else {
		c = new(chain)
	}
	c.key = k
	p.chains.put(c)
	return c
}

// content is what tells exchanges on one connection apart.
func (p *Pairer) content(f *flow.Flow) uint64 {
	if f.L7 == nil {
		return uint64(f.ICMPType)<<8 | uint64(f.ICMPCode)
	}
	h := maphash.String(p.seed, f.L7.Resource)
	h = h<<7 ^ h>>57 ^ maphash.String(p.seed, f.L7.Operation)
	return h ^ uint64(f.L7.Status)<<16 ^ uint64(f.L7.Protocol)<<8 ^ 1
}

// place returns the number of f's place in c, -1 if there are too many.
func (c *chain) place(f *flow.Flow) int {
	for i := range c.places[:c.n] {
		at := &c.places[i]
		if at.ifindex == f.Ifindex && at.point == f.Point && at.direction == f.Direction &&
			(at.node == f.Node || at.node.Name == f.Node.Name) {
			return i
		}
	}
	if c.n == maxPlaces {
		return -1
	}
	c.places[c.n] = place{node: f.Node, next: c.head, ifindex: f.Ifindex, point: f.Point, direction: f.Direction}
	c.n++
	return c.n - 1
}

// find returns the event that an observation at a place and time t belongs to, nil if it is a new one, and moves the place on.
func (c *chain) find(place int, t int64) *event {
	at := &c.places[place]
	for e := at.next; e != nil; e = e.next {
		if e.time > t+int64(Tolerance) {
			return nil
		}
		at.next = e.next
		if e.time >= t-int64(Tolerance) && e.seen&(1<<place) == 0 && !e.settled && e.n < maxPlaces {
			return e
		}
	}
	return nil
}

// event appends a new event to c, made by what place saw. All other places may still see it.
func (p *Pairer) event(c *chain, t int64, place int) *event {
	e := &c.own
	if n := len(p.spareE); c.head == nil {
		// c is new, its own event is free.
	} else if n > 0 {
		e, p.spareE = p.spareE[n-1], p.spareE[:n-1]
	} else {
		e = new(event)
	}
	e.chain, e.time, e.prev, e.next = c, t, c.tail, nil
	e.n, e.unsettled, e.primaries, e.seen, e.settled, e.early = 0, 0, 0, 0, false, e.early[:0]
	if c.tail == nil {
		c.head = e
	} else {
		c.tail.next = e
	}
	c.tail = e
	for i := range c.places[:c.n] {
		if other := &c.places[i]; i != place && other.next == nil {
			other.next = e
		}
	}
	return e
}

func (p *Pairer) remove(e *event) {
	c := e.chain
	for i := range c.places[:c.n] {
		if c.places[i].next == e {
			c.places[i].next = e.next
		}
	}
	if e.prev == nil {
		c.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		c.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	if e != &c.own {
		p.spareE = append(p.spareE, e)
	}
	if c.head == nil {
		p.chains.remove(c)
		c.tail, c.n = nil, 0
		p.spareC = append(p.spareC, c)
	}
}
