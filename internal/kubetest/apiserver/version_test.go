package apiserver

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestVersion: what scripts/install-tool.sh builds is what Find looks for.
func TestVersion(t *testing.T) {
	mod, err := os.ReadFile("../../../tools/kube-apiserver/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if v := regexp.MustCompile(`k8s\.io/kubernetes v([0-9.]+)`).FindSubmatch(mod); v == nil || string(v[1]) != Version {
		t.Errorf("tools/kube-apiserver/go.mod requires another version of k8s.io/kubernetes than %s", Version)
	}
}

// TestMissingProgramsAreNamed, each with how to get it.
func TestMissingProgramsAreNamed(t *testing.T) {
	t.Setenv("PARALLAX_CACHE", t.TempDir())
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "scripts/install-tool.sh kube-apiserver") && !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("no API server: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "apt-get install -y etcd-server") {
		t.Errorf("no etcd: %v", err)
	}
}
