// Package ledger accounts for every record of every collector:
//
//	Produced = Delivered + InFlight + sum of Lost
//
// per node and boot. Produced and what was lost on the node is what the collector reports; Delivered is what the relay handed to
// its consumers, as a flow or as a hop in the path of one, and what another relay acknowledged before. InFlight is
// the rest: in the memory of the collector or of the relay. When a boot is over, what never arrived of it becomes lost at
// relay.ingest. A collector whose figures can't be true is refused, so that the difference is never negative.
package ledger

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
)

// Keep is how long the account of a collector that is gone is shown.
const Keep = time.Hour

var (
	// ErrClosed is returned for reports of a boot that is over: another one of the same node came after it.
	ErrClosed = errors.New("another collector of this node has taken over")
	// ErrCounters is returned for counters that can't be true.
	ErrCounters = errors.New("counters of the collector don't add up")
)

// Book holds the accounts. It is safe for concurrent use.
type Book struct {
	mu       sync.Mutex
	accounts []*Account       // one for each node that is shown, and older boots of it until they are drained
	past     map[string]*Sums // by node: boots whose accounts are gone
}

// Account is that of one boot of one node. Its methods lock the book.
type Account struct {
	book      *Book
	node      *flow.Node
	version   string
	connected bool
	since     int64
	closed    bool

	produced  uint64
	elsewhere uint64            // acknowledged by another relay
	received  uint64            // by this relay, duplicates left out
	delivered uint64            // of received
	reported  map[string]uint64 // lost on the node, by stage
	lost      map[string]uint64 // lost here, by stage
}

// New returns an empty book.
func New() *Book { return &Book{past: make(map[string]*Sums)} }

// Connect opens the account of a boot or finds it again. acked is what the collector knows to be safe.
// Other boots of the same node are over with that.
func (b *Book) Connect(node *flow.Node, version string, acked uint64, now int64) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	var a *Account
	for _, other := range b.accounts {
		if other.node.Name != node.Name {
			continue
		}
		if other.node.Boot == node.Boot && !other.closed {
			a = other
			continue
		}
		other.close(now)
	}
	if a == nil {
		a = &Account{book: b, node: node, reported: make(map[string]uint64), lost: make(map[string]uint64)}
		b.accounts = append(b.accounts, a)
	}
	// All that this relay acknowledged it had received: what goes beyond that, another one did.
	if acked > a.received {
		a.elsewhere = max(a.elsewhere, acked-a.received)
	}
	a.produced = max(a.produced, a.elsewhere+a.received+sum(a.reported))
	a.version, a.connected, a.since = version, true, now
	b.prune(now)
	return a
}

// Disconnect notes that the collector is not there.
func (a *Account) Disconnect(now int64) {
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	if a.connected {
		a.connected, a.since = false, now
	}
}

// Report takes the collector's counters; older ones than known change nothing. The error is ErrClosed or ErrCounters.
func (a *Account) Report(c *wire.Counters) error {
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	return a.report(c)
}

func (a *Account) report(c *wire.Counters) error {
	if a.closed {
		return ErrClosed
	}
	if c.Produced < a.produced {
		return nil
	}
	lost := uint64(0)
	for stage, n := range c.Lost {
		lost += max(n, a.reported[stage])
	}
	for stage, n := range a.reported {
		if _, ok := c.Lost[stage]; !ok {
			lost += n
		}
	}
	if c.Produced < a.elsewhere+a.received+lost {
		return ErrCounters
	}
	a.produced = c.Produced
	for stage, n := range c.Lost {
		a.reported[stage] = max(n, a.reported[stage])
	}
	return nil
}

// Receive takes a batch of n flows that came with counters c. The errors are those of Report.
func (a *Account) Receive(c *wire.Counters, n int) error {
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	if err := a.report(c); err != nil {
		return err
	}
	if a.elsewhere+a.received+uint64(n)+sum(a.reported) > a.produced {
		return ErrCounters
	}
	a.received += uint64(n)
	return nil
}

// Lose counts n received flows as lost at stage.
func (a *Account) Lose(stage string, n int) {
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	a.lost[stage] += uint64(n)
}

// Deliver counts n received flows as delivered.
func (a *Account) Deliver(n int) {
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	a.delivered += uint64(n)
}

// close ends the boot: what didn't arrive will not.
func (a *Account) close(now int64) {
	if a.closed {
		return
	}
	a.closed = true
	if a.connected {
		a.connected, a.since = false, now
	}
	if missing := a.produced - a.elsewhere - a.received - sum(a.reported); missing > 0 {
		a.lost[flow.StageRelayIngest] += missing
	}
}

func (a *Account) inFlight() uint64 {
	return a.produced - a.elsewhere - a.delivered - sum(a.reported) - sum(a.lost)
}

// prune drops accounts of older boots once they are drained, and those of nodes that are long gone.
func (b *Book) prune(now int64) {
	b.accounts = slices.DeleteFunc(b.accounts, func(a *Account) bool {
		long := !a.connected && now-a.since > int64(Keep)
		if long {
			a.close(now)
		}
		if !a.closed || a.inFlight() > 0 {
			return false
		}
		if long {
			delete(b.past, a.node.Name)
			return true
		}
		if b.past[a.node.Name] == nil {
			b.past[a.node.Name] = &Sums{Lost: make(map[string]uint64)}
		}
		b.past[a.node.Name].add(a)
		return true
	})
}

// Sums are those of all boots of one node.
type Sums struct {
	Produced, Delivered, InFlight uint64
	Lost                          map[string]uint64 // by stage
}

func (s *Sums) add(a *Account) {
	s.Produced += a.produced
	s.Delivered += a.elsewhere + a.delivered
	s.InFlight += a.inFlight()
	for stage, n := range a.losses() {
		s.Lost[stage] += n
	}
}

func (a *Account) losses() map[string]uint64 {
	all := maps.Clone(a.reported)
	for stage, n := range a.lost {
		all[stage] += n
	}
	return all
}

// Snapshot returns all accounts, sorted by node name, older boots first.
func (b *Book) Snapshot(now int64) []flow.NodeLedger {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prune(now)
	all := make([]flow.NodeLedger, len(b.accounts))
	for i, a := range b.accounts {
		all[i] = flow.NodeLedger{
			Node: a.node, Connected: a.connected, Since: a.since, Produced: a.produced, Delivered: a.elsewhere + a.delivered,
			InFlight: a.inFlight(), Lost: a.losses(),
		}
	}
	slices.SortStableFunc(all, func(x, y flow.NodeLedger) int { return strings.Compare(x.Node.Name, y.Node.Name) })
	return all
}

// Totals returns the sums over all boots of each node, by name.
func (b *Book) Totals() map[string]*Sums {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]*Sums)
	for name, past := range b.past {
		c := *past
		c.Lost = maps.Clone(past.Lost)
		all[name] = &c
	}
	for _, a := range b.accounts {
		if all[a.node.Name] == nil {
			all[a.node.Name] = &Sums{Lost: make(map[string]uint64)}
		}
		all[a.node.Name].add(a)
	}
	return all
}

// Node is the state of one collector.
type Node struct {
	*flow.Node
	Version   string
	Connected bool
	Since     int64 // Unix ns of the last change of Connected
}

// Nodes returns the newest boot of each node, sorted by name.
func (b *Book) Nodes() []Node {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Node
	for _, a := range b.accounts {
		if !a.closed {
			all = append(all, Node{Node: a.node, Version: a.version, Connected: a.connected, Since: a.since})
		}
	}
	slices.SortFunc(all, func(x, y Node) int { return strings.Compare(x.Name, y.Name) })
	return all
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}
