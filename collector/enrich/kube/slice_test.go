package kube

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy/load"
)

const slicesPath = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"

func (c *cluster) service(name, clusterIP string) {
	c.Helper()
	c.Create("/api/v1/namespaces/shop/services", map[string]any{
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"clusterIP": clusterIP, "ports": []any{map[string]any{"port": 80}}},
	})
}

func slice(name, service string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service, "other": "label"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
	}
}

func behind(ip, pod string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{ip}}
	if pod != "" {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: pod}
	}
	return e
}

func TestEndpointSlices(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.run("cart-1", "n1", "10.1.0.1", nil)
	c.run("cart-2", "n1", "10.1.0.2", nil)
	c.run("other", "n1", "10.1.0.3", nil)
	c.service("cart", "None")
	c.service("cart-canary", "10.96.0.9")
	c.service("database", "None")
	c.Create(slicesPath, slice("cart-a", "cart", behind("10.1.0.1", "cart-1"), behind("10.1.0.2", "cart-2")))
	c.Create(slicesPath, slice("canary-a", "cart-canary", behind("10.1.0.2", "cart-2")))
	c.Create(slicesPath, slice("database-a", "database", behind("192.0.2.7", ""), behind("10.1.0.3", "")))

	backed := func(name, service string) *flow.Endpoint {
		e := pod(name, name, "Pod", "n1")
		e.Name = service
		return e
	}
	database := &flow.Endpoint{Kind: flow.EndpointService, Namespace: "shop", Name: "database", Cluster: "test"}
	d := c.watch(Config{AllPods: true, Cluster: "test"})
	for ip, want := range map[string]*flow.Endpoint{
		"10.1.0.1": backed("cart-1", "cart"), "10.1.0.2": backed("cart-2", "cart"),
		"10.1.0.3":  pod("other", "other", "Pod", "n1"), // a pod is a pod, whatever a person wrote into a slice
		"192.0.2.7": database, "10.96.0.9": {Kind: flow.EndpointService, Namespace: "shop", Name: "cart-canary", Cluster: "test"},
	} {
		eventually(t, d, ip, want)
	}
	await(t, func() string {
		return cmp.Diff([]string{"cart", "cart-canary"}, named(d.Objects(meta.Pod), "cart-2")[0].Services)
	})

	// Pods come and go behind a service, addresses move, slices vanish.
	c.Patch(slicesPath+"/cart-a", map[string]any{"endpoints": []any{behind("10.1.0.1", "cart-1"), behind("10.1.0.3", "other")}})
	eventually(t, d, "10.1.0.2", backed("cart-2", "cart-canary"))
	eventually(t, d, "10.1.0.3", backed("other", "cart"))
	c.Patch(slicesPath+"/database-a", map[string]any{"endpoints": []any{behind("192.0.2.8", "")}})
	eventually(t, d, "192.0.2.8", database)
	c.Delete(slicesPath + "/canary-a")
	eventually(t, d, "10.1.0.2", pod("cart-2", "cart-2", "Pod", "n1"))
	c.Delete(slicesPath + "/database-a")
	await(t, func() string { return cmp.Diff(0, len(named(d.Objects(meta.Service), "database")[0].Addrs)) })
	if got := c.logged(); got != "" {
		t.Errorf("logged: %s", got)
	}
}

func TestTrimSlice(t *testing.T) {
	full := slice("s", "cart", behind("10.1.0.1", "cart-1"), behind("192.0.2.7", ""))
	full.Endpoints[0].NodeName = new("n1")
	full.Ports = make([]discoveryv1.EndpointPort, 3)
	full.Annotations = map[string]string{"long": "text"}
	got, err := new(Config).trim(full)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := new(Config).trim(got); err != nil || !cmp.Equal(got, again) {
		t.Errorf("trimmed twice: %v %s", err, cmp.Diff(got, again))
	}
	s := got.(*discoveryv1.EndpointSlice)
	if s.Ports != nil || s.Annotations != nil || len(s.Labels) != 1 || s.Endpoints[0].NodeName != nil || s.Endpoints[0].Addresses != nil {
		t.Errorf("kept too much: %+v", s)
	}
	if diff := cmp.Diff([]string{"/cart-1"}, podsOf(s)); diff != "" {
		t.Error(diff)
	}
	if a := outsiders(s); len(a) != 1 || a[0].String() != "192.0.2.7" {
		t.Errorf("addresses %v", a)
	}

	with := Config{Forwards: true}
	full.Ports = []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(8080)), AppProtocol: new("http")}}
	got, err = with.trim(full)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := with.trim(got); err != nil || !cmp.Equal(got, again) {
		t.Errorf("trimmed twice: %v %s", err, cmp.Diff(got, again))
	}
	want := &discoveryv1.EndpointSlice{
		ObjectMeta: s.ObjectMeta, AddressType: s.AddressType, Ports: []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(8080))}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.1.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "cart-1"}}, {Addresses: []string{"192.0.2.7"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("with where it leads: %s", diff)
	}
}

// BenchmarkSlices tells how much memory an endpoint costs in the informer's store: in full, for names, and where they tell
// where services lead, with what is told of a service of two ports.
func BenchmarkSlices(b *testing.B) {
	const n, per = 5000, 100 // endpoints, and those of a slice, as the controller makes them
	full := func(i int) *discoveryv1.EndpointSlice {
		s := sliceOf(fmt.Sprintf("cart-%d", i), "cart", v4)
		s.Namespace, s.ManagedFields = "shop", []metav1.ManagedFieldsEntry{{FieldsV1: &metav1.FieldsV1{Raw: make([]byte, 1000)}}}
		for j := range per {
			e := behind(fmt.Sprintf("10.1.%d.%d", i, j), fmt.Sprintf("cart-6b7f9c5d4-%d-%d", i, j))
			e.TargetRef.UID, e.NodeName, e.Zone = types.UID(fmt.Sprintf("0b7c9d6e-0000-4000-8000-%06d%06d", i, j)), new(fmt.Sprintf("node-%d", j)), new("zone-1")
			e.Conditions = discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)}
			s.Endpoints = append(s.Endpoints, e)
		}
		return s
	}
	service := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, Ports: webPorts}}
	forwards := Config{Forwards: true}
	for _, c := range []struct {
		name string
		keep func(any) (any, error)
		tell bool
	}{
		{"full", func(o any) (any, error) { return o, nil }, false},
		{"names", new(Config).trim, false},
		{"forwards", forwards.trim, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				before := heap()
				var told []meta.Forward
				held := make([]*discoveryv1.EndpointSlice, n/per)
				for i := range held {
					kept, _ := c.keep(full(i)) // never fails
					held[i] = kept.(*discoveryv1.EndpointSlice)
				}
				if c.tell {
					told = load.Forwards(service, held)
				}
				b.ReportMetric(float64(heap()-before)/n, "B/endpoint")
				runtime.KeepAlive(held)
				runtime.KeepAlive(told)
			}
		})
	}
}
