package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// node is a network namespace with a neighbour: a node's network without the rest of it.
type node struct {
	t          *testing.T
	name, peer string
	bin, dir   string // dir: readable by all users
	ports      int
}

const nodeAddr, peerAddr = "10.84.9.1", "10.84.9.2"

func newNode(t *testing.T) *node {
	t.Helper()
	id := strconv.Itoa(os.Getpid())
	n := &node{t: t, name: "plxt-dn" + id, peer: "plxt-dp" + id, bin: parallax(t), ports: 8000}
	var err error
	if n.dir, err = os.MkdirTemp("", "plxt-deploy-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(n.dir) })
	if err := os.Chmod(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{n.name, n.peer} {
		n.run("ip", "netns", "add", name)
		t.Cleanup(func() { n.run("ip", "netns", "del", name) }) // takes the veth with it
		n.run("ip", "-n", name, "link", "set", "lo", "up")
	}
	n.run("ip", "-n", n.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", n.peer)
	for name, addr := range map[string]string{n.name: nodeAddr, n.peer: peerAddr} {
		n.run("ip", "-n", name, "addr", "add", addr+"/30", "dev", "eth0")
		n.run("ip", "-n", name, "link", "set", "eth0", "up")
	}
	return n
}

func (n *node) run(args ...string) {
	n.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		n.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// in is a command in a network namespace and nothing else: ip netns exec would hide the cgroup hierarchy.
func in(netns string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + netns, "--"}, args...)...)
}

// restricted is a command as root with these capabilities alone, as a container runtime starts it.
func restricted(capabilities []string, args ...string) []string {
	bounds := "-all"
	for _, c := range capabilities {
		bounds += ",+" + strings.ToLower(c)
	}
	return append([]string{"setpriv", "--bounding-set=" + bounds, "--inh-caps=-all", "--no-new-privs", "--"}, args...)
}

// serve starts a program with this name and user that listens in a namespace, and returns its port.
func (n *node) serve(netns, name string, uid int) int {
	n.t.Helper()
	n.ports++
	addr := map[string]string{n.name: nodeAddr, n.peer: peerAddr}[netns]
	n.t.Cleanup(n.start(netns, name, uid, "PARALLAX_TEST_SERVE="+net.JoinHostPort(addr, strconv.Itoa(n.ports))))
	return n.ports
}

// start starts this test as another program, see TestMain, waits until it is at work, and returns what ends it.
func (n *node) start(netns, name string, uid int, env string) (stop func()) {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	bin := filepath.Join(n.dir, name)
	if _, err := os.Stat(bin); err != nil { // the kernel knows a program by its file's name
		n.run("cp", self, bin)
	}
	id := strconv.Itoa(uid)
	cmd := in(netns, "setpriv", "--reuid="+id, "--regid="+id, "--clear-groups", "--", bin)
	cmd.Env, cmd.Dir = []string{env}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	stop = func() { _, _ = cmd.Process.Kill(), cmd.Wait() } // killed: says so
	if b, err := io.ReadAll(io.LimitReader(out, 1)); err != nil || len(b) == 0 {
		stop()
		n.t.Fatalf("%s does not work: %v", name, err)
	}
	return stop
}

// serve is a started program: it answers each connection by closing it.
func serve(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Print("!")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_ = c.Close()
	}
}

// dial is a started program: it makes one connection after the other.
func dial(addr string) error {
	fmt.Print("!")
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		_, _ = c.Read(make([]byte, 1)) // the other side ends it
		_ = c.Close()
		time.Sleep(10 * time.Millisecond)
	}
}

// check returns the features that parallax check misses.
func (n *node) check(capabilities []string) []string {
	n.t.Helper()
	args := restricted(capabilities, n.bin, "check")
	out, _ := in(n.name, args...).Output() // fails where something is missing
	var missing []string
	lines := 0
	for line := range strings.Lines(string(out)) {
		rest, crossed := strings.CutPrefix(line, "✗ ")
		if crossed {
			name, _, _ := strings.Cut(rest, "  ")
			missing = append(missing, name)
		}
		lines++
	}
	if lines < 10 {
		n.t.Fatalf("parallax check says only:\n%s", out)
	}
	return missing
}

// running is a started collector.
type running struct {
	*node
	cmd   *exec.Cmd
	log   *bytes.Buffer
	lines chan string // of the log, closed at its end
	group string      // control group of its own
}

const observer = "127.0.0.1:4244" // of the namespace

func (n *node) collectorArgs(capabilities []string) []string {
	return restricted(capabilities, n.bin, "collector", "--node-name", "n1", "--kubernetes", "off", "--collector-listen", observer,
		"--collector-metrics", "127.0.0.1:9965", "--relay", "127.0.0.1:4246", "--flow-interval", "100ms")
}

func (n *node) collector(capabilities []string) *running {
	n.t.Helper()
	return n.begin(in(n.name, n.collectorArgs(capabilities)...))
}

// contained starts a collector in a control group and a cgroup namespace of its own, where mount has been run.
func (n *node) contained(capabilities []string, mount string) *running {
	n.t.Helper()
	group := filepath.Join(cgroupMount(n.t), n.name)
	if err := os.Mkdir(group, 0o755); err != nil {
		n.t.Fatal(err)
	}
	script := `echo $$ >"$1/cgroup.procs"; shift; exec unshare --cgroup --mount -- sh -ec '` + mount + `; exec "$@"' sh "$@"`
	args := append([]string{"-ec", script, "sh", group, "nsenter", "--net=/run/netns/" + n.name, "--"}, n.collectorArgs(capabilities)...)
	r := n.begin(exec.Command("sh", args...))
	r.group = group
	return r
}

func (n *node) begin(cmd *exec.Cmd) *running {
	n.t.Helper()
	r := &running{node: n, cmd: cmd, log: &bytes.Buffer{}, lines: make(chan string, 1024)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		defer close(r.lines)
		buf := make([]byte, 4096)
		for {
			k, err := stderr.Read(buf)
			if k > 0 {
				select {
				case r.lines <- string(buf[:k]):
				default: // nobody reads after the start
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return r
}

// ready waits until the collector observes, or has ended.
func (r *running) ready() bool {
	for text := range r.lines {
		r.log.WriteString(text)
		if strings.Contains(r.log.String(), "collector observes") {
			return true
		}
	}
	return false
}

func (r *running) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	for range r.lines { // before Wait, which closes the pipe
	}
	_ = r.cmd.Wait() // says how it ended
	if r.group != "" {
		until(r.t, "the control group is empty", func() error { return os.Remove(r.group) })
	}
}

// owners connects to the ports and returns whose they are, as the collector's flows say in the end.
func (r *running) owners(ports ...int) map[int]string {
	r.t.Helper()
	names := map[int]string{}
	for range 20 { // a collector looks for owners when it misses one: some connections later it knows
		for _, port := range ports {
			target := fmt.Sprintf("/dev/tcp/%s/%d", nodeAddr, port)
			if out, err := in(r.peer, "bash", "-c", "exec 3<>"+target+"; cat <&3").CombinedOutput(); err != nil {
				r.t.Fatalf("connect to %s: %v %s", target, err, out)
			}
		}
		for _, f := range r.flows() {
			if len(f.Destination.Workloads) == 1 {
				names[f.L4.TCP.DestinationPort] = f.Destination.Workloads[0].Name
			}
		}
		if !slices.ContainsFunc(ports, func(p int) bool { return names[p] == "" }) {
			break
		}
	}
	return names
}

// clients waits for connections to port and returns whose they are.
func (r *running) clients(port int) (name string) {
	r.t.Helper()
	until(r.t, "connections", func() error {
		seen := 0
		for _, f := range r.flows() {
			if f.L4.TCP.DestinationPort != port {
				continue
			}
			seen++
			if len(f.Source.Workloads) == 1 {
				name = f.Source.Workloads[0].Name
			}
		}
		if name == "" && seen < 20 {
			return fmt.Errorf("%d flows to port %d", seen, port)
		}
		return nil
	})
	return name
}

// seen is what is read of a flow.
type seen struct {
	L4 struct {
		TCP struct {
			DestinationPort int `json:"destination_port"`
		}
	}
	Source, Destination struct{ Workloads []struct{ Name string } }
}

// flows are the newest of the collector.
func (r *running) flows() (all []seen) {
	r.t.Helper()
	out, err := in(r.name, r.bin, "observe", "--server", observer, "--last", "200", "-o", "json").Output()
	if err != nil {
		r.t.Fatalf("observe: %v", err)
	}
	for line := range bytes.Lines(out) {
		var record struct{ Flow *seen }
		if json.Unmarshal(line, &record) == nil && record.Flow != nil { // else another kind of line
			all = append(all, *record.Flow)
		}
	}
	return all
}
