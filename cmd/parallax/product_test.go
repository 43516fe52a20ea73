package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
)

// needRoot skips a test that root alone can run; under CI it fails.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root: CI must run it as root")
	}
	t.Skip("needs root")
}

// product is the real binary, run as a person runs it, with ports of its own.
type product struct {
	t                                             *testing.T
	bin, data                                     string
	page, observer, ingest, collector, rMet, cMet string
	cmd                                           *exec.Cmd
	log                                           *output
	exited                                        chan error
}

func newProduct(t *testing.T) *product {
	p := &product{t: t, bin: builtBinary(t), data: t.TempDir()}
	for _, addr := range []*string{&p.page, &p.observer, &p.ingest, &p.collector, &p.rMet, &p.cMet} {
		*addr = freeAddr(t)
	}
	return p
}

// builtBinary is the program under test: $PARALLAX_BIN as make builds it, with the page in it, or one built now.
func builtBinary(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("PARALLAX_BIN"); bin != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "parallax")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *product) start(args ...string) {
	p.t.Helper()
	p.cmd = exec.Command(p.bin, append([]string{"up", "--data", p.data, "--ui-listen", p.page, "--listen", p.observer, "--ingest-listen", p.ingest,
		"--collector-listen", p.collector, "--relay-metrics", p.rMet, "--collector-metrics", p.cMet, "--flow-interval", "1s"}, args...)...)
	p.log = &output{}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.exited = make(chan error, 1)
	cmd, exited := p.cmd, p.exited
	go func() { exited <- cmd.Wait() }()
	p.t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended long ago unless the test failed
	p.eventually("the page answers", func() error {
		select {
		case err := <-exited:
			p.t.Fatalf("parallax ended: %v\n%s", err, p.log.String())
		default:
		}
		resp, err := http.Get("http://" + p.page + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d: was the page built? run make web", resp.StatusCode)
		}
		return nil
	})
}

// stop ends the product as Ctrl-C does.
func (p *product) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.exited:
		if err != nil {
			p.t.Fatalf("parallax ended with %v\n%s", err, p.log.String())
		}
	case <-time.After(60 * time.Second):
		p.t.Fatalf("parallax does not end\n%s", p.log.String())
	}
	if !strings.Contains(p.log.String(), " 0 lost") {
		p.t.Errorf("the last line does not say that nothing was lost:\n%s", p.log.String())
	}
}

// eventually tries until ok gives nil, for at most a minute.
func (p *product) eventually(what string, ok func() error) {
	p.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	p.t.Fatalf("%s: %v\n%s", what, err, p.log.String())
}

func (p *product) get(path string, into any) error {
	resp, err := http.Get("http://" + p.page + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %d %s", path, resp.StatusCode, body)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// waitObserving waits until the product says that all collectors observe.
func (p *product) waitObserving() {
	p.eventually("the product is up", func() error {
		if !strings.Contains(p.log.String(), "Parallax is up") {
			return errors.New("it does not say so")
		}
		return nil
	})
}

// output is what a process prints, to be read while it prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// cli runs the binary as a client and returns what it prints.
func (p *product) cli(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(p.bin, append(args, "--server", p.observer)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

func (p *product) observe(t *testing.T, args ...string) []*flowpb.Flow {
	t.Helper()
	var flows []*flowpb.Flow
	for line := range strings.Lines(p.cli(t, append([]string{"observe", "--since", "10m", "-o", "json"}, args...)...)) {
		resp := &observerpb.GetFlowsResponse{}
		if err := json.Unmarshal([]byte(line), resp); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if f := resp.GetFlow(); f != nil {
			flows = append(flows, f)
		}
	}
	return flows
}

func workload(e *flowpb.Endpoint) string {
	if len(e.GetWorkloads()) == 0 {
		return e.GetNamespace() + "/?"
	}
	return e.GetNamespace() + "/" + e.GetWorkloads()[0].GetName()
}

// footprint lists what is on this machine under the lab's name: network namespaces, links, mounts, processes.
func footprint(t *testing.T, id string) []string {
	t.Helper()
	var out []string
	keep := func(text string) {
		for line := range strings.Lines(text) {
			if strings.Contains(line, id) {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	for _, args := range [][]string{{"ip", "-o", "netns", "list"}, {"ip", "-o", "link"}, {"ps", "-eo", "args"}} {
		text, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		keep(string(text))
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	keep(string(mounts))
	return out
}
