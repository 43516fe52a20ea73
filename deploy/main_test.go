// Package deploy tests what is in this folder for those who install Parallax: the chart with Helm itself and a real API
// server, capabilities with a real collector, units with systemd's own checks, the image by its build commands.
package deploy

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/parallax-flow/parallax/internal/tool"
)

var update = flag.Bool("update", false, "write what is generated anew: manifests, goldens, the chart's copies")

func TestMain(m *testing.M) {
	for name, program := range map[string]func(string) error{"PARALLAX_TEST_SERVE": serve, "PARALLAX_TEST_DIAL": dial} {
		if addr := os.Getenv(name); addr != "" {
			_, _ = os.Stderr.WriteString(program(addr).Error())
			os.Exit(1)
		}
	}
	flag.Parse()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = io.WriteString(os.Stderr, err.Error())
			code = 1
		}
	}
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// unavailable skips the test, or fails it where everything must be there.
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		unavailable(t, "needs root")
	}
}

var built struct {
	sync.Once
	dir, bin string
	err      error
}

// parallax is the program: $PARALLAX_BIN as make builds it, or one built now, once.
func parallax(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("PARALLAX_BIN"); bin != "" {
		return bin
	}
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "parallax-deploy-"); built.err != nil {
			return
		}
		if built.err = os.Chmod(built.dir, 0o755); built.err != nil { // other users run it
			return
		}
		built.bin = filepath.Join(built.dir, "parallax")
		if out, err := exec.Command("go", "build", "-o", built.bin, "../cmd/parallax").CombinedOutput(); err != nil {
			built.err = errors.New(string(out))
		}
	})
	if built.err != nil {
		t.Fatalf("build: %v", built.err)
	}
	return built.bin
}

const chartDir = "chart/parallax"

// helm runs the Helm of tools/helm.
func helm(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command(tool.Path(t, "helm"), args...)
	home := t.TempDir() // neither reads nor leaves anything of the person who runs the test
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return out.Bytes(), errors.New(strings.TrimSpace(stderr.String()))
	}
	return out.Bytes(), nil
}

// render gives the chart's objects as a release called parallax in the namespace parallax has them.
func render(t *testing.T, set ...string) []byte {
	t.Helper()
	args := []string{"template", "parallax", chartDir, "--namespace", "parallax", "--kube-version", "1.36.0"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	out, err := helm(t, args...)
	if err != nil {
		t.Fatalf("helm template --set %v: %v", set, err)
	}
	return out
}

// objects reads a stream of YAML documents.
func objects(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var o map[string]any
		switch err := d.Decode(&o); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		case len(o) > 0:
			all = append(all, &unstructured.Unstructured{Object: o})
		}
	}
}

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run make manifests", err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("deploy/%s is stale: run make manifests, look at the difference and commit it", path)
	}
}
