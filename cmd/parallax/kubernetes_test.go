package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"

	"github.com/parallax-flow/parallax/internal/kubetest"
)

// TestKubernetesNames runs the product beside a network namespace that an API server calls a pod, and finds the pod's name
// and workload on its real traffic.
func TestKubernetesNames(t *testing.T) {
	needKubernetes(t)
	const pods = "/api/v1/namespaces/shop/pods"
	api := kubetest.Start(t)
	api.AllowDocumented()
	api.Create("/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": "shop"}})
	api.Create(pods, map[string]any{
		"metadata": map[string]any{
			"name": "cart-6b7f-x", "labels": map[string]any{"pod-template-hash": "6b7f"},
			"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-6b7f", "uid": "1", "controller": true}},
		},
		"spec": map[string]any{"nodeName": "kubenode", "containers": []any{map[string]any{"name": "c", "image": "i"}}},
	})
	s := newKubePod(t)
	api.Patch(pods+"/cart-6b7f-x/status", map[string]any{"status": map[string]any{"phase": "Running", "podIP": s.addr, "podIPs": []any{map[string]any{"ip": s.addr}}}})

	t.Run("API server away at first", func(t *testing.T) { s.testAway(t, api) })
	t.Run("by the relay", func(t *testing.T) { s.testRelay(t, api) })
}

// testAway: what is seen before the API server answers has no names; they come with it.
func (s *kubePod) testAway(t *testing.T, api *kubetest.Server) {
	api.StopAPI()
	p := newProduct(t)
	p.start("--storage", "memory:", "--kubernetes", api.Kubeconfig(), "--node-name", "kubenode")
	p.waitObserving()
	p.eventually("a flow of the pod", func() error {
		e, err := s.seen(t, p)
		if err == nil && e.GetPodName() != "" {
			t.Errorf("named by nobody: %v", e)
		}
		return err
	})
	away := func() error {
		if n := strings.Count(p.log.String(), "is away"); n != 1 {
			return fmt.Errorf("told %d times, want once", n)
		}
		return nil
	}
	p.eventually("the outage is told", away)
	api.StartAPI()
	p.eventually("a flow of the pod by its workload", func() error { return s.named(t, p) })
	if err := away(); err != nil || strings.Contains(p.log.String(), "refuses") {
		t.Errorf("the outage: %v\n%s", err, p.log.String())
	}
	p.stop()
}

// testRelay: the collector has no names at all, the relay has.
func (s *kubePod) testRelay(t *testing.T, api *kubetest.Server) {
	p := newProduct(t)
	relay := startCommand(t, p.bin, "relay", "--storage", "memory:", "--listen", p.observer, "--ingest-listen", p.ingest, "--relay-metrics", p.rMet, "--kubernetes", api.Kubeconfig())
	p.log = relay.log
	collector := startCommand(t, p.bin, "collector", "--relay", p.ingest, "--kubernetes", "off", "--node-name", "kubenode", "--collector-listen", p.collector, "--collector-metrics", p.cMet)
	p.eventually("the collector observes", func() error { return collector.says("collector observes") })
	p.eventually("a flow of the pod by its workload", func() error { return s.named(t, p) })
	collector.stop()
	relay.stop()
}

// kubePod is a network namespace with a way to this host, and a server here that it asks.
type kubePod struct{ netns, addr, server string }

func newKubePod(t *testing.T) *kubePod {
	const host = "10.83.7.1"
	s := &kubePod{netns: "plxt-kubepod", addr: "10.83.7.2"}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	_ = exec.Command("ip", "netns", "del", s.netns).Run() // what a killed run before this one may have left
	run("ip", "netns", "add", s.netns)
	t.Cleanup(func() { run("ip", "netns", "del", s.netns) }) // takes the veth with it
	run("ip", "link", "add", "plxt-kube0", "type", "veth", "peer", "name", "eth0", "netns", s.netns)
	run("ip", "addr", "add", host+"/30", "dev", "plxt-kube0")
	run("ip", "link", "set", "plxt-kube0", "up")
	run("ip", "-n", s.netns, "addr", "add", s.addr+"/30", "dev", "eth0")
	run("ip", "-n", s.netns, "link", "set", "eth0", "up")
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = web.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = web.Close() })
	s.server = l.Addr().String()
	return s
}

// seen makes a request and returns the pod by the newest flow that it began.
func (s *kubePod) seen(t *testing.T, p *product) (*flowpb.Endpoint, error) {
	t.Helper()
	ask := exec.Command("ip", "netns", "exec", s.netns, "curl", "-s", "-m", "5", "-o", "/dev/null", "http://"+s.server+"/nothing")
	if out, err := ask.CombinedOutput(); err != nil {
		t.Fatalf("curl: %v\n%s", err, out)
	}
	flows := p.observe(t, "--ip", s.addr, "--last", "1")
	if len(flows) == 0 {
		return nil, errors.New("none")
	}
	if f := flows[0]; f.GetIP().GetSource() == s.addr {
		return f.GetSource(), nil
	}
	return flows[0].GetDestination(), nil
}

func (s *kubePod) named(t *testing.T, p *product) error {
	t.Helper()
	e, err := s.seen(t, p)
	if err == nil && (e.GetPodName() != "cart-6b7f-x" || workload(e) != "shop/cart" || e.GetWorkloads()[0].GetKind() != "Deployment") {
		err = fmt.Errorf("it is %v", e)
	}
	return err
}
