// Package lifecycle runs the parts of a process and stops them in order: the last started first, each to its end before
// the next, so that a producer is gone before what it writes to.
package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Stack holds the running parts. It belongs to one goroutine.
type Stack struct {
	log    *slog.Logger
	parts  []*part
	failed chan *part
}

type part struct {
	name string
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// New returns an empty Stack.
func New(log *slog.Logger) *Stack { return &Stack{log: log, failed: make(chan *part, 1)} }

// Go starts a part. Its context ends when it is its turn to stop, not when ctx of Wait ends; run returns nil then. A part
// that ends before it was told to ends the whole stack.
func (s *Stack) Go(name string, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	p := &part{name: name, stop: stop, done: make(chan struct{})}
	s.parts = append(s.parts, p)
	go func() {
		p.err = run(ctx)
		early := ctx.Err() == nil
		close(p.done)
		if early {
			select {
			case s.failed <- p:
			default: // another one ended first: that is the one to tell
			}
		}
	}()
}

// Wait blocks until ctx ends or a part ends by itself, then stops all parts. It returns the error of the part that ended
// first, else the first one met while stopping.
func (s *Stack) Wait(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case p := <-s.failed:
		if err = p.err; err == nil {
			err = fmt.Errorf("%s ended unexpectedly", p.name)
		}
	}
	return s.Stop(err)
}

// Stop stops all parts, also after a start that failed half way. It returns err, or else the first error met.
func (s *Stack) Stop(err error) error {
	for i := len(s.parts) - 1; i >= 0; i-- {
		p := s.parts[i]
		begin := time.Now()
		p.stop()
		<-p.done
		s.log.Debug("stopped", "part", p.name, "took", time.Since(begin).Round(time.Millisecond))
		if err == nil && p.err != nil {
			err = p.err
		}
	}
	s.parts = nil
	return err
}
