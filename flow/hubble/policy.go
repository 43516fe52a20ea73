package hubble

import (
	"math"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/parallax-flow/parallax/flow"
)

// Labels by which Cilium says where a policy came from (pkg/k8s/apis/cilium.io/const.go).
const (
	labelDerivedFrom = "k8s:io.cilium.k8s.policy.derived-from="
	labelName        = "k8s:io.cilium.k8s.policy.name="
	labelNamespace   = "k8s:io.cilium.k8s.policy.namespace="
)

// policyToProto fills in what p, of which all else is set, says of d. The policies stand where Cilium puts them
// (pkg/policy/correlation), for a drop too, which Cilium leaves without.
func policyToProto(p *flowpb.Flow, d *flow.Decision) {
	p.PolicyMatchType = uint32(d.Match)
	if len(d.Policies) == 0 {
		return
	}
	list := &p.IngressAllowedBy
	egress := p.GetTrafficDirection() == flowpb.TrafficDirection_EGRESS
	switch denied := denies(p.GetVerdict()); {
	case egress && denied:
		list = &p.EgressDeniedBy
	case egress:
		list = &p.EgressAllowedBy
	case denied:
		list = &p.IngressDeniedBy
	}
	*list = make([]*flowpb.Policy, len(d.Policies))
	for i, r := range d.Policies {
		r = flow.PolicyRef{Kind: clean(r.Kind), Namespace: clean(r.Namespace), Name: clean(r.Name)}
		out := &flowpb.Policy{Name: r.Name, Namespace: r.Namespace, Kind: r.Kind, Labels: []string{labelDerivedFrom + r.Kind, labelName + r.Name}}
		if r.Namespace != "" {
			out.Labels = append(out.Labels, labelNamespace+r.Namespace)
		}
		(*list)[i] = out
	}
}

// denies reports whether the policies of a decision are those that denied, or would have.
func denies(v flowpb.Verdict) bool {
	return v == flowpb.Verdict_DROPPED || v == flowpb.Verdict_AUDIT || v == flowpb.Verdict_ERROR
}

// policyFromProto returns nil for a flow of which no policy decided.
func policyFromProto(p *flowpb.Flow) *flow.Decision {
	d := &flow.Decision{Match: flow.PolicyMatch(min(p.GetPolicyMatchType(), 255)), Rule: -1}
	for _, list := range [...][]*flowpb.Policy{p.GetIngressAllowedBy(), p.GetEgressAllowedBy(), p.GetIngressDeniedBy(), p.GetEgressDeniedBy()} {
		for _, r := range list {
			d.Policies = append(d.Policies, flow.PolicyRef{Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName()})
		}
	}
	if d.Policies == nil && p.GetEventType().GetType() != eventPolicyVerdict {
		return nil
	}
	return d
}

func restoreDecision(f *flow.Flow, m map[string]*structpb.Value) {
	rule, text := m["rule"], m["text"].GetStringValue()
	if rule == nil && text == "" {
		return
	}
	if f.Policy == nil { // a drop that no policy of a name caused
		f.Policy = &flow.Decision{Rule: -1}
	}
	if rule != nil {
		f.Policy.Rule = int(min(number(rule), math.MaxInt32))
	}
	f.Policy.Text = text
}
