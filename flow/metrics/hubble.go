package metrics

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/flow"
)

// hubbleFamilies are those of Hubble (docs.cilium.io, "Monitoring & Metrics", "Hubble Metrics"; pkg/hubble/metrics).
type hubbleFamilies struct {
	flows, drops, ports, icmp, flags, verdicts  *family[prometheus.Counter]
	queries, responses, responseTypes, requests *family[prometheus.Counter]
	duration                                    *family[prometheus.Observer]
}

func newHubbleFamilies(b *builder) hubbleFamilies {
	return hubbleFamilies{
		flows:    b.counter("hubble_flows_processed_total", "Records of flows, by kind, observation point and verdict.", flowLabels, "protocol", "type", "subtype", "verdict"),
		drops:    b.counter("hubble_drop_total", "Packets that were dropped, by the kernel's or the policy's reason.", dropLabels, "reason", "protocol"),
		ports:    b.counter("hubble_port_distribution_total", "Records of connections by the port of the server.", portLabels, "protocol", "port"),
		icmp:     b.counter("hubble_icmp_total", "ICMP messages by type.", icmpLabels, "family", "type"),
		flags:    b.counter("hubble_tcp_flags_total", "Connections' SYN, SYN-ACK, first FIN of each side and RST.", flagLabels, "flag", "family"),
		verdicts: b.counter("hubble_policy_verdicts_total", "Verdicts of network policies.", verdictLabels, "direction", "match", "action"),

		queries:       b.counter("hubble_dns_queries_total", "DNS queries.", dnsLabels, "rcode", "qtypes", "ips_returned"),
		responses:     b.counter("hubble_dns_responses_total", "DNS responses by code and number of addresses.", dnsLabels, "rcode", "qtypes", "ips_returned"),
		responseTypes: b.counter("hubble_dns_response_types_total", "Records in the answers of DNS responses, by type.", dnsTypeLabels, "type", "qtypes"),

		requests: b.counter("hubble_http_requests_total", "HTTP requests that were answered, by status.", httpLabels, "method", "protocol", "status", "reporter"),
		duration: b.histogram("hubble_http_request_duration_seconds", "Time from an HTTP request to its response, where it was observed.", prometheus.DefBuckets,
			durationLabels, "method", "reporter"),
	}
}

func (h *hubbleFamilies) observe(f *flow.Flow) {
	k := key{src: f.Src, dst: f.Dst, n: uint64(f.Proto) | uint64(f.Kind)<<8 | uint64(f.Verdict)<<16 | uint64(f.Point)<<24}
	if f.L7 != nil {
		k.n |= uint64(f.L7.Protocol) << 32
	}
	h.flows.get(k).Inc()
	switch {
	case f.Kind == flow.KindDrop:
		h.drop(f)
	case f.Kind == flow.KindVerdict:
		h.verdict(f)
	case f.L7 != nil && f.L7.Protocol == flow.L7HTTP:
		h.http(f)
	case f.L7 != nil && f.L7.Protocol == flow.L7DNS:
		h.dns(f)
	case f.Kind != flow.KindL7:
		h.packet(f)
	}
}

// drop counts packets by who sent them.
func (h *hubbleFamilies) drop(f *flow.Flow) {
	k := key{src: f.Src, dst: f.Dst, n: uint64(f.Proto)}
	if f.Drop != nil {
		k.a = f.Drop.Reason
	}
	if n := f.Dropped() - f.ReplyPackets; n > 0 {
		h.drops.get(k).Add(float64(n))
	}
	if f.ReplyPackets > 0 {
		k.src, k.dst = k.dst, k.src
		h.drops.get(k).Add(float64(f.ReplyPackets))
	}
}

// verdict leaves out, as Hubble does, that an endpoint's own node may reach it whatever policies say.
func (h *hubbleFamilies) verdict(f *flow.Flow) {
	if f.Src != nil && f.Src.Identity == identityHost && f.Verdict == flow.VerdictForwarded {
		return
	}
	n := uint64(f.Direction) | uint64(f.Verdict)<<8
	if f.Policy != nil {
		n |= uint64(f.Policy.Match) << 16
	}
	h.verdicts.get(key{src: f.Src, dst: f.Dst, n: n}).Inc()
}

// identityHost is that of the node itself (pkg/identity/numericidentity.go of Cilium).
const identityHost = 1

// packet counts what layer 4 has to say.
func (h *hubbleFamilies) packet(f *flow.Flow) {
	if f.Verdict != flow.VerdictForwarded && f.Verdict != flow.VerdictRedirected {
		return
	}
	if !f.Reply {
		h.ports.get(key{src: f.Src, dst: f.Dst, n: uint64(f.Proto)<<16 | uint64(f.DstPort)}).Inc()
	}
	switch f.Proto {
	case flow.ProtoTCP:
		h.tcp(f)
	case flow.ProtoICMP, flow.ProtoICMPv6:
		h.icmpMessages(f)
	}
}

// tcp counts the flags by the events that they cause: the kernel tells a flag's packet only where it changes the connection's state.
func (h *hubbleFamilies) tcp(f *flow.Flow) {
	k := key{src: f.Src, dst: f.Dst}
	if !f.SrcAddr.Is4() {
		k.n = family6
	}
	if f.Reply {
		k.src, k.dst = k.dst, k.src
	}
	switch {
	case f.Kind == flow.KindNew && f.TCPFlags&flow.TCPSyn != 0 && f.TCPFlags&flow.TCPAck != 0:
		k.n |= flagSynAck
	case f.Kind == flow.KindNew && f.TCPFlags&flow.TCPSyn != 0:
		k.n |= flagSyn
	case f.Kind == flow.KindState && f.TCPFlags&flow.TCPFin != 0:
		k.n |= flagFin
	case f.Kind == flow.KindState && f.HandshakeRTT > 0: // the ACK of a SYN-ACK
		k.n |= flagSynAck
		k.src, k.dst = f.Dst, f.Src
	case f.Kind == flow.KindClose && f.TCPFlags&flow.TCPRst != 0:
		k.n |= flagRst
	default:
		return
	}
	h.flags.get(k).Inc()
}

// icmpMessages counts messages, not records: the kernel joins an echo request with its reply.
func (h *hubbleFamilies) icmpMessages(f *flow.Flow) {
	n := uint64(f.Proto)<<16 | uint64(f.ICMPType)<<8 | uint64(f.ICMPCode)
	echo, reply := uint8(icmp4Echo), uint8(icmp4EchoReply)
	if f.Proto == flow.ProtoICMPv6 {
		echo, reply = icmp6Echo, icmp6EchoReply
	}
	isEcho := f.ICMPType == echo || f.ICMPType == reply
	if isEcho {
		n = uint64(f.Proto)<<16 | uint64(echo)<<8
	}
	if f.Packets > 0 {
		h.icmp.get(key{src: f.Src, dst: f.Dst, n: n}).Add(float64(f.Packets))
	}
	if f.ReplyPackets > 0 {
		if isEcho {
			n = uint64(f.Proto)<<16 | uint64(reply)<<8
		}
		h.icmp.get(key{src: f.Dst, dst: f.Src, n: n}).Add(float64(f.ReplyPackets))
	}
}

// http counts exchanges that have an answer, as Hubble's httpV2 does; those without are in parallax_l7_requests_total.
func (h *hubbleFamilies) http(f *flow.Flow) {
	if !f.L7.Answered {
		return
	}
	k := key{src: f.Src, dst: f.Dst, n: uint64(f.Direction), a: f.L7.Operation}
	if f.L7.Latency >= 0 {
		h.duration.get(k).Observe(float64(f.L7.Latency) / 1e9)
	}
	k.n |= uint64(f.L7.Status) << 8
	k.b = f.L7.Version
	h.requests.get(k).Inc()
}

// dns counts an exchange as a query and, where there is one, a response.
func (h *hubbleFamilies) dns(f *flow.Flow) {
	k := key{src: f.Src, dst: f.Dst, a: f.L7.Operation}
	h.queries.get(k).Inc()
	if !f.L7.Answered {
		return
	}
	k.src, k.dst = f.Dst, f.Src
	addresses := uint64(0)
	for _, a := range f.L7.Answers {
		t := answerType(a, f.L7.Operation)
		if t == "A" || t == "AAAA" {
			addresses++
		}
		h.responseTypes.get(key{src: k.src, dst: k.dst, a: k.a, b: t}).Inc()
	}
	k.n = dnsAnswered | uint64(f.L7.Status)<<8 | min(addresses, 0xff)
	h.responses.get(k).Inc()
}

// Numbers in keys.
const (
	flagSyn = iota
	flagSynAck
	flagFin
	flagRst

	family6     = 1 << 8
	dnsAnswered = 1 << 32
)

func flowLabels(k *key) values {
	kind, point := flow.Kind(k.n>>8), flow.Point(k.n>>24)
	verdict := strings.ToUpper(flow.Verdict(k.n >> 16).String())
	switch kind {
	case flow.KindL7:
		protocol, subtype := "Unknown L7", ""
		if l7 := flow.L7Protocol(k.n >> 32); l7 != flow.L7Unknown {
			protocol = strings.ToUpper(l7.String())
			subtype = protocol
		}
		return between(k, protocol, "L7", subtype, verdict)
	case flow.KindDrop:
		return between(k, layer4(flow.Proto(k.n)), "Drop", "", verdict)
	case flow.KindVerdict:
		return between(k, layer4(flow.Proto(k.n)), "PolicyVerdict", "", verdict)
	}
	return between(k, layer4(flow.Proto(k.n)), "Trace", point.String(), verdict)
}

func dropLabels(k *key) values { return between(k, k.a, layer4(flow.Proto(k.n))) }

func portLabels(k *key) values {
	return between(k, layer4(flow.Proto(k.n>>16)), strconv.Itoa(int(uint16(k.n))))
}

func icmpLabels(k *key) values {
	t, code := uint8(k.n>>8), uint8(k.n)
	if flow.Proto(k.n>>16) == flow.ProtoICMPv6 {
		return between(k, "IPv6", icmpName(icmp6Types, t, code))
	}
	return between(k, "IPv4", icmpName(icmp4Types, t, code))
}

func flagLabels(k *key) values {
	family := "IPv4"
	if k.n&family6 != 0 {
		family = "IPv6"
	}
	flags := [...]string{flagSyn: "SYN", flagSynAck: "SYN-ACK", flagFin: "FIN", flagRst: "RST"}
	return between(k, flags[k.n&0xff], family)
}

func verdictLabels(k *key) values {
	match := strings.ToLower(flow.PolicyMatch(k.n >> 16).String())
	return between(k, flow.Direction(k.n).String(), match, flow.Verdict(k.n>>8).String())
}

func httpLabels(k *key) values {
	return between(k, k.a, k.b, strconv.Itoa(int(uint16(k.n>>8))), reporter(flow.Direction(k.n)))
}

func durationLabels(k *key) values { return between(k, k.a, reporter(flow.Direction(k.n))) }

func dnsLabels(k *key) values {
	rcode := ""
	if k.n&dnsAnswered != 0 {
		rcode = rcodeName(uint16(k.n >> 8))
	}
	return between(k, rcode, k.a, strconv.Itoa(int(uint8(k.n))))
}

func dnsTypeLabels(k *key) values { return between(k, k.b, k.a) }
