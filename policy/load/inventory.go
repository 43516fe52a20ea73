package load

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/parallax-flow/parallax/flow/meta"
)

// The parts of v1 objects (k8s.io/api/core/v1/types.go) that an inventory is made of. What a newer API server adds to
// them is not an error, as it is in a policy: nothing here says that these are all fields.
type (
	object struct {
		Metadata metadata `json:"metadata"`
		Spec     podSpec  `json:"spec"`
		Status   status   `json:"status"`
	}
	metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		Labels          map[string]string `json:"labels"`
		OwnerReferences []owner           `json:"ownerReferences"`
	}
	owner struct {
		Kind       string `json:"kind"`
		Name       string `json:"name"`
		Controller bool   `json:"controller"`
	}
	podSpec struct {
		NodeName       string      `json:"nodeName"`
		HostNetwork    bool        `json:"hostNetwork"`
		Containers     []container `json:"containers"`
		InitContainers []container `json:"initContainers"`
	}
	container struct {
		RestartPolicy string          `json:"restartPolicy"`
		Ports         []containerPort `json:"ports"`
	}
	containerPort struct {
		Name          string          `json:"name"`
		ContainerPort int32           `json:"containerPort"`
		Protocol      corev1.Protocol `json:"protocol"`
	}
	status struct {
		Phase     string        `json:"phase"`
		PodIP     string        `json:"podIP"`
		PodIPs    []address     `json:"podIPs"`
		HostIP    string        `json:"hostIP"`
		HostIPs   []address     `json:"hostIPs"`
		Addresses []nodeAddress `json:"addresses"`
	}
	address struct {
		IP string `json:"ip"`
	}
	nodeAddress struct {
		Type    string `json:"type"`
		Address string `json:"address"`
	}
)

// inventoryKinds are the kinds that an inventory is made of, with their versions.
var inventoryKinds = map[string]string{
	"Pod": "v1", "Namespace": "v1", "Node": "v1", "Service": "v1", "EndpointSlice": "discovery.k8s.io/v1",
}

// Inventory reads pods, namespaces, nodes, services and EndpointSlices, as
// "kubectl get pods,namespaces,nodes,services,endpointslices -A -o yaml" prints them, alone or in lists, from paths as Paths
// takes them. Objects of other kinds are left out, and so are pods that have finished: their addresses are others' by now.
// A node without an object of its own has the addresses that its pods say it has. A service leads to what the
// EndpointSlices say, as Forwards has it: without them to nothing. Errors are those of Paths, with what could be read.
func Inventory(paths []string, stdin io.Reader) ([]*meta.Object, error) {
	v := inventory{origins: make(map[id]string), hosts: make(map[string][]netip.Addr), slices: make(map[id][]*discoveryv1.EndpointSlice)}
	v.loader.take = func(where string, tree any) { v.object(where, "", "", tree) }
	if err := v.paths(paths, stdin); err != nil {
		return nil, err
	}
	v.addHosts()
	v.addForwards()
	if len(v.problems) > 0 {
		return v.objects, v.problems
	}
	return v.objects, nil
}

type inventory struct {
	loader
	objects  []*meta.Object
	origins  map[id]string
	hosts    map[string][]netip.Addr // of nodes by name, as pods tell them
	services []service
	slices   map[id][]*discoveryv1.EndpointSlice // by service
}

// id names an object of the API.
type id struct{ kind, namespace, name string }

// object takes one object of a document; path is its place in a list, kind what the list says its items are.
func (v *inventory) object(where, path, kind string, tree any) {
	m, ok := tree.(map[string]any)
	if !ok {
		v.refuse(Problem{Where: where, Path: path, Text: "is not an object with apiVersion and kind, but " + describe(tree)})
		return
	}
	h := headOf(m)
	if kind != "" && h.kind == "" && h.version == "" { // items of a typed list need not repeat it
		h.version, h.kind = inventoryKinds[kind], kind
	}
	if h.kind == "" || h.version == "" {
		v.refuse(Problem{Where: where, Path: path, Text: "apiVersion or kind is missing"})
		return
	}
	of, isList := strings.CutSuffix(h.kind, "List")
	switch {
	case h.kind == "List" && h.version == "v1", isList && inventoryKinds[of] == h.version:
		items, ok := m["items"].([]any)
		if !ok && m["items"] != nil {
			v.refuse(Problem{Where: where, Path: join(path, "items"), Text: "is not a list, but " + describe(m["items"])})
		}
		for i, item := range items {
			v.object(where, fmt.Sprintf("%s[%d]", join(path, "items"), i), of, item)
		}
	case inventoryKinds[h.kind] == h.version:
		if h.kind != "Namespace" && h.kind != "Node" {
			h.namespace = cmp.Or(h.namespace, "default")
		}
		v.add(where, path, h, m)
	}
}

// add takes an object of one of inventoryKinds.
func (v *inventory) add(where, path string, h head, tree map[string]any) {
	refused := false
	refuse := func(at, text string) {
		refused = true
		v.refuse(Problem{Where: where, Object: h.name(), Path: strings.Trim(path+"."+at, "."), Text: text})
	}
	var from any = &object{}
	switch h.kind {
	case "Service":
		from = &corev1.Service{}
	case "EndpointSlice":
		from = &discoveryv1.EndpointSlice{}
	}
	if decode(tree, from, refuse); refused {
		return
	}
	checkNames(h, refuse)
	self := id{h.kind, h.namespace, h.objectName}
	if h.kind == "Namespace" || h.kind == "Node" {
		self.namespace = ""
	}
	if first, twice := v.origins[self]; twice {
		refuse("", "is there already, in "+first)
	}
	v.origins[self] = where
	var take func()
	switch from := from.(type) {
	case *object:
		from.Metadata.Namespace = h.namespace
		take = v.readObject(h.kind, from, refuse)
	case *corev1.Service:
		from.Namespace = h.namespace
		take = v.readService(from, refuse)
	case *discoveryv1.EndpointSlice:
		from.Namespace = h.namespace
		take = v.readSlice(from, refuse)
	}
	if !refused {
		take()
	}
}

// decode reads tree into what from points to. Fields that this type has not are left out.
func decode(tree map[string]any, from any, refuse func(path, text string)) {
	t := reflect.TypeOf(from).Elem()
	known, ok := prune(tree, t), true
	conform(known, t, "", func(path, text string) {
		ok = false
		refuse(path, text)
	})
	if !ok {
		return
	}
	raw, err := json.Marshal(known)
	if err == nil {
		err = json.Unmarshal(raw, from)
	}
	if err != nil {
		refuse("", oneLine(err))
	}
}

func checkNames(h head, refuse func(path, text string)) {
	if h.objectName == "" {
		refuse("metadata.name", "is missing")
	}
	for _, m := range validation.IsDNS1123Subdomain(cmp.Or(h.objectName, "x")) {
		refuse("metadata.name", describe(h.objectName)+" is refused: "+m)
	}
	if h.namespace != "" {
		for _, m := range validation.IsDNS1123Label(h.namespace) {
			refuse("metadata.namespace", describe(h.namespace)+" is refused: "+m)
		}
	}
}

// readObject reads a pod, namespace or node, and returns what takes it.
func (v *inventory) readObject(kind string, from *object, refuse func(path, text string)) func() {
	c := objectReader{from, refuse}
	o := c.read(map[string]meta.Kind{"Pod": meta.Pod, "Namespace": meta.Namespace, "Node": meta.Node}[kind])
	return func() {
		if o.Kind == meta.Pod && (from.Status.Phase == "Succeeded" || from.Status.Phase == "Failed") {
			return
		}
		v.objects = append(v.objects, o)
		if o.Kind == meta.Pod && o.Node != "" {
			v.hosts[o.Node] = append(v.hosts[o.Node], c.addrs("hostIP", from.Status.HostIP, from.Status.HostIPs)...)
		}
	}
}

// addHosts adds the nodes that are known from their pods alone.
func (v *inventory) addHosts() {
	names := make([]string, 0, len(v.hosts))
	for name := range v.hosts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		o := &meta.Object{Kind: meta.Node, Name: name, Node: name, Addrs: v.hosts[name]}
		if _, known := v.origins[id{kind: "Node", name: name}]; known || len(o.Addrs) == 0 {
			continue
		}
		slices.SortFunc(o.Addrs, netip.Addr.Compare)
		o.Addrs = slices.Compact(o.Addrs)
		v.objects = append(v.objects, o)
	}
}

// objectReader turns one object of the API into ours.
type objectReader struct {
	*object
	refuse func(path, text string)
}

func (c objectReader) read(kind meta.Kind) *meta.Object {
	md := &c.Metadata
	o := &meta.Object{Kind: kind, Namespace: md.Namespace, Name: md.Name, Labels: md.Labels}
	if kind != meta.Pod {
		o.Namespace = ""
	}
	switch kind {
	case meta.Pod:
		o.Node, o.HostNetwork = c.Spec.NodeName, c.Spec.HostNetwork
		o.Workload, o.WorkloadKind = md.workload()
		o.Addrs, o.Ports = c.addrs("podIP", c.Status.PodIP, c.Status.PodIPs), c.ports()
		for i, a := range o.Addrs {
			if slices.ContainsFunc(o.Addrs[:i], func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
				c.refuse(fmt.Sprintf("status.podIPs[%d]", i), a.String()+" is a second address of its family")
			}
		}
	case meta.Node:
		o.Node = md.Name
		for i, a := range c.Status.Addresses {
			if a.Type == "InternalIP" || a.Type == "ExternalIP" {
				o.Addrs = append(o.Addrs, c.addr(fmt.Sprintf("status.addresses[%d].address", i), a.Address))
			}
		}
	}
	return o
}

// workload returns who made the pod. API: "If this reference points to the managing controller"; a ReplicaSet of a
// Deployment bears its name and the hash of the pod's template.
func (md *metadata) workload() (name, kind string) {
	for _, o := range md.OwnerReferences {
		if !o.Controller {
			continue
		}
		if base, found := strings.CutSuffix(o.Name, "-"+md.Labels["pod-template-hash"]); found && o.Kind == "ReplicaSet" {
			return base, "Deployment"
		}
		return o.Name, o.Kind
	}
	return "", ""
}

// addrs reads a list of addresses. The single one is its first, and alone with old servers.
func (c objectReader) addrs(field, single string, list []address) (out []netip.Addr) {
	for i, a := range list {
		out = append(out, c.addr(fmt.Sprintf("status.%ss[%d].ip", field, i), a.IP))
	}
	if len(list) == 0 && single != "" {
		out = append(out, c.addr("status."+field, single))
	}
	return out
}

func (c objectReader) addr(path, text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		c.refuse(path, describe(text)+" is not an address")
	}
	return a.Unmap()
}

// ports returns the named ports. Init containers that go on running beside the others have some too.
func (c objectReader) ports() (out []meta.Port) {
	add := func(at string, ports []containerPort) {
		for i, p := range ports {
			path := fmt.Sprintf("%s.ports[%d]", at, i)
			checkProtocol(path, p.Protocol, c.refuse)
			if !isPort(p.ContainerPort) {
				c.refuse(path+".containerPort", fmt.Sprintf("%d is not a port from 1 to 65535", p.ContainerPort))
			}
			if p.Name == "" {
				continue
			}
			for _, m := range validation.IsValidPortName(p.Name) {
				c.refuse(path+".name", describe(p.Name)+" is refused: "+m)
			}
			out = append(out, meta.Port{Name: p.Name, Number: uint16(p.ContainerPort), Proto: protocols[p.Protocol]})
		}
	}
	for i, container := range c.Spec.Containers {
		add(fmt.Sprintf("spec.containers[%d]", i), container.Ports)
	}
	for i, container := range c.Spec.InitContainers {
		if container.RestartPolicy == "Always" {
			add(fmt.Sprintf("spec.initContainers[%d]", i), container.Ports)
		}
	}
	return out
}

// prune returns tree without the fields that t has not.
func prune(tree any, t reflect.Type) any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := tree.(type) {
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return tree
		}
		out := make(map[string]any)
		fields := make(map[string]reflect.Type)
		jsonFields(t, fields)
		for name, field := range fields {
			if value, found := v[name]; found {
				out[name] = prune(value, field)
			}
		}
		return out
	case []any:
		if t.Kind() != reflect.Slice {
			return tree
		}
		out := make([]any, len(v))
		for i := range v {
			out[i] = prune(v[i], t.Elem())
		}
		return out
	}
	return tree
}
