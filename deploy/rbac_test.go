package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/parallax-flow/parallax/collector/enrich/kube"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
)

// part is what runs as a service account of the chart, and what it reads.
type part struct {
	name     string
	config   kube.Config
	policies bool
}

var parts = []part{
	{name: "collector", config: kube.Config{Node: "n1"}, policies: true},
	{name: "relay", config: kube.Config{AllPods: true}},
}

// TestRights runs the readers of collector and relay as the service accounts that the chart makes, against a real API
// server with RBAC: what the roles give is enough, and each right in them is missed when it is taken away.
func TestRights(t *testing.T) {
	c := newCluster(t)
	if out, err := helm(t, "install", "parallax", chartDir, "-n", "parallax", "--create-namespace", "--kubeconfig", c.kubeconfig,
		"--set", "collector.policy.mode=enforce"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.populate()
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			p.config.Kubeconfig = c.account(t, "parallax-"+p.name)
			role := c.role(t, "parallax-"+p.name)
			t.Run("enough", func(t *testing.T) {
				if log := p.read(t, c, nil); strings.Contains(log, "refuses") {
					t.Errorf("something is forbidden:\n%s", log)
				}
			})
			t.Run("no more", func(t *testing.T) { c.least(t, "parallax-"+p.name) })
			t.Run("each", func(t *testing.T) { // at the same time: a source tells of a refusal only when it lasts
				for i, rule := range role.Rules {
					for j, resource := range rule.Resources {
						t.Run(resource, func(t *testing.T) {
							t.Parallel()
							less := role.DeepCopy()
							less.Rules[i].Resources = slices.Delete(less.Rules[i].Resources, j, j+1)
							p := p
							p.config.Kubeconfig = c.withRole(t, p.name+"-without-"+resource, less.Rules)
							p.read(t, c, []string{"refuses to tell", "resource=" + resource + " "})
						})
					}
				}
			})
		})
	}
}

// withRole makes a service account with these rules and returns a kubeconfig of it.
func (c *cluster) withRole(t *testing.T, name string, rules []rbacv1.PolicyRule) string {
	t.Helper()
	rules = slices.DeleteFunc(rules, func(r rbacv1.PolicyRule) bool { return len(r.Resources) == 0 }) // for nothing: not valid
	const group = "rbac.authorization.k8s.io"
	c.Create("/api/v1/namespaces/parallax/serviceaccounts", map[string]any{"metadata": map[string]any{"name": name}})
	c.Create("/apis/"+group+"/v1/clusterroles", map[string]any{"metadata": map[string]any{"name": name}, "rules": rules})
	c.Create("/apis/"+group+"/v1/clusterrolebindings", map[string]any{
		"metadata": map[string]any{"name": name},
		"roleRef":  map[string]any{"apiGroup": group, "kind": "ClusterRole", "name": name},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": name, "namespace": "parallax"}},
	})
	until(t, "the role is in force", func() error {
		last := rules[len(rules)-1]
		if !c.may(t, name, last.APIGroups[0], last.Resources[0], "watch") {
			return errors.New("not yet")
		}
		return nil
	})
	return c.account(t, name)
}

// populate makes one object of each kind that is read; all of them meet in one pod's name.
func (c *cluster) populate() {
	yes := true
	owner := func(api, kind, name string) []metav1.OwnerReference {
		return []metav1.OwnerReference{{APIVersion: api, Kind: kind, Name: name, UID: "1", Controller: &yes}}
	}
	named := func(name string, owners ...metav1.OwnerReference) map[string]any {
		return map[string]any{"name": name, "ownerReferences": owners}
	}
	labels := map[string]any{"app": "cart"}
	pod := func(restart string) map[string]any {
		return map[string]any{"nodeName": "n1", "restartPolicy": restart, "containers": []any{map[string]any{"name": "c", "image": "i"}}}
	}
	c.Create("/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": "shop", "labels": map[string]any{"team": "blue"}}})
	c.Create("/api/v1/nodes", map[string]any{"metadata": map[string]any{"name": "n1"}})
	c.Patch("/api/v1/nodes/n1/status", map[string]any{"status": map[string]any{"addresses": []any{map[string]any{"type": "InternalIP", "address": "10.1.9.1"}}}})
	c.Create("/apis/apps/v1/namespaces/shop/replicasets", map[string]any{
		"metadata": named("cart-5", owner("apps/v1", "Deployment", "cart")...),
		"spec":     map[string]any{"selector": map[string]any{"matchLabels": labels}, "template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": pod("Always")}},
	})
	c.Create("/apis/batch/v1/namespaces/shop/jobs", map[string]any{
		"metadata": named("tidy-7", owner("batch/v1", "CronJob", "tidy")...),
		"spec":     map[string]any{"template": map[string]any{"spec": pod("Never")}},
	})
	for name, p := range map[string]struct {
		ip, restart string
		owner       []metav1.OwnerReference
	}{"cart-5-x": {"10.1.0.1", "Always", owner("apps/v1", "ReplicaSet", "cart-5")}, "tidy-7-x": {"10.1.0.2", "Never", owner("batch/v1", "Job", "tidy-7")}} {
		c.Create("/api/v1/namespaces/shop/pods", map[string]any{"metadata": named(name, p.owner...), "spec": pod(p.restart)})
		c.Patch("/api/v1/namespaces/shop/pods/"+name+"/status", map[string]any{"status": map[string]any{"phase": "Running", "podIP": p.ip, "podIPs": []any{map[string]any{"ip": p.ip}}}})
	}
	c.Create("/api/v1/namespaces/shop/services", map[string]any{
		"metadata": map[string]any{"name": "cart"}, "spec": map[string]any{"clusterIP": "10.96.0.77", "selector": labels, "ports": []any{map[string]any{"port": 80}}},
	})
	c.Create("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", map[string]any{
		"metadata": map[string]any{"name": "cart-a", "labels": map[string]any{"kubernetes.io/service-name": "cart"}}, "addressType": "IPv4",
		"endpoints": []any{map[string]any{"addresses": []any{"10.1.0.1"}, "targetRef": map[string]any{"kind": "Pod", "name": "cart-5-x", "namespace": "shop"}}},
	})
	c.Create("/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies", map[string]any{
		"metadata": map[string]any{"name": "deny"}, "spec": map[string]any{"podSelector": map[string]any{}, "policyTypes": []any{"Ingress"}},
	})
}

// told is what a part read.
type told struct {
	mu       sync.Mutex
	log      bytes.Buffer
	objects  map[meta.Key]*meta.Object
	policies []policy.Policy
}

// Write takes a line of the log.
func (s *told) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// read runs what p runs until it has told all, or its log says all of want in one line. It returns the log.
func (p part) read(t *testing.T, c *cluster, want []string) string {
	t.Helper()
	got := &told{objects: map[meta.Key]*meta.Object{}}
	cfg := p.config
	cfg.Logger = slog.New(slog.NewTextHandler(got, nil))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	source := kube.New(cfg)
	wg.Go(func() {
		if err := source.Watch(ctx, got.update); err != nil {
			t.Error(err)
		}
	})
	if p.policies {
		wg.Go(func() {
			if err := kube.Policies(cfg).WatchPolicies(ctx, got.setPolicies); err != nil {
				t.Error(err)
			}
		})
	}
	until(t, "what is read", func() error {
		got.mu.Lock()
		defer got.mu.Unlock()
		if want != nil {
			return logged(got.log.String(), want)
		}
		return got.complete(p)
	})
	if want == nil {
		until(t, "all is read", func() error {
			select {
			case <-source.Synced():
				return nil
			default:
				return errors.New("something is refused")
			}
		})
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	return got.log.String()
}

func (s *told) update(u meta.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Object != nil && !u.Deleted {
		s.objects[u.Object.Key()] = u.Object
	}
}

func (s *told) setPolicies(all []policy.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies = all
}

func logged(log string, want []string) error {
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(line, w) }) {
			return nil
		}
	}
	return fmt.Errorf("no line with %q in the log:\n%s", want, log)
}

// complete says what is still missing of what populate made.
func (s *told) complete(p part) error {
	cart := s.objects[meta.Key{Kind: meta.Pod, Namespace: "shop", Name: "cart-5-x"}]
	tidy := s.objects[meta.Key{Kind: meta.Pod, Namespace: "shop", Name: "tidy-7-x"}]
	service := s.objects[meta.Key{Kind: meta.Service, Namespace: "shop", Name: "cart"}]
	node := s.objects[meta.Key{Kind: meta.Node, Name: "n1"}]
	space := s.objects[meta.Key{Kind: meta.Namespace, Name: "shop"}]
	switch {
	case cart == nil || cart.Workload != "cart" || tidy == nil || tidy.Workload != "tidy":
		return fmt.Errorf("pods: %+v %+v", cart, tidy)
	case !slices.Equal(cart.Services, []string{"cart"}):
		return fmt.Errorf("services of the pod: %q", cart.Services)
	case service == nil || !slices.Contains(service.Addrs, netip.MustParseAddr("10.96.0.77")):
		return fmt.Errorf("service: %+v", service)
	case node == nil || len(node.Addrs) != 1:
		return fmt.Errorf("node: %+v", node)
	case space == nil || space.Labels["team"] != "blue":
		return fmt.Errorf("namespace: %+v", space)
	case p.policies && len(s.policies) != 1:
		return fmt.Errorf("policies: %v", s.policies)
	}
	return nil
}

// account returns a kubeconfig that speaks for a service account, with a token as a pod gets it.
func (c *cluster) account(t *testing.T, name string) string {
	t.Helper()
	ask := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": map[string]any{"name": name}, "spec": map[string]any{"expirationSeconds": int64(3600)},
	}}
	got, err := c.resource("ServiceAccount", "parallax").Create(t.Context(), ask, metav1.CreateOptions{}, "token")
	if err != nil {
		t.Fatal(err)
	}
	token, _, _ := unstructured.NestedString(got.Object, "status", "token")
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": name}}},
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": c.config.Host, "certificate-authority": c.config.CAFile}}},
		"users":    []any{map[string]any{"name": name, "user": map[string]any{"token": token}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *cluster) role(t *testing.T, name string) *rbacv1.ClusterRole {
	t.Helper()
	got, err := c.resource("ClusterRole", "").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return asRole(t, got)
}

func asRole(t *testing.T, o *unstructured.Unstructured) *rbacv1.ClusterRole {
	t.Helper()
	var role rbacv1.ClusterRole
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
		t.Fatal(err)
	}
	return &role
}

// may asks the API server's own authorizer.
func (c *cluster) may(t *testing.T, account, group, resource, verb string) bool {
	t.Helper()
	ask := map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": map[string]any{
			"user":               "system:serviceaccount:parallax:" + account,
			"groups":             []any{"system:serviceaccounts", "system:serviceaccounts:parallax", "system:authenticated"},
			"resourceAttributes": map[string]any{"group": group, "resource": resource, "verb": verb},
		},
	}
	got, err := c.resource("SubjectAccessReview", "").Create(t.Context(), &unstructured.Unstructured{Object: ask}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	allowed, _, _ := unstructured.NestedBool(got.Object, "status", "allowed")
	return allowed
}

// least looks for rights that nobody needs.
func (c *cluster) least(t *testing.T, account string) {
	for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "bind", "escalate"} {
		for _, r := range [][2]string{
			{"", "pods"}, {"", "nodes"}, {"", "namespaces"}, {"", "services"}, {"", "secrets"}, {"", "configmaps"}, {"", "serviceaccounts"},
			{"", "pods/exec"}, {"", "pods/log"}, {"", "nodes/proxy"}, {"apps", "replicasets"}, {"apps", "deployments"}, {"apps", "daemonsets"}, {"batch", "jobs"},
			{"discovery.k8s.io", "endpointslices"}, {"networking.k8s.io", "networkpolicies"}, {"rbac.authorization.k8s.io", "clusterroles"},
		} {
			reads := slices.Contains([]string{"pods", "nodes", "namespaces", "services", "replicasets", "jobs", "endpointslices"}, r[1]) ||
				r[1] == "networkpolicies" && account == "parallax-collector"
			want := reads && (verb == "list" || verb == "watch")
			if got := c.may(t, account, r[0], r[1], verb); got != want {
				t.Errorf("%s may %s %s: %v", account, verb, r[1], got)
			}
		}
	}
}

// TestDocumentedRole holds the role in docs/install.md, for parallax up and for collectors outside of a cluster, to what
// the chart gives collector and relay together.
func TestDocumentedRole(t *testing.T) {
	text, err := os.ReadFile("../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n"
	_, documented, _ := strings.Cut(string(text), "```yaml\n"+begin)
	documented, _, _ = strings.Cut(documented, "```")
	got := asRole(t, objects(t, []byte(begin+documented))[0])
	want := map[string]bool{}
	for _, o := range objects(t, render(t, "collector.policy.mode=enforce")) {
		if o.GetKind() == "ClusterRole" {
			for r := range rights(asRole(t, o)) {
				want[r] = true
			}
		}
	}
	if diff := cmp.Diff(want, rights(got)); diff != "" {
		t.Errorf("chart and docs/install.md (-, +): %s", diff)
	}
}

// rights are the single permissions in a role.
func rights(role *rbacv1.ClusterRole) map[string]bool {
	all := map[string]bool{}
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					all[group+"/"+resource+" "+verb] = true
				}
			}
		}
	}
	return all
}
