// Package tool finds the programs of others that tests run: scripts/install-tool.sh builds them.
package tool

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Path returns where the program of tools/NAME is. A test without it fails under CI, and is skipped elsewhere.
func Path(t testing.TB, name string) string {
	t.Helper()
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "tools", name)
	version, err := exec.Command("go", "-C", dir, "list", "-mod=readonly", "-f", "{{.Module.Version}}", "tool").Output()
	if err != nil {
		t.Fatalf("version of %s: %v", name, err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	cache := cmp.Or(os.Getenv("PARALLAX_CACHE"), filepath.Join(home, ".cache", "parallax"))
	bin := filepath.Join(cache, name+"-"+strings.TrimPrefix(strings.TrimSpace(string(version)), "v"), name)
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: run scripts/install-tool.sh %s", err, name)
		}
		t.Skipf("%v: run scripts/install-tool.sh %s", err, name)
	}
	return bin
}
