// Command parallax is everything that Parallax is: collector, relay, page and client. A subcommand wires components; each has its own file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/internal/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line. The first signal ends the command's context, a second one the process.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "parallax: %s\n", strings.Join(strings.Fields(err.Error()), " "))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// usageError is a command line or configuration that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// newRoot puts the subcommands together.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "parallax",
		Short:         "Every network flow of a cluster or a host, live and in history",
		Long:          "Parallax shows every network flow: who talked to whom, what was said, what was dropped, and where in the kernel.",
		Args:          knownCommand,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	file := root.PersistentFlags().String("config", "", "YAML file with flags as keys; environment variable "+config.Variable("config"))
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return configure(cmd, *file) }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newUp(),
		newCollectorCommand(),
		newRelayCommand(),
		newUICommand(),
		newObserve(),
		newTraceCommand(),
		newStatus(),
		newList(),
		newCheck(),
		newPolicy(),
		newVersion(),
		newLabPod(),
	)
	for _, c := range root.Commands() {
		if check := c.Args; check != nil {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return usageError{err}
				}
				return nil
			}
		}
	}
	return root
}

// knownCommand refuses what is left when no subcommand has the name.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usageError{fmt.Errorf("unknown command %q: did you mean %q? see %s --help", args[0], config.Nearest(args[0], names), cmd.CommandPath())}
}

// noArguments is the Args of commands that take flags only.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument: %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// personal flags act on one command line only: they are not configuration.
var personal = []string{"help", "config", "not", "version"}

// configure layers environment and file under the flags of cmd. A file may have the flags of all commands.
func configure(cmd *cobra.Command, file string) error {
	if v, found := os.LookupEnv(config.Variable("config")); found && file == "" {
		file = v
	}
	var known []string
	var collect func(*cobra.Command)
	collect = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !slices.Contains(personal, f.Name) {
				known = append(known, f.Name)
			}
		})
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(cmd.Root())
	if err := config.Layer(cmd.Flags(), known, file, os.LookupEnv); err != nil {
		return usageError{err}
	}
	return nil
}
