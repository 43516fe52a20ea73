package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/parallax-flow/parallax/dashboards"
	"github.com/parallax-flow/parallax/deploy/lab"
)

// withoutData are queries to which the lab has no answer, by a part of their name, with the reason. They must not fail all the same.
var withoutData = map[string]string{
	"parallax.json: Series of metrics B":       "nothing overflows",
	"dns-http.json: Queries without an answer": "the lab's DNS server answers",
	"DNSUnanswered": "the lab's DNS server answers",
	"dns-http.json: Responses without an address":   "names of the lab have the addresses that are asked for",
	"hubble_http_responses_total":                   "Hubble's httpV2 does not have it, either",
	`type="EchoRequest"`:                            "the lab pings nobody",
	"Hubble hubble-dns-namespace.json: round(":      "the lab's DNS server answers",
	"container_cpu_usage_seconds_total:sum_irate{c": "it comes from Kubernetes",
}

// TestDashboards runs every query of every dashboard and rule in a real Prometheus that scrapes the product with the lab, by the
// configuration that Parallax brings.
func TestDashboards(t *testing.T) {
	needRoot(t)
	p := newProduct(t)
	const dir = "/run/parallax/dashboards"
	if err := lab.Clean(dir); err != nil {
		t.Fatal(err)
	}
	p.start("--demo", "--demo-dir", dir, "--storage", "memory:")
	p.waitObserving()
	failOnce(t, dir)
	prom := startPrometheus(t, p)

	asked := boardQueries(t)
	maps.Copy(asked, ruleQueries(t))
	maps.Copy(asked, hubbleQueries(t))
	unanswered := slices.Sorted(maps.Keys(asked))
	p.eventually("every query has data", func() error {
		unanswered = slices.DeleteFunc(unanswered, func(name string) bool {
			n, err := prom.query(asked[name])
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, asked[name])
			}
			return n > 0
		})
		if left := slices.DeleteFunc(slices.Clone(unanswered), expected); len(left) > 0 {
			return fmt.Errorf("no data for\n%s", strings.Join(left, "\n"))
		}
		return nil
	})
	t.Logf("%d queries, %d of them without data, as expected", len(asked), len(unanswered))
	prom.checkRules()
	for _, addr := range []string{p.rMet, p.cMet} {
		checkMetrics(t, addr)
	}
	p.stop()
}

// expected reports whether the query of that name has no data in the lab.
func expected(name string) bool {
	for known := range withoutData {
		if strings.Contains(name, known) {
			return true
		}
	}
	return false
}

// failOnce makes what the lab's own traffic has not, or not soon: an HTTP request without a response, because PostgreSQL only hangs
// up, and an ICMP message about a next hop that is not there.
func failOnce(t *testing.T, dir string) {
	t.Helper()
	client, err := lab.Attach(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := client.Do(t.Context(), "shop/checkout", "GET", "http://postgres.data.svc.cluster.local:5432/"); err == nil {
		t.Fatalf("PostgreSQL speaks HTTP: %+v", x)
	}
	if x, err := client.Connect(t.Context(), "shop/recommend", net.JoinHostPort(lab.BackupAddr.String(), "443"), 0); err == nil {
		t.Fatalf("a connection without a next hop: %+v", x)
	}
}

// boardQueries are the queries of all panels and variables, by name.
func boardQueries(t *testing.T) map[string]string {
	boards, err := dashboards.All()
	if err != nil {
		t.Fatal(err)
	}
	chosen := strings.NewReplacer("$__rate_interval", "30s", "$__range", "1m", "$job", "parallax-relay", "$namespace", ".*", "$workload", ".*")
	values := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	all := map[string]string{}
	for _, d := range boards {
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			var q struct{ Query string }
			if err := json.Unmarshal(v.Query, &q); err != nil {
				t.Fatalf("%s: %s: %v", d.File, v.Name, err)
			}
			m := values.FindStringSubmatch(chosen.Replace(q.Query))
			if m == nil {
				t.Fatalf("%s: %s: %q is not understood", d.File, v.Name, q.Query)
			}
			all[d.File+": variable "+v.Name] = fmt.Sprintf("group by (%s) (%s)", m[2], m[1])
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all[d.File+": "+p.Title+" "+q.RefID] = chosen.Replace(q.Expr)
			}
		}
	}
	return all
}

// hubbleQueries are those of Hubble's own dashboards, as they come with the module that its API is taken from. Their variables are free
// but for the reporter; the labels that a scrape in Kubernetes adds (pod, cluster) are missing here, which no query minds.
func hubbleQueries(t *testing.T) map[string]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cilium/cilium").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "install/kubernetes/cilium/files/hubble/dashboards/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards of Hubble: %v", err)
	}
	exprs := regexp.MustCompile(`"expr": ("(?:[^"\\]|\\.)*")`)
	variables := regexp.MustCompile(`\$\{?(\w+)\}?`)
	all := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range exprs.FindAllStringSubmatch(string(text), -1) {
			var expr string
			if err := json.Unmarshal([]byte(m[1]), &expr); err != nil {
				t.Fatal(err)
			}
			expr = variables.ReplaceAllStringFunc(expr, func(v string) string {
				switch strings.Trim(v, "${}") {
				case "1":
					return v
				case "__rate_interval":
					return "30s"
				case "reporter":
					return "client"
				}
				return ".*"
			})
			all["Hubble "+filepath.Base(file)+": "+expr] = expr
		}
	}
	return all
}

var comparison = regexp.MustCompile(` (>|<|==) [0-9.]+$`)

// ruleQueries are what recording rules made, and what alerts compare: an alert on nothing would never fire.
func ruleQueries(t *testing.T) map[string]string {
	rules, err := dashboards.Rules()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, r := range rules {
		if r.Record != "" {
			all[r.Record] = r.Record
			continue
		}
		for i, part := range strings.Split(r.Expr, " and ") {
			if !comparison.MatchString(part) {
				t.Fatalf("%s: %q is no comparison with a number", r.Alert, part)
			}
			all[fmt.Sprintf("%s %d", r.Alert, i)] = comparison.ReplaceAllString(part, "")
		}
	}
	return all
}

// prometheus is a Prometheus server.
type prometheusServer struct {
	t    *testing.T
	addr string
}

// startPrometheus runs Prometheus by dashboards/prometheus.yml, with p's addresses and a faster pace, until it has scraped twice.
func startPrometheus(t *testing.T, p *product) *prometheusServer {
	t.Helper()
	bin, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("prometheus is missing: scripts/deps.sh test")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, dashboards.Files); err != nil {
		t.Fatal(err)
	}
	config, err := fs.ReadFile(dashboards.Files, "prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("127.0.0.1:9966", p.rMet, "127.0.0.1:9965", p.cMet, "_interval: 15s", "_interval: 1s").Replace(string(config))
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &prometheusServer{t: t, addr: freeAddr(t)}
	cmd := exec.Command(bin, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+s.addr, "--log.level=warn")
	log := &output{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus: %s", log)
		}
	})
	p.eventually("Prometheus has scraped twice", func() error {
		n, err := s.query(`count_over_time(up{job="parallax-relay"}[1m]) >= 2 and on () count_over_time(up{job="parallax-collector"}[1m]) >= 2`)
		if err == nil && n == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	return s
}

func (s *prometheusServer) get(path string, into any) error {
	resp, err := http.Get("http://" + s.addr + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// query returns how many series the answer has. Those that are not a number (0/0) don't count.
func (s *prometheusServer) query(expr string) (int, error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := s.get("/api/v1/query?query="+url.QueryEscape(expr), &data); err != nil {
		return 0, err
	}
	n := 0
	for _, r := range data.Result {
		if r.Value[1] != "NaN" {
			n++
		}
	}
	return n, nil
}

// checkRules looks whether Prometheus could evaluate all rules.
func (s *prometheusServer) checkRules() {
	s.t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := s.get("/api/v1/rules", &data); err != nil {
		s.t.Fatal(err)
	}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				s.t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
}

// checkMetrics holds what addr serves to the conventions.
func checkMetrics(t *testing.T, addr string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = resp.Body
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
