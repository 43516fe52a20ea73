package main

import (
	"context"
	"log/slog"
	"net"

	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/internal/lifecycle"
	"github.com/parallax-flow/parallax/storage"
	"github.com/parallax-flow/parallax/ui"
	"github.com/parallax-flow/parallax/ui/api"
)

// pageOptions are the flags of the page.
type pageOptions struct{ listen string }

func (o *pageOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.listen, "ui-listen", "127.0.0.1:12000", "address of the page")
}

// pageProcess is the page's server.
type pageProcess struct {
	server   *api.Server
	listener net.Listener
	address  string
}

func newPage(o *pageOptions, live *api.Live, store *storage.Store, status func() api.Status, log *slog.Logger) (*pageProcess, error) {
	l, err := listen("the page", o.listen, "ui-listen")
	if err != nil {
		return nil, err
	}
	if !ui.Built() {
		log.Warn("the page was not built into this binary: run make build")
	}
	s := api.New(api.Config{Listen: o.listen}, api.Deps{Live: live, Store: store, Status: status, Files: ui.Files(), Log: log})
	return &pageProcess{s, l, l.Addr().String()}, nil
}

func (p *pageProcess) start(stack *lifecycle.Stack) {
	stack.Go("page", func(ctx context.Context) error { return p.server.Run(ctx, p.listener) })
}
