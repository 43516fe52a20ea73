package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"

	"github.com/parallax-flow/parallax/deploy/lab"
	"github.com/parallax-flow/parallax/internal/kubetest/apiserver"
)

// needKubernetes skips a test where it cannot run; under CI it fails.
func needKubernetes(t *testing.T) {
	t.Helper()
	needRoot(t)
	_, err := apiserver.Find()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// TestKubernetesLab runs the lab in a real Kubernetes API server, a collector on each of its nodes and a relay, as a cluster
// does, with exactly the rights that the chart gives them: each collector knows the pods of its own node, the relay fills in
// the other side, and a crash of the server costs no name.
func TestKubernetesLab(t *testing.T) {
	needKubernetes(t)
	p := newProduct(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l, stopLab := startKubernetesLab(ctx, t, p.bin)
	k := &kubernetesLab{product: p, client: l.Client(ctx)}
	admin, err := k.client.Kubernetes()
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	accounts := chartAccounts(ctx, t, admin, l.Kubeconfig())
	relay := startCommand(t, p.bin, "relay", "--storage", "memory:", "--listen", p.observer, "--ingest-listen", p.ingest, "--relay-metrics", p.rMet,
		"--kubernetes", accounts["parallax-relay"], "--cluster", lab.ClusterName)
	p.log = relay.log
	all := []*command{relay}
	for _, n := range l.Nodes() {
		all = append(all, startCommand(t, p.bin, "collector", "--relay", p.ingest, "--node-name", n.Name, "--netns", n.NetNS,
			"--collector-listen", "", "--collector-metrics", "", "--kubernetes", accounts["parallax-collector"], "--cluster", lab.ClusterName))
	}
	for _, c := range all[1:] {
		p.eventually("the collector observes", func() error { return c.says("collector observes") })
	}
	k.testNames(ctx, t)
	visitor := k.client.Layout().Find("visitor.example.org")
	if e := k.newest(t, visitor.Addr.String()); e.GetPodName() != "" {
		t.Errorf("a visitor from the world is %v", e)
	}

	if err := k.client.KillKubernetes(); err != nil {
		t.Fatal(err)
	}
	k.testNames(ctx, t)
	k.addPod(ctx, t, "visitor-x", visitor)
	p.eventually("the new pod has its name", func() error {
		if e := k.newest(t, visitor.Addr.String()); e.GetPodName() != "visitor-x" || workload(e) != "edge/visitor-x" {
			return fmt.Errorf("it is %v", e)
		}
		return nil
	})
	k.testNames(ctx, t)
	all[2].stop()
	all = append(all[:2:2], k.testFiles(ctx, t, admin, l.Nodes()[1]))
	for i := range all { // collectors last: what the relay does not know yet they keep
		c := all[len(all)-1-i]
		c.stop()
		for text, most := range map[string]int{"is away": 1, "refuses": 0} {
			if n := strings.Count(c.log.String(), text); n > most {
				t.Errorf("%q is logged %d times:\n%s", text, n, c.log.String())
			}
		}
	}
	stopLab()
}

// startKubernetesLab runs the lab in this process until stop is called, and looks that nothing is left of it.
func startKubernetesLab(ctx context.Context, t *testing.T, bin string) (l *lab.Lab, stop func()) {
	t.Helper()
	const dir = "/run/parallax/e2e-kube" // of its own, so that a demo may run beside
	if err := lab.Clean(dir); err != nil {
		t.Fatal(err)
	}
	log := &output{}
	l = lab.New(lab.Config{Dir: dir, Kubernetes: true, Pod: []string{bin, labPod}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want it gone\n%s", dir, err, log.String())
		}
	})
	t.Cleanup(stop)
	select {
	case <-l.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("the lab ended: %v\n%s", err, log.String())
	}
	return l, stop
}

// command is a subcommand that runs.
type command struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *output
	stop func() // as Ctrl-C does
}

func startCommand(t *testing.T, bin string, args ...string) *command {
	t.Helper()
	c := &command{t: t, cmd: exec.Command(bin, args...), log: &output{}}
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.stop = sync.OnceFunc(func() {
		_ = c.cmd.Process.Signal(os.Interrupt) // has ended already: Wait tells
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("parallax %s: %v\n%s", args[0], err, c.log.String())
		}
	})
	t.Cleanup(c.stop)
	return c
}

func (c *command) says(text string) error {
	if !strings.Contains(c.log.String(), text) {
		return fmt.Errorf("%s does not say %q:\n%s", c.cmd.Args[1], text, c.log.String())
	}
	return nil
}

// TestDemoKubernetes runs the demo with its API server: the names and the policies that are enforced come from there.
func TestDemoKubernetes(t *testing.T) {
	needKubernetes(t)
	p := newProduct(t)
	const dir = "/run/parallax/e2e-demokube"
	if err := lab.Clean(dir); err != nil {
		t.Fatal(err)
	}
	p.start("--demo", "--demo-kubernetes", "--demo-dir", dir, "--storage", "memory:")
	p.waitObserving()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	client, err := lab.Attach(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	k := &kubernetesLab{product: p, client: client}
	k.testDrop(ctx, t)
	k.testPolicy(ctx, t)
	p.stop()
	if left := footprint(t, "plx-"+client.Layout().ID); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

type kubernetesLab struct {
	*product
	client *lab.Client
	named  float64
}

// testNames makes a request from one node to the other and finds it once, with the names, workloads and services of both
// sides: no collector knows both.
func (k *kubernetesLab) testNames(ctx context.Context, t *testing.T) {
	t.Helper()
	token := "tok" + strings.ToLower(rand.Text()[:10])
	x, err := k.client.Do(ctx, "shop/frontend", "GET", "http://checkout.shop.svc.cluster.local:8080/e2e/"+token+"/200")
	if err != nil || x.Status != 200 {
		t.Fatalf("request: %+v, %v", x, err)
	}
	var flows []*flowpb.Flow
	k.eventually("the request is seen", func() error {
		if flows = k.observe(t, "--http-path", token); len(flows) == 0 {
			return errors.New("it is not there")
		}
		return nil
	})
	if len(flows) != 1 {
		t.Fatalf("one request is told %d times: %v", len(flows), flows)
	}
	checkExchange(t, flows[0], "shop/frontend", "shop/checkout", "GET", 200)
	layout := k.client.Layout()
	for role, e := range map[string]*flowpb.Endpoint{"shop/checkout": flows[0].GetSource(), "shop/frontend": flows[0].GetDestination()} {
		want := layout.Find(role)
		if e.GetPodName() != want.Name || e.GetClusterName() != lab.ClusterName || e.GetWorkloads()[0].GetKind() != "Deployment" {
			t.Errorf("%s is %v, want pod %s", role, e, want.Name)
		}
	}
	if s := flows[0].GetSourceService(); s.GetNamespace() != "shop" || s.GetName() != "checkout" {
		t.Errorf("service %v, want shop/checkout", s)
	}
	now := k.namedByRelay(t)
	if now <= k.named {
		t.Errorf("the relay named nobody: %v, before %v", now, k.named)
	}
	k.named = now
}

// testFiles runs the node's collector without an API server: names and policies come from files, as kubectl makes them, and
// where its pods are it finds by their processes. It audits: what would be denied is said, with the policies, and passes.
func (k *kubernetesLab) testFiles(ctx context.Context, t *testing.T, api *apiserver.Client, node lab.Node) *command {
	t.Helper()
	const port = 23471
	dir := t.TempDir()
	for name, path := range map[string]string{
		"pods": "/api/v1/pods", "namespaces": "/api/v1/namespaces", "nodes": "/api/v1/nodes", "services": "/api/v1/services",
		"endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
	} {
		code, list, err := api.Do(ctx, http.MethodGet, path, "", nil)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".json"), list, 0o600)
		}
		if err != nil || code != http.StatusOK {
			t.Fatalf("GET %s: %d, %v", path, code, err)
		}
	}
	policies := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(policies, lab.Policies(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCommand(t, k.bin, "collector", "--relay", k.ingest, "--node-name", node.Name, "--netns", node.NetNS, "--cluster", lab.ClusterName,
		"--collector-listen", "", "--collector-metrics", "", "--kubernetes", "off", "--inventory", dir, "--policies", policies, "--policy-mode", "audit")
	k.eventually("the collector audits", func() error { return c.says("collector observes") })
	if _, err := k.client.Connect(ctx, "shop/recommend", "postgres.data.svc.cluster.local:5432", port); err != nil {
		t.Errorf("an audited connection: %v", err)
	}
	k.eventually("the audited connection is seen", func() error {
		flows := k.observe(t, "--verdict", "AUDIT", "--from-port", strconv.Itoa(port))
		if len(flows) != 1 {
			return fmt.Errorf("%d verdicts\n%s", len(flows), c.log.String())
		}
		if f := flows[0]; workload(f.GetSource()) != "shop/recommend" || workload(f.GetDestination()) != "data/postgres" ||
			f.GetSummary() != "audit, would be "+because {
			return fmt.Errorf("%s -> %s: %s", workload(f.GetSource()), workload(f.GetDestination()), f.GetSummary())
		}
		return nil
	})
	return c
}

// testDrop: a drop in a pod's network namespace is its node's, so the collectors know where their pods are.
func (k *kubernetesLab) testDrop(ctx context.Context, t *testing.T) {
	t.Helper()
	const port = 23461
	if _, err := k.client.Connect(ctx, "shop/checkout", "legacy.shop.svc.cluster.local:"+strconv.Itoa(lab.LegacyPort), port); err == nil {
		t.Fatal("a closed port took a connection")
	}
	k.eventually("the drop is seen", func() error {
		drops := k.observe(t, "--type", "drop", "--from-port", strconv.Itoa(port))
		if len(drops) != 1 {
			return fmt.Errorf("%d drops", len(drops))
		}
		if d := drops[0]; workload(d.GetSource()) != "shop/checkout" || workload(d.GetDestination()) != "shop/legacy" || d.GetNodeName() != "lab/node-a" {
			return fmt.Errorf("a drop from %s to %s at %s", workload(d.GetSource()), workload(d.GetDestination()), d.GetNodeName())
		}
		return nil
	})
}

// testPolicy: what the API server's policies deny is denied, until one is changed there.
func (k *kubernetesLab) testPolicy(ctx context.Context, t *testing.T) {
	t.Helper()
	connect := func() error {
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_, err := k.client.Connect(short, "shop/recommend", "postgres.data.svc.cluster.local:5432", 0)
		return err
	}
	k.eventually("the policies of the API server are in force", func() error {
		if connect() == nil {
			return errors.New("a denied connection passed")
		}
		return nil
	})
	k.eventually("the denial is seen with its policies", func() error {
		text := k.cli(t, "observe", "--since", "10m", "--type", "drop", "-o", "json", "--to-workload", "data/postgres", "--last", "1")
		for _, want := range []string{"POLICY_DENIED", "postgres-from-checkout", "default-deny"} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("no %s in %s", want, text)
			}
		}
		return nil
	})
	api, err := k.client.Kubernetes()
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	if err := api.Patch(ctx, "/apis/networking.k8s.io/v1/namespaces/data/networkpolicies/postgres-from-checkout", map[string]any{
		"spec": map[string]any{"ingress": []any{map[string]any{"ports": []any{map[string]any{"port": "postgres"}}}}},
	}); err != nil {
		t.Fatal(err)
	}
	k.eventually("the changed policy is in force", connect)
}

// namedByRelay reads how many endpoints the relay filled in.
func (k *kubernetesLab) namedByRelay(t *testing.T) float64 {
	t.Helper()
	resp, err := http.Get("http://" + k.rMet + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "parallax_relay_named_endpoints_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no parallax_relay_named_endpoints_total")
	return 0
}

// newest returns who has an address by its newest flow.
func (k *kubernetesLab) newest(t *testing.T, ip string) *flowpb.Endpoint {
	t.Helper()
	var newest *flowpb.Endpoint
	k.eventually("a flow of "+ip, func() error {
		flows := k.observe(t, "--ip", ip, "--last", "1")
		if len(flows) == 0 {
			return errors.New("none")
		}
		f := flows[len(flows)-1]
		if newest = f.GetSource(); f.GetIP().GetDestination() == ip {
			newest = f.GetDestination()
		}
		return nil
	})
	return newest
}

// addPod waits for the API server and makes a pod object of a host of the lab, on a node that nobody observes.
func (k *kubernetesLab) addPod(ctx context.Context, t *testing.T, name string, host *lab.Endpoint) {
	t.Helper()
	api, err := k.client.Kubernetes()
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	if err := api.WaitReady(ctx, nil); err != nil {
		t.Fatal(err)
	}
	const pods = "/api/v1/namespaces/edge/pods"
	if _, err := api.Create(ctx, pods, map[string]any{
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"nodeName": "node-elsewhere", "containers": []any{map[string]any{"name": "c", "image": "i"}}},
	}); err != nil {
		t.Fatal(err)
	}
	ip := host.Addr.String()
	if err := api.Patch(ctx, pods+"/"+name+"/status", map[string]any{"status": map[string]any{
		"phase": "Running", "podIP": ip, "podIPs": []any{map[string]any{"ip": ip}},
	}}); err != nil {
		t.Fatal(err)
	}
}

// TestDemoKubernetesWithoutServer says in one line how to get the API server.
func TestDemoKubernetesWithoutServer(t *testing.T) {
	t.Setenv("PARALLAX_CACHE", t.TempDir())
	var stdout, stderr bytes.Buffer
	code := run([]string{"up", "--demo", "--demo-kubernetes"}, &stdout, &stderr)
	line := stderr.String()
	if code != exitFailed || strings.Count(line, "\n") != 1 || !strings.Contains(line, "scripts/install-tool.sh kube-apiserver") && !strings.Contains(line, "etcd-server") {
		t.Errorf("exit %d\n%s", code, line)
	}
}
