package kube

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy/load"
)

const servicesPath = "/api/v1/namespaces/shop/services"

// listener keeps what a source told of services.
type listener struct {
	*Source
	mu    sync.Mutex
	last  map[string]*meta.Object // by "namespace/name"
	times map[string]int          // how often each was told, its deletion included
}

// listen runs a source until the test ends, or the function that it returns is called.
func (c *cluster) listen(cfg Config) (*listener, func()) {
	c.Helper()
	cfg.Kubeconfig, cfg.Logger, cfg.AllPods = c.Kubeconfig(), slog.New(slog.NewTextHandler(c, nil)), true
	l := &listener{Source: New(cfg), last: map[string]*meta.Object{}, times: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Watch(ctx, l.take) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.Error(err)
		}
	})
	c.Cleanup(stop)
	return l, stop
}

func (l *listener) take(u meta.Update) {
	if u.Object.Kind != meta.Service {
		return
	}
	key := u.Object.Namespace + "/" + u.Object.Name
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times[key]++
	if u.Deleted {
		delete(l.last, key)
	} else {
		l.last[key] = u.Object
	}
}

// object returns the service of that name in shop as it was told last, and how often it was told.
func (l *listener) object(name string) (*meta.Object, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last["shop/"+name], l.times["shop/"+name]
}

// forwards are those of a service, written "10.96.0.1:80/TCP -> 10.1.0.1:8080 10.1.0.2:8080".
func (l *listener) forwards(name string) (list []string) {
	o, _ := l.object(name)
	if o == nil {
		return []string{"not told"}
	}
	for _, f := range o.Forwards {
		text := fmt.Sprintf("%s/%s ->", netip.AddrPortFrom(f.Addr, f.Port), f.Proto)
		for _, to := range f.To {
			text += " " + to.String()
		}
		list = append(list, text)
	}
	return list
}

func (l *listener) await(t *testing.T, name string, want ...string) {
	t.Helper()
	await(t, func() string { return cmp.Diff(want, l.forwards(name)) })
}

func (l *listener) sync(t *testing.T) {
	t.Helper()
	await(t, func() string {
		select {
		case <-l.Synced():
			return ""
		default:
			return "it does not say that it has told everything"
		}
	})
}

// webPorts are served by pods under other numbers: one by the name of a container's port, one by number.
var webPorts = []corev1.ServicePort{
	{Name: "web", Port: 80, TargetPort: intstr.FromString("http")},
	{Name: "metrics", Port: 9090, TargetPort: intstr.FromInt32(9100)},
}

func (c *cluster) serve(name string, spec corev1.ServiceSpec) {
	c.Helper()
	c.Create(servicesPath, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
}

// sliceOf is a slice with webPorts as the pods have them.
func sliceOf(name, service string, family discoveryv1.AddressType, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := slice(name, service, endpoints...)
	s.AddressType = family
	s.Ports = []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(8080))}, {Name: new("metrics"), Port: new(int32(9100))}}
	return s
}

const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6

func TestForwards(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	both := corev1.IPFamilyPolicyRequireDualStack
	c.serve("web", corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, IPFamilyPolicy: &both, ClusterIPs: []string{"10.96.3.4", "fd96::34"}, ClusterIP: "10.96.3.4",
		ExternalIPs: []string{"192.0.2.1"}, Ports: webPorts,
	})
	c.serve("assigned", corev1.ServiceSpec{IPFamilyPolicy: &both, Ports: webPorts[:1]})
	c.serve("headless", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: webPorts})
	c.serve("elsewhere", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com", Ports: webPorts})
	waiting, leaving := behind("10.1.0.2", "web-2"), behind("10.1.0.3", "web-3")
	waiting.Conditions.Ready = new(false)
	leaving.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	c.Create(slicesPath, sliceOf("web-a", "web", v4, behind("10.1.0.1", "web-1"), waiting))
	c.Create(slicesPath, sliceOf("web-b", "web", v4, leaving, behind("10.1.0.1", "web-1")))
	c.Create(slicesPath, sliceOf("web-c", "web", v6, behind("fd00::1", "web-1")))
	c.Create(slicesPath, sliceOf("web-d", "web", discoveryv1.AddressTypeFQDN, behind("example.com", "")))
	c.Create(slicesPath, sliceOf("headless-a", "headless", v4, behind("10.1.0.1", "web-1")))

	l, _ := c.listen(Config{Forwards: true, Cluster: "test"})
	l.sync(t)
	want := []string{
		"10.96.3.4:80/TCP -> 10.1.0.1:8080 10.1.0.2:8080 10.1.0.3:8080",
		"10.96.3.4:9090/TCP -> 10.1.0.1:9100 10.1.0.2:9100 10.1.0.3:9100",
		"192.0.2.1:80/TCP -> 10.1.0.1:8080 10.1.0.2:8080 10.1.0.3:8080",
		"192.0.2.1:9090/TCP -> 10.1.0.1:9100 10.1.0.2:9100 10.1.0.3:9100",
		"[fd96::34]:80/TCP -> [fd00::1]:8080",
		"[fd96::34]:9090/TCP -> [fd00::1]:9100",
	}
	if diff := cmp.Diff(want, l.forwards("web")); diff != "" {
		t.Errorf("when everything is told: %s", diff)
	}
	if got := slices.Concat(l.forwards("headless"), l.forwards("elsewhere")); got != nil {
		t.Errorf("without a virtual address: %q", got)
	}
	assigned, _ := l.object("assigned")
	if len(assigned.Forwards) != 2 || len(assigned.Addrs) != 2 || assigned.Forwards[0].Addr != assigned.Addrs[0] || assigned.Forwards[1].Addr != assigned.Addrs[1] ||
		!assigned.Addrs[0].Is4() || !assigned.Addrs[1].Is6() || assigned.Forwards[0].To != nil {
		t.Errorf("addresses that the server chose: %+v", assigned)
	}
	t.Run("as in a file", func(t *testing.T) { c.compareWithFile(t, l) })
	t.Run("changes", func(t *testing.T) { c.changeForwards(t, l) })
	if got := c.logged(); got != "" {
		t.Errorf("logged: %s", got)
	}
}

// compareWithFile reads what the server has as a file, too: policies are explained from one.
func (c *cluster) compareWithFile(t *testing.T, l *listener) {
	text := slices.Concat(c.Get(servicesPath), []byte("\n---\n"), c.Get(slicesPath))
	objects, err := load.Inventory([]string{"-"}, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	file := listener{last: map[string]*meta.Object{}, times: map[string]int{}}
	for _, o := range objects {
		file.take(meta.Update{Object: o})
	}
	for _, name := range []string{"web", "assigned", "headless", "elsewhere"} {
		if diff := cmp.Diff(l.forwards(name), file.forwards(name)); diff != "" {
			t.Errorf("%s in a file: %s", name, diff)
		}
	}
}

// changeForwards changes web, which TestForwards made, and its slices.
func (c *cluster) changeForwards(t *testing.T, l *listener) {
	// A pod that becomes ready changes nothing; news of one kind come in their order.
	_, before := l.object("web")
	c.Patch(slicesPath+"/web-a", map[string]any{"endpoints": []any{behind("10.1.0.1", "web-1"), behind("10.1.0.2", "web-2")}})
	c.Create(slicesPath, sliceOf("other-a", "assigned", v4, behind("10.1.0.9", "other")))
	await(t, func() string {
		assigned, _ := l.object("assigned")
		return cmp.Diff(1, len(assigned.Forwards[0].To))
	})
	if _, after := l.object("web"); before != after {
		t.Errorf("told %d times, and %d times when a pod was ready", before, after)
	}

	c.Delete(slicesPath + "/web-c")
	c.Patch(servicesPath+"/web", map[string]any{"spec": map[string]any{"externalIPs": nil, "ports": webPorts[:1]}})
	l.await(t, "web", "10.96.3.4:80/TCP -> 10.1.0.1:8080 10.1.0.2:8080 10.1.0.3:8080", "[fd96::34]:80/TCP ->")
	c.Patch(slicesPath+"/web-a", map[string]any{"endpoints": []any{behind("10.1.0.1", "web-1"), behind("10.1.0.4", "")}})
	l.await(t, "web", "10.96.3.4:80/TCP -> 10.1.0.1:8080 10.1.0.3:8080 10.1.0.4:8080", "[fd96::34]:80/TCP ->")
	c.Patch(slicesPath+"/web-b", map[string]any{"ports": []any{map[string]any{"name": "web", "port": 8081}}})
	l.await(t, "web", "10.96.3.4:80/TCP -> 10.1.0.1:8080 10.1.0.1:8081 10.1.0.3:8081 10.1.0.4:8080", "[fd96::34]:80/TCP ->")

	// An address that becomes a pod's is the service's no more, and still where it leads.
	if o, _ := l.object("web"); !slices.Contains(o.Addrs, netip.MustParseAddr("10.1.0.4")) {
		t.Errorf("addresses %v", o.Addrs)
	}
	c.Patch(slicesPath+"/web-a", map[string]any{"endpoints": []any{behind("10.1.0.1", "web-1"), behind("10.1.0.4", "web-4")}})
	await(t, func() string {
		o, _ := l.object("web")
		return cmp.Diff(2, len(o.Addrs))
	})

	// A slice that goes over to another service.
	c.Patch(slicesPath+"/web-a", map[string]any{"metadata": map[string]any{"labels": map[string]any{discoveryv1.LabelServiceName: "assigned"}}})
	l.await(t, "web", "10.96.3.4:80/TCP -> 10.1.0.1:8081 10.1.0.3:8081", "[fd96::34]:80/TCP ->")
	await(t, func() string {
		assigned, _ := l.object("assigned")
		want := []netip.AddrPort{netip.MustParseAddrPort("10.1.0.1:8080"), netip.MustParseAddrPort("10.1.0.4:8080"), netip.MustParseAddrPort("10.1.0.9:8080")}
		return cmp.Diff(want, assigned.Forwards[0].To, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }))
	})

	c.Patch(servicesPath+"/web/status", map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": []any{
		map[string]any{"ip": "192.0.2.5", "ipMode": "VIP"}, map[string]any{"ip": "192.0.2.6", "ipMode": "Proxy"}, map[string]any{"hostname": "example.com"},
	}}}})
	l.await(t, "web", "10.96.3.4:80/TCP -> 10.1.0.1:8081 10.1.0.3:8081", "192.0.2.5:80/TCP -> 10.1.0.1:8081 10.1.0.3:8081", "[fd96::34]:80/TCP ->")
	c.Delete(slicesPath + "/web-b")
	l.await(t, "web", "10.96.3.4:80/TCP ->", "192.0.2.5:80/TCP ->", "[fd96::34]:80/TCP ->")
	c.Delete(servicesPath + "/web")
	l.await(t, "web", "not told")
	c.serve("web", corev1.ServiceSpec{ClusterIP: "10.96.3.4", Ports: []corev1.ServicePort{{Name: "web", Port: 443, Protocol: corev1.ProtocolUDP}}})
	l.await(t, "web", "10.96.3.4:443/UDP ->")
}

// TestForwardsAtSync has many services: when everything is said to be told, each leads to all of its endpoints, whatever
// the order in which services and slices came.
func TestForwardsAtSync(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	const n = 40
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		c.serve(name, corev1.ServiceSpec{ClusterIP: fmt.Sprintf("10.96.4.%d", i+1), Ports: webPorts[:1]})
		for j := range 3 {
			c.Create(slicesPath, sliceOf(fmt.Sprintf("%s-%d", name, j), name, v4, behind(fmt.Sprintf("10.1.%d.%d", j, i), name)))
		}
	}
	complete := func(l *listener) {
		t.Helper()
		for i := range n {
			want := []string{fmt.Sprintf("10.96.4.%d:80/TCP -> 10.1.0.%d:8080 10.1.1.%d:8080 10.1.2.%d:8080", i+1, i, i, i)}
			if diff := cmp.Diff(want, l.forwards(fmt.Sprintf("web-%d", i))); diff != "" {
				t.Error(diff)
			}
		}
	}
	for range 10 {
		l, stop := c.listen(Config{Forwards: true})
		l.sync(t)
		complete(l)
		stop()
	}
	names, stop := c.listen(Config{})
	names.sync(t)
	if o, times := names.object("web-1"); o.Forwards != nil || len(o.Addrs) != 1 || times != 1 {
		t.Errorf("for names alone, told %d times: %+v", times, o)
	}
	stop()
	for _, late := range []resource{services, endpointSlices} {
		t.Run("late "+string(late), func(t *testing.T) {
			c := &cluster{T: t, Server: c.Server}
			withdraw := c.withhold(late)
			l, _ := c.listen(Config{Forwards: true})
			if late == services {
				await(t, func() string { return missingIn(c.logged(), "resource="+string(late)) })
			} else {
				l.await(t, "web-0", "10.96.4.1:80/TCP ->")
			}
			select {
			case <-l.Synced():
				t.Error("it says that it has told everything")
			default:
			}
			withdraw()
			l.sync(t)
			complete(l)
		})
	}
}

// withhold takes the right to read r away until the function that it returns is called.
func (c *cluster) withhold(r resource) func() {
	c.Helper()
	const path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
	rules := func(but resource) []any {
		var list []any
		for _, r := range resources {
			if r != but {
				list = append(list, map[string]any{"apiGroups": []any{r.version().Group}, "resources": []any{string(r)}, "verbs": []any{"list", "watch"}})
			}
		}
		return list
	}
	c.Patch(path+"/parallax", map[string]any{"rules": rules(r)})
	return func() { c.Patch(path+"/parallax", map[string]any{"rules": rules("")}) }
}
