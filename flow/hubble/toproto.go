package hubble

import (
	"net/netip"
	"strings"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/parallax-flow/parallax/flow"
)

// ToProto returns f as a flow of the Hubble API. The result shares no memory with f but strings.
func ToProto(f *flow.Flow) *flowpb.Flow {
	src, dst, point := f.Src, f.Dst, f.Point
	srcAddr, dstAddr, srcPort, dstPort := f.SrcAddr, f.DstAddr, f.SrcPort, f.DstPort
	reverse := swapped(f)
	if reverse {
		src, dst, point = dst, src, point.Opposite()
		srcAddr, dstAddr, srcPort, dstPort = dstAddr, srcAddr, dstPort, srcPort
	}
	reply := reverse || f.Drop.ByKernel() && f.Reply
	p := &flowpb.Flow{
		Time:                  timestamppb.New(time.Unix(0, f.Time)),
		Uuid:                  f.UUID(),
		Emitter:               &flowpb.Emitter{Name: "Parallax"},
		Verdict:               flowpb.Verdict(f.Verdict),
		IP:                    ipToProto(srcAddr, dstAddr),
		L4:                    l4ToProto(f, srcPort, dstPort),
		Source:                endpointToProto(src),
		Destination:           endpointToProto(dst),
		SourceNames:           names(src),
		DestinationNames:      names(dst),
		SourceService:         service(src),
		DestinationService:    service(dst),
		Type:                  flowpb.FlowType_L3_L4,
		NodeName:              NodeName(f.Node),
		EventType:             eventType(f, point),
		TrafficDirection:      flowpb.TrafficDirection(f.Direction),
		TraceObservationPoint: flowpb.TraceObservationPoint(point),
		IsReply:               wrapperspb.Bool(reply),
		Reply:                 reply, //nolint:staticcheck // older clients read it
		SocketCookie:          f.Cookie,
		Summary:               clean(Summary(f)), //nolint:staticcheck // the only text that clients show
		Extensions:            extensions(f, reverse),
	}
	if f.Ifindex != 0 {
		p.Interface = &flowpb.NetworkInterface{Index: f.Ifindex}
	}
	if f.Drop != nil {
		p.DropReasonDesc = dropReason(f.Drop.Reason)
		p.DropReason = uint32(p.DropReasonDesc) //nolint:staticcheck // older clients read it
	}
	if f.Policy != nil {
		policyToProto(p, f.Policy)
	}
	if f.L7 != nil {
		p.Type = flowpb.FlowType_L7
		p.L7 = l7ToProto(f.L7)
		p.TraceContext = traceContext(f.L7.TraceParent)
	}
	return p
}

func ipToProto(src, dst flow.Addr) *flowpb.IP {
	if src.IsZero() && dst.IsZero() {
		return nil
	}
	version := flowpb.IPVersion_IPv6
	if src.Is4() {
		version = flowpb.IPVersion_IPv4
	}
	return &flowpb.IP{Source: src.String(), Destination: dst.String(), IpVersion: version}
}

func l4ToProto(f *flow.Flow, srcPort, dstPort uint16) *flowpb.Layer4 {
	src, dst := uint32(srcPort), uint32(dstPort)
	switch f.Proto {
	case flow.ProtoTCP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_TCP{TCP: &flowpb.TCP{SourcePort: src, DestinationPort: dst, Flags: tcpFlags(f)}}}
	case flow.ProtoUDP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_UDP{UDP: &flowpb.UDP{SourcePort: src, DestinationPort: dst}}}
	case flow.ProtoSCTP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_SCTP{SCTP: &flowpb.SCTP{SourcePort: src, DestinationPort: dst}}}
	case flow.ProtoICMP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_ICMPv4{ICMPv4: &flowpb.ICMPv4{Type: uint32(f.ICMPType), Code: uint32(f.ICMPCode)}}}
	case flow.ProtoICMPv6:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_ICMPv6{ICMPv6: &flowpb.ICMPv6{Type: uint32(f.ICMPType), Code: uint32(f.ICMPCode)}}}
	}
	return nil
}

func tcpFlags(f *flow.Flow) *flowpb.TCPFlags {
	b := f.TCPFlags
	if b == 0 {
		return nil
	}
	return &flowpb.TCPFlags{
		FIN: b&flow.TCPFin != 0, SYN: b&flow.TCPSyn != 0, RST: b&flow.TCPRst != 0, PSH: b&flow.TCPPsh != 0,
		ACK: b&flow.TCPAck != 0, URG: b&flow.TCPUrg != 0, ECE: b&flow.TCPEce != 0, CWR: b&flow.TCPCwr != 0,
	}
}

func endpointToProto(e *flow.Endpoint) *flowpb.Endpoint {
	if e == nil {
		return nil
	}
	p := &flowpb.Endpoint{Identity: e.Identity, ClusterName: e.Cluster, Namespace: e.Namespace, PodName: e.Pod}
	switch e.Kind {
	case flow.EndpointHost, flow.EndpointProcess:
		p.Labels = append(p.Labels, "reserved:host")
	case flow.EndpointWorld:
		p.Labels = append(p.Labels, "reserved:world")
	}
	for _, l := range e.Labels {
		p.Labels = append(p.Labels, "k8s:"+l)
	}
	if e.Workload != "" {
		p.Workloads = []*flowpb.Workload{{Name: clean(e.Workload), Kind: e.WorkloadKind}}
	}
	return p
}

// names are the DNS names of e's address.
func names(e *flow.Endpoint) []string {
	if e == nil || e.Name == "" || service(e) != nil {
		return nil
	}
	return []string{clean(e.Name)}
}

// service is the one whose address e has, or behind which e stands.
func service(e *flow.Endpoint) *flowpb.Service {
	if e == nil || e.Kind != flow.EndpointService && (e.Kind != flow.EndpointPod || e.Name == "") {
		return nil
	}
	return &flowpb.Service{Name: e.Name, Namespace: e.Namespace}
}

func eventType(f *flow.Flow, point flow.Point) *flowpb.CiliumEventType {
	switch f.Kind {
	case flow.KindL7:
		return &flowpb.CiliumEventType{Type: eventL7}
	case flow.KindVerdict:
		return &flowpb.CiliumEventType{Type: eventPolicyVerdict}
	case flow.KindDrop:
		if f.Drop != nil && dropReason(f.Drop.Reason) != 0 {
			return &flowpb.CiliumEventType{Type: eventDrop, SubType: int32(dropReason(f.Drop.Reason))}
		}
		return &flowpb.CiliumEventType{Type: eventDrop, SubType: dropSubType}
	}
	return &flowpb.CiliumEventType{Type: eventTrace, SubType: traceSubType(point)}
}

func l7ToProto(l *flow.L7) *flowpb.Layer7 {
	p := &flowpb.Layer7{Type: flowpb.L7FlowType_REQUEST}
	if l.Answered {
		p.Type = flowpb.L7FlowType_RESPONSE
		p.LatencyNs = uint64(max(l.Latency, 0))
	}
	switch l.Protocol {
	case flow.L7HTTP:
		p.Record = &flowpb.Layer7_Http{Http: httpToProto(l)}
	case flow.L7DNS:
		p.Record = &flowpb.Layer7_Dns{Dns: dnsToProto(l)}
	}
	return p
}

func httpToProto(l *flow.L7) *flowpb.HTTP {
	p := &flowpb.HTTP{Code: uint32(l.Status), Method: clean(l.Operation), Url: clean(l.Resource), Protocol: clean(l.Version)}
	if l.Host != "" {
		p.Url = clean("http://" + l.Host + l.Resource)
	}
	for _, h := range [...]struct{ key, value string }{{headerTraceParent, l.TraceParent}, {headerUserAgent, l.UserAgent}} {
		if h.value != "" {
			p.Headers = append(p.Headers, &flowpb.HTTPHeader{Key: h.key, Value: clean(h.value)})
		}
	}
	return p
}

const (
	headerTraceParent = "Traceparent"
	headerUserAgent   = "User-Agent"
)

func dnsToProto(l *flow.L7) *flowpb.DNS {
	p := &flowpb.DNS{Query: clean(rooted(l.Resource)), Rcode: uint32(l.Status), Ttl: l.MinTTL}
	if l.Operation != "" {
		p.Qtypes = []string{clean(l.Operation)}
	}
	for _, a := range l.Answers {
		if _, err := netip.ParseAddr(a); err == nil {
			p.Ips = append(p.Ips, a)
		} else {
			p.Cnames = append(p.Cnames, clean(rooted(a)))
		}
	}
	return p
}

// rooted writes a domain name with the root's dot, as Hubble does.
func rooted(name string) string {
	if name == "" || strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}

// traceContext takes the trace id out of a W3C traceparent: version, trace id of 32 digits, parent id, flags (W3C Trace Context section 3.2).
func traceContext(traceParent string) *flowpb.TraceContext {
	if len(traceParent) < 35 || traceParent[2] != '-' {
		return nil
	}
	return &flowpb.TraceContext{Parent: &flowpb.TraceParent{TraceId: clean(traceParent[3:35])}}
}
