package meta

import (
	"cmp"
	"hash/fnv"
	"slices"
	"unique"

	"github.com/parallax-flow/parallax/flow"
)

// Reserved numeric identities, as in Cilium (pkg/identity/numericidentity.go).
const (
	IdentityHost       uint32 = 1
	IdentityWorld      uint32 = 2
	IdentityRemoteNode uint32 = 6

	FirstIdentity = 256 // the least that Identity returns; below are the reserved ones
)

// unstable labels tell apart the pods of one workload, or its revisions; they are not part of the identity.
var unstable = map[string]bool{
	"pod-template-hash": true, "pod-template-generation": true, "controller-revision-hash": true, "controller-uid": true,
	"statefulset.kubernetes.io/pod-name": true, "apps.kubernetes.io/pod-index": true,
	"batch.kubernetes.io/controller-uid": true, "batch.kubernetes.io/job-completion-index": true,
}

// IdentityLabel reports whether Identity counts a label with this key.
func IdentityLabel(key string) bool { return !unstable[key] }

// Identity returns the numeric identity of what has these labels in this namespace: the same number on every node and
// after every restart, in [256, 2^32). It is a hash (FNV-1a), so two label sets share one with a chance of n^2 / 2^33.
// Labels that differ between the pods of one workload do not count.
func Identity(namespace string, labels map[string]string) uint32 {
	keys := make([]string, 0, len(labels))
	for k := range labels {
		if !unstable[k] {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	h := fnv.New64a()
	write := func(s string) { h.Write(append([]byte(s), 0)) }
	write(namespace)
	for _, k := range keys {
		write(k)
		write(labels[k])
	}
	return FirstIdentity + uint32(h.Sum64()%(1<<32-FirstIdentity))
}

// endpointOf returns the endpoint that o's addresses stand for, nil for a namespace.
func (d *Directory) endpointOf(o *Object) *flow.Endpoint {
	e := &flow.Endpoint{Namespace: o.Namespace, Cluster: o.Cluster, Labels: labelList(o.Labels)}
	switch o.Kind {
	case Pod:
		e.Kind, e.Pod, e.NodeName = flow.EndpointPod, o.Name, o.Node
		e.Workload, e.WorkloadKind = cmp.Or(o.Workload, o.Name), cmp.Or(o.WorkloadKind, "Pod")
		e.Identity = Identity(o.Namespace, o.Labels)
		if len(o.Services) > 0 {
			e.Name = o.Services[0]
		}
	case Service:
		e.Kind, e.Name = flow.EndpointService, o.Name
		e.Identity = Identity(o.Namespace, o.Labels)
	case Node:
		e.Kind, e.Name, e.NodeName, e.Namespace = flow.EndpointHost, o.Name, o.Name, ""
		e.Identity = IdentityRemoteNode
		if o.Name == d.cfg.Node {
			e.Identity = IdentityHost
		}
	default:
		return nil
	}
	return e
}

// labelList returns labels as sorted "key=value", each text held once for all objects.
func labelList(labels map[string]string) []string {
	if len(labels) == 0 {
		return nil
	}
	list := make([]string, 0, len(labels))
	for k, v := range labels {
		list = append(list, unique.Make(k+"="+v).Value())
	}
	slices.Sort(list)
	return list
}

func equal(a, b *flow.Endpoint) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Labels, y.Labels = nil, nil
	return slices.Equal(a.Labels, b.Labels) &&
		x.Kind == y.Kind && x.Identity == y.Identity && x.Namespace == y.Namespace && x.Pod == y.Pod &&
		x.Workload == y.Workload && x.WorkloadKind == y.WorkloadKind && x.Name == y.Name &&
		x.NodeName == y.NodeName && x.Cluster == y.Cluster
}
