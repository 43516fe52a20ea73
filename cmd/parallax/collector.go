package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/collector/probe"
	"github.com/parallax-flow/parallax/collector/publish"
	"github.com/parallax-flow/parallax/internal/lifecycle"
)

func newCollectorCommand() *cobra.Command {
	var (
		o        nodeOptions
		relay    string
		logLevel string
		check    bool
	)
	cmd := &cobra.Command{
		Use:   "collector",
		Short: "Observe this node and push its flows to a relay",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(logLevel)
			if err != nil {
				return err
			}
			if err := cmp.Or(o.validate(), checkSeries(o.series)); err != nil {
				return err
			}
			if _, _, err := net.SplitHostPort(relay); err != nil {
				return usageError{fmt.Errorf("--relay %q is not host:port", relay)}
			}
			if check {
				return nil
			}
			if err := probe.Preflight(); err != nil {
				return err
			}
			p, err := newCollector(&o, relay, nil, log)
			if err != nil {
				return err
			}
			return runStack(cmd.Context(), log, func(stack *lifecycle.Stack) error {
				p.start(stack)
				if err := p.ready(cmd.Context()); err != nil {
					return err
				}
				log.Info("collector observes", "node", p.name, "relay", relay)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&relay, "relay", publish.DefaultTarget, "ingest address of the relay")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&check, "check", false, "validate the configuration and exit")
	o.register(f)
	seriesFlag(f, &o.series)
	return cmd
}

// runStack starts parts and runs them until ctx ends.
func runStack(ctx context.Context, log *slog.Logger, start func(*lifecycle.Stack) error) error {
	stack := lifecycle.New(log)
	if err := start(stack); err != nil {
		return stack.Stop(err)
	}
	return stack.Wait(ctx)
}
