package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	"github.com/parallax-flow/parallax/cmd/parallax/observe"
)

func newObserve() *cobra.Command {
	var o observe.Options
	var server string
	cmd := &cobra.Command{
		Use:   "observe",
		Short: "Show flows, live or from history",
		Long: `Show flows: the newest ones, those of a span of time, or with -f what happens now. Flags are those of hubble observe.

Values of one filter are alternatives, different filters must all match. --not reverses the next filter; reversed filters
leave out a flow that all of them match. A flow is shown once, from client to server, and is selected in both of its
directions: --from-pod and --to-pod speak of packets.`,
		Example: `  parallax observe -f                                        what happens now
  parallax observe --since 1h --verdict dropped              what was dropped within the last hour
  parallax observe -f --to-workload cart --http-status 5+    failing requests to one workload
  parallax observe --policy data/default-deny --last 20      what one policy decided
  parallax observe --last 100 -n shop --not --protocol dns -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := o.Request(time.Now())
			if err != nil {
				if s, ok := status.FromError(err); ok {
					err = errors.New(s.Message())
				}
				return usageError{err}
			}
			c, err := dial(server)
			if err != nil {
				return err
			}
			defer c.Close()
			return runObserve(cmd.Context(), c, req, o.Print, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	registerServer(cmd.Flags(), &server)
	o.Register(cmd.Flags())
	return cmd
}

func runObserve(ctx context.Context, c *client, req *observerpb.GetFlowsRequest, print observe.PrintOptions, stdout, stderr io.Writer) error {
	observer := observerpb.NewObserverClient(c)
	if req.GetExtensions() != nil { // another server would ignore them
		s, err := observer.ServerStatus(ctx, &observerpb.ServerStatusRequest{})
		if err != nil {
			return c.explain(ctx, err)
		}
		if !strings.HasPrefix(s.GetVersion(), "parallax ") {
			return fmt.Errorf("%s is not Parallax (%s): it knows neither --error, --grep, --policy, --secondary nor the kernel's drop reasons", c.server, s.GetVersion())
		}
	}
	stream, err := observer.GetFlows(ctx, req)
	if err != nil {
		return c.explain(ctx, err)
	}
	out := stdout
	terminal := isTerminal(stdout) && os.Getenv("NO_COLOR") == ""
	if !req.GetFollow() { // all comes at once: not a write for each line
		buffered := bufio.NewWriterSize(stdout, 1<<16)
		defer buffered.Flush()
		out = buffered
	}
	p := observe.NewPrinter(print, out, stderr, terminal)
	for {
		r, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(c.explain(ctx, err), p.Close())
		}
		if err := p.Write(r); err != nil {
			return err
		}
	}
}
