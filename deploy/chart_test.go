package deploy

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/parallax-flow/parallax/dashboards"
)

// settings are what people install, and what the tests look at: rendered, checked by Parallax and accepted by an API server.
var settings = []struct {
	name string
	set  []string
}{
	{"default", nil},
	{"manifests", []string{"namespace.create=true"}},
	{"clickhouse-external", []string{"storage.type=clickhouse", "storage.clickhouse.existingSecret=history", "ui.separate=true", "cluster=blue"}},
	{"clickhouse-bundled", []string{"storage.type=clickhouse", "clickhouse.enabled=true", "clickhouse.password=secret", "networkPolicy.enabled=true", "ui.separate=true"}},
	{"audit", []string{"collector.policy.mode=audit"}},
	{"enforce", []string{"collector.policy.mode=enforce", "collector.policy.own={veth*,lxc*}", "collector.observer.listen=", "collector.metrics.port=19965"}},
	{"monitoring", []string{"serviceMonitor.enabled=true", "serviceMonitor.labels.release=prometheus",
		"relay.otlp.endpoint=jaeger.observability:4317", "relay.otlp.insecure=true", "relay.otlp.sample=0.1"}},
	{"rules", []string{"prometheusRule.enabled=true"}},
	{"small", []string{"storage.type=memory", "ui.enabled=false", "collector.enabled=false", "networkPolicy.enabled=true"}},
	{"registry", []string{"image.repository=registry.example/parallax", "image.tag=v9", "image.pullSecrets[0].name=pull", "storage.persistence.enabled=false", "collector.priorityClassName=", "collector.tolerations=null", "collector.hostCgroup="}},
}

// manifestsHeader begins the manifests that people apply without Helm.
const manifestsHeader = "# Parallax without Helm: kubectl apply --server-side -f parallax.yaml\n" +
	"# Made from deploy/chart/parallax by make manifests; do not edit. Other settings: helm template, see docs/install.md.\n"

func TestRendered(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			got := render(t, s.set...)
			switch s.name {
			case "manifests":
				golden(t, "manifests/parallax.yaml", append([]byte(manifestsHeader), got...))
			case "rules": // a copy of dashboards/rules, which change for their own reasons
				hasRules(t, got)
			default:
				golden(t, "testdata/"+s.name+".yaml", got)
			}
		})
	}
}

// hasRules finds all rules of the repository in the PrometheusRule.
func hasRules(t *testing.T, rendered []byte) {
	t.Helper()
	want, err := dashboards.Rules()
	if err != nil {
		t.Fatal(err)
	}
	var exprs []string
	for _, o := range objects(t, rendered) {
		if o.GetKind() != "PrometheusRule" {
			continue
		}
		groups, _, _ := unstructured.NestedSlice(o.Object, "spec", "groups")
		for _, g := range groups {
			for _, r := range g.(map[string]any)["rules"].([]any) {
				exprs = append(exprs, strings.TrimSpace(r.(map[string]any)["expr"].(string)))
			}
		}
	}
	for _, r := range want {
		if !slices.Contains(exprs, r.Expr) {
			t.Errorf("rule %s is not in the PrometheusRule as it is in %s", r.Name(), r.File)
		}
	}
}

func TestLint(t *testing.T) {
	if out, err := helm(t, "lint", "--strict", chartDir); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestCopies holds the chart's dashboards and rules to those of the repository. Copies, since Helm warns of links that lead
// out of a chart, and an archive made of one where links are not kept would lack the files.
func TestCopies(t *testing.T) {
	want := map[string]string{}
	for pattern, to := range map[string]string{"*.json": "dashboards", "rules/*.yaml": "rules"} {
		names, err := fs.Glob(dashboards.Files, pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v %v", pattern, names, err)
		}
		for _, name := range names {
			text, err := dashboards.Files.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(chartDir, "files", to, filepath.Base(name))
			want[path] = string(text)
			golden(t, path, text)
		}
	}
	have, err := filepath.Glob(chartDir + "/files/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range have {
		if _, ok := want[path]; !ok {
			t.Errorf("%s has no original in dashboards/: remove it", path)
		}
	}
	for _, o := range objects(t, render(t, "dashboards.enabled=true")) {
		if o.GetKind() != "ConfigMap" {
			continue
		}
		if o.GetLabels()["grafana_dashboard"] != "1" {
			t.Errorf("ConfigMap %s has labels %v", o.GetName(), o.GetLabels())
		}
		data, _, _ := unstructured.NestedStringMap(o.Object, "data")
		for name, text := range data {
			path := filepath.Join(chartDir, "files/dashboards", strings.TrimPrefix(name, "parallax-"))
			if diff := cmp.Diff(strings.TrimSpace(want[path]), text); diff != "" {
				t.Errorf("%s in its ConfigMap: %s", path, diff)
			}
			delete(want, path)
		}
	}
	for path := range want {
		if strings.HasSuffix(path, ".json") {
			t.Errorf("%s is in no ConfigMap", path)
		}
	}
}

// TestMistakes says what a person is told who sets something wrong.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"colector.enabled=false", "'colector' not allowed"},
		{"collector.policy.mode=on", "value must be one of 'observe', 'audit', 'enforce'"},
		{"collector.flowInterval=5", "/collector/flowInterval"},
		{"relay.otlp.sample=2", "maximum"},
		{"clickhouse.password=a/b", "does not match pattern"},
		{"collector.capabilities={ALL}", "value must be one of"},
		{"clickhouse.enabled=true", "clickhouse.enabled needs storage.type clickhouse"},
		{"storage.type=clickhouse", "storage.type clickhouse needs storage.clickhouse.existingSecret, or clickhouse.enabled"},
		{"storage.type=clickhouse,clickhouse.enabled=true", "needs clickhouse.password or clickhouse.existingSecret"},
		{"ui.separate=true", "ui.separate needs storage.type clickhouse"},
		{"image.digest=sha256:" + strings.Repeat("0", 64), "storage.type embedded needs two"},
	} {
		if _, err := helm(t, "template", "parallax", chartDir, "--set", c.set); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--set %s: %v, want %q", c.set, err, c.want)
		}
	}
}

// TestFlags has Parallax check each command line that the chart makes, so that none has a flag or a value that it refuses.
func TestFlags(t *testing.T) {
	bin := parallax(t)
	seen := map[string]bool{}
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			for _, o := range objects(t, render(t, s.set...)) {
				containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
				for _, c := range containers {
					if c := c.(map[string]any); c["args"] != nil {
						args, env := commandLine(c)
						seen[args[0]] = true
						checkCommand(t, bin, args, env)
					}
				}
			}
		})
	}
	if !seen["collector"] || !seen["relay"] || !seen["ui"] {
		t.Errorf("looked only at %v", seen)
	}
}

func checkCommand(t *testing.T, bin string, args, env []string) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig") // for the service account of a pod
	if err := os.WriteFile(kubeconfig, []byte(`{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}],
contexts: [{name: c, context: {cluster: c, user: u}}], current-context: c, users: [{name: u}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	args = slices.Clone(args)
	if i := slices.Index(args, "--kubernetes=auto"); i >= 0 {
		args[i] = "--kubernetes=" + kubeconfig
	}
	cmd := exec.Command(bin, append(args, "--check")...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("parallax %s: %s", strings.Join(args, " "), bytes.TrimSpace(out))
	}
}

// commandLine is a container's, as a node called n1 would run it.
func commandLine(container map[string]any) (args, env []string) {
	values := map[string]string{"NODE_NAME": "n1", "HOST_IP": "fd00::1", "CLICKHOUSE_PASSWORD": "secret", "PARALLAX_STORAGE": "clickhouse://u:p@h:9000/d"}
	expand := func(s string) string {
		for name, value := range values {
			s = strings.ReplaceAll(s, "$("+name+")", value)
		}
		return s
	}
	for _, a := range container["args"].([]any) {
		args = append(args, expand(a.(string)))
	}
	list, _ := container["env"].([]any)
	for _, e := range list {
		e := e.(map[string]any)
		name := e["name"].(string)
		if value, ok := e["value"].(string); ok {
			env = append(env, name+"="+expand(value))
		} else if value, ok := values[name]; ok {
			env = append(env, name+"="+value)
		}
	}
	return args, env
}
