package lab

import (
	"context"

	"github.com/parallax-flow/parallax/deploy/lab/program"
)

// Pod runs the program of one pod: what the command of Config.Pod must do with the arguments that the lab appends, the first of
// which is role. It returns when ctx ends.
func Pod(ctx context.Context, role string, args []string) error {
	return program.Run(ctx, role, args)
}
