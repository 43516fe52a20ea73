package load

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestInventory(t *testing.T) {
	const text = `apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: web-5d8f-x2x4k
    namespace: shop
    labels: {app: web, pod-template-hash: 5d8f}
    ownerReferences:
    - {apiVersion: example.com/v1, kind: Other, name: other, uid: a}
    - {apiVersion: apps/v1, kind: ReplicaSet, name: web-5d8f, uid: b, controller: true, blockOwnerDeletion: true}
    managedFields: [{manager: kubelet, fieldsV1: {"f:status": {}}}]
  spec:
    nodeName: n1
    somethingNew: {from: a newer server}
    containers:
    - {name: web, image: web, resources: {limits: {cpu: 1}}, ports: [{name: http, containerPort: 8080, protocol: TCP}, {containerPort: 9999}]}
    initContainers:
    - {name: setup, ports: [{name: gone, containerPort: 1}]}
    - {name: proxy, restartPolicy: Always, ports: [{name: dns, containerPort: 53, protocol: UDP}]}
  status: {phase: Running, hostIP: 172.16.0.1, hostIPs: [{ip: 172.16.0.1}], podIP: 10.0.1.1, podIPs: [{ip: 10.0.1.1}, {ip: "fd00:1::1"}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: agent, ownerReferences: [{kind: DaemonSet, name: agent, controller: true}]}
  spec: {nodeName: n2, hostNetwork: true, containers: []}
  status: {phase: Running, hostIP: 172.16.0.2, podIP: 172.16.0.2}
- apiVersion: v1
  kind: Pod
  metadata: {name: job-done, namespace: shop}
  spec: {nodeName: n3}
  status: {phase: Succeeded, podIP: 10.0.1.1, hostIP: 172.16.0.3}
- {apiVersion: v1, kind: Pod, metadata: {name: waits, namespace: shop}, status: {phase: Pending}}
- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: b}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}}
---
apiVersion: v1
kind: NodeList
items:
- metadata: {name: n1, labels: {zone: b}}
  status: {addresses: [{type: InternalIP, address: 172.16.0.1}, {type: Hostname, address: n1}, {type: ExternalIP, address: "2001:db8::1"}]}
`
	want := []*meta.Object{
		{Kind: meta.Pod, Namespace: "shop", Name: "web-5d8f-x2x4k", Workload: "web", WorkloadKind: "Deployment", Node: "n1",
			Labels: map[string]string{"app": "web", "pod-template-hash": "5d8f"}, Addrs: addrs("10.0.1.1", "fd00:1::1"),
			Ports: []meta.Port{{Name: "http", Number: 8080, Proto: flow.ProtoTCP}, {Name: "dns", Number: 53, Proto: flow.ProtoUDP}}},
		{Kind: meta.Pod, Namespace: "default", Name: "agent", Workload: "agent", WorkloadKind: "DaemonSet", Node: "n2", HostNetwork: true, Addrs: addrs("172.16.0.2")},
		{Kind: meta.Pod, Namespace: "shop", Name: "waits"},
		{Kind: meta.Namespace, Name: "shop", Labels: map[string]string{"team": "a"}},
		{Kind: meta.Node, Name: "n1", Node: "n1", Labels: map[string]string{"zone": "b"}, Addrs: addrs("172.16.0.1", "2001:db8::1")},
		{Kind: meta.Node, Name: "n2", Node: "n2", Addrs: addrs("172.16.0.2")},
	}
	got, err := Inventory([]string{"-"}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Error(diff)
	}
	path := filepath.Join(t.TempDir(), "pods.json")
	if err := os.WriteFile(path, []byte(`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a","namespace":"b"}}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err = Inventory([]string{path}, nil)
	if diff := cmp.Diff([]*meta.Object{{Kind: meta.Pod, Namespace: "b", Name: "a"}}, got, compareAddrs); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := Inventory([]string{path + ".not"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestInventoryServices(t *testing.T) {
	const text = `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: shop, labels: {app: web}, creationTimestamp: "2026-01-31T12:00:00Z", managedFields: [{fieldsV1: {"f:spec": {}}}]}
  spec:
    clusterIP: 10.96.0.1
    clusterIPs: [10.96.0.1, "fd96::1"]
    externalIPs: [192.0.2.1]
    type: LoadBalancer
    somethingNew: {from: a newer server}
    sessionAffinityConfig: {clientIP: {timeoutSeconds: 1, somethingNew: 1}}
    ports: [{name: http, port: 80, targetPort: web, nodePort: 30080, protocol: TCP}, {name: dns, port: 53, targetPort: 5353, protocol: UDP}]
  status: {loadBalancer: {ingress: [{ip: 192.0.2.2, ipMode: Proxy}, {hostname: example.com}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-a, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  endpoints: [{addresses: [10.0.1.2], conditions: {ready: false, serving: true, terminating: true}}, {addresses: [10.0.1.1], targetRef: {kind: Pod, name: web-1}}]
  ports: [{name: http, port: 8080, protocol: TCP}, {name: dns, port: 5353, protocol: UDP}]
- {apiVersion: v1, kind: Service, metadata: {name: short}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}
- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: None, ports: [{name: http, port: 80}]}}
- {apiVersion: v1, kind: EndpointSlice, metadata: {name: of-no-such-version}}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: of-nobody}, addressType: FQDN, endpoints: [{addresses: [example.com]}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSliceList
items:
- metadata: {name: web-b, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv6
  endpoints: [{addresses: ["fd00::1"]}]
  ports: [{name: http, port: 8080}]
- metadata: {name: web-b, labels: {kubernetes.io/service-name: short}}
  addressType: IPv4
  endpoints: [{addresses: [10.0.1.3]}]
  ports: [{port: 8080}]
`
	forward := func(addr string, port uint16, proto flow.Proto, to ...string) meta.Forward {
		return meta.Forward{Addr: netip.MustParseAddr(addr), Port: port, Proto: proto, To: backendsOf(to...)}
	}
	want := []*meta.Object{
		{Kind: meta.Service, Namespace: "shop", Name: "web", Labels: map[string]string{"app": "web"}, Addrs: addrs("10.96.0.1", "fd96::1", "192.0.2.1", "192.0.2.2"), Forwards: []meta.Forward{
			forward("10.96.0.1", 53, flow.ProtoUDP, "10.0.1.1:5353", "10.0.1.2:5353"), forward("10.96.0.1", 80, flow.ProtoTCP, "10.0.1.1:8080", "10.0.1.2:8080"),
			forward("192.0.2.1", 53, flow.ProtoUDP, "10.0.1.1:5353", "10.0.1.2:5353"), forward("192.0.2.1", 80, flow.ProtoTCP, "10.0.1.1:8080", "10.0.1.2:8080"),
			forward("fd96::1", 53, flow.ProtoUDP), forward("fd96::1", 80, flow.ProtoTCP, "[fd00::1]:8080"),
		}},
		{Kind: meta.Service, Namespace: "default", Name: "short", Addrs: addrs("10.96.0.2"), Forwards: []meta.Forward{forward("10.96.0.2", 80, flow.ProtoTCP, "10.0.1.3:8080")}},
		{Kind: meta.Service, Namespace: "default", Name: "web"},
	}
	got, err := Inventory([]string{"-"}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddrs, comparePorts); diff != "" {
		t.Error(diff)
	}
}

func TestInventoryRefuses(t *testing.T) {
	pod := func(rest string) string {
		return "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b}, " + rest + "}"
	}
	service := func(rest string) string {
		return "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: b}, " + rest + "}"
	}
	slice := func(rest string) string {
		return "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, namespace: b}, " + rest + "}"
	}
	for _, c := range []struct{ name, text, want string }{
		{"not YAML", "a: [", "stdin: yaml: line 1: did not find expected node content"},
		{"a text", "hello", `stdin: is not an object with apiVersion and kind, but the text "hello"`},
		{"no kind", "a: 1", "stdin: apiVersion or kind is missing"},
		{"no name", "{apiVersion: v1, kind: Pod}", "stdin: Pod default/without a name: metadata.name is missing"},
		{"bad name", `{apiVersion: v1, kind: Node, metadata: {name: "a\u001bb"}}`, `stdin: Node a` + "\x1b" + `b: metadata.name the text "a\x1bb" is refused: a lowercase RFC 1123`},
		{"bad namespace", "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b.c}}", `stdin: Pod b.c/a: metadata.namespace the text "b.c" is refused: must not contain dots`},
		{"label", "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {b: 1}}}", `stdin: Pod default/a: metadata.labels["b"] is not a text (put it in quotes), but 1`},
		{"items", "{apiVersion: v1, kind: List, items: 1}", "stdin: items is not a list, but 1"},
		{"item", "{apiVersion: v1, kind: List, items: [1]}", "stdin: items[0] is not an object with apiVersion and kind, but 1"},
		{"hostNetwork", "{apiVersion: v1, kind: List, items: [" + pod("spec: {hostNetwork: 1}") + "]}", "stdin: Pod b/a: items[0].spec.hostNetwork is not true or false, but 1"},
		{"address", pod("status: {podIPs: [{ip: 10.0.0}]}"), `stdin: Pod b/a: status.podIPs[0].ip the text "10.0.0" is not an address`},
		{"single address", pod("status: {podIP: x}"), `stdin: Pod b/a: status.podIP the text "x" is not an address`},
		{"addresses", pod("status: {podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]}"), "stdin: Pod b/a: status.podIPs[1] 10.0.0.2 is a second address of its family"},
		{"node's address", "{apiVersion: v1, kind: Node, metadata: {name: node1}, status: {addresses: [{type: InternalIP, address: 'fe80::1%eth0'}]}}", `stdin: Node node1: status.addresses[0].address the text "fe80::1%eth0" is not an address`},
		{"host's address", pod("spec: {nodeName: node1}, status: {hostIP: x}"), `stdin: Pod b/a: status.hostIP the text "x" is not an address`},
		{"port", pod("spec: {containers: [{ports: [{name: a, containerPort: 0}]}]}"), "stdin: Pod b/a: spec.containers[0].ports[0].containerPort 0 is not a port from 1 to 65535"},
		{"port's name", pod("spec: {containers: [{ports: [{name: A_, containerPort: 1}]}]}"), `stdin: Pod b/a: spec.containers[0].ports[0].name the text "A_" is refused: must contain only alpha-numeric`},
		{"protocol", pod("spec: {containers: [{ports: [{name: a, containerPort: 1, protocol: ICMP}]}]}"), `stdin: Pod b/a: spec.containers[0].ports[0].protocol the text "ICMP" is not one of TCP, UDP, SCTP`},
		{"cluster IP", service("spec: {clusterIPs: [10.96.0.1, x]}"), `stdin: Service b/a: spec.clusterIPs[1] the text "x" is not an address`},
		{"external IP", service("spec: {externalIPs: ['fe80::1%eth0']}"), `stdin: Service b/a: spec.externalIPs[0] the text "fe80::1%eth0" is not an address`},
		{"load balancer", service("status: {loadBalancer: {ingress: [{ip: x}]}}"), `stdin: Service b/a: status.loadBalancer.ingress[0].ip the text "x" is not an address`},
		{"service's port", service("spec: {ports: [{port: 0}]}"), "stdin: Service b/a: spec.ports[0].port 0 is not a port from 1 to 65535"},
		{"service's protocol", service("spec: {ports: [{port: 1, protocol: x}]}"), `stdin: Service b/a: spec.ports[0].protocol the text "x" is not one of TCP, UDP, SCTP`},
		{"service's ports", service("spec: {ports: 1}"), "stdin: Service b/a: spec.ports is not a list, but 1"},
		{"address type", slice("addressType: x"), `stdin: EndpointSlice b/a: addressType the text "x" is not one of IPv4, IPv6, FQDN`},
		{"endpoint", slice("addressType: IPv6, endpoints: [{addresses: ['fd00::1']}, {addresses: [10.0.0.1]}]"), `stdin: EndpointSlice b/a: endpoints[1].addresses[0] the text "10.0.0.1" is not an address of IPv6`},
		{"slice's protocol", slice("addressType: IPv4, ports: [{protocol: x}]"), `stdin: EndpointSlice b/a: ports[0].protocol the text "x" is not one of TCP, UDP, SCTP`},
		{"slice twice", slice("addressType: IPv4") + "\n---\n" + slice("addressType: IPv4"), "stdin document 2: EndpointSlice b/a: is there already, in stdin document 1"},
		{"twice", pod("spec: {}") + "\n---\n" + pod("spec: {}"), "stdin document 2: Pod b/a: is there already, in stdin document 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Inventory([]string{"-"}, strings.NewReader(c.text))
			var problems Problems
			if !errors.As(err, &problems) || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func FuzzInventory(f *testing.F) {
	f.Add("{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {b: c}}, spec: {containers: [{ports: [{name: a, containerPort: 1}]}]}, status: {podIPs: [{ip: ::1}], hostIP: 1.2.3.4}}")
	f.Add("{apiVersion: v1, kind: NodeList, items: [{metadata: {name: node1}, status: {addresses: [{type: InternalIP, address: 1.1.1.1}]}}]}")
	f.Add("{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIPs: [10.96.0.1], ports: [{port: 80}, {name: b, port: 1}]}}, " +
		"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]}]}")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := Inventory([]string{"-"}, strings.NewReader(text))
		for _, o := range objects {
			for _, a := range o.Addrs {
				if err == nil && (!a.IsValid() || a.Is4In6()) {
					t.Errorf("%v has address %s", o.Key(), a)
				}
			}
			for _, f := range o.Forwards {
				if err == nil && !slices.Contains(o.Addrs, f.Addr) {
					t.Errorf("%v leads from %s, which is not its address", o.Key(), f.Addr)
				}
				for i, to := range f.To {
					if !to.IsValid() || to.Port() == 0 || to.Addr().Is4() != f.Addr.Is4() || i > 0 && f.To[i-1].Compare(to) >= 0 {
						t.Errorf("%v leads from %s to %s", o.Key(), f.Addr, f.To)
					}
				}
			}
		}
	})
}
