package policy_test

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// The oracle is a second evaluator, as plain as can be: it reads API objects, sentence by sentence of their
// documentation, and shares nothing with the engine but the description of pods.

// actor is one side of a connection.
type actor struct {
	pod  *policy.Endpoint // nil if not a pod with an address of its own
	addr netip.Addr
	node string // host of the address, if it is one's
	skip bool   // the switch: blocks do not match this pod
}

// verdict of the oracle for one side.
type verdict struct {
	allowed  bool
	isolated map[string]bool // names "ns/name" of the policies that select the pod for the direction
	rules    map[ruleName]bool
}

type ruleName struct {
	policy string
	index  int
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

func peerMatches(namespace string, peers []networkingv1.NetworkPolicyPeer, other actor) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		if p.IPBlock != nil {
			in := other.addr.IsValid() && !(other.skip && other.pod != nil) && netip.MustParsePrefix(p.IPBlock.CIDR).Contains(other.addr)
			for _, x := range p.IPBlock.Except {
				if in && netip.MustParsePrefix(x).Contains(other.addr) {
					in = false
				}
			}
			if in {
				return true
			}
			continue
		}
		if other.pod == nil {
			continue
		}
		if p.NamespaceSelector == nil && other.pod.Namespace != namespace {
			continue
		}
		if p.NamespaceSelector != nil && !selected(p.NamespaceSelector, other.pod.NamespaceLabels) {
			continue
		}
		if p.PodSelector != nil && !selected(p.PodSelector, other.pod.Labels) {
			continue
		}
		return true
	}
	return false
}

func portMatches(ports []networkingv1.NetworkPolicyPort, dst actor, proto flow.Proto, port uint16) bool {
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
			if dst.pod != nil {
				for _, c := range dst.pod.Ports {
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

// judgeIngress is the documentation of NetworkPolicySpec.ingress.
func judgeIngress(policies []*networkingv1.NetworkPolicy, src, dst actor, proto flow.Proto, port uint16) verdict {
	v := verdict{isolated: map[string]bool{}, rules: map[ruleName]bool{}}
	if dst.pod == nil || src.pod == dst.pod {
		v.allowed = true
		return v
	}
	for _, np := range policies {
		if np.Namespace != dst.pod.Namespace || !selected(&np.Spec.PodSelector, dst.pod.Labels) || !hasType(np, "Ingress") {
			continue
		}
		name := np.Namespace + "/" + np.Name
		v.isolated[name] = true
		for i, r := range np.Spec.Ingress {
			if peerMatches(np.Namespace, r.From, src) && portMatches(r.Ports, dst, proto, port) {
				v.rules[ruleName{name, i}] = true
			}
		}
	}
	local := src.pod == nil && src.node != "" && src.node == dst.pod.Node
	v.allowed = len(v.isolated) == 0 || local || len(v.rules) > 0
	return v
}

// judgeEgress is the documentation of NetworkPolicySpec.egress.
func judgeEgress(policies []*networkingv1.NetworkPolicy, src, dst actor, proto flow.Proto, port uint16) verdict {
	v := verdict{isolated: map[string]bool{}, rules: map[ruleName]bool{}}
	if src.pod == nil || src.pod == dst.pod {
		v.allowed = true
		return v
	}
	for _, np := range policies {
		if np.Namespace != src.pod.Namespace || !selected(&np.Spec.PodSelector, src.pod.Labels) || !hasType(np, "Egress") {
			continue
		}
		name := np.Namespace + "/" + np.Name
		v.isolated[name] = true
		for i, r := range np.Spec.Egress {
			if peerMatches(np.Namespace, r.To, dst) && portMatches(r.Ports, dst, proto, port) {
				v.rules[ruleName{name, i}] = true
			}
		}
	}
	v.allowed = len(v.isolated) == 0 || len(v.rules) > 0
	return v
}
