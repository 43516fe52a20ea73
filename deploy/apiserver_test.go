package deploy

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/parallax-flow/parallax/internal/kubetest"
)

// cluster is a real API server with a client that may do everything.
type cluster struct {
	*kubetest.Server
	kubeconfig string
	config     *rest.Config
	client     dynamic.Interface
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Server: kubetest.Start(t)}
	c.Create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", map[string]any{
		"metadata": map[string]any{"name": "person"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": kubetest.User}},
	})
	c.kubeconfig = c.Kubeconfig()
	var err error
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	c.config.QPS, c.config.Burst = 200, 200
	web, err := rest.HTTPClientFor(c.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(web.CloseIdleConnections)
	if c.client, err = dynamic.NewForConfigAndClient(c.config, web); err != nil {
		t.Fatal(err)
	}
	until(t, "the role is in force", func() error {
		_, err := c.resource("Namespace", "").List(t.Context(), metav1.ListOptions{})
		return err
	})
	return c
}

// plurals are the collections of the kinds that the chart makes, and the tests.
var plurals = map[string]schema.GroupVersionResource{
	"Namespace":                {Version: "v1", Resource: "namespaces"},
	"Secret":                   {Version: "v1", Resource: "secrets"},
	"Service":                  {Version: "v1", Resource: "services"},
	"ServiceAccount":           {Version: "v1", Resource: "serviceaccounts"},
	"ConfigMap":                {Version: "v1", Resource: "configmaps"},
	"DaemonSet":                {Group: "apps", Version: "v1", Resource: "daemonsets"},
	"Deployment":               {Group: "apps", Version: "v1", Resource: "deployments"},
	"StatefulSet":              {Group: "apps", Version: "v1", Resource: "statefulsets"},
	"ClusterRole":              {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
	"ClusterRoleBinding":       {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
	"NetworkPolicy":            {Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	"ServiceMonitor":           {Group: "monitoring.coreos.com", Version: "v1", Resource: "servicemonitors"},
	"PrometheusRule":           {Group: "monitoring.coreos.com", Version: "v1", Resource: "prometheusrules"},
	"SubjectAccessReview":      {Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews"},
	"CustomResourceDefinition": {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
}

func (c *cluster) resource(kind, namespace string) dynamic.ResourceInterface {
	r := c.client.Resource(plurals[kind])
	if namespace == "" {
		return r
	}
	return r.Namespace(namespace)
}

// until waits for a condition.
func until(t *testing.T, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// dryRun has the API server say what it thinks of o: defaults, validation and admission, and no field that it does not know.
func (c *cluster) dryRun(ctx context.Context, o *unstructured.Unstructured) error {
	text, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = c.resource(o.GetKind(), o.GetNamespace()).Patch(ctx, o.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{
		DryRun: []string{metav1.DryRunAll}, FieldManager: "parallax-test", FieldValidation: metav1.FieldValidationStrict,
	})
	return err
}

// TestAPIServerAccepts applies each object of each rendering to a real API server: server-side, strict, as a dry run.
func TestAPIServerAccepts(t *testing.T) {
	c := newCluster(t)
	c.Create("/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": "parallax"}})
	c.installMonitoring(t)
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			all := objects(t, render(t, append(s.set, "dashboards.enabled=true")...))
			for _, o := range all {
				if _, known := plurals[o.GetKind()]; !known {
					t.Fatalf("%s %s: this test does not know the kind", o.GetKind(), o.GetName())
				}
				if err := c.dryRun(t.Context(), o); err != nil {
					t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
				}
			}
			t.Logf("%d objects accepted", len(all))
		})
	}
	t.Run("refuses", func(t *testing.T) { // else the above would say nothing
		for _, wrong := range [][]string{{"spec", "template", "spec", "hostNetwrok"}, {"spec", "updateStrategy", "type"}} {
			for _, o := range objects(t, render(t)) {
				if o.GetKind() != "DaemonSet" {
					continue
				}
				if err := unstructured.SetNestedField(o.Object, "sometimes", wrong...); err != nil {
					t.Fatal(err)
				}
				if err := c.dryRun(t.Context(), o); err == nil {
					t.Errorf("a DaemonSet with %v=sometimes is accepted", wrong)
				}
			}
		}
	})
}

// installMonitoring adds the Prometheus operator's kinds, of which the chart's fields only: others would be refused.
func (c *cluster) installMonitoring(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("testdata/monitoring-crds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, text) {
		if _, err := c.resource(o.GetKind(), "").Create(t.Context(), o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"ServiceMonitor", "PrometheusRule"} {
		until(t, kind+" is served", func() error {
			_, err := c.resource(kind, "parallax").List(t.Context(), metav1.ListOptions{})
			return err
		})
	}
}

// TestInstall installs, upgrades and uninstalls a release with Helm, as docs/install.md says.
func TestInstall(t *testing.T) {
	c := newCluster(t)
	run := func(args ...string) string {
		t.Helper()
		out, err := helm(t, append(args, "--namespace", "parallax", "--kubeconfig", c.kubeconfig)...)
		if err != nil {
			t.Fatalf("helm %v: %v", args, err)
		}
		return string(out)
	}
	notes := run("upgrade", "--install", "parallax", chartDir, "--create-namespace")
	for _, want := range []string{"port-forward svc/parallax-relay 12000:12000", "neither TLS nor authentication"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not say %q:\n%s", want, notes)
		}
	}
	for _, o := range objects(t, render(t)) {
		if _, err := c.resource(o.GetKind(), o.GetNamespace()).Get(t.Context(), o.GetName(), metav1.GetOptions{}); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	run("upgrade", "parallax", chartDir, "--reuse-values", "--set", "collector.policy.mode=audit")
	role, err := c.resource("ClusterRole", "").Get(t.Context(), "parallax-collector", metav1.GetOptions{})
	if err != nil || !strings.Contains(string(mustJSON(t, role)), "networkpolicies") {
		t.Errorf("role in audit mode: %v %v", role, err)
	}
	run("uninstall", "parallax")
	for _, o := range objects(t, render(t)) {
		_, err := c.resource(o.GetKind(), o.GetNamespace()).Get(t.Context(), o.GetName(), metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("%s %s is left behind: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

func mustJSON(t *testing.T, o *unstructured.Unstructured) []byte {
	t.Helper()
	text, err := o.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
