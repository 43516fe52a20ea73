package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedCommands renders each helm command of docs/install.md, and looks for the files that the commands name.
func TestDocumentedCommands(t *testing.T) {
	text, err := os.ReadFile("../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.ReplaceAll(string(text), "\\\n", " ")
	commands := regexp.MustCompile(`(?m)helm upgrade [^#\n]*`).FindAllString(lines, -1)
	if len(commands) < 8 {
		t.Fatalf("only %d helm commands are found", len(commands))
	}
	for _, c := range commands {
		c, _, _ = strings.Cut(c, "`") // of a table
		args := []string{"template"}
		for _, a := range strings.Fields(c)[2:] {
			switch a {
			case "--install", "--reuse-values", "--reset-then-reuse-values":
			case "deploy/chart/parallax":
				args = append(args, chartDir)
			default:
				args = append(args, a)
			}
		}
		if out, err := helm(t, args...); err != nil || len(out) == 0 {
			t.Errorf("%s: %v", c, err)
		}
	}
	for _, path := range regexp.MustCompile(`\bdeploy/[a-zA-Z0-9_./*-]+`).FindAllString(string(text), -1) {
		if found, err := filepath.Glob(filepath.Join("..", strings.TrimRight(path, "."))); err != nil || len(found) == 0 {
			t.Errorf("docs/install.md names %s: %v", path, err)
		}
	}
}
