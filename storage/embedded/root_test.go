package embedded

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
)

func open(t *testing.T, dir string) *Engine {
	t.Helper()
	library, err := Library("")
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(t.Context(), Config{Dir: dir, Library: library})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// count runs a query with one number as its result.
func count(t *testing.T, e *Engine, sql string, params map[string]string) (n uint64) {
	t.Helper()
	var col proto.ColUInt64
	err := e.Select(t.Context(), sql, params, proto.Results{{Data: &col}}, func() error { n = col[0]; return nil })
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func TestEngine(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	ctx := t.Context()
	if err := e.Exec(ctx, "CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n", nil); err != nil {
		t.Fatal(err)
	}
	const rows = 300_000 // 2.4 MB: more than fits into a statement
	var col proto.ColUInt64
	for i := range uint64(rows) {
		col.Append(i)
	}
	if err := e.Insert(ctx, "t", "", proto.Input{{Name: "n", Data: &col}}); err != nil {
		t.Fatal(err)
	}
	if got := count(t, e, "SELECT count() FROM t", nil); got != rows {
		t.Errorf("stored %d rows, want %d", got, rows)
	}
	if got := count(t, e, "SELECT count() FROM t WHERE n < {n:UInt64}", map[string]string{"n": "7"}); got != 7 {
		t.Errorf("with a parameter: %d rows, want 7", got)
	}
	var seen int
	var out proto.ColUInt64
	if err := e.Select(ctx, "SELECT n FROM t", nil, proto.Results{{Data: &out}}, func() error { seen += len(out); return nil }); err != nil || seen != rows {
		t.Errorf("streamed %d rows, %v; want %d", seen, err, rows)
	}

	stop := context.Canceled
	seen = 0
	if err := e.Select(ctx, "SELECT n FROM t", nil, proto.Results{{Data: &out}}, func() error { seen++; return stop }); err != stop || seen != 1 {
		t.Errorf("stopped stream: %v after %d blocks, want %v after 1", err, seen, stop)
	}
	if err := e.Exec(ctx, "SELEC 1", nil); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("syntax error gave %v, want one line", err)
	}
	if got := count(t, e, "SELECT toUInt64(value) FROM system.server_settings WHERE name = 'mark_cache_size'", nil); got != 64<<20 {
		t.Errorf("mark cache of %d bytes: the configuration was not read", got)
	}

	if _, err := Open(ctx, Config{Dir: t.TempDir(), Library: "unused"}); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(dir, "/x")) {
		t.Errorf("second open gave %v, want an error that names %s", err, dir)
	}
	e.Close()
	if err := e.Exec(ctx, "SELECT 1", nil); err != errClosed {
		t.Errorf("after close: %v, want %v", err, errClosed)
	}
	e = open(t, dir)
	if got := count(t, e, "SELECT count() FROM t", nil); got != rows {
		t.Errorf("after reopen %d rows, want %d", got, rows)
	}
}

// TestSignals proves that loading the library leaves Go's signal handling whole.
func TestSignals(t *testing.T) {
	open(t, t.TempDir())
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(got)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != sig {
			t.Errorf("received %v, want %v", s, sig)
		}
	}

	t.Run("nil dereference is a panic", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		var p *Engine
		runtime.KeepAlive(p.lock)
	})

	t.Run("preemption", func(t *testing.T) { // by SIGURG: without it the busy loop would hold the collector up for ever
		stop := make(chan struct{})
		done := make(chan int)
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					done <- n
					return
				default:
					for i := range 1 << 20 {
						n ^= i
					}
				}
			}
		}()
		for range 5 {
			runtime.GC()
		}
		close(stop)
		<-done
	})
}

func TestBadDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a file": file, "below a file": filepath.Join(file, "x"), "no room for it": "/proc/parallax"} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), Config{Dir: dir, Library: "unused"})
			if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), strings.TrimSuffix(dir, "/x")) {
				t.Errorf("got %v, want one line that names %s", err, dir)
			}
		})
	}
}

func TestMissingLibrary(t *testing.T) {
	t.Setenv("PARALLAX_CACHE", t.TempDir())
	t.Setenv("PARALLAX_LIBCHDB", "")
	if path, err := Library(""); err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("got %q, %v; want an error that says how to install it", path, err)
	}
	t.Setenv("PARALLAX_LIBCHDB", "/nonexistent/libchdb.so")
	if path, err := Library(""); err == nil || !strings.Contains(err.Error(), "/nonexistent/libchdb.so") {
		t.Errorf("got %q, %v; want an error that names the path", path, err)
	}
	if _, err := Open(t.Context(), Config{Dir: t.TempDir(), Library: "/nonexistent/libchdb.so"}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line", err)
	}
}

// TestMain lets the test binary be the process that a test kills, or that finds the directory taken.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PARALLAX_TEST_WRITE_TO"); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeUntilKilled inserts rows one batch after the other and says of each that it was taken.
func writeUntilKilled(dir string) error {
	library, err := Library("")
	if err != nil {
		return err
	}
	ctx := context.Background()
	e, err := Open(ctx, Config{Dir: dir, Library: library})
	if err != nil {
		return err
	}
	if err := e.Exec(ctx, "CREATE TABLE IF NOT EXISTS t (n UInt64) ENGINE = MergeTree ORDER BY n", nil); err != nil {
		return err
	}
	for {
		col := make(proto.ColUInt64, killBatch)
		if err := e.Insert(ctx, "t", "", proto.Input{{Name: "n", Data: &col}}); err != nil {
			return err
		}
		fmt.Println("stored")
	}
}

const killBatch = 1000

// child runs the test binary on dir as another process.
func child(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PARALLAX_TEST_WRITE_TO="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

func TestKilled(t *testing.T) {
	dir := t.TempDir()
	cmd, lines := child(t, dir)
	acknowledged := uint64(0)
	for acknowledged < 5*killBatch && lines.Scan() {
		if lines.Text() != "stored" {
			t.Fatal(lines.Text())
		}
		acknowledged += killBatch
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL, in the middle of a batch
		t.Fatal(err)
	}
	for lines.Scan() {
		acknowledged += killBatch
	}
	cmd.Wait()
	e := open(t, dir)
	if got := count(t, e, "SELECT count() FROM t", nil); got != acknowledged && got != acknowledged+killBatch {
		t.Errorf("%d rows after the kill; want the %d that were acknowledged, or one batch more", got, acknowledged)
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	cmd, lines := child(t, dir)
	lines.Scan()
	if got := lines.Text(); !strings.Contains(got, dir) || !strings.Contains(got, fmt.Sprintf("in use by process %d", os.Getpid())) || lines.Scan() {
		t.Errorf("the other process said %q, want one line with the directory and our pid", got)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the other process ended well")
	}
}
