// Package probe loads the datapath into the kernel, keeps it attached to the interfaces of one network namespace and
// reads what it reports.
//
// Records come in the order of the ring, then those of the sweep, from one goroutine, the caller's of Run. Nothing is
// lost silently: Stats counts what the kernel could not hand over. A program that cannot be attached to an interface is
// left out there, logged and counted; the others go on.
package probe

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parallax-flow/parallax/collector/netns"
	"github.com/parallax-flow/parallax/flow"
)

// Probe observes one network namespace.
type Probe struct {
	cfg       Config
	loaded    chan struct{}
	ready     chan struct{}
	delivered atomic.Uint64
	swept     atomic.Uint64

	mu         sync.Mutex
	datapath   *datapath   // nil before it is loaded and after it is closed
	interfaces *interfaces // nil until they are followed
	last       Stats       // the kernel's counters at the end
	scope      []uint32
	endpoints  []flow.Addr
}

// New returns a Probe; it does no I/O.
func New(cfg Config) *Probe {
	cfg.setDefaults()
	return &Probe{cfg: cfg, loaded: make(chan struct{}), ready: make(chan struct{}), scope: cfg.DropScope}
}

// Ready is closed when the interfaces that are there are observed.
func (p *Probe) Ready() <-chan struct{} { return p.ready }

const (
	batchRecords = 1024        // records between two flushes, at most
	reportEvery  = time.Second // look for connections that fell silent
)

// Run loads, attaches and reads until ctx ends; then it detaches, hands over the rest and returns nil. record gets each
// record of bpf/headers/event.h, good during the call only; flush follows when there are no more for now, behind 1024,
// and each Config.Poll even if there were none. Both are called from this goroutine. A Probe runs once.
//
// Errors: ErrPermission, ErrNoBTF, or what the kernel refused.
func (p *Probe) Run(ctx context.Context, record func([]byte), flush func()) error {
	if err := p.cfg.Validate(); err != nil {
		return err
	}
	if err := Preflight(); err != nil {
		return err
	}
	d, err := p.load()
	if err != nil {
		return err
	}
	defer p.unload()
	r, err := openRing(d.objects.Events)
	if err != nil {
		return err
	}
	defer r.close()

	sw, err := newSweep(d, &p.cfg)
	if err != nil {
		return err
	}
	defer sw.close()

	ifs := &interfaces{cfg: &p.cfg, ingress: d.objects.Ingress, egress: d.objects.Egress, roles: d.objects.Interfaces, release: p.endPolicy, log: p.cfg.Logger}
	p.mu.Lock()
	p.interfaces = ifs
	p.mu.Unlock()
	l := &loop{
		ring: r, sweep: sw, poll: p.cfg.Poll,
		record: record, flush: flush, delivered: &p.delivered, swept: &p.swept,
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		err := netns.Do(p.cfg.NetNS, func() error { return ifs.run(ctx, func() { close(p.ready) }) })
		r.interrupt() // before the send: behind it the ring may be closed
		stopped <- err
	}()
	return l.run(stopped, cancel, d.detach)
}
