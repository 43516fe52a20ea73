package enforce_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(killedVariable); task != "" {
		fmt.Fprintln(os.Stderr, toBeKilled(task))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test needs root")
	}
	t.Skip("this test needs root")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const patience = 20 * time.Second

// eventually waits for what no channel tells.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	eventuallyOr(t, is, func() string { return what })
}

// eventuallyOr is eventually, and asks what is missing at the end.
func eventuallyOr(t testing.TB, is func() bool, what func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what())
		}
	}
}

// space is a network namespace with a thread in it.
type space struct {
	t          testing.TB
	name, path string
	work       chan func()
}

var spaces atomic.Uint32

func newSpace(t testing.TB) *space {
	t.Helper()
	requireRoot(t)
	name := fmt.Sprintf("plxt-enforce-%d-%d", os.Getpid(), spaces.Add(1))
	s := &space{t: t, name: name, path: "/run/netns/" + name, work: make(chan func())}
	run(t, "", "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "", "ip", "netns", "del", name) })
	entered := make(chan error)
	go s.serve(entered)
	must(t, <-entered)
	t.Cleanup(func() { close(s.work) })
	s.set("ipv6/conf/all/accept_dad", "0")
	s.set("ipv6/conf/default/accept_dad", "0")
	s.set("ipv6/conf/default/addr_gen_mode", "1") // no address that nobody asked for
	s.set("ipv4/ping_group_range", "0 0")
	s.ip("link set lo up")
	return s
}

// serve runs work on a thread that ends with it.
func (s *space) serve(entered chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		done := make(chan struct{})
		go func() { defer close(done); s.serve(entered) }()
		<-done
		runtime.UnlockOSThread()
		return
	}
	fd, err := unix.Open(s.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Setns(fd, unix.CLONE_NEWNET)
		unix.Close(fd)
	}
	entered <- err
	for f := range s.work {
		f()
	}
}

// do runs f in the namespace. Sockets made there stay there.
func (s *space) do(f func() error) {
	s.t.Helper()
	done := make(chan error)
	s.work <- func() { done <- f() }
	must(s.t, <-done)
}

func (s *space) set(name, value string) {
	s.t.Helper()
	s.do(func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644) })
}

// ip runs lines of ip(8) in the namespace.
func (s *space) ip(lines ...string) {
	s.t.Helper()
	run(s.t, strings.Join(lines, "\n"), "ip", "-n", s.name, "-batch", "-")
}

func run(t testing.TB, input string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, input, out)
	}
}
