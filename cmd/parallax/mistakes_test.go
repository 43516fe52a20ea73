package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMistakes makes the mistakes of people. Each is one line that says what is wrong and what to do, with an exit code
// that is not 0, and leaves nothing behind.
func TestMistakes(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "parallax.yaml")
	if err := os.WriteFile(config, []byte("flow-intervall: 1s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	policies, sound := filepath.Join(t.TempDir(), "policies.yaml"), filepath.Join(t.TempDir(), "sound.yaml")
	for path, spec := range map[string]string{policies: "{podSelector: {}, ingres: []}", sound: "{podSelector: {}}"} {
		text := "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec: " + spec + "\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Ports of the kernel's choice, so that a Parallax that runs here plays no part.
	free := []string{"--listen", "127.0.0.1:0", "--ingest-listen", "127.0.0.1:0", "--relay-metrics", "127.0.0.1:0"}
	all := append([]string{"up", "--ui-listen", "127.0.0.1:0", "--collector-listen", "127.0.0.1:0", "--collector-metrics", "127.0.0.1:0"}, free...)
	relay := append([]string{"relay"}, free...)
	tests := []struct {
		name string
		args []string
		code int
		want string
		root bool
	}{
		{"busy port of the page", append(all, "--storage", "memory:", "--ui-listen", busy.Addr().String()), 1, "address already in use: is Parallax running already? choose another with --ui-listen", true},
		{"busy port for collectors", append(relay, "--storage", "memory:", "--ingest-listen", busy.Addr().String()), 1, "choose another with --ingest-listen", false},
		{"data folder that is a file", append(relay, "--data", file), 1, file, false},
		{"storage of an unknown kind", append(relay, "--storage", "mysql://x"), 1, "want embedded:DIR, clickhouse://", false},
		{"storage that does not answer", append(relay, "--storage", "clickhouse://127.0.0.1:1/x?dial_timeout=1s"), 1, "127.0.0.1:1", false},
		{"unknown flag", []string{"up", "--dmeo"}, 2, "unknown flag: --dmeo", false},
		{"unknown flag value", []string{"up", "--for", "soon"}, 2, `invalid argument "soon" for "--for"`, false},
		{"negative time", []string{"up", "--for", "-5s"}, 1, "a time cannot be negative", false},
		{"unknown log level", []string{"relay", "--log-level", "loud"}, 1, "is not one of debug, info, warn, error", false},
		{"unknown command", []string{"obsreve"}, 2, `did you mean "observe"`, false},
		{"unknown key in the configuration", []string{"collector", "--config", config}, 2, "flow-intervall", false},
		{"relay without a port", []string{"collector", "--relay", "here"}, 2, "is not host:port", false},
		{"namespace that is not there", []string{"collector", "--netns", "/run/netns/plxt-none", "--collector-listen", "", "--collector-metrics", ""}, 1, "/run/netns/plxt-none", true},
		{"kubeconfig that is not there", []string{"collector", "--kubernetes", file + ".none"}, 1, "choose another with --kubernetes PATH", false},
		{"kubeconfig of the relay that is not there", append(relay, "--kubernetes", file+".none"), 1, "choose another with --kubernetes PATH", false},
		{"API server without a demo", []string{"up", "--demo-kubernetes"}, 2, "--demo-kubernetes is of use only with --demo", false},
		{"OTLP endpoint without a port", append(relay, "--otlp-endpoint", "jaeger"), 1, "give HOST:PORT for gRPC", false},
		{"trace sample out of range", append(relay, "--otlp-endpoint", "jaeger:4317", "--trace-sample", "2"), 1, "choose a part from 0", false},
		{"unknown policy mode", []string{"collector", "--policy-mode", "block"}, 1, `--policy-mode: policy mode "block": choose observe, audit or enforce`, false},
		{"policies that nobody decides by", []string{"collector", "--policies", policies}, 2, "of no use with --policy-mode observe; choose audit or enforce", false},
		{"mode without policies", []string{"collector", "--policy-mode", "audit"}, 2, "no policies; give --kubernetes KUBECONFIG, or --policies FILE and --inventory FILE", false},
		{"policy with an unknown field", []string{"collector", "--policy-mode", "enforce", "--policies", policies}, 1, "--policies: " + policies + ": NetworkPolicy shop/web: spec.ingres", false},
		{"policies without pods", []string{"collector", "--policy-mode", "audit", "--policies", sound}, 2, "nothing tells of pods; give --inventory FILE or --kubernetes KUBECONFIG", false},
		{"inventory without pods", []string{"collector", "--inventory", t.TempDir()}, 1, "no pod in it that runs", false},
		{"no policy among the policies", []string{"collector", "--policy-mode", "audit", "--policies", t.TempDir()}, 1, "no NetworkPolicy in it", false},
		{"policy file that is not there", []string{"collector", "--policy-mode", "enforce", "--policies", file + ".none"}, 1, file + ".none", false},
		{"owned interfaces by a bad pattern", []string{"collector", "--policy-mode", "enforce", "--policies", sound, "--policy-own", "veth["}, 2, "veth[", false},
		{"no series at all", []string{"collector", "--metrics-max-series", "1"}, 1, "choose 100 to 10000000", false},
		{"Kubernetes for no demo", append(all, "--demo-kubernetes"), 2, "of use only with --demo", false},
		{"demo rate out of range", []string{"up", "--demo", "--demo-rate", "5000"}, 1, "0.1 to 200", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root {
				needRoot(t)
			}
			var stdout, stderr bytes.Buffer
			code := run(tt.args, &stdout, &stderr)
			line := stderr.String()
			if code != tt.code || !strings.Contains(line, tt.want) || strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "parallax: ") {
				t.Errorf("exit %d, want %d\n%s%s\nwant one line with %q", code, tt.code, stdout.String(), line, tt.want)
			}
		})
	}
}

// TestWithoutRoot runs the real binary as nobody.
func TestWithoutRoot(t *testing.T) {
	needRoot(t)                                      // to become nobody
	dir, err := os.MkdirTemp("/tmp", "plxt-nobody-") // t.TempDir is not for others to enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "parallax")
	if out, err := exec.Command("cp", builtBinary(t), bin).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"up", "--demo"}, {"collector"}} {
		cmd := exec.Command(bin, args...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "needs root or CAP_BPF") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestWithoutBTF runs the real binary where /sys/kernel/btf is empty, in a mount namespace of its own.
func TestWithoutBTF(t *testing.T) {
	needRoot(t) // to hide the kernel's BTF
	for _, command := range []string{"up", "collector"} {
		cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none /sys/kernel/btf && exec "$0" "$1"`, builtBinary(t), command)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "kernel has no BTF") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
}
