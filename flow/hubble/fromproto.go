package hubble

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/parallax-flow/parallax/flow"
)

// FromProto returns the flow that p describes. What ToProto wrote comes back whole, but for the order of DNS answers (names before
// addresses) and for a cluster named "default", which is the same as none; a flow of another server lacks what is only in the extensions.
// An address or extension that cannot be read is an error.
func FromProto(p *flowpb.Flow) (*flow.Flow, error) {
	f := &flow.Flow{
		Time:      p.GetTime().AsTime().UnixNano(),
		Verdict:   flow.Verdict(p.GetVerdict()),
		Direction: flow.Direction(p.GetTrafficDirection()),
		Point:     flow.Point(p.GetTraceObservationPoint()),
		Reply:     p.GetIsReply().GetValue(),
		Cookie:    p.GetSocketCookie(),
		Ifindex:   p.GetInterface().GetIndex(),
		Src:       endpointFromProto(p.GetSource(), p.GetSourceNames(), p.GetSourceService()),
		Dst:       endpointFromProto(p.GetDestination(), p.GetDestinationNames(), p.GetDestinationService()),
		Kind:      kind(p),
	}
	cluster, name := splitNodeName(p.GetNodeName())
	f.Node = &flow.Node{Name: name, Cluster: cluster}
	if boot, seq, err := flow.ParseUUID(p.GetUuid()); err == nil {
		f.Node.Boot, f.Seq = boot, seq
	}
	if err := addresses(f, p.GetIP()); err != nil {
		return nil, err
	}
	l4FromProto(f, p.GetL4())
	if f.Verdict == flow.VerdictDropped {
		f.Drop = &flow.Drop{}
		if p.GetDropReasonDesc() != flowpb.DropReason_DROP_REASON_UNKNOWN {
			f.Drop.Reason, f.Drop.Code = p.GetDropReasonDesc().String(), uint32(p.GetDropReasonDesc())
		}
	}
	f.Policy = policyFromProto(p)
	if p.GetL7() != nil {
		f.Kind, f.L7 = flow.KindL7, l7FromProto(p.GetL7())
	}
	ext, err := unpack(p.GetExtensions())
	if err != nil {
		return nil, err
	}
	if err := restore(f, ext.GetFields()); err != nil {
		return nil, err
	}
	if swapped(f) {
		f.Src, f.Dst, f.Point = f.Dst, f.Src, f.Point.Opposite()
		f.SrcAddr, f.DstAddr, f.SrcPort, f.DstPort = f.DstAddr, f.SrcAddr, f.DstPort, f.SrcPort
		f.ProcessDst = f.ProcessDst != (f.Process != nil || f.Cookie != 0 || f.PID != 0)
	}
	return f, nil
}

// kind guesses why a flow of another server was made.
func kind(p *flowpb.Flow) flow.Kind {
	switch {
	case p.GetL7() != nil:
		return flow.KindL7
	case p.GetEventType().GetType() == eventPolicyVerdict:
		return flow.KindVerdict
	case p.GetVerdict() == flowpb.Verdict_DROPPED:
		return flow.KindDrop
	}
	flags := p.GetL4().GetTCP().GetFlags()
	switch {
	case flags.GetFIN() || flags.GetRST():
		return flow.KindClose
	case flags.GetSYN():
		return flow.KindNew
	}
	return flow.KindUnknown
}

func addresses(f *flow.Flow, ip *flowpb.IP) error {
	for _, a := range [...]struct {
		text string
		to   *flow.Addr
	}{{ip.GetSource(), &f.SrcAddr}, {ip.GetDestination(), &f.DstAddr}} {
		if a.text == "" {
			continue
		}
		addr, err := netip.ParseAddr(a.text)
		if err != nil {
			return fmt.Errorf("IP: %q is not an address", a.text)
		}
		*a.to = flow.AddrFrom(addr)
	}
	return nil
}

func l4FromProto(f *flow.Flow, l4 *flowpb.Layer4) {
	switch p := l4.GetProtocol().(type) {
	case *flowpb.Layer4_TCP:
		f.Proto = flow.ProtoTCP
		f.SrcPort, f.DstPort = uint16(p.TCP.GetSourcePort()), uint16(p.TCP.GetDestinationPort())
		f.TCPFlags = flagBits(p.TCP.GetFlags())
	case *flowpb.Layer4_UDP:
		f.Proto = flow.ProtoUDP
		f.SrcPort, f.DstPort = uint16(p.UDP.GetSourcePort()), uint16(p.UDP.GetDestinationPort())
	case *flowpb.Layer4_SCTP:
		f.Proto = flow.ProtoSCTP
		f.SrcPort, f.DstPort = uint16(p.SCTP.GetSourcePort()), uint16(p.SCTP.GetDestinationPort())
	case *flowpb.Layer4_ICMPv4:
		f.Proto = flow.ProtoICMP
		f.ICMPType, f.ICMPCode = uint8(p.ICMPv4.GetType()), uint8(p.ICMPv4.GetCode())
	case *flowpb.Layer4_ICMPv6:
		f.Proto = flow.ProtoICMPv6
		f.ICMPType, f.ICMPCode = uint8(p.ICMPv6.GetType()), uint8(p.ICMPv6.GetCode())
	}
}

func flagBits(p *flowpb.TCPFlags) uint8 {
	var bits uint8
	for i, set := range [...]bool{p.GetFIN(), p.GetSYN(), p.GetRST(), p.GetPSH(), p.GetACK(), p.GetURG(), p.GetECE(), p.GetCWR()} {
		if set {
			bits |= 1 << i
		}
	}
	return bits
}

// Identities that Cilium reserves (pkg/identity/numericidentity.go).
const (
	identityHost       = 1
	identityWorld      = 2
	identityRemoteNode = 6
)

func endpointFromProto(p *flowpb.Endpoint, names []string, svc *flowpb.Service) *flow.Endpoint {
	e := &flow.Endpoint{Identity: p.GetIdentity(), Namespace: p.GetNamespace(), Pod: p.GetPodName(), Cluster: p.GetClusterName()}
	switch {
	case e.Pod != "":
		e.Kind = flow.EndpointPod
	case svc != nil:
		e.Kind = flow.EndpointService
	case e.Identity == identityHost || e.Identity == identityRemoteNode:
		e.Kind = flow.EndpointHost
	case e.Identity == identityWorld:
		e.Kind = flow.EndpointWorld
	}
	if svc != nil {
		e.Name, e.Namespace = svc.GetName(), svc.GetNamespace()
	}
	if len(names) > 0 {
		e.Name = names[0]
	}
	for _, l := range p.GetLabels() {
		if label, ok := strings.CutPrefix(l, "k8s:"); ok {
			e.Labels = append(e.Labels, label)
		}
	}
	if w := p.GetWorkloads(); len(w) > 0 {
		e.Workload, e.WorkloadKind = w[0].GetName(), w[0].GetKind()
	}
	return e
}

func l7FromProto(p *flowpb.Layer7) *flow.L7 {
	l := &flow.L7{Answered: p.GetType() == flowpb.L7FlowType_RESPONSE, Latency: -1}
	if l.Answered {
		l.Latency = int64(p.GetLatencyNs())
	}
	switch r := p.GetRecord().(type) {
	case *flowpb.Layer7_Http:
		l.Protocol = flow.L7HTTP
		l.Operation, l.Version, l.Status = r.Http.GetMethod(), r.Http.GetProtocol(), uint16(r.Http.GetCode())
		l.Host, l.Resource = splitURL(r.Http.GetUrl())
		for _, h := range r.Http.GetHeaders() {
			switch {
			case strings.EqualFold(h.GetKey(), headerTraceParent):
				l.TraceParent = h.GetValue()
			case strings.EqualFold(h.GetKey(), headerUserAgent):
				l.UserAgent = h.GetValue()
			}
		}
		l.Error = l.Answered && l.Status >= 500
	case *flowpb.Layer7_Dns:
		l.Protocol = flow.L7DNS
		l.Resource, l.Status, l.MinTTL = unrooted(r.Dns.GetQuery()), uint16(r.Dns.GetRcode()), r.Dns.GetTtl()
		if q := r.Dns.GetQtypes(); len(q) > 0 {
			l.Operation = q[0]
		}
		for _, name := range r.Dns.GetCnames() {
			l.Answers = append(l.Answers, unrooted(name))
		}
		l.Answers = append(l.Answers, r.Dns.GetIps()...)
		l.Error = l.Answered && l.Status != 0
	}
	return l
}

func splitURL(url string) (host, resource string) {
	_, rest, found := strings.Cut(url, "://")
	if !found || strings.HasPrefix(url, "/") {
		return "", url
	}
	if i := strings.IndexAny(rest, "/?*"); i >= 0 {
		return rest[:i], rest[i:]
	}
	return rest, ""
}

func unrooted(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// restore puts back what extensions took. Keys of other makers are left alone.
func restore(f *flow.Flow, m map[string]*structpb.Value) error {
	if m == nil {
		return nil
	}
	f.Kind = enum(m["kind"], flow.KindVerdict, f.Kind)
	f.Packets, f.Bytes = number(m["packets"]), number(m["bytes"])
	f.ReplyPackets, f.ReplyBytes = number(m["reply_packets"]), number(m["reply_bytes"])
	f.HandshakeRTT = uint32(number(m["handshake_us"]))
	f.Secondary = m["secondary"].GetBoolValue()
	if p := number(m["protocol"]); p != 0 {
		f.Proto = flow.Proto(p)
	}
	if d := m["drop"].GetStructValue().GetFields(); d != nil && f.Drop != nil {
		f.Drop.Reason, f.Drop.Symbol, f.Drop.Code = d["reason"].GetStringValue(), d["symbol"].GetStringValue(), uint32(number(d["code"]))
	}
	if d := m["policy"].GetStructValue().GetFields(); d != nil {
		restoreDecision(f, d)
	}
	if f.L7 != nil {
		f.L7.Error = m["error"].GetBoolValue()
	}
	restoreEndpoint(f.Src, m["source"].GetStructValue().GetFields())
	restoreEndpoint(f.Dst, m["destination"].GetStructValue().GetFields())
	if p := m["process"].GetStructValue().GetFields(); p != nil {
		f.PID, f.ProcessDst = uint32(number(p["pid"])), p["destination"].GetBoolValue()
		if comm := p["comm"].GetStringValue(); comm != "" {
			f.Process = &flow.Process{PID: f.PID, Comm: comm}
		}
	}
	var err error
	if f.Start, err = nanoseconds("start", m["start"]); err != nil {
		return err
	}
	for _, v := range m["path"].GetListValue().GetValues() {
		hop, err := restoreHop(v.GetStructValue().GetFields())
		if err != nil {
			return err
		}
		f.Path = append(f.Path, hop)
	}
	return nil
}

func restoreEndpoint(e *flow.Endpoint, m map[string]*structpb.Value) {
	if m == nil {
		return
	}
	e.Kind = enum(m["kind"], flow.EndpointWorld, e.Kind)
	e.Name, e.NodeName = m["name"].GetStringValue(), m["node"].GetStringValue()
	if kind := m["workload_kind"].GetStringValue(); kind != "" {
		e.WorkloadKind = kind
	}
}

func restoreHop(m map[string]*structpb.Value) (flow.Hop, error) {
	cluster, name := splitNodeName(m["node"].GetStringValue())
	at, err := nanoseconds("path: time", m["time"])
	if err != nil {
		return flow.Hop{}, err
	}
	start, err := nanoseconds("path: start", m["start"])
	return flow.Hop{
		Node: &flow.Node{Name: name, Cluster: cluster}, Time: at, Start: start,
		Packets: number(m["packets"]), Bytes: number(m["bytes"]), Ifindex: uint32(number(m["interface"])),
		Point: enum(m["point"], flow.PointToEndpoint, flow.PointUnknown), Direction: enum(m["direction"], flow.DirectionEgress, flow.DirectionUnknown),
	}, err
}

// enum returns the value up to last whose name v holds, or other.
func enum[E interface {
	~uint8
	String() string
}](v *structpb.Value, last, other E) E {
	name := v.GetStringValue()
	if name == "" {
		return other
	}
	for e := E(0); ; e++ {
		if e.String() == name {
			return e
		}
		if e == last {
			return other
		}
	}
}

func number(v *structpb.Value) uint64 { return uint64(max(v.GetNumberValue(), 0)) }

func nanoseconds(key string, v *structpb.Value) (int64, error) {
	if v == nil {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339Nano, v.GetStringValue())
	if err != nil {
		return 0, fmt.Errorf("extensions: %s: %q is not a time", key, v.GetStringValue())
	}
	return t.UnixNano(), nil
}
