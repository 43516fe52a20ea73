package enrich

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

func TestParseCgroup(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, tc := range []struct{ text, kind, name string }{
		{"0::/system.slice/nginx.service\n", "Unit", "nginx"},
		{"0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n", "Unit", "postgresql@15-main"},
		{"0::/system.slice/systemd\\x2dthing.service/sub\n", "Unit", "systemd-thing"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-web.service\n", "Unit", "app-web"},
		{"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", "", ""},
		{"0::/user.slice/user-0.slice/session-3.scope\n", "", ""},
		{"0::/init.scope\n", "", ""},
		{"0::/\n", "", ""},
		{"0::/system.slice/docker-" + id + ".scope\n", "Container", "0123456789ab"},
		{"0::/machine.slice/libpod-" + id + ".scope/container\n", "Container", "0123456789ab"},
		{"0::/machine.slice/libpod-conmon-" + id + ".scope\n", "", ""},
		{"12:pids:/docker/" + id + "\n11:cpu:/docker/" + id + "\n0::/\n", "Container", "0123456789ab"},
		{"1:name=systemd:/system.slice/ssh.service\n", "Unit", "ssh"},
		{"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod9a1e3c1e_7d4f_4a40_9c3e_1f1f3e2d7b10.slice/cri-containerd-" + id + ".scope\n", "Pod", "9a1e3c1e-7d4f-4a40-9c3e-1f1f3e2d7b10"},
		{"4:memory:/kubepods/besteffort/pod9a1e3c1e-7d4f-4a40-9c3e-1f1f3e2d7b10/" + id + "\n", "Pod", "9a1e3c1e-7d4f-4a40-9c3e-1f1f3e2d7b10"},
		{"0::/system.slice/containerd.service/kubepods-pod12.slice:cri-containerd:" + id + "\n", "Container", "0123456789ab"},
		{"0::/system.slice/podman.service\n", "Unit", "podman"},
		{"garbage", "", ""},
	} {
		if kind, name := parseCgroup(tc.text); kind != tc.kind || name != tc.name {
			t.Errorf("%q: %s %q, want %s %q", tc.text, kind, name, tc.kind, tc.name)
		}
	}
}

func FuzzParseCgroup(f *testing.F) {
	f.Add("0::/system.slice/a\\x2db.service\n")
	f.Add("4:memory:/kubepods/besteffort/pod9a1e3c1e-7d4f-4a40-9c3e-1f1f3e2d7b10/x\n")
	f.Fuzz(func(t *testing.T, text string) {
		if kind, name := parseCgroup(text); (kind == "") != (name == "") && kind != kindUnit {
			t.Errorf("%q: %q %q", text, kind, name)
		}
	})
}

func TestCommandName(t *testing.T) {
	for _, tc := range []struct {
		comm, args, want string
	}{
		{"nginx", "nginx: master process", "nginx"},
		{"kworker/0", "", "kworker/0"},
		{"a-very-long-nam", "/opt/a-very-long-name-indeed --x", "a-very-long-name-indeed"},
		{"a-very-long-nam", "other", "a-very-long-nam"},
		{"python3", "python3 -u /srv/app/worker.py --token=secret", "worker.py"},
		{"python3.11", "/usr/bin/python3.11 -m http.server", "http.server"},
		{"python3", "python3 -c import(x)", "python3"},
		{"node", "node server.js", "server.js"},
		{"bash", "-bash", "bash"},
		{"bash", "bash /usr/local/bin/backup", "backup"},
		{"java", "java -Xmx1g -jar /opt/app.jar", "app.jar"},
		{"java", "java -Xmx1g com.example.Main", "Main"},
		{"python3", "python3 -m", "python3"},
	} {
		if got := commandName(tc.comm, strings.Fields(tc.args)); got != tc.want {
			t.Errorf("%s %q: %q, want %q", tc.comm, tc.args, got, tc.want)
		}
	}
}

// self is the endpoint that this test binary should get.
func self(t *testing.T, e *Enricher) *flow.Endpoint {
	t.Helper()
	kind, name := e.scanner.proc.identify(uint32(os.Getpid()))
	if kind == kindProcess && name != filepath.Base(os.Args[0]) {
		t.Fatalf("this process is called %q, want %q", name, os.Args[0])
	}
	return e.scanner.parts.endpoint(kind, name)
}

// TestRealSockets finds the owner of this test's own sockets, of both families and protocols.
func TestRealSockets(t *testing.T) {
	e := newTest(Config{Processes: true})
	if err := e.scanner.open(); err != nil {
		t.Fatal(err)
	}
	defer e.scanner.close()
	want := self(t, e)
	for _, at := range []struct{ network, listen, ask string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"}, {"tcp", ":0", "127.0.0.1"}, {"tcp4", "0.0.0.0:0", "127.0.0.1"},
		{"tcp6", "[::1]:0", "::1"}, {"udp", "127.0.0.1:0", "127.0.0.1"}, {"udp", ":0", "127.0.0.1"},
	} {
		t.Run(at.network+" "+at.listen, func(t *testing.T) {
			var port int
			proto := flow.ProtoTCP
			if strings.HasPrefix(at.network, "udp") {
				proto = flow.ProtoUDP
				c, err := net.ListenPacket(at.network, at.listen)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				port = c.LocalAddr().(*net.UDPAddr).Port
			} else {
				c, err := net.Listen(at.network, at.listen)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				port = c.Addr().(*net.TCPAddr).Port
			}
			f := flow.Flow{SrcAddr: addr("192.168.0.1"), DstAddr: addr(at.ask), SrcPort: 1, DstPort: uint16(port), Proto: proto}
			select {
			case <-e.scanner.missed: // of the test before
			default:
			}
			if got := e.one(f).Dst; got != e.host {
				t.Fatalf("before the search: %s", key(got))
			}
			if len(e.scanner.missed) != 1 {
				t.Fatal("the miss was not told")
			}
			e.scanner.scan(t.Context())
			if got := e.one(f).Dst; got != want {
				t.Errorf("%s, want %s", key(got), key(want))
			}
		})
	}
}

func TestConnectedSocket(t *testing.T) {
	e := newTest(Config{Processes: true})
	if err := e.scanner.open(); err != nil {
		t.Fatal(err)
	}
	defer e.scanner.close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e.scanner.scan(t.Context())
	from := c.LocalAddr().(*net.TCPAddr)
	f := e.one(flow.Flow{SrcAddr: addr("127.0.0.1"), DstAddr: addr("127.0.0.1"), SrcPort: uint16(from.Port),
		DstPort: uint16(l.Addr().(*net.TCPAddr).Port), Proto: flow.ProtoTCP})
	if want := self(t, e); f.Src != want || f.Dst != want {
		t.Errorf("%s -> %s, want %s", key(f.Src), key(f.Dst), key(want))
	}
}

// TestProcessOfRecords follows one connection of a local client: its records name the process, its request does not.
func TestProcessOfRecords(t *testing.T) {
	e := newTest(Config{Processes: true})
	curl := &flow.Process{PID: 1 << 30, Comm: "curl"}
	conn := flow.Flow{SrcAddr: addr("192.168.0.1"), DstAddr: addr("8.8.8.8"), SrcPort: 4000, DstPort: 80, Proto: flow.ProtoTCP}
	step := func(kind flow.Kind, p *flow.Process) string {
		f := conn
		f.Kind, f.Process = kind, p
		return key(e.one(f).Src)
	}
	const host, process = "host n1/n1 (host 1)", "host n1/curl (process 1)"
	got := []string{step(flow.KindUpdate, nil), step(flow.KindNew, curl), step(flow.KindL7, nil), step(flow.KindDrop, nil), step(flow.KindClose, curl), step(flow.KindNew, nil)}
	if diff := cmp.Diff([]string{host, process, process, process, process, host}, got); diff != "" {
		t.Error(diff)
	}

	server := flow.Flow{SrcAddr: addr("8.8.8.8"), DstAddr: addr("192.168.0.1"), SrcPort: 4000, DstPort: 443, Proto: flow.ProtoTCP, Kind: flow.KindNew,
		Process: &flow.Process{PID: 1, Comm: "bad\xff"}, ProcessDst: true}
	if f := e.one(server); key(f.Dst) != "host n1/bad? (process 1)" || f.Src.Kind != flow.EndpointWorld {
		t.Errorf("%s -> %s", key(f.Src), key(f.Dst))
	}
}

// fakeProc makes a /proc with one process.
func fakeProc(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"self/ns", "7/task/8"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(pidNamespaceInit, filepath.Join(dir, "self/ns/pid")); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestIdentify(t *testing.T) {
	unit := "0::/system.slice/web.service\n"
	for name, tc := range map[string]struct {
		files   map[string]string
		process flow.Process
		want    string
	}{
		"unit":              {map[string]string{"7/comm": "nginx\n", "7/cgroup": unit}, flow.Process{PID: 7, Comm: "nginx"}, "Unit web"},
		"name of a thread":  {map[string]string{"7/comm": "nginx\n", "7/task/8/comm": "worker\n", "7/cgroup": unit}, flow.Process{PID: 7, Comm: "worker"}, "Unit web"},
		"another process":   {map[string]string{"7/comm": "nginx\n", "7/cgroup": unit}, flow.Process{PID: 7, Comm: "curl"}, "Process curl"},
		"gone":              {nil, flow.Process{PID: 9, Comm: "curl"}, "Process curl"},
		"script":            {map[string]string{"7/comm": "python3\n", "7/cmdline": "python3\x00/a/job.py\x00--x\x00", "7/cgroup": "0::/\n"}, flow.Process{PID: 7, Comm: "python3"}, "Process job.py"},
		"no command line":   {map[string]string{"7/comm": "kthreadd\n", "7/cmdline": "", "7/cgroup": "0::/\n"}, flow.Process{PID: 7, Comm: "kthreadd"}, "Process kthreadd"},
		"cgroup unreadable": {map[string]string{"7/comm": "nginx\n"}, flow.Process{PID: 7, Comm: "nginx"}, "Process nginx"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScanner(Config{Proc: fakeProc(t, tc.files)})
			s.initial = s.proc.isInitial()
			if got := s.identify(&tc.process); got.WorkloadKind+" "+got.Workload != tc.want {
				t.Errorf("%s %s, want %s", got.WorkloadKind, got.Workload, tc.want)
			}
		})
	}
}

// TestIdentifyInBackground sees a process under its command name first, then as the unit that it is a part of.
func TestIdentifyInBackground(t *testing.T) {
	e := newTest(Config{Processes: true, Proc: fakeProc(t, map[string]string{"7/comm": "nginx\n", "7/cgroup": "0::/system.slice/web.service\n"})})
	e.scanner.initial = e.scanner.proc.isInitial()
	f := flow.Flow{SrcAddr: addr("192.168.0.1"), DstAddr: addr("8.8.8.8"), SrcPort: 1, Proto: flow.ProtoTCP, Process: &flow.Process{PID: 7, Comm: "nginx"}}
	if got := e.one(f).Src; got.Workload != "nginx" {
		t.Errorf("at first: %s", key(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.scanner.run(ctx) }()
	for e.one(f).Src.Workload != "web" {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkScan(b *testing.B) {
	s := newScanner(Config{Proc: "/proc"})
	if err := s.open(); err != nil {
		b.Fatal(err)
	}
	defer s.close()
	for b.Loop() {
		clear(s.owners)
		s.scan(b.Context())
	}
}
