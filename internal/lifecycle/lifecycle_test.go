package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
)

func TestStopsInReverseOrder(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	var order []string
	for _, name := range []string{"storage", "relay", "collector"} {
		s.Go(name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name) // no lock needed: one stops after another
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if want := []string{"collector", "relay", "storage"}; !slices.Equal(order, want) {
		t.Errorf("stopped in order %v, want %v", order, want)
	}
}

func TestFailureStopsAll(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	stopped := false
	s.Go("first", func(ctx context.Context) error {
		<-ctx.Done()
		stopped = true
		return errors.New("a later error")
	})
	want := errors.New("broken")
	s.Go("second", func(context.Context) error { return want })
	if err := s.Wait(t.Context()); !errors.Is(err, want) || !stopped {
		t.Errorf("got %v, first stopped %v; want %v and stopped", err, stopped, want)
	}
}

func TestUnexpectedEndIsAnError(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	s.Go("relay", func(context.Context) error { return nil })
	if err := s.Wait(t.Context()); err == nil || err.Error() != "relay ended unexpectedly" {
		t.Errorf("got %v", err)
	}
}
