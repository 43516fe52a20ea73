package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/deploy/lab"
)

const labPod = "lab-pod"

// newLabPod is the command that the demo cluster's pods run; nobody else does.
func newLabPod() *cobra.Command {
	return &cobra.Command{
		Use:                labPod + " ROLE [ARG...]",
		Hidden:             true,
		DisableFlagParsing: true, // the rest is the role's business
		Args:               cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return lab.Pod(cmd.Context(), args[0], args[1:])
		},
	}
}

// labPodCommand is how the demo cluster starts a pod: this binary again.
func labPodCommand() []string {
	exe, err := os.Executable()
	if err != nil {
		return nil // the lab looks for itself, and says what is wrong
	}
	return []string{exe, labPod}
}
