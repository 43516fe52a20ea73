package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
)

func newStatus() *cobra.Command {
	var server, output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show a server, its nodes, and the ledger: what was produced, delivered and lost",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return usageError{fmt.Errorf("--output %q: choose text or json", output)}
			}
			c, err := dial(server)
			if err != nil {
				return err
			}
			defer c.Close()
			return runStatus(cmd.Context(), c, output, cmd.OutOrStdout())
		},
	}
	registerServer(cmd.Flags(), &server)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// callTimeout is how long one answer may take.
const callTimeout = 10 * time.Second

func runStatus(ctx context.Context, c *client, output string, out io.Writer) error {
	timed, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	st, err := observerpb.NewObserverClient(c).ServerStatus(timed, &observerpb.ServerStatusRequest{})
	if err != nil {
		return c.explain(ctx, err)
	}
	ledgers, err := hubble.GetLedger(timed, c)
	kept := status.Code(err) != codes.Unimplemented // Hubble's servers keep none
	if err != nil && kept {
		return c.explain(ctx, err)
	}
	slices.SortStableFunc(ledgers, func(a, b flow.NodeLedger) int {
		return cmp.Or(cmp.Compare(hubble.NodeName(a.Node), hubble.NodeName(b.Node)), cmp.Compare(a.Since, b.Since))
	})
	if output == "json" {
		return json.NewEncoder(out).Encode(struct {
			Server string                           `json:"server"`
			Status *observerpb.ServerStatusResponse `json:"status"`
			Ledger any                              `json:"ledger,omitempty"`
		}{c.server, st, ledgerJSON(ledgers, kept)})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Server   %s, %s, up %s\n", c.server, cmp.Or(st.GetVersion(), "unknown version"), flow.Duration(int64(st.GetUptimeNs())))
	fmt.Fprintf(&b, "Flows    %s of %s in memory, %s seen, %.1f per second\n",
		digits(st.GetNumFlows()), digits(st.GetMaxFlows()), digits(st.GetSeenFlows()), st.GetFlowsRate())
	fmt.Fprintf(&b, "Nodes    %d connected", st.GetNumConnectedNodes().GetValue())
	if gone := st.GetUnavailableNodes(); len(gone) > 0 {
		fmt.Fprintf(&b, ", %d unavailable: %s", len(gone), strings.Join(gone, ", "))
	}
	b.WriteString("\n")
	if kept {
		writeLedger(&b, ledgers)
	} else {
		b.WriteString("Ledger   not kept by this server\n")
	}
	_, err = io.WriteString(out, b.String())
	return err
}

func ledgerJSON(ledgers []flow.NodeLedger, kept bool) any {
	if !kept {
		return nil
	}
	return hubble.LedgerToStruct(ledgers).AsMap()
}

func writeLedger(w io.Writer, ledgers []flow.NodeLedger) {
	var produced, delivered, inFlight, lost uint64
	var missing []string
	for i := range ledgers {
		l := &ledgers[i]
		produced, delivered, inFlight, lost = produced+l.Produced, delivered+l.Delivered, inFlight+l.InFlight, lost+sum(l.Lost)
		if m := hubble.Missing(l); m != 0 {
			missing = append(missing, fmt.Sprintf("%s by %d", hubble.NodeName(l.Node), m))
		}
	}
	verdict := "exact"
	if len(missing) > 0 {
		verdict = "NOT exact, off at " + strings.Join(missing, ", ")
	}
	fmt.Fprintf(w, "Ledger   %s: %s produced = %s delivered + %s in flight + %s lost\n",
		verdict, digits(produced), digits(delivered), digits(inFlight), digits(lost))
	if len(ledgers) == 0 {
		return
	}
	fmt.Fprintln(w)
	tabs := tabwriter.NewWriter(w, 2, 0, 3, ' ', 0)
	fmt.Fprintln(tabs, "NODE\tSTATE\tPRODUCED\tDELIVERED\tIN FLIGHT\tLOST\tWHERE")
	for i := range ledgers {
		l := &ledgers[i]
		state := "gone"
		if l.Connected {
			state = "connected"
		}
		if l.Since > 0 {
			state += " " + flow.Duration(time.Since(time.Unix(0, l.Since)).Nanoseconds())
		}
		fmt.Fprintf(tabs, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			hubble.NodeName(l.Node), state, digits(l.Produced), digits(l.Delivered), digits(l.InFlight), digits(sum(l.Lost)), places(l.Lost))
	}
	_ = tabs.Flush() // w is a strings.Builder, which never fails
}

func sum(lost map[string]uint64) (n uint64) {
	for _, v := range lost {
		n += v
	}
	return n
}

// places says at which stage how much was lost.
func places(lost map[string]uint64) string {
	var parts []string
	for _, stage := range slices.Sorted(maps.Keys(lost)) {
		if n := lost[stage]; n > 0 {
			parts = append(parts, stage+" "+digits(n))
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}

// digits writes n with a comma at the thousands.
func digits(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
