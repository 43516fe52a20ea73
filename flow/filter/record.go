package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/flow"
)

func matchNode(values []string) (match, error) {
	type name struct{ cluster, node string }
	names := make([]name, len(values))
	for i, v := range values {
		cluster, node, found := strings.Cut(lower(v), "/")
		if !found {
			cluster, node = "", cluster
		}
		if cluster == "" && node == "" || strings.Contains(node, "/") {
			return nil, fmt.Errorf("%q is not [cluster/]name; * stands for any part of it", v)
		}
		names[i] = name{cluster, node}
	}
	return func(f *flow.Flow, _ bool) bool {
		if f.Node == nil {
			return false
		}
		cluster := f.Node.Cluster
		if cluster == "" {
			cluster = "default"
		}
		for _, n := range names {
			if (n.cluster == "" || glob(n.cluster, cluster)) && (n.node == "" || glob(n.node, f.Node.Name)) {
				return true
			}
		}
		return false
	}, nil
}

func matchVerdict(values []flow.Verdict) (match, error) {
	var set [256]bool
	for _, v := range values {
		if v > flow.VerdictTranslated {
			return nil, fmt.Errorf("%d is not a verdict: forwarded, dropped, error, audit, redirected, traced, translated", v)
		}
		set[v] = true
	}
	return func(f *flow.Flow, _ bool) bool { return set[f.Verdict] }, nil
}

func matchKind(values []flow.Kind) (match, error) {
	var set [256]bool
	for _, v := range values {
		if v > flow.KindVerdict {
			return nil, fmt.Errorf("%d is not a kind: new, state, update, close, drop, l7, verdict", v)
		}
		set[v] = true
	}
	return func(f *flow.Flow, _ bool) bool { return set[f.Kind] }, nil
}

func matchDirection(values []flow.Direction) (match, error) {
	for _, v := range values {
		if v > flow.DirectionEgress {
			return nil, fmt.Errorf("%d is not a direction: ingress, egress", v)
		}
	}
	values = slices.Clone(values)
	return func(f *flow.Flow, _ bool) bool { return slices.Contains(values, f.Direction) }, nil
}

func matchPoint(values []flow.Point) (match, error) {
	var set [256]bool
	for _, v := range values {
		if v != flow.PointUnknown && v.String() == flow.PointUnknown.String() {
			return nil, fmt.Errorf("%d is not an observation point such as from-endpoint, to-endpoint or to-network", v)
		}
		set[v] = true
	}
	return func(f *flow.Flow, reverse bool) bool {
		if reverse {
			return set[f.Point.Opposite()]
		}
		return set[f.Point]
	}, nil
}

func matchReply(values []bool) (match, error) {
	yes, no := slices.Contains(values, true), slices.Contains(values, false)
	return func(f *flow.Flow, reverse bool) bool {
		reply := reverse
		if f.Drop.ByKernel() {
			reply = f.Reply
		}
		return reply && yes || !reply && no
	}, nil
}

func matchInterface(values []uint32) (match, error) {
	if slices.Contains(values, 0) {
		return nil, errors.New("0 is not an interface index")
	}
	values = slices.Clone(values)
	return func(f *flow.Flow, _ bool) bool { return slices.Contains(values, f.Ifindex) }, nil
}

func matchDropReason(values []string) (match, error) {
	reasons := make([]string, len(values))
	for i, v := range values {
		reasons[i] = strings.TrimPrefix(strings.ToUpper(v), "SKB_DROP_REASON_")
		if reasons[i] == "" {
			return nil, errors.New("a drop reason has no empty name: give a name such as NO_SOCKET")
		}
	}
	return func(f *flow.Flow, _ bool) bool {
		if f.Drop == nil {
			return false
		}
		for _, r := range reasons {
			if strings.EqualFold(r, f.Drop.Reason) {
				return true
			}
		}
		return false
	}, nil
}

func matchPolicy(values []string) (match, error) {
	refs := make([]flow.PolicyRef, len(values))
	for i, v := range values {
		refs[i] = flow.ParsePolicyRef(v)
		if r := refs[i]; r.Name == "" || strings.ContainsAny(r.Name, "/ ") {
			return nil, fmt.Errorf("%q is not the name of a policy: name, namespace/name or \"kind namespace/name\"", v)
		}
	}
	return func(f *flow.Flow, _ bool) bool {
		if f.Policy == nil {
			return false
		}
		for i := range f.Policy.Policies {
			p := &f.Policy.Policies[i]
			for _, r := range refs {
				if r.Name == p.Name && (r.Namespace == "" || r.Namespace == p.Namespace) && (r.Kind == "" || r.Kind == p.Kind) {
					return true
				}
			}
		}
		return false
	}, nil
}

// Protocols are the values of Filter.Protocol.
var Protocols = []string{"tcp", "udp", "icmp", "icmpv4", "icmpv6", "sctp", "http", "dns"}

func matchProtocol(values []string) (match, error) {
	var l4, l7 [256]bool
	for _, v := range values {
		switch strings.ToLower(v) {
		case "tcp":
			l4[flow.ProtoTCP] = true
		case "udp":
			l4[flow.ProtoUDP] = true
		case "sctp":
			l4[flow.ProtoSCTP] = true
		case "icmp":
			l4[flow.ProtoICMP], l4[flow.ProtoICMPv6] = true, true
		case "icmpv4":
			l4[flow.ProtoICMP] = true
		case "icmpv6":
			l4[flow.ProtoICMPv6] = true
		case "http":
			l7[flow.L7HTTP] = true
		case "dns":
			l7[flow.L7DNS] = true
		default:
			return nil, fmt.Errorf("%q is not one of %s", v, strings.Join(Protocols, ", "))
		}
	}
	return func(f *flow.Flow, _ bool) bool { return l4[f.Proto] || f.L7 != nil && l7[f.L7.Protocol] }, nil
}

// ParseTCPFlags reads flag names separated by commas, in any case: "SYN,ACK". The bits are those of flow.TCPFin and so on.
func ParseTCPFlags(s string) (uint8, error) {
	var flags uint8
	for name := range strings.SplitSeq(s, ",") {
		i := slices.Index(tcpFlagNames, strings.ToUpper(strings.TrimSpace(name)))
		if i < 0 {
			return 0, fmt.Errorf("%q is not one of %s", name, strings.Join(tcpFlagNames, ", "))
		}
		flags |= 1 << i
	}
	return flags, nil
}

var tcpFlagNames = []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

func matchTCPFlags(values []string) (match, error) {
	masks := make([]uint8, len(values))
	for i, v := range values {
		mask, err := ParseTCPFlags(v)
		if err != nil {
			return nil, err
		}
		masks[i] = mask
	}
	return func(f *flow.Flow, _ bool) bool {
		if f.Proto != flow.ProtoTCP || f.L7 != nil {
			return false
		}
		for _, m := range masks {
			if f.TCPFlags&m == m {
				return true
			}
		}
		return false
	}, nil
}

func matchIPVersion(values []uint8) (match, error) {
	for _, v := range values {
		if v != 4 && v != 6 {
			return nil, fmt.Errorf("%d is not 4 or 6", v)
		}
	}
	four, six := slices.Contains(values, 4), slices.Contains(values, 6)
	return func(f *flow.Flow, _ bool) bool {
		if f.SrcAddr.IsZero() && f.DstAddr.IsZero() {
			return false
		}
		if f.SrcAddr.Is4() {
			return four
		}
		return six
	}, nil
}

func matchTraceID(values []string) (match, error) {
	for _, v := range values {
		if len(v) != 32 || strings.ContainsFunc(v, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) }) {
			return nil, fmt.Errorf("%q is not 32 hexadecimal digits", v)
		}
	}
	values = slices.Clone(values)
	return func(f *flow.Flow, _ bool) bool {
		if f.L7 == nil || len(f.L7.TraceParent) < 35 {
			return false
		}
		for _, v := range values {
			if strings.EqualFold(v, f.L7.TraceParent[3:35]) {
				return true
			}
		}
		return false
	}, nil
}

func matchUUID(values []string) (match, error) {
	type id struct{ boot, seq uint64 }
	ids := make([]id, len(values))
	for i, v := range values {
		boot, seq, err := flow.ParseUUID(v)
		if err != nil {
			return nil, err
		}
		ids[i] = id{boot, seq}
	}
	return func(f *flow.Flow, _ bool) bool {
		return f.Node != nil && slices.Contains(ids, id{f.Node.Boot, f.Seq})
	}, nil
}
