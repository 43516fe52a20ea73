package lab

import (
	"os"
	"strings"
	"testing"
)

// TestRoleIsDocumented: the lab's API server gives the rights that docs/install.md asks for.
func TestRoleIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```yaml\n"+string(kubeRole)+"```\n") {
		t.Error("kuberole.yaml is not the ClusterRole of docs/install.md")
	}
}

func TestNetNSOfPods(t *testing.T) {
	l := Plan(2)
	for _, p := range l.Pods {
		if got := l.NetNS(p.Namespace, p.Name); got != p.NetNS {
			t.Errorf("%s: %q", p.Name, got)
		}
	}
	if got := l.NetNS("shop", "nobody"); got != "" {
		t.Errorf("nobody has %q", got)
	}
}
