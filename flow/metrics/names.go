package metrics

import (
	"strconv"

	"github.com/parallax-flow/parallax/flow"
)

// layer4 is the protocol's name as Hubble's metrics write it.
func layer4(p flow.Proto) string {
	switch p {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMP, flow.ProtoICMPv6, flow.ProtoSCTP:
		return p.String()
	case 2:
		return "IGMP"
	case 112:
		return "VRRP"
	}
	return "Unknown L4"
}

// reporter says who tells of an exchange: what leaves an endpoint is seen at the client, what comes to one at the server.
func reporter(d flow.Direction) string {
	switch d {
	case flow.DirectionEgress:
		return "client"
	case flow.DirectionIngress:
		return "server"
	}
	return "unknown"
}

// rcodes are the names that Hubble's metrics give to DNS RCODEs (RFC 6895 section 2.3).
var rcodes = [...]string{
	"No Error", "Format Error", "Server Failure", "Non-Existent Domain", "Not Implemented", "Query Refused", "Name Exists when it should not",
	"RR Set Exists when it should not", "RR Set that should exist does not", "Not Authorized", "Name not contained in zone",
}

func rcodeName(code uint16) string {
	if int(code) < len(rcodes) {
		return rcodes[code]
	}
	return "RCODE " + strconv.Itoa(int(code))
}

// answerType is the type of an answer record: an address says it itself, a name that answers a question for addresses is an alias.
func answerType(answer, question string) string {
	kind := "A"
	for i := range len(answer) {
		switch c := answer[i]; {
		case c == ':':
			return "AAAA"
		case c != '.' && (c < '0' || c > '9'):
			kind = "CNAME"
		}
	}
	if kind == "CNAME" && question != "A" && question != "AAAA" {
		return question
	}
	return kind
}

// ICMP types (IANA "ICMP Type Numbers", "ICMPv6 Parameters").
const (
	icmp4EchoReply = 0
	icmp4Echo      = 8
	icmp6Echo      = 128
	icmp6EchoReply = 129
)

// icmpType is a type's name in Hubble's metrics, with the names of its codes if it has any.
type icmpType struct {
	name  string
	codes []string
}

var icmp4Types = map[uint8]icmpType{
	0: {name: "EchoReply"},
	3: {"DestinationUnreachable", []string{
		"Net", "Host", "Protocol", "Port", "FragmentationNeeded", "SourceRoutingFailed", "NetUnknown", "HostUnknown", "SourceIsolated",
		"NetAdminProhibited", "HostAdminProhibited", "NetTOS", "HostTOS", "CommAdminProhibited", "HostPrecedence", "PrecedenceCutoff",
	}},
	4:  {name: "SourceQuench"},
	5:  {"Redirect", []string{"Net", "Host", "TOS+Net", "TOS+Host"}},
	8:  {name: "EchoRequest"},
	9:  {name: "RouterAdvertisement"},
	10: {name: "RouterSolicitation"},
	11: {"TimeExceeded", []string{"TTLExceeded", "FragmentReassemblyTimeExceeded"}},
	12: {"ParameterProblem", []string{"PointerIndicatesError", "MissingOption", "BadLength"}},
	13: {name: "TimestampRequest"},
	14: {name: "TimestampReply"},
}

var icmp6Types = map[uint8]icmpType{
	1: {"DestinationUnreachable", []string{
		"NoRouteToDst", "AdminProhibited", "BeyondScopeOfSrc", "AddressUnreachable", "PortUnreachable", "SrcAddressFailedPolicy", "RejectRouteToDst",
	}},
	2:   {name: "PacketTooBig"},
	3:   {"TimeExceeded", []string{"HopLimitExceeded", "FragmentReassemblyTimeExceeded"}},
	4:   {"ParameterProblem", []string{"ErroneousHeaderField", "UnrecognizedNextHeader", "UnrecognizedIPv6Option"}},
	128: {name: "EchoRequest"},
	129: {name: "EchoReply"},
	133: {name: "RouterSolicitation"},
	134: {name: "RouterAdvertisement"},
	135: {name: "NeighborSolicitation"},
	136: {name: "NeighborAdvertisement"},
	137: {name: "Redirect"},
}

func icmpName(types map[uint8]icmpType, t, code uint8) string {
	known, ok := types[t]
	switch {
	case !ok:
		return strconv.Itoa(int(t)) + "(" + strconv.Itoa(int(code)) + ")"
	case int(code) < len(known.codes):
		return known.name + "(" + known.codes[code] + ")"
	case len(known.codes) == 0 && code == 0:
		return known.name
	}
	return known.name + "(Code: " + strconv.Itoa(int(code)) + ")"
}
