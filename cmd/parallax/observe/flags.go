package observe

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
)

// filterFlag is one flag, or with side three: --NAME, --from-NAME, --to-NAME.
type filterFlag struct {
	name, short, kind, usage string
	common                   func(s *selection, v string) error
	side                     func(f *flowpb.FlowFilter, values []string, source bool)
	check                    func(v string) error // what the server's own check of side cannot see
}

// filterFlags are all filters, in the order of their effect.
var filterFlags = []filterFlag{
	{name: "pod", kind: "[namespace/]prefix", usage: "pod, by the beginning of its name; in any namespace if none is given", side: bothStrings(
		func(f *flowpb.FlowFilter) *[]string { return &f.SourcePod }, func(f *flowpb.FlowFilter) *[]string { return &f.DestinationPod })},
	{name: "namespace", short: "n", kind: "namespace", usage: "Kubernetes namespace", side: func(*flowpb.FlowFilter, []string, bool) {}}, // joined with pod
	{name: "workload", kind: "[kind/]name", usage: "Deployment, StatefulSet, systemd unit, process, ...", side: sideWorkload},
	{name: "label", short: "l", kind: "selector", usage: "label selector: app=web,tier in (a,b),!canary; reserved:world, reserved:host", side: bothStrings(
		func(f *flowpb.FlowFilter) *[]string { return &f.SourceLabel }, func(f *flowpb.FlowFilter) *[]string { return &f.DestinationLabel })},
	{name: "ip", kind: "address", usage: "address or CIDR", side: bothStrings(
		func(f *flowpb.FlowFilter) *[]string { return &f.SourceIp }, func(f *flowpb.FlowFilter) *[]string { return &f.DestinationIp })},
	{name: "fqdn", kind: "name", usage: "DNS name, * stands for any part: *.example.com", side: bothStrings(
		func(f *flowpb.FlowFilter) *[]string { return &f.SourceFqdn }, func(f *flowpb.FlowFilter) *[]string { return &f.DestinationFqdn })},
	{name: "port", kind: "port", usage: "port, or a range: 8000-8999", side: bothStrings(
		func(f *flowpb.FlowFilter) *[]string { return &f.SourcePort }, func(f *flowpb.FlowFilter) *[]string { return &f.DestinationPort })},
	{name: "identity", kind: "identity", usage: "security identity: a number, host, world, remote-node, ...", side: sideIdentity, check: checkIdentity},

	{name: "protocol", kind: "protocol", usage: "tcp, udp, icmp, icmpv4, icmpv6, sctp, http or dns", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.Protocol })},
	{name: "verdict", kind: "verdict", usage: "forwarded, dropped, error, audit, redirected, traced or translated", common: addVerdict},
	{name: "drop-reason", kind: "reason", usage: "drop reason of the kernel (NO_SOCKET) or of policy (POLICY_DENIED), in any case", common: addDropReason},
	{name: "drop-reason-desc", kind: "reason", usage: "the same as --drop-reason", common: addDropReason},
	{name: "type", short: "t", kind: "type[:subtype]", usage: "trace, trace:POINT (to-endpoint, from-network, ...), drop, l7 or policy-verdict", common: addType},
	{name: "http-status", kind: "status", usage: "HTTP status code, 404, or the beginning of some, 5+", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.HttpStatusCode })},
	{name: "http-method", kind: "method", usage: "HTTP method", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.HttpMethod })},
	{name: "http-path", kind: "regexp", usage: "HTTP path", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.HttpPath })},
	{name: "http-url", kind: "regexp", usage: "HTTP URL", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.HttpUrl })},
	{name: "dns-query", kind: "regexp", usage: "name in a DNS question", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.DnsQuery })},
	{name: "tcp-flags", kind: "flags", usage: "TCP flags that must all be set: SYN,ACK", common: addTCPFlags},
	{name: "traffic-direction", kind: "direction", usage: "ingress or egress", common: addDirection},
	{name: "node-name", kind: "[cluster/]name", usage: "node of the observation, * stands for any part", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.NodeName })},
	{name: "ipv4", short: "4", kind: "bool", usage: "IPv4 only", common: addIPVersion(flowpb.IPVersion_IPv4)},
	{name: "ipv6", short: "6", kind: "bool", usage: "IPv6 only", common: addIPVersion(flowpb.IPVersion_IPv6)},
	{name: "reply", kind: "bool", usage: "replies and exchanges only; =false: requests and exchanges only", common: addReply},
	{name: "trace-id", kind: "id", usage: "trace of the exchange (W3C, 32 hexadecimal digits)", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.TraceId })},
	{name: "uuid", kind: "uuid", usage: "one flow", common: list(func(f *flowpb.FlowFilter) *[]string { return &f.Uuid })},
	{name: "policy", kind: "[namespace/]name", usage: "network policy that allowed or denied, also with its kind: \"NetworkPolicy shop/web\" (beyond Hubble)", common: addPolicy},
	{name: "error", kind: "bool", usage: "failed exchanges only: HTTP 5xx, DNS errors, no response (beyond Hubble)", common: addError},
	{name: "grep", kind: "text", usage: "text in names, addresses, path, query, drop reason, symbol or policy (beyond Hubble)", common: addText},
}

func bothStrings(source, destination func(*flowpb.FlowFilter) *[]string) func(*flowpb.FlowFilter, []string, bool) {
	return func(f *flowpb.FlowFilter, values []string, src bool) {
		to := destination(f)
		if src {
			to = source(f)
		}
		*to = append(*to, values...)
	}
}

func sideWorkload(f *flowpb.FlowFilter, values []string, src bool) {
	to := &f.DestinationWorkload
	if src {
		to = &f.SourceWorkload
	}
	for _, v := range values {
		kind, name, found := strings.Cut(v, "/")
		if !found {
			kind, name = "", v
		}
		*to = append(*to, &flowpb.Workload{Kind: kind, Name: name})
	}
}

// sideIdentity leaves out what is not an identity, which checkIdentity has refused before.
func sideIdentity(f *flowpb.FlowFilter, values []string, src bool) {
	to := &f.DestinationIdentity
	if src {
		to = &f.SourceIdentity
	}
	for _, v := range values {
		if id, err := parseIdentity(v); err == nil {
			*to = append(*to, id)
		}
	}
}

// list adds the value to a list as it is.
func list(field func(*flowpb.FlowFilter) *[]string) func(*selection, string) error {
	return func(s *selection, v string) error {
		to := field(&s.common)
		*to = append(*to, v)
		return nil
	}
}

func addVerdict(s *selection, v string) error {
	n, known := flowpb.Verdict_value[strings.ToUpper(v)]
	if !known || n == 0 {
		return fmt.Errorf("choose forwarded, dropped, error, audit, redirected, traced or translated")
	}
	s.common.Verdict = append(s.common.Verdict, flowpb.Verdict(n))
	return nil
}

// addDropReason uses Hubble's field as long as all reasons are Cilium's: any server understands it.
func addDropReason(s *selection, v string) error {
	name := strings.TrimPrefix(strings.ToUpper(v), "SKB_DROP_REASON_")
	if name == "" {
		return errors.New("give the name of a reason, such as NO_SOCKET")
	}
	n := flowpb.DropReason_value[name]
	if n != 0 && len(s.extra.DropReason) == 0 {
		s.common.DropReasonDesc = append(s.common.DropReasonDesc, flowpb.DropReason(n))
		return nil
	}
	for _, r := range s.common.GetDropReasonDesc() {
		s.extra.DropReason = append(s.extra.DropReason, r.String())
	}
	s.common.DropReasonDesc = nil
	s.extra.DropReason = append(s.extra.DropReason, name)
	return nil
}

// eventTypes are Cilium's numbers of event types (pkg/monitor/api/types.go).
var eventTypes = map[string]int32{"drop": 1, "trace": 4, "policy-verdict": 5, "l7": 129}

func addType(s *selection, v string) error {
	name, sub, qualified := strings.Cut(v, ":")
	n, known := eventTypes[name]
	if !known || qualified && name != "trace" {
		return errors.New("choose trace, trace:POINT, drop, l7 or policy-verdict")
	}
	t := &flowpb.EventTypeFilter{Type: n, MatchSubType: qualified}
	if qualified {
		point, found := pointByName(sub)
		if !found {
			return fmt.Errorf("%q is not an observation point such as from-endpoint, to-endpoint, from-network or to-network", sub)
		}
		if point != flow.PointToEndpoint { // whose number is 0 in events
			t.SubType = int32(point)
		}
	}
	s.common.EventType = append(s.common.EventType, t)
	return nil
}

func pointByName(name string) (flow.Point, bool) {
	for p := flow.PointToProxy; p <= flow.PointToEndpoint; p++ {
		if p.String() == name && name != flow.PointUnknown.String() {
			return p, true
		}
	}
	return 0, false
}

func addTCPFlags(s *selection, v string) error {
	t := &flowpb.TCPFlags{}
	fields := map[string]*bool{"FIN": &t.FIN, "SYN": &t.SYN, "RST": &t.RST, "PSH": &t.PSH, "ACK": &t.ACK, "URG": &t.URG, "ECE": &t.ECE, "CWR": &t.CWR}
	for name := range strings.SplitSeq(v, ",") {
		set := fields[strings.ToUpper(strings.TrimSpace(name))]
		if set == nil {
			return fmt.Errorf("%q is not one of FIN, SYN, RST, PSH, ACK, URG, ECE, CWR", name)
		}
		*set = true
	}
	s.common.TcpFlags = append(s.common.TcpFlags, t)
	return nil
}

func addDirection(s *selection, v string) error {
	n := flowpb.TrafficDirection_value[strings.ToUpper(v)]
	if n == 0 {
		return errors.New("choose ingress or egress")
	}
	s.common.TrafficDirection = append(s.common.TrafficDirection, flowpb.TrafficDirection(n))
	return nil
}

func addIPVersion(version flowpb.IPVersion) func(*selection, string) error {
	return func(s *selection, v string) error {
		yes, err := strconv.ParseBool(v)
		if err != nil || !yes {
			return errors.New("it takes no value")
		}
		if !slices.Contains(s.common.IpVersion, version) {
			s.common.IpVersion = append(s.common.IpVersion, version)
		}
		return nil
	}
}

func addReply(s *selection, v string) error {
	yes, err := strconv.ParseBool(v)
	if err != nil {
		return errors.New("choose true or false")
	}
	s.common.Reply = append(s.common.Reply, yes)
	return nil
}

func addError(s *selection, v string) error {
	yes, err := strconv.ParseBool(v)
	if err != nil {
		return errors.New("choose true or false")
	}
	s.extra.Error = &yes
	return nil
}

func addPolicy(s *selection, v string) error {
	if _, err := filter.Compile(filter.Set{Allow: []filter.Filter{{Policy: []string{v}}}}); err != nil {
		return errors.Unwrap(err) // the flag says which field it is
	}
	s.extra.Policy = append(s.extra.Policy, v)
	return nil
}

func addText(s *selection, v string) error {
	if v == "" {
		return errors.New("an empty text is in everything")
	}
	s.extra.Text = append(s.extra.Text, v)
	return nil
}
