// Package enrich says what stands behind the addresses of a flow: a pod, a service, a node, a process of this node, a
// name that was asked for in DNS, or the world.
//
// Enrich runs on the pipeline's goroutine: it does no I/O, takes no lock and, once caches are warm, allocates nothing.
// What takes time (metadata, addresses of the node, /proc) runs in Run and is handed over as immutable snapshots. A
// flow is never held back for want of a name: it gets the best one that is known.
package enrich

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// Enricher sets the endpoints of flows of one node.
type Enricher struct {
	cfg       Config
	sources   []meta.Source
	directory *meta.Directory
	host      *flow.Endpoint
	local     *localAddrs
	processes *processes // nil: off
	scanner   *scanner   // nil: off
	names     names
	world     world
}

// New returns an Enricher; Run makes it know things.
func New(cfg Config, sources ...meta.Source) *Enricher {
	cfg.setDefaults()
	e := &Enricher{
		cfg:       cfg,
		sources:   sources,
		directory: meta.NewDirectory(meta.Config{Node: cfg.Node}),
		host: &flow.Endpoint{
			Kind: flow.EndpointHost, Identity: meta.IdentityHost, Name: cfg.Node, NodeName: cfg.Node, Cluster: cfg.Cluster,
		},
		local: newLocalAddrs(cfg.NetNS),
		names: newNames(cfg.MaxNames, cfg.NameTTL),
		world: newWorld(cfg.MaxPrivate),
	}
	if cfg.Processes {
		e.scanner = newScanner(cfg)
		e.processes = newProcesses(cfg.MaxSockets, e.scanner)
	}
	return e
}

// Directory is what the sources told, for listings.
func (e *Enricher) Directory() *meta.Directory { return e.directory }

// Ready is closed when Run has read the node's own addresses and, with Processes, searched /proc once.
func (e *Enricher) Ready() <-chan struct{} { return e.local.ready }

// Run follows sources, addresses and processes until ctx ends; it returns the first failure, nil on cancel. Call it once.
func (e *Enricher) Run(ctx context.Context) error {
	if e.scanner != nil {
		if err := e.scanner.open(); err != nil {
			return fmt.Errorf("read sockets of node %s: %w", e.cfg.Node, err)
		}
		defer e.scanner.close()
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.directory.Run(ctx, e.sources...) })
	if e.scanner != nil {
		e.scanner.scan(ctx)
		g.Go(func() error { return e.scanner.run(ctx) })
	}
	g.Go(func() error { return e.local.run(ctx) })
	return g.Wait()
}

// Enrich sets Src and Dst of each flow of b, and learns names and sockets from those that tell them. It must not run
// twice at the same time.
func (e *Enricher) Enrich(b *flow.Batch) {
	local := e.local.current.Load()
	if e.processes != nil {
		e.processes.refresh()
	}
	for i := range b.Flows {
		f := &b.Flows[i]
		f.Src = e.endpoint(f, local, false)
		f.Dst = e.endpoint(f, local, true)
		if l := f.L7; l != nil && l.Protocol == flow.L7DNS && l.Answered && !l.Error {
			e.names.learn(l, f.Time)
		}
	}
}

// endpoint names the source of f, or its destination.
func (e *Enricher) endpoint(f *flow.Flow, local *addrSet, dst bool) *flow.Endpoint {
	a := f.SrcAddr
	if dst {
		a = f.DstAddr
	}
	known := e.directory.Lookup(a, f.Time)
	if known != nil && (known.Kind != flow.EndpointHost || known.NodeName != e.cfg.Node) {
		return known
	}
	if known != nil || local.has(a) {
		if e.processes != nil {
			if p := e.processes.lookup(f, dst); p != nil {
				return p
			}
		}
		if known != nil {
			return known
		}
		return e.host
	}
	if p := e.names.lookup(a, f.Start, f.Time); p != nil {
		return p
	}
	return e.world.endpoint(a, local)
}
