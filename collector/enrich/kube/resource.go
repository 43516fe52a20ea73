package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// resource is a kind of object that is watched, by its name in the API.
type resource string

const (
	namespaces      resource = "namespaces"
	nodes           resource = "nodes"
	services        resource = "services"
	endpointSlices  resource = "endpointslices"
	replicaSets     resource = "replicasets"
	jobs            resource = "jobs"
	pods            resource = "pods"
	networkPolicies resource = "networkpolicies"
)

// resources are those that names are made of.
var resources = []resource{namespaces, nodes, services, endpointSlices, replicaSets, jobs, pods}

// example is an object of r as it is read: in full, or its metadata alone where that names it.
func (r resource) example() runtime.Object {
	switch r {
	case pods:
		return &corev1.Pod{}
	case services:
		return &corev1.Service{}
	case nodes:
		return &corev1.Node{}
	case endpointSlices:
		return &discoveryv1.EndpointSlice{}
	case networkPolicies:
		return &unstructured.Unstructured{}
	}
	return &metav1.PartialObjectMetadata{}
}

// version is r's full name.
func (r resource) version() schema.GroupVersionResource {
	group := map[resource]string{
		replicaSets: "apps", jobs: "batch", endpointSlices: discoveryv1.GroupName, networkPolicies: networkingv1.GroupName,
	}[r]
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: string(r)}
}

// kind is how an owner reference names r.
func (r resource) kind() string {
	return map[resource]string{replicaSets: "ReplicaSet", jobs: "Job"}[r]
}

// byOwner is the index of pods by their owner.
const byOwner = "owner"

func (r resource) indexers() cache.Indexers {
	switch r {
	case endpointSlices:
		return sliceIndexers()
	case pods:
		return cache.Indexers{byOwner: func(o any) ([]string, error) {
			p, ok := o.(*corev1.Pod)
			if !ok || ownerOf(p) == (owner{}) {
				return nil, nil
			}
			return []string{ownerOf(p).in(p.Namespace)}, nil
		}}
	}
	return cache.Indexers{}
}

// owner is the controller of an object.
type owner struct{ kind, name string }

// in is o's key in an index.
func (o owner) in(namespace string) string { return o.kind + "/" + namespace + "/" + o.name }

// ownerOf returns o's controller, none if it has none.
func ownerOf(o metav1.Object) owner {
	if c := metav1.GetControllerOfNoCopy(o); c != nil {
		return owner{c.Kind, c.Name}
	}
	return owner{}
}

// trim keeps what is told of an object: the rest, most of it, is never held. It is given what it returned, too.
func (c *Config) trim(o any) (any, error) {
	switch o := o.(type) {
	case *corev1.Pod:
		return &corev1.Pod{
			ObjectMeta: trimmed(o),
			Spec: corev1.PodSpec{
				NodeName: o.Spec.NodeName, HostNetwork: o.Spec.HostNetwork,
				Containers: portsOnly(o.Spec.Containers), InitContainers: portsOnly(o.Spec.InitContainers),
			},
			Status: corev1.PodStatus{PodIP: o.Status.PodIP, PodIPs: o.Status.PodIPs},
		}, nil
	case *corev1.Service:
		return c.trimService(o), nil
	case *corev1.Node:
		return &corev1.Node{ObjectMeta: trimmed(o), Status: corev1.NodeStatus{Addresses: o.Status.Addresses}}, nil
	case *discoveryv1.EndpointSlice:
		return c.trimSlice(o), nil
	case *unstructured.Unstructured:
		return trimPolicy(o), nil
	case *metav1.PartialObjectMetadata:
		return &metav1.PartialObjectMetadata{ObjectMeta: trimmed(o)}, nil
	}
	return o, nil // a cache.DeletedFinalStateUnknown: what is inside was trimmed before
}

// trimmed is o's metadata without annotations, managed fields and all owners but the controller. A ReplicaSet or Job
// keeps no labels: its pods have their own.
func trimmed(o metav1.Object) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(), Labels: o.GetLabels(),
	}
	if c := metav1.GetControllerOfNoCopy(o); c != nil {
		m.OwnerReferences = []metav1.OwnerReference{{Kind: c.Kind, Name: c.Name, Controller: c.Controller}}
	}
	if _, ok := o.(*metav1.PartialObjectMetadata); ok && m.Namespace != "" {
		m.Labels = nil
	}
	return m
}

// portsOnly keeps the named ports of containers, and of init containers those that run beside them.
func portsOnly(list []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for i := range list {
		var ports []corev1.ContainerPort
		for _, p := range list[i].Ports {
			if p.Name != "" {
				ports = append(ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
			}
		}
		if len(ports) > 0 {
			kept = append(kept, corev1.Container{Ports: ports, RestartPolicy: list[i].RestartPolicy})
		}
	}
	return kept
}
