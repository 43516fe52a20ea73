// Package relay brings the flows of all nodes together: it takes what collectors push, puts it in the order of time, joins
// the observations of one event, keeps the newest flows in a ring and hands all of them to its consumers.
//
//	ingest, names --queue--> loop: ledger, merge, pair --> ring, fanout --queues--> consumers
//
// One goroutine, the loop, owns merge, pair and what is known of the nodes. The queue before it blocks the
// collectors when it is full (flow control, nothing is lost); those behind it lose batches and count them. A batch is acknowledged
// once all of its flows were handed to the consumers: what a killed relay had not, its collectors send to the next one. A relay that is
// stopped hands out what waits and acknowledges it. One that is killed may have handed on what it had no time to acknowledge: then
// that is delivered again by the next one; Flow.Node.Boot and Flow.Seq tell duplicates.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/ring"
	"github.com/parallax-flow/parallax/flow/wire"
	"github.com/parallax-flow/parallax/relay/fanout"
	"github.com/parallax-flow/parallax/relay/ingest"
	"github.com/parallax-flow/parallax/relay/ledger"
)

// Relay is a relay. Its methods may be called from any goroutine, before, during and after Run.
type Relay struct {
	config  Config
	log     *slog.Logger
	deps    Deps
	ring    *ring.Ring
	hub     fanout.Hub
	book    *ledger.Book
	metrics *metrics
	events  chan event
}

// queue is how many batches may wait for the loop: they are decoded, so up to 64 MiB if all are of the largest size.
const queue = 16

// New returns a relay that does nothing until Run.
func New(config Config, deps Deps) *Relay {
	config.fill()
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{
		config: config, deps: deps, log: deps.Log, ring: ring.New(config.RingSize), book: ledger.New(), events: make(chan event, queue),
	}
	r.metrics = newMetrics(r, deps.Registerer)
	return r
}

// Run serves collectors until ctx ends. Then what arrived is handed out and acknowledged, all subscriptions are closed, and it returns
// nil. It can be run once.
func (r *Relay) Run(ctx context.Context) error {
	defer r.hub.Close()
	if err := r.config.Check(); err != nil {
		return err
	}
	listener, err := r.listen()
	if err != nil {
		return err
	}
	r.log.Info("relay listens for collectors", "address", listener.Addr().String())

	service := ingest.New(handler{r})
	server := grpc.NewServer(ingest.Codec(), grpc.MaxRecvMsgSize(wire.MaxFrame),
		grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(1<<20),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}))
	service.Register(server)

	// The loop outlives the server: it takes what the streams still hand over while they end.
	served := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		newLoop(r).run(ctx.Done(), served)
		return nil
	})
	g.Go(func() error {
		defer close(served)
		stop := context.AfterFunc(ctx, func() { stopServer(server) })
		defer stop()
		err := server.Serve(listener)
		server.Stop()
		service.Wait()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("serve collectors: %w", err)
	})
	return g.Wait()
}

// stopServer waits for the streams, which the loop ends, but not for long for a collector that doesn't listen.
func stopServer(s *grpc.Server) {
	force := time.AfterFunc(time.Second, s.Stop)
	defer force.Stop()
	s.GracefulStop()
}

func (r *Relay) listen() (net.Listener, error) {
	if r.deps.Listener != nil {
		return r.deps.Listener, nil
	}
	l, err := net.Listen("tcp", r.config.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: address already in use: another relay runs here, or choose --ingest-listen", r.config.Listen)
	case err != nil:
		return nil, fmt.Errorf("listen for collectors: %w", err)
	}
	return l, nil
}

// Ring returns the newest flows of all nodes.
func (r *Relay) Ring() *ring.Ring { return r.ring }

// Subscribe adds a consumer with room for queue batches; see package fanout.
func (r *Relay) Subscribe(name string, queue int) *fanout.Subscription {
	return r.hub.Subscribe(name, queue)
}

// Ledger returns the accounts of all nodes.
func (r *Relay) Ledger() []flow.NodeLedger { return r.book.Snapshot(time.Now().UnixNano()) }

// Nodes returns the nodes that are, or were within the hour, connected, sorted by name.
func (r *Relay) Nodes() []ledger.Node { return r.book.Nodes() }

// Consumers returns the state of all consumers.
func (r *Relay) Consumers() []fanout.Stats { return r.hub.Stats() }
