package lab

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
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
// (PR_SET_PDEATHSIG), so one thread starts them all and lives until the last has been waited for. That thread has a mount
// namespace of its own, and the programs inherit it: shared memory that a killed PostgreSQL leaves in /dev/shm goes with it.
type spawner struct {
	requests chan func()
	done     chan struct{}
}

// newSpawner starts the thread.
func newSpawner() (*spawner, error) {
	s := &spawner{requests: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go s.run(ready)
	if err := <-ready; err != nil {
		<-s.done
		return nil, fmt.Errorf("private mounts: %w", err)
	}
	return s, nil
}

func (s *spawner) run(ready chan<- error) {
	defer close(s.done)
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// Not on the main thread: what /proc/self shows must not change.
		inner := make(chan struct{})
		go func() { defer close(inner); runtime.LockOSThread(); s.serve(ready) }()
		<-inner
		runtime.UnlockOSThread()
		return
	}
	s.serve(ready)
}

// serve runs what it is asked to. Its goroutine ends locked, and its thread with it: it must not run anything else.
func (s *spawner) serve(ready chan<- error) {
	err := privateMounts()
	ready <- err
	if err != nil {
		return
	}
	for request := range s.requests {
		request()
	}
}

// privateMounts gives the calling thread a mount namespace that follows the host's but has a /dev/shm of its own.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make / a slave: %w", err)
	}
	if err := unix.Mount("plx-lab", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return nil
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
	var ns *os.File
	if path != "" {
		// Opened here: the thread's mount namespace may not see a name as new as this one.
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("start %s: %w", cmd.Path, err)
		}
		defer f.Close()
		ns = f
	}
	result := make(chan error, 1)
	s.requests <- func() { result <- startIn(ns, cmd) }
	return <-result
}

// startIn starts cmd from the calling thread, which stays in the network namespace of its last program: the next one brings
// its own, and the host's is that of the main thread.
func startIn(ns *os.File, cmd *exec.Cmd) error {
	name := "/proc/self/ns/net"
	if ns != nil {
		name = fmt.Sprintf("/proc/self/fd/%d", ns.Fd())
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	return cmd.Start()
}

// output runs cmd to its end in the network namespace at path (empty: the host's). Its error holds the last that cmd wrote.
func (s *spawner) output(ctx context.Context, path string, cmd *exec.Cmd) error {
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.start(path, cmd); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, out.String())
	}
	return nil
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
