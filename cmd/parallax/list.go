package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/flow"
)

func newList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List nodes or namespaces",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newListOf("nodes", "List the nodes that are or were connected", listNodes),
		newListOf("namespaces", "List the namespaces that had flows within the last hour", listNamespaces),
	)
	return cmd
}

// listing asks a server and returns the answer, for JSON, and as rows with a header.
type listing func(context.Context, observerpb.ObserverClient) (answer any, rows [][]string, err error)

func newListOf(what, short string, ask listing) *cobra.Command {
	var server, output string
	cmd := &cobra.Command{
		Use:   what,
		Short: short,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError{fmt.Errorf("--output %q: choose table or json", output)}
			}
			c, err := dial(server)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
			defer cancel()
			answer, rows, err := ask(ctx, observerpb.NewObserverClient(c))
			if err != nil {
				return c.explain(cmd.Context(), err)
			}
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(answer)
			}
			return writeRows(cmd.OutOrStdout(), rows)
		},
	}
	registerServer(cmd.Flags(), &server)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func writeRows(w io.Writer, rows [][]string) error {
	tabs := tabwriter.NewWriter(w, 2, 0, 3, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(tabs, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tabs.Flush()
}

func listNodes(ctx context.Context, c observerpb.ObserverClient) (any, [][]string, error) {
	answer, err := c.GetNodes(ctx, &observerpb.GetNodesRequest{})
	rows := [][]string{{"NAME", "STATE", "UP", "FLOWS SEEN", "VERSION"}}
	for _, n := range answer.GetNodes() {
		up := "-"
		if n.GetUptimeNs() > 0 {
			up = flow.Duration(int64(n.GetUptimeNs()))
		}
		state := strings.ToLower(strings.TrimPrefix(n.GetState().String(), "NODE_"))
		rows = append(rows, []string{n.GetName(), state, up, digits(n.GetSeenFlows()), cmp.Or(n.GetVersion(), "-")})
	}
	return answer, rows, err
}

func listNamespaces(ctx context.Context, c observerpb.ObserverClient) (any, [][]string, error) {
	answer, err := c.GetNamespaces(ctx, &observerpb.GetNamespacesRequest{})
	rows := [][]string{{"CLUSTER", "NAMESPACE"}}
	for _, n := range answer.GetNamespaces() {
		rows = append(rows, []string{cmp.Or(n.GetCluster(), "default"), n.GetNamespace()})
	}
	return answer, rows, err
}
