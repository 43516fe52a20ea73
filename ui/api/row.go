package api

import (
	"net"
	"strconv"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// row makes a table row of f.
func row(f *flow.Flow) Flow {
	r := Flow{
		ID:   id(f),
		Time: f.Time / 1000,
		Src:  query.KeyOf(f.Src).String(), Dst: query.KeyOf(f.Dst).String(),
		SrcName: endpointName(f.Src, f.SrcAddr), DstName: endpointName(f.Dst, f.DstAddr),
		SrcAddr: hostPort(f.SrcAddr, f.SrcPort, f.Proto), DstAddr: hostPort(f.DstAddr, f.DstPort, f.Proto),
		Kind: f.Kind.String(), What: flow.Describe(f), Verdict: f.Verdict.String(),
		Protocol: f.Proto.String(), LatencyUs: -1,
		Bytes: f.Bytes + f.ReplyBytes, Packets: f.Packets + f.ReplyPackets,
		Point: f.Point.String(),
	}
	if f.Node != nil {
		r.Node = f.Node.Name
	}
	if f.Drop != nil {
		r.Reason, r.Symbol = f.Drop.Reason, f.Drop.Symbol
	}
	if d := f.Policy; d != nil {
		r.Policy = &Policy{Verdict: r.Verdict, Match: d.Match.String(), Rule: d.Rule, Policies: []string{}, Text: d.Text}
		for _, p := range d.Policies {
			r.Policy.Policies = append(r.Policy.Policies, p.String())
		}
	}
	if l := f.L7; l != nil {
		r.Protocol, r.Failed = l.Protocol.String(), l.Error
		if l.Latency >= 0 {
			r.LatencyUs = l.Latency / 1000
		}
		if len(l.TraceParent) >= 35 { // version-traceid-..., W3C Trace Context section 3.2
			r.TraceID = l.TraceParent[3:35]
		}
	} else if f.HandshakeRTT > 0 {
		r.LatencyUs = int64(f.HandshakeRTT)
	}
	for _, h := range f.Path {
		hop := Hop{Point: h.Point.String(), Time: h.Time / 1000}
		if h.Node != nil {
			hop.Node = h.Node.Name
		}
		r.Path = append(r.Path, hop)
	}
	return r
}

// id names a record for good: its node's boot and its number there.
func id(f *flow.Flow) string {
	if f.Node == nil {
		return strconv.FormatUint(f.Seq, 36)
	}
	return strconv.FormatUint(f.Node.Boot, 36) + "-" + strconv.FormatUint(f.Seq, 36)
}

func endpointName(e *flow.Endpoint, addr flow.Addr) string {
	if e == nil {
		return addr.String()
	}
	group, name := e.Key()
	switch {
	case e.Pod != "":
		return e.Namespace + "/" + e.Pod
	case e.Kind == flow.EndpointWorld && e.Name == "":
		return addr.String()
	case e.Kind == flow.EndpointWorld:
		return name
	}
	return group + "/" + name
}

func hostPort(a flow.Addr, port uint16, p flow.Proto) string {
	if p == flow.ProtoICMP || p == flow.ProtoICMPv6 || port == 0 {
		return a.String()
	}
	return net.JoinHostPort(a.String(), strconv.Itoa(int(port)))
}
