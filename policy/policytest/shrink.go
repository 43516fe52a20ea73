package policytest

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

// Seed returns the seed in the environment variable PARALLAX_SEED, or one from the clock, and logs it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("PARALLAX_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("PARALLAX_SEED: %v", err)
		}
	}
	t.Logf("repeat with PARALLAX_SEED=%d", s)
	return s
}

// Convert returns the model of w's policies.
func (w *World) Convert() ([]policy.Policy, error) {
	var out []policy.Policy
	for _, np := range w.Policies {
		p, err := load.Convert(np)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Shrink drops parts of w while it still fails.
func Shrink(w World, fails func(*World) bool) World {
	for again := true; again; {
		again = false
		for _, smaller := range w.smaller() {
			if fails(&smaller) {
				w, again = smaller, true
				break
			}
		}
	}
	return w
}

// smaller returns w without one policy, rule, peer or port each.
func (w *World) smaller() (list []World) {
	for i, np := range w.Policies {
		without := World{w.Inventory, slices.Delete(slices.Clone(w.Policies), i, i+1), w.Options}
		list = append(list, without)
		edit := func(f func(*networkingv1.NetworkPolicySpec)) {
			c := np.DeepCopy()
			f(&c.Spec)
			changed := World{w.Inventory, slices.Clone(w.Policies), w.Options}
			changed.Policies[i] = c
			list = append(list, changed)
		}
		for j := range np.Spec.Ingress {
			edit(func(s *networkingv1.NetworkPolicySpec) { s.Ingress = slices.Delete(s.Ingress, j, j+1) })
			for k := range np.Spec.Ingress[j].From {
				edit(func(s *networkingv1.NetworkPolicySpec) { s.Ingress[j].From = slices.Delete(s.Ingress[j].From, k, k+1) })
			}
			for k := range np.Spec.Ingress[j].Ports {
				edit(func(s *networkingv1.NetworkPolicySpec) {
					s.Ingress[j].Ports = slices.Delete(s.Ingress[j].Ports, k, k+1)
				})
			}
		}
		for j := range np.Spec.Egress {
			edit(func(s *networkingv1.NetworkPolicySpec) { s.Egress = slices.Delete(s.Egress, j, j+1) })
			for k := range np.Spec.Egress[j].To {
				edit(func(s *networkingv1.NetworkPolicySpec) { s.Egress[j].To = slices.Delete(s.Egress[j].To, k, k+1) })
			}
			for k := range np.Spec.Egress[j].Ports {
				edit(func(s *networkingv1.NetworkPolicySpec) { s.Egress[j].Ports = slices.Delete(s.Egress[j].Ports, k, k+1) })
			}
		}
	}
	return list
}

// Text returns w's policies as YAML, and the two sides of p.
func (w *World) Text(p Probe) string {
	var b strings.Builder
	for _, a := range []Actor{p.Src, p.Dst} {
		if a.Pod != nil {
			fmt.Fprintf(&b, "%s on %s: labels %v, namespace %v, ports %v\n", a.Pod, a.Pod.Node, a.Pod.Labels, a.Pod.NamespaceLabels, a.Pod.Ports)
		}
	}
	if backends, service := w.Backends(p); service {
		fmt.Fprintf(&b, "a service: %v\n", backends)
		for _, to := range backends {
			if pod := to.Dst.Pod; pod != nil {
				fmt.Fprintf(&b, "%s on %s: labels %v, namespace %v, ports %v\n", pod, pod.Node, pod.Labels, pod.NamespaceLabels, pod.Ports)
			}
		}
	}
	for _, np := range w.Policies {
		y, err := yaml.Marshal(np)
		fmt.Fprintf(&b, "---\n%s", y)
		if err != nil {
			b.WriteString(err.Error())
		}
	}
	return b.String()
}
