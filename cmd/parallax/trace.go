package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
	"github.com/parallax-flow/parallax/flow/span"
	"github.com/parallax-flow/parallax/ui/api"
)

func newTraceCommand() *cobra.Command {
	var server, output string
	cmd := &cobra.Command{
		Use:   "trace ID",
		Short: "Show a distributed trace as a waterfall",
		Long: `Show the exchanges of one trace, each with its client's and its server's view, from memory and from all that is stored.

ID is the trace id (32 hexadecimal digits), a whole traceparent header, or the UUID of one exchange: what carries no
traceparent is a trace of its own.`,
		Example: `  parallax trace 4bf92f3577b34da6a3ce929d0e0e4736
  parallax observe --http-status 5+ -o dict | grep TRACE     where to get an id`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("give one trace id; see parallax trace --help")
			}
			_, err := span.Parse(args[0])
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usageError{fmt.Errorf("--output %q: choose text or json", output)}
			}
			id, err := span.Parse(args[0])
			if err != nil {
				return usageError{err}
			}
			c, err := dial(server)
			if err != nil {
				return err
			}
			defer c.Close()
			return runTrace(cmd.Context(), c, id, output, cmd.OutOrStdout())
		},
	}
	registerServer(cmd.Flags(), &server)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func runTrace(ctx context.Context, c *client, id span.TraceID, output string, out io.Writer) error {
	flows, err := traceFlows(ctx, c, id)
	if err != nil {
		return err
	}
	t := api.NewTrace(id, flows)
	if len(t.Spans) == 0 {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("%s has no exchange of trace %s: is it older than what is stored, or not a second old?", c.server, id)
	}
	if output == "json" {
		return json.NewEncoder(out).Encode(t)
	}
	return writeWaterfall(out, &t)
}

// traceFlows asks for all that is known of id.
func traceFlows(ctx context.Context, c *client, id span.TraceID) ([]flow.Flow, error) {
	for _, f := range id.Filters() {
		flows, err := flowsOf(ctx, c, &flowpb.FlowFilter{TraceId: f.TraceID, Uuid: f.UUID})
		if err != nil || len(flows) > 0 {
			return flows, err
		}
	}
	return nil, nil
}

// flowsOf asks for all that is known and f selects.
func flowsOf(ctx context.Context, c *client, f *flowpb.FlowFilter) ([]flow.Flow, error) {
	req := &observerpb.GetFlowsRequest{
		Whitelist: []*flowpb.FlowFilter{f}, Since: timestamppb.New(time.Unix(0, 0)), First: true, Number: api.MaxTraceFlows,
	}
	stream, err := observerpb.NewObserverClient(c).GetFlows(ctx, req)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	var flows []flow.Flow
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return flows, nil
		}
		if err != nil {
			return nil, c.explain(ctx, err)
		}
		if pb := resp.GetFlow(); pb != nil {
			f, err := hubble.FromProto(pb)
			if err != nil {
				return nil, fmt.Errorf("%s: flow %s: %w", c.server, pb.GetUuid(), err)
			}
			flows = append(flows, *f)
		}
	}
}

// barWidth is how many characters the whole trace takes.
const barWidth = 32

func writeWaterfall(out io.Writer, t *api.Trace) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Trace    %s\nBegan    %s, took %s\nSpans    %d of %d services\n\n", t.ID,
		time.UnixMicro(t.Start).Format(time.RFC3339Nano), flow.Duration(t.DurationUs*1000), len(t.Spans), t.Services)
	rows := [][]string{{"SERVICE", "SIDE", "OPERATION", "AT", "TOOK", "", "STATUS"}}
	for i := range t.Spans {
		s := &t.Spans[i]
		status := s.Status
		if s.Failed {
			status += " failed"
		}
		at := "0"
		if s.StartUs > 0 {
			at = "+" + flow.Duration(s.StartUs*1000)
		}
		rows = append(rows, []string{
			strings.Repeat("  ", s.Depth) + s.Service, s.Side, s.What, at, flow.Duration(s.DurationUs * 1000), bar(s, t.DurationUs), status,
		})
	}
	if err := writeRows(&b, rows); err != nil {
		return err
	}
	if t.Truncated {
		fmt.Fprintf(&b, "\nThere are more: only the first %d exchanges are shown.\n", api.MaxTraceFlows)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// bar draws s on a line that stands for the whole trace; even the shortest span is one character long.
func bar(s *api.TraceSpan, total int64) string {
	place := func(us int64) int {
		return int(min(max(us, 0), total) * barWidth / max(total, 1))
	}
	from := min(place(s.StartUs), barWidth-1)
	to := max(place(s.StartUs+s.DurationUs), from+1)
	mark := "█"
	if s.Side == "client" {
		mark = "░" // waiting, not working
	}
	return strings.Repeat("·", from) + strings.Repeat(mark, to-from) + strings.Repeat("·", barWidth-to)
}
