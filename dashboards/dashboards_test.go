package dashboards

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// panelTypes are those that a current Grafana draws without a plugin.
var panelTypes = []string{"row", "stat", "timeseries", "table", "barchart"}

var variable = regexp.MustCompile(`\$\{?([a-zA-Z_]+)`)

func TestDashboards(t *testing.T) {
	boards, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(boards) != 5 {
		t.Errorf("%d dashboards, want 5", len(boards))
	}
	uids := map[string]string{}
	for _, d := range boards {
		if other := uids[d.UID]; other != "" || d.UID == "" {
			t.Errorf("%s: uid %q is that of %q", d.File, d.UID, other)
		}
		uids[d.UID] = d.File
		if d.SchemaVersion < 39 || !strings.HasPrefix(d.Title, "Parallax / ") {
			t.Errorf("%s: schema %d, title %q", d.File, d.SchemaVersion, d.Title)
		}
		known := []string{"__rate_interval", "__range"}
		for _, v := range d.Templating.List {
			known = append(known, v.Name)
		}
		if !slices.Contains(known, "datasource") {
			t.Errorf("%s: no variable for the data source", d.File)
		}
		checkPanels(t, &d, known)
	}
}

func checkPanels(t *testing.T, d *Dashboard, variables []string) {
	ids := map[int]bool{}
	for i, p := range d.Panels {
		if ids[p.ID] || !slices.Contains(panelTypes, p.Type) || p.Title == "" {
			t.Errorf("%s: panel %d %q of type %s", d.File, p.ID, p.Title, p.Type)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: %s has data source %q and %d queries", d.File, p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, q := range p.Targets {
			for _, v := range variable.FindAllStringSubmatch(q.Expr, -1) {
				if !slices.Contains(variables, v[1]) {
					t.Errorf("%s: %s uses %s, which is not there", d.File, p.Title, v[0])
				}
			}
		}
		for _, other := range d.Panels[:i] {
			if a, b := p.GridPos, other.GridPos; a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s: %s covers %s", d.File, p.Title, other.Title)
			}
		}
	}
}

func TestRules(t *testing.T) {
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.Name()] || r.Name() == "" || r.Expr == "" {
			t.Errorf("%s: rule %q twice or empty", r.File, r.Name())
		}
		seen[r.Name()] = true
		if r.Alert == "" {
			continue
		}
		for _, text := range []string{"summary", "description", "runbook"} {
			if r.Annotations[text] == "" {
				t.Errorf("%s has no %s", r.Alert, text)
			}
		}
		if !slices.Contains([]string{"info", "warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%s has severity %q", r.Alert, r.Labels["severity"])
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d rules: this test sees too little", len(seen))
	}
}

// metricName finds what a query asks for. Labels have no such prefix, functions neither.
var metricName = regexp.MustCompile(`\b(?:(?:hubble|parallax|go|process)_[a-z0-9_]+|[a-z]+:[a-z0-9_]+:[a-z0-9_]+)`)

// TestMetricsExist holds queries and rules to docs/metrics.md, which is generated from the program.
func TestMetricsExist(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"process_cpu_seconds_total": true, "process_resident_memory_bytes": true}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([a-z]+) ").FindAllStringSubmatch(string(page), -1) {
		known[m[1]] = true
		if m[2] == "histogram" {
			known[m[1]+"_bucket"], known[m[1]+"_sum"], known[m[1]+"_count"] = true, true, true
		}
	}
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	boards, err := All()
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]string{}
	for _, r := range rules {
		known[r.Record] = true
		asked[r.Name()] = r.Expr
	}
	for _, d := range boards {
		for _, v := range d.Templating.List {
			asked[d.File+" variable "+v.Name] = string(v.Query)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				asked[d.File+" "+p.Title+" "+q.RefID] = q.Expr
			}
		}
	}
	names := 0
	for where, text := range asked {
		for _, name := range metricName.FindAllString(text, -1) {
			names++
			if !known[name] {
				t.Errorf("%s asks for %s, which docs/metrics.md does not have", where, name)
			}
		}
	}
	if names < 150 {
		t.Errorf("only %d names found: this test sees too little", names)
	}
}

func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("promtool is missing: scripts/deps.sh test")
		}
		t.Skip("promtool is missing: scripts/deps.sh test")
	}
	for _, args := range [][]string{{"check", "rules", "rules/alerts.yaml", "rules/recording.yaml"}, {"check", "config", "prometheus.yml"}, {"test", "rules", "testdata/alerts.yaml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
