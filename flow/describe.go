package flow

import (
	"strconv"
	"strings"
	"time"
)

// Describe says in words what happened in f, without its endpoints: "GET /cart/7 -> 200", "A redis.data.svc -> 10.1.2.3",
// "NO_SOCKET in tcp_v4_rcv", "POLICY_DENIED by NetworkPolicy data/default-deny", "denied: ingress default deny because of
// NetworkPolicy data/default-deny", "TCP SYN".
func Describe(f *Flow) string {
	switch {
	case f.L7 != nil:
		return describeL7(f.L7)
	case f.Kind == KindVerdict:
		return describeDecision(f.Verdict, f.Policy)
	case f.Drop != nil:
		return describeDrop(f.Drop, f.Policy)
	}
	switch f.Proto {
	case ProtoTCP:
		return describeTCP(f)
	case ProtoICMP:
		return "ICMP " + icmpName(icmp4Names, f.ICMPType)
	case ProtoICMPv6:
		return "ICMPv6 " + icmpName(icmp6Names, f.ICMPType)
	}
	switch f.Kind {
	case KindNew:
		return f.Proto.String() + " first packet"
	case KindClose:
		return f.Proto.String() + " ended after " + Duration(f.Time-f.Start)
	}
	return f.Proto.String() + " active"
}

func describeDrop(d *Drop, because *Decision) string {
	switch {
	case because != nil && len(because.Policies) > 0:
		return d.Reason + " by " + policyNames(because.Policies)
	case d.Symbol != "":
		return d.Reason + " in " + d.Symbol
	}
	return d.Reason
}

// describeDecision gives the words of who decided, or for want of them names the policies.
func describeDecision(v Verdict, d *Decision) string {
	word := v.String()
	switch v {
	case VerdictForwarded, VerdictRedirected:
		word = "allowed"
	case VerdictDropped, VerdictError:
		word = "denied"
	case VerdictAudit:
		word = "audit, would be denied"
	}
	switch {
	case d == nil:
		return word
	case d.Text != "":
		return word + ": " + d.Text
	case len(d.Policies) > 0:
		return word + " by " + policyNames(d.Policies)
	}
	return word
}

// policyNames is short: "NetworkPolicy shop/a", "NetworkPolicy shop/a and shop/b", "NetworkPolicy shop/a and 2 more".
func policyNames(refs []PolicyRef) string {
	s := refs[0].String()
	switch {
	case len(refs) == 1:
		return s
	case len(refs) > 2:
		return s + " and " + strconv.Itoa(len(refs)-1) + " more"
	case refs[1].Kind == refs[0].Kind:
		return s + " and " + refs[1].Path()
	}
	return s + " and " + refs[1].String()
}

func describeTCP(f *Flow) string {
	switch f.Kind {
	case KindNew:
		if f.TCPFlags&TCPSyn != 0 {
			return "TCP SYN"
		}
		return "TCP already open"
	case KindState:
		if f.TCPFlags&TCPFin != 0 {
			return "TCP FIN"
		}
		if f.HandshakeRTT > 0 {
			return "TCP established in " + Duration(int64(f.HandshakeRTT)*int64(time.Microsecond))
		}
		return "TCP established"
	case KindClose:
		if f.TCPFlags&TCPRst != 0 {
			return "TCP reset after " + Duration(f.Time-f.Start)
		}
		return "TCP closed after " + Duration(f.Time-f.Start)
	}
	return "TCP active"
}

func describeL7(l *L7) string {
	var b strings.Builder
	b.WriteString(l.Operation)
	if l.Resource != "" {
		b.WriteByte(' ')
		b.WriteString(l.Resource)
	}
	b.WriteString(" -> ")
	switch {
	case !l.Answered:
		b.WriteString("no response")
	case l.Protocol == L7DNS:
		b.WriteString(describeAnswers(l))
	default:
		b.WriteString(strconv.Itoa(int(l.Status)))
	}
	return b.String()
}

func describeAnswers(l *L7) string {
	if l.Status != 0 {
		return RcodeName(l.Status)
	}
	switch len(l.Answers) {
	case 0:
		return "no answers"
	case 1:
		return l.Answers[0]
	}
	return l.Answers[0] + " and " + strconv.Itoa(len(l.Answers)-1) + " more"
}

// RcodeName is the mnemonic of a DNS RCODE (RFC 6895 section 2.3).
func RcodeName(code uint16) string {
	names := [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"}
	if int(code) < len(names) {
		return names[code]
	}
	return "RCODE " + strconv.Itoa(int(code))
}

// StatusName is l's status as its protocol writes it: "503", "NXDOMAIN".
func StatusName(p L7Protocol, status uint16) string {
	if p == L7DNS {
		return RcodeName(status)
	}
	return strconv.Itoa(int(status))
}

// Duration formats ns with three significant figures in the unit that a person would choose: "0.42 ms", "38 ms", "1.2 s".
func Duration(ns int64) string {
	switch {
	case ns < 0:
		return "?"
	case ns < int64(time.Microsecond):
		return strconv.FormatInt(ns, 10) + " ns"
	case ns < int64(100*time.Microsecond):
		return figure(float64(ns)/1e3) + " µs"
	case ns < int64(time.Second):
		return figure(float64(ns)/1e6) + " ms"
	case ns < int64(2*time.Minute):
		return figure(float64(ns)/1e9) + " s"
	case ns < int64(2*time.Hour):
		return figure(float64(ns)/60e9) + " min"
	}
	return figure(float64(ns)/3600e9) + " h"
}

func figure(v float64) string {
	switch {
	case v < 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// ICMP type names: IANA "ICMP Type Numbers" and "ICMPv6 Parameters"; only types that are seen in practice.
var (
	icmp4Names = map[uint8]string{0: "echo reply", 3: "destination unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded", 12: "parameter problem"}
	icmp6Names = map[uint8]string{
		1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request", 129: "echo reply",
		130: "multicast listener query", 131: "multicast listener report", 133: "router solicitation", 134: "router advertisement",
		135: "neighbor solicitation", 136: "neighbor advertisement", 143: "multicast listener report",
	}
)

func icmpName(names map[uint8]string, t uint8) string {
	if s, ok := names[t]; ok {
		return s
	}
	return "type " + itoa(t)
}

// TCPFlagNames lists the set flags as tcpdump and Hubble name them: "SYN, ACK".
func TCPFlagNames(flags uint8) string {
	var set []string
	for i, n := range [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if flags&(1<<i) != 0 {
			set = append(set, n)
		}
	}
	return strings.Join(set, ", ")
}
