package load

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// policy takes one NetworkPolicy; prefix is its place in a list.
func (l *loader) policy(where, prefix string, h head, tree map[string]any) {
	h.namespace = cmp.Or(h.namespace, l.Namespace, "default")
	refused := false
	refuse := func(path, text string) {
		refused = true
		l.refuse(Problem{Where: where, Object: h.name(), Path: strings.TrimPrefix(prefix+"."+path, "."), Text: text})
	}
	var np networkingv1.NetworkPolicy
	if conform(tree, reflect.TypeOf(np), "", refuse); refused {
		return
	}
	raw, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(raw, &np)
	}
	if err != nil {
		refuse("", oneLine(err))
		return
	}
	np.Namespace = h.namespace
	p, problems := convert(&np)
	for _, problem := range problems {
		refuse(problem.Path, problem.Text)
	}
	if !refused {
		p.Origin = where
		l.result.Policies = append(l.result.Policies, p)
	}
}

// Convert takes a NetworkPolicy as the API server has it. An error is Problems; the rules are those of the API server's
// own validation, so an object of a server has none.
func Convert(np *networkingv1.NetworkPolicy) (policy.Policy, error) {
	p, problems := convert(np)
	if len(problems) > 0 {
		for i := range problems {
			problems[i].Object = p.Ref.String()
		}
		return policy.Policy{}, problems
	}
	return p, nil
}

// converter gathers what is wrong.
type converter struct {
	problems Problems
}

func (c *converter) refuse(path *field.Path, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path.String(), Text: fmt.Sprintf(format, args...)})
}

// refuseAll takes the messages of a validation function for a value.
func (c *converter) refuseAll(path *field.Path, value any, messages []string) {
	for _, m := range messages {
		c.refuse(path, "%v is refused: %s", describe(value), m)
	}
}

func convert(np *networkingv1.NetworkPolicy) (policy.Policy, Problems) {
	var c converter
	metadata, spec := field.NewPath("metadata"), field.NewPath("spec")
	if np.Name == "" {
		c.refuse(metadata.Child("name"), "is missing")
	} else {
		c.refuseAll(metadata.Child("name"), np.Name, validation.IsDNS1123Subdomain(np.Name))
	}
	c.refuseAll(metadata.Child("namespace"), np.Namespace, validation.IsDNS1123Label(np.Namespace))
	p := policy.Policy{
		Ref:     policy.Ref{Kind: policyKind, Namespace: np.Namespace, Name: np.Name},
		Subject: *c.selector(&np.Spec.PodSelector, spec.Child("podSelector")),
	}
	ingress, egress := &p.Sections[policy.Ingress], &p.Sections[policy.Egress]
	for i, r := range np.Spec.Ingress {
		at := spec.Child("ingress").Index(i)
		ingress.Rules = append(ingress.Rules, c.rule(r.From, at.Child("from"), r.Ports, at.Child("ports")))
	}
	for i, r := range np.Spec.Egress {
		at := spec.Child("egress").Index(i)
		egress.Rules = append(egress.Rules, c.rule(r.To, at.Child("to"), r.Ports, at.Child("ports")))
	}
	c.types(np, &p, spec.Child("policyTypes"))
	return p, c.problems
}

// types sets which directions p isolates. API: "If this field is not specified, it will default based on the existence
// of ingress or egress rules; policies that contain an egress section are assumed to affect egress, and all policies
// (whether or not they contain an ingress section) are assumed to affect ingress."
func (c *converter) types(np *networkingv1.NetworkPolicy, p *policy.Policy, path *field.Path) {
	if len(np.Spec.PolicyTypes) == 0 {
		p.Sections[policy.Ingress].Isolates = true
		p.Sections[policy.Egress].Isolates = len(np.Spec.Egress) > 0
	}
	if len(np.Spec.PolicyTypes) > 2 {
		c.refuse(path, "has %d entries: there are only Ingress and Egress", len(np.Spec.PolicyTypes))
	}
	for i, t := range np.Spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			p.Sections[policy.Ingress].Isolates = true
		case networkingv1.PolicyTypeEgress:
			p.Sections[policy.Egress].Isolates = true
		default:
			c.refuse(path.Index(i), "%q is not one of Ingress, Egress", t)
		}
	}
}

func (c *converter) rule(peers []networkingv1.NetworkPolicyPeer, peersPath *field.Path, ports []networkingv1.NetworkPolicyPort, portsPath *field.Path) policy.Rule {
	var r policy.Rule
	for i := range peers {
		r.Peers = append(r.Peers, c.peer(&peers[i], peersPath.Index(i)))
	}
	for i := range ports {
		r.Ports = append(r.Ports, c.port(&ports[i], portsPath.Index(i)))
	}
	return r
}

func (c *converter) peer(p *networkingv1.NetworkPolicyPeer, path *field.Path) policy.Peer {
	if p.IPBlock != nil {
		if p.PodSelector != nil || p.NamespaceSelector != nil {
			c.refuse(path.Child("ipBlock"), "cannot be together with podSelector or namespaceSelector")
		}
		return policy.Peer{Block: c.block(p.IPBlock, path.Child("ipBlock"))}
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		c.refuse(path, "names nobody: it needs podSelector, namespaceSelector or ipBlock")
	}
	return policy.Peer{
		Pods:       c.selector(p.PodSelector, path.Child("podSelector")),
		Namespaces: c.selector(p.NamespaceSelector, path.Child("namespaceSelector")),
	}
}

func (c *converter) block(b *networkingv1.IPBlock, path *field.Path) *policy.Block {
	out := &policy.Block{}
	var ok bool
	if out.Prefix, ok = c.prefix(b.CIDR, path.Child("cidr")); !ok {
		return out
	}
	for i, s := range b.Except {
		at := path.Child("except").Index(i)
		x, ok := c.prefix(s, at)
		if ok && (x.Bits() <= out.Prefix.Bits() || !out.Prefix.Contains(x.Addr())) {
			c.refuse(at, "%s is not a part of cidr %s", x, out.Prefix)
		}
		out.Except = append(out.Except, x)
	}
	return out
}

func (c *converter) prefix(s string, path *field.Path) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	switch {
	case s == "":
		c.refuse(path, "is missing")
	case err != nil:
		c.refuse(path, "%q is not a range of addresses such as 192.168.1.0/24 or 2001:db8::/64", shorten(s))
	case p.Addr().Is4In6():
		c.refuse(path, "%q is an IPv4 range in IPv6 form: write it as IPv4", s)
	default:
		return p.Masked(), true
	}
	return netip.Prefix{}, false
}

func (c *converter) port(p *networkingv1.NetworkPolicyPort, path *field.Path) policy.Port {
	out := policy.Port{Proto: flow.ProtoTCP} // API: "If not specified, this field defaults to TCP."
	if p.Protocol != nil {
		switch *p.Protocol {
		case corev1.ProtocolTCP:
		case corev1.ProtocolUDP:
			out.Proto = flow.ProtoUDP
		case corev1.ProtocolSCTP:
			out.Proto = flow.ProtoSCTP
		default:
			c.refuse(path.Child("protocol"), "%q is not one of TCP, UDP, SCTP", *p.Protocol)
		}
	}
	end := path.Child("endPort")
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			c.refuse(end, "%d has no port where the range begins", *p.EndPort)
		}
	case p.Port.Type == intstr.String:
		out.Name = p.Port.StrVal
		c.refuseAll(path.Child("port"), out.Name, validation.IsValidPortName(out.Name))
		if p.EndPort != nil {
			c.refuse(end, "%d cannot follow the named port %s", *p.EndPort, out.Name)
		}
	default:
		out.First = c.number(p.Port.IntVal, path.Child("port"))
		out.Last = out.First
		if p.EndPort != nil {
			out.Last = c.number(*p.EndPort, end)
			if *p.EndPort < p.Port.IntVal {
				c.refuse(end, "%d is below port %d", *p.EndPort, p.Port.IntVal)
			}
		}
	}
	return out
}

func (c *converter) number(n int32, path *field.Path) uint16 {
	if n < 1 || n > 65535 {
		c.refuse(path, "%d is not a port from 1 to 65535", n)
	}
	return uint16(n)
}

// operators translates those of metav1.LabelSelectorRequirement.
var operators = map[metav1.LabelSelectorOperator]policy.Op{
	metav1.LabelSelectorOpIn: policy.In, metav1.LabelSelectorOpNotIn: policy.NotIn,
	metav1.LabelSelectorOpExists: policy.Exists, metav1.LabelSelectorOpDoesNotExist: policy.Absent,
}

// selector translates s; nil stays nil.
func (c *converter) selector(s *metav1.LabelSelector, path *field.Path) *policy.Selector {
	if s == nil {
		return nil
	}
	for _, e := range metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, path) {
		c.problems = append(c.problems, Problem{Path: e.Field, Text: "is refused: " + e.ErrorBody()})
	}
	out := policy.Equals(s.MatchLabels)
	for _, r := range s.MatchExpressions {
		out.Terms = append(out.Terms, policy.Term{Key: r.Key, Op: operators[r.Operator], Values: slices.Sorted(slices.Values(r.Values))})
	}
	return &out
}
