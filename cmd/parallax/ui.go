package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	observerpb "github.com/cilium/cilium/api/v1/observer"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
	"github.com/parallax-flow/parallax/internal/lifecycle"
	"github.com/parallax-flow/parallax/storage"
	"github.com/parallax-flow/parallax/ui/api"
)

func newUICommand() *cobra.Command {
	var (
		page     pageOptions
		server   string
		url      string
		logLevel string
		check    bool
	)
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Serve the page alone: live from a relay, history from its storage",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(logLevel)
			if err != nil {
				return err
			}
			if err := storage.Check(url); err != nil || check {
				return err
			}
			store, at, err := openStorage(cmd.Context(), url, "")
			if err != nil {
				return err
			}
			feed, err := newFeed(server, at, log)
			if err != nil {
				return storeClosed(store, err)
			}
			if strings.HasPrefix(url, "memory:") {
				feed.keep = store // nobody else fills it
			}
			p, err := newPage(&page, feed.live, store, feed.status, log)
			if err != nil {
				return storeClosed(store, err)
			}
			return storeClosed(store, runStack(cmd.Context(), log, func(stack *lifecycle.Stack) error {
				p.start(stack)
				stack.Go("feed", feed.run)
				stack.Go("rate", feed.rate.run(feed.delivered.Load))
				return nil
			}))
		},
	}
	f := cmd.Flags()
	page.register(f)
	f.StringVar(&server, "server", "localhost:4245", "Observer API of the relay")
	f.StringVar(&url, "storage", "memory:", "the relay's storage, clickhouse://user:password@host:9000/database; memory: knows what came since the start")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&check, "check", false, "validate the configuration and exit")
	return cmd
}

// feed follows a relay for the live view.
type feed struct {
	live    *api.Live
	conn    *grpc.ClientConn
	log     *slog.Logger
	storeAt string
	keep    *storage.Store // where to put what the relay sends; nil: the relay stores it itself
	ledger  atomic.Pointer[api.Status]
	rate    rateMeter

	delivered atomic.Uint64
}

func newFeed(server, storeAt string, log *slog.Logger) (*feed, error) {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("--server %q: %w", server, err)
	}
	return &feed{live: api.NewLive(), conn: conn, log: log, storeAt: storeAt}, nil
}

// run follows until ctx ends, and again after each failure.
func (f *feed) run(ctx context.Context) error {
	defer f.conn.Close()
	watching := make(chan struct{})
	defer func() { <-watching }()
	go func() {
		defer close(watching)
		f.watchLedger(ctx)
	}()
	for ctx.Err() == nil {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.log.Warn("relay does not answer, trying again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
	return nil
}

func (f *feed) follow(ctx context.Context) error {
	stream, err := observerpb.NewObserverClient(f.conn).GetFlows(ctx, &observerpb.GetFlowsRequest{Follow: true, Number: 1000})
	if err != nil {
		return err
	}
	batch := make([]flow.Flow, 1)
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if pb := resp.GetFlow(); pb != nil {
			got, err := hubble.FromProto(pb)
			if err != nil {
				return err
			}
			batch[0] = *got
			f.live.Add(batch)
			if f.keep != nil {
				if err := f.keep.Write(ctx, batch); err != nil {
					return err
				}
			}
		}
	}
}

func (f *feed) watchLedger(ctx context.Context) {
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		ledgers, err := hubble.GetLedger(ask, f.conn)
		cancel()
		f.delivered.Store(delivered(ledgers))
		s := pageStatus(ledgers, f.storeAt, f.rate.perSecond())
		if err != nil {
			s.Error = "the relay does not answer: " + err.Error()
		}
		f.ledger.Store(&s)
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

func (f *feed) status() api.Status {
	if s := f.ledger.Load(); s != nil {
		return *s
	}
	return pageStatus(nil, f.storeAt, 0)
}

// storeClosed closes s and returns err, or what went wrong.
func storeClosed(s *storage.Store, err error) error {
	if cerr := s.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close the storage: %w", cerr)
	}
	return err
}
