package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 10 * time.Second
	// steadyAfter is how long a program must have run for its next death to count as the first.
	steadyAfter = 20 * time.Second
)

// spawner starts programs in network namespaces. A program gets SIGKILL when the thread that started it ends
// (PR_SET_PDEATHSIG), so one thread starts them all and lives until the last has been waited for.
type spawner struct {
	requests chan func(home *os.File) (back bool)
	done     chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan func(*os.File) bool), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	defer close(s.done)
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// Not on the main thread: /proc/self/ns/net must name the program's own namespace at all times.
		inner := make(chan struct{})
		go func() { defer close(inner); runtime.LockOSThread(); s.serve() }()
		<-inner
		runtime.UnlockOSThread()
		return
	}
	s.serve()
}

func (s *spawner) serve() {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		defer home.Close()
	}
	clean := true
	for request := range s.requests {
		clean = request(home) && clean
	}
	// A thread that is left in another namespace ends with its goroutine: it must not run anything else.
	if clean {
		runtime.UnlockOSThread()
	}
}

// close ends the thread. All programs must have been waited for.
func (s *spawner) close() {
	close(s.requests)
	<-s.done
}

// start starts cmd in the network namespace at path (empty: the host's), in process group, PID and IPC namespaces of its own: killing
// it kills all that it started, and System V memory goes with it.
func (s *spawner) start(path string, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C in the terminal is for the lab alone
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID | unix.CLONE_NEWIPC
	result := make(chan error, 1)
	s.requests <- func(home *os.File) bool {
		back, err := startIn(path, home, cmd)
		result <- err
		return back
	}
	return <-result
}

// startIn starts cmd from the calling thread and reports whether that thread is where it was.
func startIn(path string, home *os.File, cmd *exec.Cmd) (back bool, err error) {
	if path == "" {
		return true, cmd.Start()
	}
	if home == nil {
		return true, fmt.Errorf("start %s: own network namespace is not readable", cmd.Path)
	}
	ns, err := os.Open(path)
	if err != nil {
		return true, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	err = cmd.Start()
	return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil, err
}

// output runs cmd to its end in the network namespace at path and returns what it wrote.
func (s *spawner) output(ctx context.Context, path string, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.start(path, cmd); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	return strings.TrimSpace(out.String()), err
}

// supervise keeps one program running until ctx ends, and returns when it has gone.
func (s *spawner) supervise(ctx context.Context, log *slog.Logger, st *stateFile, pod *Endpoint, command func() *exec.Cmd) error {
	backoff := minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		why, err := s.once(ctx, st, pod, command())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lab: pod %s: %w", pod.Name, err)
		}
		if time.Since(began) > steadyAfter {
			backoff = minBackoff
		}
		log.Warn("lab: pod died, restarting", "pod", pod.Key(), "name", pod.Name, "why", why, "in", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
	return nil
}

// once runs cmd to its end and returns what it died of. An error means that it can't be started at all.
func (s *spawner) once(ctx context.Context, st *stateFile, pod *Endpoint, cmd *exec.Cmd) (string, error) {
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.start(pod.NetNS, cmd); err != nil {
		return "", err
	}
	pid := cmd.Process.Pid
	if err := st.addProcess(pid, pod.Name); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return "", err
	}
	defer st.removeProcess(pid)
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	why := "exit status 0"
	if err != nil {
		why = err.Error()
	}
	if last := out.String(); last != "" {
		why += ": " + last
	}
	return why, nil
}

// tail keeps the last bytes that a program wrote.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

var _ io.Writer = (*tail)(nil)

const tailBytes = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailBytes; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

// String returns the last lines, joined to one.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.buf)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}
