package kube

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/internal/kubetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is an API server with what a source told of it.
type cluster struct {
	*testing.T
	*kubetest.Server

	mu     sync.Mutex
	log    bytes.Buffer
	source *Source // that watch made last
}

// Write takes a line of the log.
func (c *cluster) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(b)
}

func (c *cluster) logged() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

// newCluster starts a server with a namespace, shop, in it.
func newCluster(t *testing.T) *cluster {
	c := &cluster{T: t, Server: kubetest.Start(t)}
	c.AllowDocumented()
	c.Create("/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": "shop", "labels": map[string]any{"team": "blue"}}})
	return c
}

// watch feeds a new directory from a source until the test ends.
func (c *cluster) watch(cfg Config) *meta.Directory {
	c.Helper()
	cfg.Kubeconfig, cfg.Logger = c.Kubeconfig(), slog.New(slog.NewTextHandler(c, nil))
	d := meta.NewDirectory(meta.Config{Node: cfg.Node})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	c.source = New(cfg)
	go func() { done <- d.Run(ctx, c.source) }()
	c.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.Error(err)
		}
	})
	return d
}

// owned creates an owner and returns how a pod, or another owner, refers to it.
func (c *cluster) owned(collection, kind, name string, by ...metav1.OwnerReference) metav1.OwnerReference {
	c.Helper()
	labels := map[string]string{"app": name}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	spec := map[string]any{"selector": map[string]any{"matchLabels": labels}, "template": template}
	switch kind {
	case "Job":
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		spec = map[string]any{"template": template}
	case "CronJob":
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		spec = map[string]any{"schedule": "@daily", "jobTemplate": map[string]any{"spec": map[string]any{"template": template}}}
	}
	c.Create(collection, map[string]any{"metadata": metav1.ObjectMeta{Name: name, OwnerReferences: by}, "spec": spec})
	api, _, _ := strings.Cut(strings.TrimPrefix(collection, "/apis/"), "/namespaces")
	yes := true
	return metav1.OwnerReference{APIVersion: api, Kind: kind, Name: name, UID: "0b7c9d6e-0000-4000-8000-000000000000", Controller: &yes}
}

const (
	podsPath = "/api/v1/namespaces/shop/pods"
	apps     = "/apis/apps/v1/namespaces/shop/"
	batch    = "/apis/batch/v1/namespaces/shop/"
)

// run creates a pod that runs on node with this address.
func (c *cluster) run(name, node, ip string, labels map[string]string, by ...metav1.OwnerReference) {
	c.Helper()
	c.create(name, node, ip, labels, false, by...)
}

func (c *cluster) create(name, node, ip string, labels map[string]string, hostNetwork bool, by ...metav1.OwnerReference) {
	c.Helper()
	c.Create(podsPath, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, OwnerReferences: by, Annotations: map[string]string{"long": "text"}},
		Spec: corev1.PodSpec{NodeName: node, HostNetwork: hostNetwork, Containers: []corev1.Container{{
			Name: "c", Image: "i", Env: []corev1.EnvVar{{Name: "SECRET", Value: "x"}},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 9090}},
		}}},
	})
	c.Patch(podsPath+"/"+name+"/status", map[string]any{"status": map[string]any{"phase": "Running", "podIP": ip, "podIPs": []any{map[string]any{"ip": ip}}}})
}

func (c *cluster) finish(name string) {
	c.Helper()
	c.Patch(podsPath+"/"+name+"/status", map[string]any{"status": map[string]any{"phase": "Succeeded"}})
}

func lookup(d *meta.Directory, ip string) *flow.Endpoint {
	return d.Lookup(flow.AddrFrom(netip.MustParseAddr(ip)), time.Now().UnixNano())
}

// eventually waits until d names ip as want; its identity and cluster are not compared.
func eventually(t *testing.T, d *meta.Directory, ip string, want *flow.Endpoint) {
	t.Helper()
	same := cmpopts.IgnoreFields(flow.Endpoint{}, "Identity")
	await(t, func() string { return cmp.Diff(want, lookup(d, ip), same) })
}

// await waits until wrong returns nothing.
func await(t *testing.T, wrong func() string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		diff := wrong()
		if diff == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", diff)
		}
	}
}

func pod(name, workload, kind, node string, labels ...string) *flow.Endpoint {
	return &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: name, Workload: workload, WorkloadKind: kind, NodeName: node, Cluster: "test", Labels: labels}
}

func TestNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	deployment := c.owned(apps+"deployments", "Deployment", "cart")
	replicaSet := c.owned(apps+"replicasets", "ReplicaSet", "cart-6b7f", deployment)
	bare := c.owned(apps+"replicasets", "ReplicaSet", "bare")
	cron := c.owned(batch+"cronjobs", "CronJob", "report")
	job := c.owned(batch+"jobs", "Job", "report-28", cron)
	daemon := c.owned(apps+"daemonsets", "DaemonSet", "agent")
	hash := map[string]string{"app": "cart", "pod-template-hash": "6b7f"}
	c.run("cart-1", "n1", "10.1.0.1", hash, replicaSet)
	c.run("bare-1", "n1", "10.1.0.2", nil, bare)
	c.run("report-28-x", "n2", "10.1.0.3", nil, job)
	c.run("agent-1", "n2", "fd00::4", nil, daemon)
	c.run("alone", "n2", "10.1.0.5", nil)
	unread := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-77aa", UID: "1", Controller: replicaSet.Controller}
	c.run("web-1", "n1", "10.1.0.6", map[string]string{"pod-template-hash": "77aa"}, unread)
	c.create("proxy", "n1", "192.168.7.1", nil, true)
	c.Create("/api/v1/nodes", map[string]any{"metadata": map[string]any{"name": "n1"}, "status": map[string]any{
		"addresses": []any{map[string]any{"type": "InternalIP", "address": "192.168.7.1"}, map[string]any{"type": "Hostname", "address": "n1"}},
	}})
	c.Create("/api/v1/namespaces/shop/services", map[string]any{
		"metadata": map[string]any{"name": "cart"},
		"spec":     map[string]any{"clusterIP": "10.96.3.4", "ports": []any{map[string]any{"port": 80}}},
	})

	d := c.watch(Config{AllPods: true, Node: "n1", Cluster: "test"})
	for ip, want := range map[string]*flow.Endpoint{
		"10.1.0.1":    pod("cart-1", "cart", "Deployment", "n1", "app=cart", "pod-template-hash=6b7f"),
		"10.1.0.2":    pod("bare-1", "bare", "ReplicaSet", "n1"),
		"10.1.0.3":    pod("report-28-x", "report", "CronJob", "n2"),
		"fd00::4":     pod("agent-1", "agent", "DaemonSet", "n2"),
		"10.1.0.5":    pod("alone", "alone", "Pod", "n2"),
		"10.1.0.6":    pod("web-1", "web", "Deployment", "n1", "pod-template-hash=77aa"),
		"10.96.3.4":   {Kind: flow.EndpointService, Namespace: "shop", Name: "cart", Cluster: "test"},
		"192.168.7.1": {Kind: flow.EndpointHost, Name: "n1", NodeName: "n1", Cluster: "test"},
	} {
		eventually(t, d, ip, want)
	}
	await(t, func() string { return cmp.Diff(7, d.Len(meta.Pod)) })
	for _, o := range d.Objects(meta.Pod) {
		if diff := cmp.Diff([]meta.Port{{Name: "http", Number: 8080, Proto: flow.ProtoTCP}}, o.Ports); diff != "" {
			t.Errorf("ports of %s: %s", o.Name, diff)
		}
	}
	await(t, func() string {
		labels := map[string]string{}
		for _, o := range d.Objects(meta.Namespace) {
			labels[o.Name] = o.Labels["team"]
		}
		return cmp.Diff("blue", labels["shop"])
	})

	// What comes after: an owner that is told later than its pod, labels that change, a service that goes.
	late := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "late-1", UID: "1", Controller: replicaSet.Controller}
	c.run("late-1-x", "n1", "10.1.0.7", nil, late)
	eventually(t, d, "10.1.0.7", pod("late-1-x", "late-1", "Job", "n1"))
	c.owned(batch+"jobs", "Job", "late-1", cron)
	eventually(t, d, "10.1.0.7", pod("late-1-x", "report", "CronJob", "n1"))
	c.Patch(podsPath+"/alone", map[string]any{"metadata": map[string]any{"labels": map[string]any{"v": "2"}}})
	eventually(t, d, "10.1.0.5", pod("alone", "alone", "Pod", "n2", "v=2"))
	c.Delete("/api/v1/namespaces/shop/services/cart")
	await(t, func() string { return cmp.Diff(0, len(named(d.Objects(meta.Service), "cart"))) })
	if got := c.logged(); got != "" {
		t.Errorf("logged: %s", got)
	}
}

// named returns the objects with that name.
func named(list []*meta.Object, name string) (found []*meta.Object) {
	for _, o := range list {
		if o.Name == name {
			found = append(found, o)
		}
	}
	return found
}

func TestOwnNodeAndAddressReuse(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.run("here", "n1", "10.1.0.1", nil)
	c.run("there", "n2", "10.1.0.2", nil)
	d := c.watch(Config{Node: "n1", Cluster: "test"})
	eventually(t, d, "10.1.0.1", pod("here", "here", "Pod", "n1"))

	// A pod that finished keeps its object and its address in there; the address may be another's already.
	before := time.Now().UnixNano()
	c.finish("here")
	await(t, func() string { return cmp.Diff(0, d.Len(meta.Pod)) })
	between := time.Now().UnixNano()
	c.run("next", "n1", "10.1.0.1", nil)
	eventually(t, d, "10.1.0.1", pod("next", "next", "Pod", "n1"))
	at := func(ns int64) string { return d.Lookup(flow.AddrFrom(netip.MustParseAddr("10.1.0.1")), ns).Pod }
	if diff := cmp.Diff([]string{"here", "next"}, []string{at(before), at(between)}); diff != "" {
		t.Errorf("owners by time: %s", diff)
	}

	// The same by deletion, and by a pod of the same name with another address.
	c.Delete(podsPath + "/next")
	await(t, func() string { return cmp.Diff(0, d.Len(meta.Pod)) })
	c.run("next", "n1", "10.1.0.3", nil)
	eventually(t, d, "10.1.0.3", pod("next", "next", "Pod", "n1"))
	c.run("third", "n1", "10.1.0.1", nil)
	eventually(t, d, "10.1.0.1", pod("third", "third", "Pod", "n1"))

	// All that was told until here came in order of one watch, so a pod of another node would be there.
	if d.Len(meta.Pod) != 2 || lookup(d, "10.1.0.2") != nil {
		t.Errorf("%d pods: one of another node is known", d.Len(meta.Pod))
	}
}

func TestServerRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.run("a", "n1", "10.1.0.1", nil)
	c.run("b", "n1", "10.1.0.2", nil)
	d := c.watch(Config{AllPods: true, Cluster: "test"})
	eventually(t, d, "10.1.0.1", pod("a", "a", "Pod", "n1"))
	eventually(t, d, "10.1.0.2", pod("b", "b", "Pod", "n1"))

	c.StopAPI()
	await(t, func() string { return missingIn(c.logged(), "is away") })
	if e := lookup(d, "10.1.0.1"); e == nil || e.Pod != "a" {
		t.Errorf("a name is lost with the server: %v", e)
	}
	c.StartAPI()
	c.Delete(podsPath + "/b")
	c.run("c", "n1", "10.1.0.3", nil)
	eventually(t, d, "10.1.0.3", pod("c", "c", "Pod", "n1"))
	await(t, func() string { return cmp.Diff(2, d.Len(meta.Pod)) })
	await(t, func() string { return missingIn(c.logged(), "is back") })
	if n := strings.Count(c.logged(), "is away"); n != 1 {
		t.Errorf("one outage is told %d times:\n%s", n, c.logged())
	}
}

func missingIn(text, part string) string {
	if strings.Contains(text, part) {
		return ""
	}
	return "no " + part + " in the log: " + text
}

// TestWithoutRights reads what it may and tells what it may not.
func TestWithoutRights(t *testing.T) {
	t.Parallel()
	c := &cluster{T: t, Server: kubetest.Start(t)}
	d := c.watch(Config{Node: "n1", Cluster: "test"})
	for _, r := range resources {
		await(t, func() string { return missingIn(c.logged(), "resource="+string(r)) })
	}
	c.Create("/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": "shop"}})
	c.run("a", "n1", "10.1.0.1", nil)
	select {
	case <-c.source.Synced():
		t.Error("it says that it has told everything, and may not read anything")
	default:
	}
	c.AllowDocumented()
	await(t, func() string {
		select {
		case <-c.source.Synced():
			return ""
		default:
			return "it does not say that it has told everything"
		}
	})
	if lookup(d, "10.1.0.1") == nil {
		t.Error("it says that it has told everything, and a pod is missing")
	}
	eventually(t, d, "10.1.0.1", pod("a", "a", "Pod", "n1"))
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no file", Config{Node: "n", Kubeconfig: dir + "/none"}, "kubeconfig " + dir + "/none: "},
		{"a folder", Config{Node: "n", Kubeconfig: dir}, "choose another with --kubernetes PATH"},
		{"no node", Config{Kubeconfig: dir}, "whose pods"},
		{"not in a pod", Config{Node: "n"}, "choose a kubeconfig with --kubernetes PATH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, err := range []error{tt.cfg.Validate(), New(tt.cfg).Watch(t.Context(), func(meta.Update) { t.Error("told something") })} {
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want %q in one line", err, tt.want)
				}
			}
		})
	}
	if InCluster() {
		t.Error("this is no pod")
	}
}
