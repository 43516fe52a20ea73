// Package layering holds the direction of imports that docs/architecture.md promises.
package layering

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/parallax-flow/parallax/"

// may lists what a part may import of ours; a part is the first folder.
var may = map[string][]string{
	"flow":      {"flow"},
	"bpf":       {"bpf"},
	"policy":    {"policy", "flow"},
	"collector": {"collector", "flow", "bpf", "policy", "internal"},
	"relay":     {"relay", "flow", "internal"},
	"storage":   {"storage", "flow", "internal"},
	"ui":        {"ui", "flow", "internal"},
	"deploy":    {"deploy", "flow", "internal"},
	"internal":  {"internal"},

	"dashboards": {"dashboards"},

	"cmd": {"cmd", "flow", "bpf", "policy", "collector", "relay", "storage", "ui", "deploy", "dashboards", "internal"},
}

// only says which folders may import a module directly.
var only = map[string][]string{
	"k8s.io/client-go":                    {"collector/enrich", "relay", "policy"},
	"github.com/ClickHouse/clickhouse-go": {"storage"},
	"github.com/gorilla/websocket":        {"ui/api"},
	"github.com/cilium/ebpf":              {"bpf", "collector/probe", "collector/decode"},
	"github.com/cilium/cilium/api":        {"flow/hubble", "cmd/parallax"},
	"google.golang.org/grpc":              {"flow/hubble", "collector/publish", "relay", "cmd/parallax", "deploy/lab"},
}

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// adapters are the packages of the vocabulary that stand at an edge: each has the one dependency that it adapts to.
var adapters = []string{"flow/hubble", "flow/metrics", "flow/wire"}

func TestVocabularyStandsAlone(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		if path != "flow" && !strings.HasPrefix(path, "flow/") || slices.ContainsFunc(adapters, func(a string) bool { return strings.HasPrefix(path, a) }) {
			continue
		}
		for _, imp := range p.Imports {
			if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") && !strings.HasPrefix(imp, module) {
				t.Errorf("%s imports %s: the vocabulary needs the standard library only", path, imp)
			}
		}
	}
}

func TestDirection(t *testing.T) {
	all := packages(t)
	if len(all) < 20 {
		t.Fatalf("only %d packages found: this test sees too little", len(all))
	}
	for _, p := range all {
		path := strings.TrimPrefix(p.ImportPath, module)
		part, _, _ := strings.Cut(path, "/")
		allowed, known := may[part]
		if !known {
			t.Errorf("%s: folder %q has no place in the layout: add it to docs/architecture.md and to this test", path, part)
			continue
		}
		for _, imp := range p.Imports {
			if rest, ours := strings.CutPrefix(imp, module); ours {
				if to, _, _ := strings.Cut(rest, "/"); !slices.Contains(allowed, to) {
					t.Errorf("%s imports %s: %s may import only %v", path, rest, part, allowed)
				}
				continue
			}
			for mod, where := range only {
				if strings.HasPrefix(imp, mod) && !slices.ContainsFunc(where, func(w string) bool { return path == w || strings.HasPrefix(path, w+"/") }) {
					t.Errorf("%s imports %s: only %v may", path, imp, where)
				}
			}
		}
	}
}
