package main

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/parallax-flow/parallax/internal/kubetest"
)

// TestKubernetesNames runs the product beside a network namespace that an API server calls a pod, and finds the pod's name
// and workload on its real traffic.
func TestKubernetesNames(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root: CI must run it as root")
		}
		t.Skip("needs root")
	}
	const (
		netns, host, pod = "plxt-kubepod", "10.83.7.1", "10.83.7.2"
		pods             = "/api/v1/namespaces/shop/pods"
	)
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
	api.Patch(pods+"/cart-6b7f-x/status", map[string]any{"status": map[string]any{"phase": "Running", "podIP": pod, "podIPs": []any{map[string]any{"ip": pod}}}})

	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	_ = exec.Command("ip", "netns", "del", netns).Run() // what a killed run before this one may have left
	run("ip", "netns", "add", netns)
	t.Cleanup(func() { run("ip", "netns", "del", netns) }) // takes the veth with it
	run("ip", "link", "add", "plxt-kube0", "type", "veth", "peer", "name", "eth0", "netns", netns)
	run("ip", "addr", "add", host+"/30", "dev", "plxt-kube0")
	run("ip", "link", "set", "plxt-kube0", "up")
	run("ip", "-n", netns, "addr", "add", pod+"/30", "dev", "eth0")
	run("ip", "-n", netns, "link", "set", "eth0", "up")
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = web.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = web.Close() })

	p := newProduct(t)
	p.start("--storage", "memory:", "--kubernetes", api.Kubeconfig(), "--node-name", "kubenode")
	p.waitObserving()
	p.eventually("a flow of the pod by its workload", func() error {
		run("ip", "netns", "exec", netns, "curl", "-s", "-m", "5", "-o", "/dev/null", "http://"+l.Addr().String()+"/nothing")
		for _, f := range p.observe(t, "--namespace", "shop", "--ip", pod) {
			s := f.GetSource()
			if s.GetPodName() == "cart-6b7f-x" && len(s.GetWorkloads()) == 1 && s.GetWorkloads()[0].GetName() == "cart" && s.GetWorkloads()[0].GetKind() == "Deployment" {
				return nil
			}
		}
		return errors.New("none")
	})
	p.stop()
}
