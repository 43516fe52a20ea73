// Package policytest makes random clusters and decides in them, for tests: what it says must be what the engine, the tables
// and the kernel say.
package policytest

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// The oracle is a second evaluator, as plain as can be: it reads API objects, sentence by sentence of their
// documentation, and shares nothing with the engine but the description of pods.

// Actor is one side of a connection.
type Actor struct {
	Pod  *policy.Endpoint // nil if not a pod with an address of its own
	Addr netip.Addr
	Node string // host of the address, if it is one's
	Skip bool   // the switch: blocks do not match this pod
}

// Verdict of the oracle for one side.
type Verdict struct {
	Allowed  bool
	Isolated map[string]bool // names "ns/name" of the policies that select the pod for the direction
	Rules    map[RuleName]bool
}

// RuleName names a rule of a direction.
type RuleName struct {
	Policy string // "namespace/name"
	Index  int
}

func protocol(p *corev1.Protocol) flow.Proto {
	if p == nil {
		return flow.ProtoTCP
	}
	return map[corev1.Protocol]flow.Proto{"TCP": 6, "UDP": 17, "SCTP": 132}[*p]
}

// selected is the standard semantics of label selectors.
func selected(s *metav1.LabelSelector, labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		got, ok := labels[e.Key]
		among := false
		for _, v := range e.Values {
			if ok && v == got {
				among = true
			}
		}
		if e.Operator == "In" && !among || e.Operator == "NotIn" && among || e.Operator == "Exists" && !ok || e.Operator == "DoesNotExist" && ok {
			return false
		}
	}
	return true
}

func hasType(np *networkingv1.NetworkPolicy, want networkingv1.PolicyType) bool {
	if len(np.Spec.PolicyTypes) > 0 {
		for _, t := range np.Spec.PolicyTypes {
			if t == want {
				return true
			}
		}
		return false
	}
	return want == "Ingress" || len(np.Spec.Egress) > 0
}

func peerMatches(namespace string, peers []networkingv1.NetworkPolicyPeer, other Actor) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		if p.IPBlock != nil {
			in := other.Addr.IsValid() && !(other.Skip && other.Pod != nil) && netip.MustParsePrefix(p.IPBlock.CIDR).Contains(other.Addr)
			for _, x := range p.IPBlock.Except {
				if in && netip.MustParsePrefix(x).Contains(other.Addr) {
					in = false
				}
			}
			if in {
				return true
			}
			continue
		}
		if other.Pod == nil {
			continue
		}
		if p.NamespaceSelector == nil && other.Pod.Namespace != namespace {
			continue
		}
		if p.NamespaceSelector != nil && !selected(p.NamespaceSelector, other.Pod.NamespaceLabels) {
			continue
		}
		if p.PodSelector != nil && !selected(p.PodSelector, other.Pod.Labels) {
			continue
		}
		return true
	}
	return false
}

func portMatches(ports []networkingv1.NetworkPolicyPort, dst Actor, proto flow.Proto, port uint16) bool {
	if len(ports) == 0 {
		return true
	}
	for _, p := range ports {
		if protocol(p.Protocol) != proto {
			continue
		}
		if p.Port == nil {
			return true
		}
		if p.Port.Type == intstr.String {
			if dst.Pod != nil {
				for _, c := range dst.Pod.Ports {
					if c.Name == p.Port.StrVal && c.Proto == proto && c.Number == port {
						return true
					}
				}
			}
			continue
		}
		if p.EndPort == nil && int32(port) == p.Port.IntVal {
			return true
		}
		if p.EndPort != nil && int32(port) >= p.Port.IntVal && int32(port) <= *p.EndPort {
			return true
		}
	}
	return false
}

// JudgeIngress is the documentation of NetworkPolicySpec.ingress.
func JudgeIngress(policies []*networkingv1.NetworkPolicy, src, dst Actor, proto flow.Proto, port uint16) Verdict {
	v := Verdict{Isolated: map[string]bool{}, Rules: map[RuleName]bool{}}
	if dst.Pod == nil || src.Pod == dst.Pod {
		v.Allowed = true
		return v
	}
	for _, np := range policies {
		if np.Namespace != dst.Pod.Namespace || !selected(&np.Spec.PodSelector, dst.Pod.Labels) || !hasType(np, "Ingress") {
			continue
		}
		name := np.Namespace + "/" + np.Name
		v.Isolated[name] = true
		for i, r := range np.Spec.Ingress {
			if peerMatches(np.Namespace, r.From, src) && portMatches(r.Ports, dst, proto, port) {
				v.Rules[RuleName{name, i}] = true
			}
		}
	}
	local := src.Pod == nil && src.Node != "" && src.Node == dst.Pod.Node
	v.Allowed = len(v.Isolated) == 0 || local || len(v.Rules) > 0
	return v
}

// JudgeEgress is the documentation of NetworkPolicySpec.egress.
func JudgeEgress(policies []*networkingv1.NetworkPolicy, src, dst Actor, proto flow.Proto, port uint16) Verdict {
	if src.Pod == nil || src.Pod == dst.Pod {
		return Verdict{Allowed: true, Isolated: map[string]bool{}, Rules: map[RuleName]bool{}}
	}
	return judgeEgressRules(policies, src, dst, proto, port)
}

func judgeEgressRules(policies []*networkingv1.NetworkPolicy, src, dst Actor, proto flow.Proto, port uint16) Verdict {
	v := Verdict{Isolated: map[string]bool{}, Rules: map[RuleName]bool{}}
	for _, np := range policies {
		if np.Namespace != src.Pod.Namespace || !selected(&np.Spec.PodSelector, src.Pod.Labels) || !hasType(np, "Egress") {
			continue
		}
		name := np.Namespace + "/" + np.Name
		v.Isolated[name] = true
		for i, r := range np.Spec.Egress {
			if peerMatches(np.Namespace, r.To, dst) && portMatches(r.Ports, dst, proto, port) {
				v.Rules[RuleName{name, i}] = true
			}
		}
	}
	v.Allowed = len(v.Isolated) == 0 || len(v.Rules) > 0
	return v
}

// Judge returns both sides of p, which does not go to a service.
func Judge(policies []*networkingv1.NetworkPolicy, p Probe) (egress, ingress Verdict) {
	return JudgeEgress(policies, p.Src, p.Dst, p.Proto, p.Port), JudgeIngress(policies, p.Src, p.Dst, p.Proto, p.Port)
}

// JudgeService is what the package comment of policy says of egress to a service: all of its backends, or nothing. The rules
// are those for the first backend.
func JudgeService(policies []*networkingv1.NetworkPolicy, p Probe, backends []Probe) Verdict {
	if p.Src.Pod == nil {
		return Verdict{Allowed: true, Isolated: map[string]bool{}, Rules: map[RuleName]bool{}}
	}
	v := judgeEgressRules(policies, p.Src, p.Dst, p.Proto, p.Port)
	v.Rules = map[RuleName]bool{}
	if len(v.Isolated) == 0 {
		return v
	}
	v.Allowed = len(backends) > 0
	for i, b := range backends {
		one := judgeEgressRules(policies, b.Src, b.Dst, b.Proto, b.Port)
		if i == 0 {
			v.Rules = one.Rules
		}
		v.Allowed = v.Allowed && one.Allowed
	}
	if !v.Allowed {
		v.Rules = map[RuleName]bool{}
	}
	return v
}

// Backends returns p as it may go on if it goes to a port of a service of w, sorted; otherwise service is false.
func (w *World) Backends(p Probe) (backends []Probe, service bool) {
	var to []netip.AddrPort
	for _, s := range w.Inventory.Services {
		for _, f := range s.Forwards {
			if f.Addr == p.Dst.Addr && f.Port == p.Port && f.Proto == p.Proto {
				service, to = true, append(to, f.To...)
			}
		}
	}
	slices.SortFunc(to, netip.AddrPort.Compare)
	for _, b := range slices.Compact(to) {
		backends = append(backends, Probe{p.Src, w.actor(b.Addr()), p.Proto, b.Port()})
	}
	return backends, service
}

// actor returns who has an address.
func (w *World) actor(a netip.Addr) Actor {
	for _, known := range w.actors(a.Is4()) {
		if known.Addr == a {
			return known
		}
	}
	return Actor{Addr: a}
}
