package kube

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

func (w *watch) pod(p *corev1.Pod) *meta.Object {
	top := w.top(p)
	o := &meta.Object{
		Kind: meta.Pod, Namespace: p.Namespace, Name: p.Name, Workload: top.name, WorkloadKind: top.kind,
		Node: p.Spec.NodeName, Cluster: w.cfg.Cluster, Labels: p.Labels, HostNetwork: p.Spec.HostNetwork, Ports: namedPorts(p),
		Services: w.servicesOf(p.Namespace, p.Name),
	}
	for _, ip := range p.Status.PodIPs {
		o.Addrs = appendAddr(o.Addrs, ip.IP)
	}
	if len(o.Addrs) == 0 {
		o.Addrs = appendAddr(nil, p.Status.PodIP)
	}
	return o
}

// top follows p's owners to the one that a person made: the Deployment of a ReplicaSet, the CronJob of a Job, else the
// pod's own owner; none if it has none.
func (w *watch) top(p *corev1.Pod) owner {
	own := ownerOf(p)
	for _, r := range []resource{replicaSets, jobs} {
		if own.kind != r.kind() {
			continue
		}
		if o, found, err := w.informers[r].GetStore().GetByKey(p.Namespace + "/" + own.name); err == nil && found {
			if above := ownerOf(o.(*metav1.PartialObjectMetadata)); above != (owner{}) {
				return above
			}
			return own
		}
	}
	// Not known (yet), or not to be read: a Deployment names its ReplicaSets by this hash
	// (kubernetes/pkg/controller/deployment/sync.go, getNewReplicaSet).
	if hash := p.Labels["pod-template-hash"]; own.kind == replicaSets.kind() && hash != "" {
		if name, ok := strings.CutSuffix(own.name, "-"+hash); ok {
			return owner{"Deployment", name}
		}
	}
	return own
}

// namedPorts returns the named ports that p's containers have, those of sidecars (init containers that are restarted)
// included.
func namedPorts(p *corev1.Pod) []meta.Port {
	var ports []meta.Port
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			proto, known := map[corev1.Protocol]flow.Proto{
				"": flow.ProtoTCP, corev1.ProtocolTCP: flow.ProtoTCP, corev1.ProtocolUDP: flow.ProtoUDP, corev1.ProtocolSCTP: flow.ProtoSCTP,
			}[port.Protocol]
			if known && port.ContainerPort > 0 && port.ContainerPort < 1<<16 {
				ports = append(ports, meta.Port{Name: port.Name, Number: uint16(port.ContainerPort), Proto: proto})
			}
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	return ports
}

func (w *watch) node(n *corev1.Node) *meta.Object {
	o := &meta.Object{Kind: meta.Node, Name: n.Name, Cluster: w.cfg.Cluster, Labels: n.Labels}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			o.Addrs = appendAddr(o.Addrs, a.Address)
		}
	}
	return o
}

func (w *watch) namespace(n *metav1.PartialObjectMetadata) *meta.Object {
	return &meta.Object{Kind: meta.Namespace, Name: n.Name, Cluster: w.cfg.Cluster, Labels: n.Labels}
}

// appendAddr appends what s says, if it is an address.
func appendAddr(to []netip.Addr, s string) []netip.Addr {
	if a, err := netip.ParseAddr(s); err == nil {
		return append(to, a)
	}
	return to
}
