package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

func newPolicyCheck() *cobra.Command {
	var o load.Options
	var inventory []string
	var output string
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check NetworkPolicy files: what is wrong, and what has no effect",
		Long: `Check NetworkPolicy objects (networking.k8s.io/v1) in YAML or JSON files, in folders of them, or from stdin ("-").

An error is what an API server would refuse, or what Parallax does not know. A warning is a rule that has no effect: hidden by
another one, or in a direction that policyTypes leaves out. With --inventory also a selector or a named port that nothing has.`,
		Example: `  parallax policy check policies/
  kubectl get networkpolicies -A -o yaml | parallax policy check -
  parallax policy check policies/ --inventory cluster.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("%s needs a file, a folder, or - for stdin; see %s --help", cmd.CommandPath(), cmd.CommandPath())}
			}
			return onceStdin(slices.Concat(args, inventory))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			r, err := checkPolicies(cmd, args, inventory, o)
			if err != nil {
				return err
			}
			return r.write(cmd.OutOrStdout(), output)
		},
	}
	cmd.Flags().StringArrayVar(&inventory, "inventory", nil, inventoryHelp)
	cmd.Flags().BoolVar(&o.SkipOthers, "skip-others", false, "leave out objects of other kinds; without it they are errors")
	cmd.Flags().StringVarP(&o.Namespace, "namespace", "n", "default", "namespace of policies that name none")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// onceStdin refuses a second use of stdin: it would be empty.
func onceStdin(paths []string) error {
	if i := slices.Index(paths, "-"); i >= 0 && slices.Contains(paths[i+1:], "-") {
		return usageError{errors.New("stdin (-) can be read only once")}
	}
	return nil
}

// checkReport is the outcome of a check; its fields are those of -o json.
type checkReport struct {
	Policies int          `json:"policies"`
	Rules    int          `json:"rules"`
	Errors   []checkPoint `json:"errors"`
	Warnings []checkPoint `json:"warnings"`
	Skipped  []string     `json:"skipped"`
}

type checkPoint struct {
	File   string `json:"file"` // with the document's number where there are several
	Policy string `json:"policy,omitempty"`
	Field  string `json:"field,omitempty"`
	Text   string `json:"text"`
	line   string
}

func checkPolicies(cmd *cobra.Command, paths, inventory []string, o load.Options) (*checkReport, error) {
	result, err := load.Paths(paths, cmd.InOrStdin(), o)
	var problems load.Problems
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	if len(result.Policies)+len(problems) == 0 {
		return nil, fmt.Errorf("no NetworkPolicy in %s", printable(strings.Join(paths, " ")))
	}
	var known *policy.Inventory
	if len(inventory) > 0 {
		objects, err := readInventory(cmd, inventory)
		if err != nil {
			return nil, err
		}
		inv := policy.FromMeta(objects)
		known = &inv
	}
	r := &checkReport{Policies: len(result.Policies), Errors: []checkPoint{}, Warnings: []checkPoint{}, Skipped: append([]string{}, result.Skipped...)}
	for _, p := range result.Policies {
		r.Rules += len(p.Sections[policy.Ingress].Rules) + len(p.Sections[policy.Egress].Rules)
	}
	for _, p := range problems {
		r.Errors = append(r.Errors, checkPoint{p.Where, p.Object, p.Path, p.Text, p.Error()})
	}
	for _, f := range policy.Check(result.Policies, known) {
		r.Warnings = append(r.Warnings, checkPoint{f.Origin, f.Policy.String(), f.Path, f.Text, f.String()})
	}
	return r, nil
}

// summary returns "7 policies, 12 rules: ok".
func (r *checkReport) summary() string {
	text := plural(r.Policies, "policy", "policies") + ", " + plural(r.Rules, "rule", "rules")
	if n := len(r.Skipped); n > 0 {
		text += ", " + plural(n, "other object", "other objects") + " left out"
	}
	var found []string
	if n := len(r.Errors); n > 0 {
		found = append(found, plural(n, "error", "errors"))
	}
	if n := len(r.Warnings); n > 0 {
		found = append(found, plural(n, "warning", "warnings"))
	}
	if len(found) == 0 {
		return text + ": ok"
	}
	return text + ": " + strings.Join(found, ", ")
}

// write prints r. Errors make the summary that of the command.
func (r *checkReport) write(w io.Writer, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		if err := e.Encode(r); err != nil {
			return err
		}
	} else {
		for _, p := range r.Errors {
			fmt.Fprintln(w, "error:", printable(p.line))
		}
		for _, p := range r.Warnings {
			fmt.Fprintln(w, "warning:", printable(p.line))
		}
		if len(r.Errors) == 0 {
			fmt.Fprintln(w, r.summary())
		}
	}
	if len(r.Errors) > 0 {
		return errors.New(r.summary())
	}
	return nil
}
