package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/collector/probe"
)

func newCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what this kernel can give, and what is lost without it",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			features := probe.Check()
			width := 0
			for _, f := range features {
				width = max(width, len(f.Name))
			}
			missing := 0
			for _, f := range features {
				if f.Have {
					fmt.Fprintf(out, "✓ %-*s  %s\n", width, f.Name, f.Detail)
					continue
				}
				missing++
				fmt.Fprintf(out, "✗ %-*s  %s\n", width, f.Name, f.Detail)
				fmt.Fprintf(out, "  %s  lost without it: %s\n", strings.Repeat(" ", width), f.Lost)
			}
			if missing > 0 {
				return errors.New(plural(missing, "feature is", "features are") + " missing here: see above")
			}
			return nil
		},
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
