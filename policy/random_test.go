package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
)

// world is a random cluster: few labels, ports and ranges, so that rules often meet.
type world struct {
	inventory policy.Inventory
	policies  []*networkingv1.NetworkPolicy
	options   policy.Options
}

type dice struct{ *rand.Rand }

func (r dice) chance(percent int) bool { return r.IntN(100) < percent }

func one[T any](r dice, of ...T) T { return of[r.IntN(len(of))] }

var (
	nodeNames  = []string{"n1", "n2"}
	namespaces = []string{"a", "b", "c"}
	labelKeys  = []string{"app", "tier", "statefulset.kubernetes.io/pod-name"} // the last is none of the identity's
	values     = []string{"x", "y", "z"}
	portNames  = []string{"http", "dns"}
	portPool   = []uint16{1, 53, 79, 80, 81, 443, 1023, 1024, 8080, 8081, 65534, 65535}
	protoPool  = []flow.Proto{flow.ProtoTCP, flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP}
	cidrPool   = []string{
		"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/30", "10.1.0.2/32", "192.0.2.0/24", "192.0.2.128/25", "192.0.2.1/32",
		"172.16.0.0/24", "128.0.0.0/1", "::/0", "fd00::/8", "fd00:1::/32", "fd00:1::/126", "2001:db8::/32", "2001:db8:8000::/33", "2001:db8::1/128",
	}
	strangers = []string{"10.1.0.77", "192.0.2.1", "192.0.2.200", "203.0.113.9", "10.9.9.9", "2001:db8::1", "2001:db8:8000::5", "fd99::1"}
)

func randomLabels(r dice) map[string]string {
	m := map[string]string{}
	for _, k := range labelKeys {
		if r.chance(55) {
			m[k] = one(r, values...)
		}
	}
	return m
}

func randomWorld(r dice) world {
	var w world
	for i, n := range nodeNames {
		w.inventory.Hosts = append(w.inventory.Hosts, policy.Host{Name: n, Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{172, 16, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd00:16::%d", i+1))}})
	}
	labels := map[string]map[string]string{}
	for _, ns := range namespaces {
		labels[ns] = randomLabels(r)
		labels[ns]["kubernetes.io/metadata.name"] = ns
	}
	for i := range 3 + r.IntN(8) {
		ns := one(r, namespaces...)
		p := policy.Endpoint{Namespace: ns, Name: fmt.Sprint("p", i), NamespaceLabels: labels[ns], Labels: randomLabels(r), Node: one(r, nodeNames...)}
		if i > 0 && r.chance(40) { // a replica, which may have other ports
			first := &w.inventory.Endpoints[r.IntN(i)]
			p.Namespace, p.NamespaceLabels, p.Labels = first.Namespace, first.NamespaceLabels, first.Labels
		}
		if r.chance(85) {
			p.Addrs = append(p.Addrs, netip.AddrFrom4([4]byte{10, byte(1 + i%2), 0, byte(i)}))
		}
		if r.chance(60) || len(p.Addrs) == 0 {
			p.Addrs = append(p.Addrs, netip.MustParseAddr(fmt.Sprintf("fd00:%d::%d", 1+i%2, i)))
		}
		if p.HostNetwork = r.chance(10); p.HostNetwork {
			for _, h := range w.inventory.Hosts {
				if h.Name == p.Node {
					p.Addrs = h.Addrs
				}
			}
		}
		for range r.IntN(3) {
			p.Ports = append(p.Ports, meta.Port{Name: one(r, portNames...), Number: one(r, portPool...), Proto: one(r, protoPool...)})
		}
		w.inventory.Endpoints = append(w.inventory.Endpoints, p)
	}
	w.options.BlocksSkipPods = r.chance(25)
	for i := range r.IntN(10) {
		w.policies = append(w.policies, randomPolicy(r, i))
	}
	return w
}

func randomPolicy(r dice, i int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: one(r, namespaces...), Name: fmt.Sprint("np", i)},
	}
	np.Spec.PodSelector = randomSelector(r)
	if r.chance(50) {
		np.Spec.PodSelector = metav1.LabelSelector{}
	}
	for range r.IntN(4) {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: randomPeers(r), Ports: randomPorts(r)})
	}
	for range r.IntN(4) {
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: randomPeers(r), Ports: randomPorts(r)})
	}
	np.Spec.PolicyTypes = one(r, nil, nil, []networkingv1.PolicyType{"Ingress"}, []networkingv1.PolicyType{"Egress"},
		[]networkingv1.PolicyType{"Ingress", "Egress"})
	return np
}

func randomSelector(r dice) metav1.LabelSelector {
	var s metav1.LabelSelector
	for range r.IntN(2) {
		s.MatchLabels = map[string]string{one(r, labelKeys...): one(r, values...)}
	}
	for range r.IntN(2) {
		e := metav1.LabelSelectorRequirement{Key: one(r, labelKeys...), Operator: one(r,
			metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			for range 1 + r.IntN(2) {
				e.Values = append(e.Values, one(r, values...))
			}
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func randomPeers(r dice) (peers []networkingv1.NetworkPolicyPeer) {
	for range r.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		if r.chance(40) {
			p.IPBlock = randomBlock(r)
			peers = append(peers, p)
			continue
		}
		if which := r.IntN(3); which != 0 {
			s := randomSelector(r)
			p.PodSelector = &s
			if which == 1 {
				peers = append(peers, p)
				continue
			}
		}
		s := randomSelector(r)
		if r.chance(30) {
			s = metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": one(r, namespaces...)}}
		}
		p.NamespaceSelector = &s
		peers = append(peers, p)
	}
	return peers
}

func randomBlock(r dice) *networkingv1.IPBlock {
	b := &networkingv1.IPBlock{CIDR: one(r, cidrPool...)}
	outer := netip.MustParsePrefix(b.CIDR)
	for range r.IntN(3) {
		x := netip.MustParsePrefix(one(r, cidrPool...))
		if x.Bits() > outer.Bits() && outer.Contains(x.Addr()) {
			b.Except = append(b.Except, x.String())
		}
	}
	return b
}

func randomPorts(r dice) (ports []networkingv1.NetworkPolicyPort) {
	for range r.IntN(3) {
		var p networkingv1.NetworkPolicyPort
		if r.chance(60) {
			proto := one(r, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
			p.Protocol = &proto
		}
		switch r.IntN(4) {
		case 0:
			v := intstr.FromString(one(r, portNames...))
			p.Port = &v
		case 1, 2:
			first := one(r, portPool...)
			v := intstr.FromInt32(int32(first))
			p.Port = &v
			if end := int32(one(r, portPool...)); end >= int32(first) && r.chance(60) {
				p.EndPort = &end
			}
		}
		ports = append(ports, p)
	}
	return ports
}

// probe is one connection to ask about.
type probe struct {
	src, dst actor
	proto    flow.Proto
	port     uint16
}

func (p probe) String() string {
	name := func(a actor) string {
		if a.pod != nil {
			return fmt.Sprintf("%s (%s)", a.pod, a.addr)
		}
		return fmt.Sprintf("%s (node %q)", a.addr, a.node)
	}
	return fmt.Sprintf("%s -> %s %d/%s", name(p.src), name(p.dst), p.port, p.proto)
}

// actors lists everybody in w who has an address of one family, and some strangers.
func (w *world) actors(is4 bool) (list []actor) {
	for i := range w.inventory.Endpoints {
		if p := &w.inventory.Endpoints[i]; !p.HostNetwork {
			for _, a := range p.Addrs {
				list = append(list, actor{pod: p, addr: a, skip: w.options.BlocksSkipPods})
			}
		}
	}
	for _, h := range w.inventory.Hosts {
		for _, a := range h.Addrs {
			list = append(list, actor{addr: a, node: h.Name})
		}
	}
	for _, s := range strangers {
		list = append(list, actor{addr: netip.MustParseAddr(s)})
	}
	var family []actor
	for _, a := range list {
		if a.addr.Is4() == is4 {
			family = append(family, a)
		}
	}
	return family
}

func (w *world) probes(r dice, n int) []probe {
	families := [][]actor{w.actors(true), w.actors(false)}
	var list []probe
	for range n {
		family := one(r, families...)
		p := probe{src: one(r, family...), dst: one(r, family...), proto: one(r, protoPool...), port: one(r, portPool...)}
		if r.chance(5) {
			p.proto, p.port = flow.ProtoICMP, 0
		} else if r.chance(20) {
			p.port = uint16(1 + r.IntN(65535))
		}
		list = append(list, p)
	}
	return list
}
