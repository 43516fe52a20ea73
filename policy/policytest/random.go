package policytest

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

// World is a random cluster: few labels, ports and ranges, so that rules often meet.
type World struct {
	Inventory policy.Inventory
	Policies  []*networkingv1.NetworkPolicy
	Options   policy.Options
}

// Dice are what all is drawn with.
type Dice struct{ *rand.Rand }

// NewDice returns the dice of case n: the same for the same seed.
func NewDice(seed uint64, n int) Dice { return Dice{rand.New(rand.NewPCG(seed, uint64(n)))} }

// Chance is true in percent of all throws.
func (r Dice) Chance(percent int) bool { return r.IntN(100) < percent }

// One draws one of the values.
func One[T any](r Dice, of ...T) T { return of[r.IntN(len(of))] }

// What all is drawn of.
var (
	NodeNames  = []string{"n1", "n2"}
	Namespaces = []string{"a", "b", "c"}
	labelKeys  = []string{"app", "tier", "statefulset.kubernetes.io/pod-name"} // the last is none of the identity's
	values     = []string{"x", "y", "z"}
	PortNames  = []string{"http", "dns"}
	PortPool   = []uint16{1, 53, 79, 80, 81, 443, 1023, 1024, 8080, 8081, 65534, 65535}
	protoPool  = []flow.Proto{flow.ProtoTCP, flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP}
	cidrPool   = []string{
		"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/30", "10.1.0.2/32", "192.0.2.0/24", "192.0.2.128/25", "192.0.2.1/32",
		"172.16.0.0/24", "128.0.0.0/1", "::/0", "fd00::/8", "fd00:1::/32", "fd00:1::/126", "2001:db8::/32", "2001:db8:8000::/33", "2001:db8::1/128",
	}
	Strangers = []string{"10.1.0.77", "192.0.2.1", "192.0.2.200", "203.0.113.9", "10.9.9.9", "2001:db8::1", "2001:db8:8000::5", "fd99::1"}
)

// RandomLabels draws labels of a pod or namespace.
func RandomLabels(r Dice) map[string]string {
	m := map[string]string{}
	for _, k := range labelKeys {
		if r.Chance(55) {
			m[k] = One(r, values...)
		}
	}
	return m
}

// RandomWorld draws a cluster with its policies.
func RandomWorld(r Dice) World {
	var w World
	for i, n := range NodeNames {
		w.Inventory.Hosts = append(w.Inventory.Hosts, policy.Host{Name: n, Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{172, 16, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd00:16::%d", i+1))}})
	}
	labels := map[string]map[string]string{}
	for _, ns := range Namespaces {
		labels[ns] = RandomLabels(r)
		labels[ns]["kubernetes.io/metadata.name"] = ns
	}
	for i := range 3 + r.IntN(8) {
		ns := One(r, Namespaces...)
		p := policy.Endpoint{Namespace: ns, Name: fmt.Sprint("p", i), NamespaceLabels: labels[ns], Labels: RandomLabels(r), Node: One(r, NodeNames...)}
		if i > 0 && r.Chance(40) { // a replica, which may have other ports
			first := &w.Inventory.Endpoints[r.IntN(i)]
			p.Namespace, p.NamespaceLabels, p.Labels = first.Namespace, first.NamespaceLabels, first.Labels
		}
		if r.Chance(85) {
			p.Addrs = append(p.Addrs, netip.AddrFrom4([4]byte{10, byte(1 + i%2), 0, byte(i)}))
		}
		if r.Chance(60) || len(p.Addrs) == 0 {
			p.Addrs = append(p.Addrs, netip.MustParseAddr(fmt.Sprintf("fd00:%d::%d", 1+i%2, i)))
		}
		if p.HostNetwork = r.Chance(10); p.HostNetwork {
			for _, h := range w.Inventory.Hosts {
				if h.Name == p.Node {
					p.Addrs = h.Addrs
				}
			}
		}
		for range r.IntN(3) {
			p.Ports = append(p.Ports, meta.Port{Name: One(r, PortNames...), Number: One(r, PortPool...), Proto: One(r, protoPool...)})
		}
		w.Inventory.Endpoints = append(w.Inventory.Endpoints, p)
	}
	w.Options.BlocksSkipPods = r.Chance(25)
	w.RedrawServices(r)
	for i := range r.IntN(10) {
		w.Policies = append(w.Policies, RandomPolicy(r, i))
	}
	return w
}

// virtualAddrs are those of services; some blocks of cidrPool hold them.
var virtualAddrs = []string{"10.96.0.1", "10.96.0.2", "172.16.0.99", "fd00:96::1", "2001:db8:8000::99"}

// RedrawServices draws the services of w anew: few addresses and ports, so that several claim one, and some lead nowhere.
func (w *World) RedrawServices(r Dice) {
	w.Inventory.Services = nil
	for i := range r.IntN(7) {
		s := policy.Service{Namespace: One(r, Namespaces...), Name: fmt.Sprint("s", i)}
		for range 1 + r.IntN(3) {
			f := meta.Forward{Addr: netip.MustParseAddr(One(r, virtualAddrs...)), Port: One(r, PortPool...), Proto: One(r, protoPool...)}
			for range r.IntN(3) {
				f.To = append(f.To, netip.AddrPortFrom(One(r, w.actors(f.Addr.Is4())...).Addr, One(r, PortPool...)))
			}
			s.Forwards = append(s.Forwards, f)
		}
		w.Inventory.Services = append(w.Inventory.Services, s)
	}
}

// RandomPolicy draws a policy, which i names.
func RandomPolicy(r Dice, i int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: One(r, Namespaces...), Name: fmt.Sprint("np", i)},
	}
	np.Spec.PodSelector = randomSelector(r)
	if r.Chance(50) {
		np.Spec.PodSelector = metav1.LabelSelector{}
	}
	for range r.IntN(4) {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: randomPeers(r), Ports: randomPorts(r)})
	}
	for range r.IntN(4) {
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: randomPeers(r), Ports: randomPorts(r)})
	}
	np.Spec.PolicyTypes = One(r, nil, nil, []networkingv1.PolicyType{"Ingress"}, []networkingv1.PolicyType{"Egress"},
		[]networkingv1.PolicyType{"Ingress", "Egress"})
	return np
}

func randomSelector(r Dice) metav1.LabelSelector {
	var s metav1.LabelSelector
	for range r.IntN(2) {
		s.MatchLabels = map[string]string{One(r, labelKeys...): One(r, values...)}
	}
	for range r.IntN(2) {
		e := metav1.LabelSelectorRequirement{Key: One(r, labelKeys...), Operator: One(r,
			metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			for range 1 + r.IntN(2) {
				e.Values = append(e.Values, One(r, values...))
			}
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func randomPeers(r Dice) (peers []networkingv1.NetworkPolicyPeer) {
	for range r.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		if r.Chance(40) {
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
		if r.Chance(30) {
			s = metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": One(r, Namespaces...)}}
		}
		p.NamespaceSelector = &s
		peers = append(peers, p)
	}
	return peers
}

func randomBlock(r Dice) *networkingv1.IPBlock {
	b := &networkingv1.IPBlock{CIDR: One(r, cidrPool...)}
	outer := netip.MustParsePrefix(b.CIDR)
	for range r.IntN(3) {
		x := netip.MustParsePrefix(One(r, cidrPool...))
		if x.Bits() > outer.Bits() && outer.Contains(x.Addr()) {
			b.Except = append(b.Except, x.String())
		}
	}
	return b
}

func randomPorts(r Dice) (ports []networkingv1.NetworkPolicyPort) {
	for range r.IntN(3) {
		var p networkingv1.NetworkPolicyPort
		if r.Chance(60) {
			proto := One(r, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
			p.Protocol = &proto
		}
		switch r.IntN(4) {
		case 0:
			v := intstr.FromString(One(r, PortNames...))
			p.Port = &v
		case 1, 2:
			first := One(r, PortPool...)
			v := intstr.FromInt32(int32(first))
			p.Port = &v
			if end := int32(One(r, PortPool...)); end >= int32(first) && r.Chance(60) {
				p.EndPort = &end
			}
		}
		ports = append(ports, p)
	}
	return ports
}

// Probe is one connection to ask about.
type Probe struct {
	Src, Dst Actor
	Proto    flow.Proto
	Port     uint16
}

func (p Probe) String() string {
	name := func(a Actor) string {
		if a.Pod != nil {
			return fmt.Sprintf("%s (%s)", a.Pod, a.Addr)
		}
		return fmt.Sprintf("%s (node %q)", a.Addr, a.Node)
	}
	return fmt.Sprintf("%s -> %s %d/%s", name(p.Src), name(p.Dst), p.Port, p.Proto)
}

// actors lists everybody in w who has an address of one family, and some Strangers.
func (w *World) actors(is4 bool) (list []Actor) {
	for i := range w.Inventory.Endpoints {
		if p := &w.Inventory.Endpoints[i]; !p.HostNetwork {
			for _, a := range p.Addrs {
				list = append(list, Actor{Pod: p, Addr: a, Skip: w.Options.BlocksSkipPods})
			}
		}
	}
	for _, h := range w.Inventory.Hosts {
		for _, a := range h.Addrs {
			list = append(list, Actor{Addr: a, Node: h.Name})
		}
	}
	for _, s := range Strangers {
		list = append(list, Actor{Addr: netip.MustParseAddr(s)})
	}
	var family []Actor
	for _, a := range list {
		if a.Addr.Is4() == is4 {
			family = append(family, a)
		}
	}
	return family
}

// Probes draws n connections of w.
func (w *World) Probes(r Dice, n int) []Probe {
	families := [][]Actor{w.actors(true), w.actors(false)}
	var list []Probe
	for range n {
		family := One(r, families...)
		p := Probe{Src: One(r, family...), Dst: One(r, family...), Proto: One(r, protoPool...), Port: One(r, PortPool...)}
		if r.Chance(5) {
			p.Proto, p.Port = flow.ProtoICMP, 0
		} else if r.Chance(20) {
			p.Port = uint16(1 + r.IntN(65535))
		}
		if n := len(w.Inventory.Services); n > 0 && r.Chance(30) {
			p = w.serviceProbe(r, p)
		}
		list = append(list, p)
	}
	return list
}

// serviceProbe redirects p to a service, most of the time to a port that it has.
func (w *World) serviceProbe(r Dice, p Probe) Probe {
	f := One(r, One(r, w.Inventory.Services...).Forwards...)
	if f.Addr.Is4() != p.Src.Addr.Is4() {
		p.Src = One(r, w.actors(f.Addr.Is4())...)
	}
	p.Dst = Actor{Addr: f.Addr}
	if r.Chance(85) {
		p.Proto, p.Port = f.Proto, f.Port
	}
	return p
}
