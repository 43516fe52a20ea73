package lab

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain makes the test binary able to be a pod, and a whole lab that a test can kill.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "lab-pod" {
		child(func(ctx context.Context) error { return Pod(ctx, os.Args[2], os.Args[3:]) })
	}
	if len(os.Args) > 2 && os.Args[1] == "lab-run" {
		child(New(Config{Dir: os.Args[2], Rate: 1}).Run)
	}
	goleak.VerifyTestMain(m)
}

// child runs a program in place of the tests.
func child(run func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("failed", "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// needRoot skips without root, but fails where the test must not be left out.
func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") != "":
		t.Fatal("needs root, and in CI no test may be skipped")
	default:
		t.Skip("needs root")
	}
}

// testDir makes a directory for a lab that other users can traverse, as PostgreSQL's must.
func testDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "plxt-lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "lab")
}

// startLab runs a lab and returns it when it is ready, with a function that stops it and waits.
func startLab(t *testing.T, dir string) (*Lab, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := New(Config{Dir: dir, Rate: 4, Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("lab: %v", err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	select {
	case <-l.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("lab did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("lab is not ready")
	}
	return l, stop
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p[:max(0, len(p)-1)])
	return len(p), nil
}
