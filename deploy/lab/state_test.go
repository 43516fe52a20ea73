package lab

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sleeper starts a process that does nothing, and returns it with a channel that is closed when it has ended.
func sleeper(t *testing.T) (*exec.Cmd, <-chan struct{}) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return cmd, done
}

func TestKill(t *testing.T) {
	cmd, done := sleeper(t)
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := (process{PID: cmd.Process.Pid, Start: start + 1}).kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
		t.Fatal("killed a process that only has the PID of another")
	default:
	}
	if err := (process{PID: cmd.Process.Pid, Start: start}).kill(); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := (process{PID: cmd.Process.Pid, Start: start}).kill(); err != nil {
		t.Errorf("a process that has gone: %v", err)
	}
}

func TestStartTimeCountsFromTheNamesEnd(t *testing.T) {
	// A command name may hold what separates fields.
	path := filepath.Join(t.TempDir(), "a) b (c")
	data, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	got, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	own, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got < own {
		t.Errorf("child started at %d, before its parent at %d", got, own)
	}
}

// TestClean removes what a state file names, and nothing for a file that can't be trusted.
func TestClean(t *testing.T) {
	cmd, done := sleeper(t)
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "lab")
	write := func(s state) {
		t.Helper()
		if err := os.MkdirAll(workDir(dir, "t0t0"), 0o755); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, stateName), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(state{ID: "../../etc", Processes: []process{{cmd.Process.Pid, start, "sleep"}}})
	if err := Clean(dir); err == nil || !strings.Contains(err.Error(), "bad id") {
		t.Errorf("damaged state: %v", err)
	}
	select {
	case <-done:
		t.Fatal("acted upon a damaged state")
	default:
	}
	write(state{ID: "t0t0", Processes: []process{{cmd.Process.Pid, start, "sleep"}}})
	if err := Clean(dir); err != nil {
		t.Fatal(err)
	}
	<-done
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is left: %v", err)
	}
	if err := Clean(dir); err != nil {
		t.Errorf("nothing to clean: %v", err)
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	first, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acquire(dir); !errors.Is(err, ErrBusy) || strings.Contains(err.Error(), "\n") {
		t.Errorf("second lab: %v", err)
	}
	release(dir, first)
	again, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	release(dir, again)
}
