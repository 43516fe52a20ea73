package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy/load"
)

// inventoryKinds is what an inventory is made of.
const inventoryKinds = "pods,namespaces,nodes,services,endpointslices"

const inventoryHelp = "file with the cluster's pods: kubectl get " + inventoryKinds + " -A -o yaml > FILE; repeat it for more files or folders"

func newPolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check NetworkPolicies, and explain what they decide",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyCheck(), newPolicyExplain())
	return cmd
}

// checkOutput refuses an --output that is neither text nor json.
func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return usageError{fmt.Errorf("--output %q: choose text or json", output)}
	}
	return nil
}

// readInventory reads what --inventory names, and warns of what it leaves open.
func readInventory(cmd *cobra.Command, paths []string) ([]*meta.Object, error) {
	objects, err := load.Inventory(paths, cmd.InOrStdin())
	if err != nil {
		return nil, refused("--inventory", err)
	}
	named, told := make(map[string]bool), make(map[string]bool)
	for _, o := range objects {
		switch o.Kind {
		case meta.Pod:
			named[o.Namespace] = true
		case meta.Namespace:
			told[o.Name] = true
		}
	}
	if len(named) == 0 {
		return nil, fmt.Errorf("--inventory %s: no pod in it that runs: make it with kubectl get %s -A -o yaml", strings.Join(paths, ","), inventoryKinds)
	}
	maps.DeleteFunc(named, func(name string, _ bool) bool { return told[name] })
	if unknown := slices.Sorted(maps.Keys(named)); len(unknown) > 0 {
		warn(cmd.ErrOrStderr(), "the inventory has no Namespace object for %s: of its labels only the name is known", strings.Join(unknown, ", "))
	}
	return objects, nil
}

// refused makes one line of the problems of a file: the first, and how many more there are.
func refused(flag string, err error) error {
	var problems load.Problems
	if !errors.As(err, &problems) {
		return fmt.Errorf("%s: %w", flag, err)
	}
	more := ""
	if len(problems) > 1 {
		more = fmt.Sprintf(" (and %s)", plural(len(problems)-1, "more problem", "more problems"))
	}
	return fmt.Errorf("%s: %s%s", flag, printable(problems[0].Error()), more)
}

func warn(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "parallax: warning: %s\n", printable(fmt.Sprintf(format, args...)))
}

// printable takes away what could control a terminal: files are written by others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, s)
}
