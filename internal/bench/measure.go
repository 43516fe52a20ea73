package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measure is what no `go test -bench` gives.
type measure struct {
	what string
	run  func() ([]result, error)
}

var measures = []measure{
	{"size of the page", pageSize},
	{"memory under the demo", residentMemory},
}

// pageSize compresses all scripts and styles of the built page as a web server would.
func pageSize() ([]result, error) {
	var total int
	err := filepath.WalkDir("ui/web/dist/assets", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".js") && !strings.HasSuffix(path, ".css") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		total += b.Len()
		return nil
	})
	if err == nil && total == 0 {
		err = fmt.Errorf("nothing in ui/web/dist: run make web")
	}
	return []result{{
		Name: "page: scripts and styles, gzip", Value: float64(total) / 1024, Unit: "KiB", Goal: 150, Better: "lower", Issue: 2,
		method: "sum of the built files, each compressed by gzip -9",
	}}, err
}

// residentMemory runs relay and collector as processes of their own. The collector observes this host and the demo's
// traffic does not pass there, so a third process runs the demo with a collector for each of its nodes, into the same relay.
func residentMemory() ([]result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "plx-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	up, err := begin(ctx, "up", "--demo", "--demo-dir", "/run/parallax/bench", "--data", dir, "--ui-listen", "127.0.0.1:12900",
		"--listen", "127.0.0.1:14945", "--ingest-listen", "127.0.0.1:14946", "--collector-listen", "127.0.0.1:14944",
		"--relay-metrics", "127.0.0.1:19966", "--collector-metrics", "127.0.0.1:19965")
	if err != nil {
		return nil, err
	}
	defer end(up)
	relay, err := begin(ctx, "relay", "--storage", "memory:", "--listen", "127.0.0.1:15945", "--ingest-listen", "127.0.0.1:15946", "--relay-metrics", "127.0.0.1:29966")
	if err != nil {
		return nil, err
	}
	defer end(relay)
	collector, err := begin(ctx, "collector", "--relay", "127.0.0.1:15946", "--collector-listen", "127.0.0.1:15944", "--collector-metrics", "127.0.0.1:29965")
	if err != nil {
		return nil, err
	}
	defer end(collector)
	select {
	case <-time.After(60 * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var out []result
	for _, p := range []struct {
		name string
		cmd  *exec.Cmd
		goal float64
		how  string
	}{
		{"resident memory of a collector", collector, 150, "a collector of this host beside the demo, after a minute; VmRSS"},
		{"resident memory of a relay", relay, 200, "a relay with memory: storage fed by that collector, after a minute; VmRSS"},
		{"resident memory of all in one process, with ClickHouse and the demo", up, 900, "parallax up --demo: three collectors, relay, embedded engine, page, after a minute; VmRSS"},
	} {
		mib, err := rss(p.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		out = append(out, result{Name: p.name, Value: mib, Unit: "MiB", Goal: p.goal, Better: "lower", Issue: 2, method: p.how})
	}
	return out, nil
}

func begin(ctx context.Context, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, "bin/parallax", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: run make build", err)
	}
	return cmd, nil
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended: then Wait says so
	_ = cmd.Wait()
}

// rss is a process's resident memory in MiB (proc_pid_status(5), VmRSS).
func rss(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("the process has ended: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", pid)
}
