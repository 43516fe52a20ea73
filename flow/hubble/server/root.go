// Package server answers the Hubble Observer API, so that Hubble's clients work against a collector and against the relay.
//
// Flows come from a ring in memory and, where that does not reach back far enough, from storage; both are joined at a moment in time
// without a gap or a duplicate. Flows are sent in the order of the ring and at once. A client that reads too slowly is
// not waited for: the ring overtakes it, and it is told how many flows it missed.
package server

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// Live is the ring of the newest flows; *ring.Ring is one.
type Live interface {
	Cap() int
	Bounds() (oldest, next uint64)
	Complete() int64
	Since(t int64) uint64
	Read(seq uint64, buf []flow.Flow) (n int, first uint64)
	Wait(ctx context.Context, seq uint64) error
}

// History is the store of all flows. each may keep nothing of the flow and ends the query by returning false.
type History interface {
	Flows(ctx context.Context, q query.Flows, each func(*flow.Flow) bool) error
}

// Config is what a Server needs.
type Config struct {
	Version string // as clients show it: "parallax 0.1.0"
	Live    Live
	History History                  // nil: what is no longer in Live is gone. Live must reach back further than the store's writer is late
	Ledger  func() []flow.NodeLedger // the nodes behind this server and their accounts; nil: none
}

// Server implements observer.ObserverServer.
type Server struct {
	observerpb.UnimplementedObserverServer
	config  Config
	start   time.Time
	sampler sampler
	life    atomic.Pointer[context.Context] // of Run: its end ends all streams
}

// New makes a server that was started now. It serves when Run is called.
func New(config Config) *Server {
	if config.Ledger == nil {
		config.Ledger = func() []flow.NodeLedger { return nil }
	}
	return &Server{config: config, start: time.Now(), sampler: sampler{live: config.Live}}
}

// stopGrace is how long streams get to send what is on its way.
const stopGrace = time.Second

// hubbleService is the name by which "hubble status" asks for health (ObserverServiceName of Cilium's pkg/hubble/api/v1).
const hubbleService = "hubble.server.Observer"

// Run serves on listener until ctx ends: Observer, the ledger, gRPC's health and reflection. It closes the listener.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	s.life.Store(&ctx)
	g := grpc.NewServer()
	observerpb.RegisterObserverServer(g, s)
	g.RegisterService(&ledgerDesc, s)
	up := health.NewServer()
	healthpb.RegisterHealthServer(g, up)
	for _, service := range []string{"", observerpb.Observer_ServiceDesc.ServiceName, hubbleService, ledgerDesc.ServiceName} {
		up.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}
	reflection.Register(g)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.sampler.run(ctx) })
	group.Go(func() error {
		if err := g.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		up.Shutdown()
		force := time.AfterFunc(stopGrace, g.Stop)
		defer force.Stop()
		g.GracefulStop()
		return nil
	})
	return group.Wait()
}

// until returns the context of a stream that also ends with Run.
func (s *Server) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	life := s.life.Load()
	if life == nil {
		return ctx, func() { cancel(nil) }
	}
	stop := context.AfterFunc(*life, func() { cancel(errStopping) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

var errStopping = errors.New("the server is stopping")
