package observe

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
)

// view is a flow as a person reads it: from the initiator to the responder.
type view struct {
	flow    *flow.Flow
	proto   *flowpb.Flow
	foreign bool // made by another server than Parallax's: one packet
}

func newView(p *flowpb.Flow) (*view, error) {
	f, err := hubble.FromProto(p)
	if err != nil {
		return nil, err
	}
	return &view{flow: f, proto: p, foreign: p.GetExtensions() == nil}, nil
}

func (v *view) time(layout string) string {
	return time.Unix(0, v.flow.Time).Format(layout)
}

// arrow points against the flow where only one packet is shown and it was a reply.
func (v *view) arrow() string {
	if v.foreign && v.flow.Reply && v.flow.L7 == nil && !v.flow.Drop.ByKernel() {
		return "<-"
	}
	return "->"
}

// what says what happened. Hubble's summary of a decision does not name the policies.
func (v *view) what() string {
	if s := v.proto.GetSummary(); s != "" && !(v.foreign && v.flow.Policy != nil) { //nolint:staticcheck // Hubble's own clients show it
		return plain(s)
	}
	return plain(hubble.Summary(v.flow))
}

// verdict is in the words of hubble observe, which has others for those of policy.
func (v *view) verdict() string {
	if v.flow.Kind == flow.KindVerdict {
		switch v.flow.Verdict {
		case flow.VerdictForwarded, flow.VerdictRedirected:
			return "ALLOWED"
		case flow.VerdictDropped, flow.VerdictError:
			return "DENIED"
		case flow.VerdictAudit:
			return "AUDITED"
		}
	}
	return strings.ToUpper(v.flow.Verdict.String())
}

// byPolicy reports whether v tells of a policy's decision: its verdict, or what it denied.
func (v *view) byPolicy() bool {
	return v.flow.Kind == flow.KindVerdict || v.flow.Drop != nil && v.flow.Drop.Reason == flow.DropPolicyDenied
}

// failed reports whether the flow is bad news.
func (v *view) failed() bool {
	return v.flow.Drop != nil || v.flow.L7 != nil && v.flow.L7.Error
}

// brief is what happened, or that policy decided: why is long, and stands at the end of the line.
func (v *view) brief() string {
	if v.byPolicy() {
		return v.kind()
	}
	return v.what()
}

// because is why policy decided so, empty if it did not: the rule that allowed without what it says, or who denied. The verdict
// stands before it.
func (v *view) because() string {
	d := v.flow.Policy
	switch {
	case !v.byPolicy():
		return ""
	case v.flow.Kind == flow.KindDrop || d == nil || d.Text == "":
		return v.what()
	case d.Rule >= 0 && len(d.Policies) == 1:
		return plain(fmt.Sprintf("%s %s[%d]", d.Policies[0], v.flow.Direction, d.Rule))
	}
	return plain(d.Text)
}

// kind is one word for why there is a record, or what hubble observe says of policy: "policy-verdict:L3-L4 INGRESS", "Policy denied".
func (v *view) kind() string {
	switch {
	case v.flow.Kind == flow.KindVerdict:
		match := flow.PolicyMatch(min(v.proto.GetPolicyMatchType(), 255))
		return "policy-verdict:" + match.String() + " " + v.proto.GetTrafficDirection().String()
	case v.byPolicy():
		return "Policy denied"
	}
	if v.flow.L7 != nil {
		return v.flow.L7.Protocol.String()
	}
	if v.foreign && v.flow.Drop == nil {
		return v.flow.Point.String()
	}
	return v.flow.Kind.String()
}

func (v *view) node() string { return plain(v.proto.GetNodeName()) }

// firstEphemeral is where the kernel's default range of ports for clients begins (net.ipv4.ip_local_port_range).
const firstEphemeral = 32768

// names are source and destination. short leaves out the port that a client was given, if the other side's says more.
func (v *view) names(translate, short bool) (src, dst string) {
	f := v.flow
	srcPort, dstPort := true, true
	if short {
		given := f.SrcPort >= firstEphemeral
		srcPort = !given || f.Drop.ByKernel() && f.DstPort >= firstEphemeral
		dstPort = !f.Drop.ByKernel() || f.DstPort < firstEphemeral || given // only a drop by the kernel may be on its way to the client
	}
	return side(f, f.Src, f.SrcAddr, f.SrcPort, translate, srcPort), side(f, f.Dst, f.DstAddr, f.DstPort, translate, dstPort)
}

func side(f *flow.Flow, e *flow.Endpoint, addr flow.Addr, port uint16, translate, ported bool) string {
	name := ""
	if translate {
		name = endpointName(e)
	}
	ported = ported && (f.Proto == flow.ProtoTCP || f.Proto == flow.ProtoUDP || f.Proto == flow.ProtoSCTP)
	switch {
	case name == "" && addr.IsZero():
		name = e.Kind.String()
	case name == "" && ported:
		return net.JoinHostPort(addr.String(), strconv.Itoa(int(port)))
	case name == "":
		return addr.String()
	}
	if ported {
		name += ":" + strconv.Itoa(int(port))
	}
	return plain(name)
}

// endpointName is what a person calls e, empty if it has no name.
func endpointName(e *flow.Endpoint) string {
	switch {
	case e.Pod != "":
		return e.Namespace + "/" + e.Pod
	case e.Kind == flow.EndpointService && e.Name != "":
		return e.Namespace + "/" + e.Name
	case e.Kind == flow.EndpointProcess && e.Workload != "":
		return hostName(e) + "/" + e.Workload
	case e.Kind == flow.EndpointHost && e.Name+e.NodeName != "":
		return hostName(e)
	}
	return e.Name
}

func hostName(e *flow.Endpoint) string {
	if e.NodeName != "" {
		return e.NodeName
	}
	if e.Name != "" {
		return e.Name
	}
	return "host"
}
