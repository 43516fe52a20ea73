package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/internal/kubetest"
	"github.com/parallax-flow/parallax/policy"
)

const policiesPath = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"

// network is a policy that lets everybody reach a port of pods with this label.
func network(name, app string, port map[string]any) map[string]any {
	return map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
		"metadata": map[string]any{"name": name, "namespace": "shop", "annotations": map[string]any{"long": "text"}},
		"spec": map[string]any{
			"podSelector": map[string]any{"matchLabels": map[string]any{"app": app}},
			"policyTypes": []any{"Ingress"},
			"ingress":     []any{map[string]any{"ports": []any{port}}},
		},
	}
}

// told gathers what a PolicySource emits.
type told struct {
	*PolicySource
	mu   sync.Mutex
	sets [][]policy.Policy
}

func (c *cluster) watchPolicies() *told {
	c.Helper()
	w := &told{PolicySource: Policies(Config{Kubeconfig: c.Kubeconfig(), Logger: slog.New(slog.NewTextHandler(c, nil))})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.WatchPolicies(ctx, func(set []policy.Policy) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.sets = append(w.sets, set)
		})
	}()
	c.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.Error(err)
		}
	})
	return w
}

func (w *told) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sets)
}

// last is what was told last, each policy as "name: app port".
func (w *told) last() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sets) == 0 {
		return nil
	}
	out = []string{}
	for _, p := range w.sets[len(w.sets)-1] {
		port := p.Sections[policy.Ingress].Rules[0].Ports[0]
		out = append(out, fmt.Sprintf("%s/%s: %s %d (%s)", p.Namespace, p.Name, p.Subject.Terms[0].Values[0], port.First, p.Origin))
	}
	return out
}

func (w *told) eventually(t *testing.T, want ...string) {
	t.Helper()
	await(t, func() string { return cmp.Diff(want, w.last()) })
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for i := range 3 {
		c.Create(policiesPath, network(fmt.Sprintf("p%d", 3-i), "cart", map[string]any{"port": 80 + i}))
	}
	w := c.watchPolicies()
	const p1, p2, p3 = "shop/p1: cart 82 (kubernetes)", "shop/p2: cart 81 (kubernetes)", "shop/p3: cart 80 (kubernetes)"
	w.eventually(t, p1, p2, p3)
	if n := w.calls(); n != 1 {
		t.Errorf("the first set came in %d parts", n)
	}

	// A change, one that says nothing new, a new one, and one that goes.
	c.Patch(policiesPath+"/p2", network("p2", "web", map[string]any{"port": 81}))
	w.eventually(t, p1, "shop/p2: web 81 (kubernetes)", p3)
	calls := w.calls()
	c.Patch(policiesPath+"/p2", map[string]any{"metadata": map[string]any{"labels": map[string]any{"team": "blue"}}})
	c.Create(policiesPath, network("p0", "cart", map[string]any{"port": 8080}))
	w.eventually(t, "shop/p0: cart 8080 (kubernetes)", p1, "shop/p2: web 81 (kubernetes)", p3)
	if n := w.calls(); n != calls+1 {
		t.Errorf("told %d times, want once: only what differs", n-calls)
	}
	c.Delete(policiesPath + "/p0")
	c.Delete(policiesPath + "/p2")
	w.eventually(t, p1, p3)

	// The server restarts: nothing is told before something has changed.
	calls = w.calls()
	c.StopAPI()
	await(t, func() string { return missingIn(c.logged(), "is away") })
	c.StartAPI()
	await(t, func() string { return missingIn(c.logged(), "is back") })
	c.Delete(policiesPath + "/p3")
	w.eventually(t, p1)
	if n := w.calls(); n != calls+1 {
		t.Errorf("told %d times behind a restart, want once", n-calls)
	}
	if diff := cmp.Diff(PolicyStats{Policies: 1}, w.Stats()); diff != "" {
		t.Error(diff)
	}
}

// A policy that is not understood in full neither opens nor closes anything: its last good version stays.
func TestRefusedPolicies(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	good := map[string]any{"port": 80}
	quic := map[string]any{"port": 443, "protocol": "QUIC"}
	c.Create(policiesPath, network("a", "cart", good))
	w := c.watchPolicies()
	w.eventually(t, "shop/a: cart 80 (kubernetes)")

	c.Store("networkpolicies/shop/a", network("a", "cart", quic))
	c.Store("networkpolicies/shop/b", network("b", "cart", quic))
	c.Create(policiesPath, network("c", "web", good))
	w.eventually(t, "shop/a: cart 80 (kubernetes)", "shop/c: web 80 (kubernetes)")
	await(t, func() string {
		return cmp.Diff(PolicyStats{Policies: 2, Refused: 2, Refusals: 2}, w.Stats())
	})
	want := `kubernetes: NetworkPolicy shop/%s: spec.ingress[0].ports[0].protocol "QUIC" is not one of TCP, UDP, SCTP`
	reasons := map[policy.Ref]string{}
	for _, name := range []string{"a", "b"} {
		reasons[policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: name}] = fmt.Sprintf(want, name)
	}
	if diff := cmp.Diff(reasons, w.Refused()); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{
		`policy="NetworkPolicy shop/a" effect="what it said before stays in force"`, `policy="NetworkPolicy shop/b" effect="it is left out"`,
	} {
		if n := strings.Count(c.logged(), line); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", line, n, c.logged())
		}
	}

	// What is understood again counts, what is deleted is gone.
	c.Store("networkpolicies/shop/b", network("b", "cart", good))
	c.Delete(policiesPath + "/a")
	w.eventually(t, "shop/b: cart 80 (kubernetes)", "shop/c: web 80 (kubernetes)")
	if diff := cmp.Diff(PolicyStats{Policies: 2, Refusals: 2}, w.Stats()); diff != "" {
		t.Error(diff)
	}
}

func TestPoliciesWithoutTheRight(t *testing.T) {
	t.Parallel()
	c := &cluster{T: t, Server: kubetest.Start(t)}
	w := c.watchPolicies()
	await(t, func() string { return missingIn(c.logged(), "resource=networkpolicies") })
	if n := w.calls(); n != 0 {
		t.Errorf("told %d times what nobody said", n)
	}
	c.AllowDocumented()
	await(t, func() string { return cmp.Diff(1, w.calls()) })
	if got := w.last(); len(got) != 0 {
		t.Errorf("told %v", got)
	}
	if n := strings.Count(c.logged(), "resource=networkpolicies"); n != 1 {
		t.Errorf("one refusal is told %d times:\n%s", n, c.logged())
	}
}
