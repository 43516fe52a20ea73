package flow

// Kind says why a record was made.
type Kind uint8

const (
	KindUnknown Kind = iota
	KindNew          // first packet of a connection at this point
	KindState        // TCP state change: established, first FIN
	KindUpdate       // interval report of an active connection
	KindClose        // connection closed, reset or expired; carries what was not yet reported
	KindDrop         // packets dropped: Flow.Dropped says how many
	KindL7           // one application exchange: request and response joined
	KindVerdict      // policy decided on a connection, or anew and otherwise; no packets
	kindCount
)

var kindNames = [kindCount]string{"unknown", "new", "state", "update", "close", "drop", "l7", "verdict"}

func (k Kind) String() string { return name(kindNames[:], uint8(k)) }

// Verdict is what became of the packet or exchange. Words and values are those of Hubble's flow.Verdict.
type Verdict uint8

const (
	VerdictUnknown    Verdict = 0
	VerdictForwarded  Verdict = 1
	VerdictDropped    Verdict = 2
	VerdictError      Verdict = 3
	VerdictAudit      Verdict = 4
	VerdictRedirected Verdict = 5
	VerdictTraced     Verdict = 6
	VerdictTranslated Verdict = 7
	verdictCount              = 8
)

var verdictNames = [verdictCount]string{"unknown", "forwarded", "dropped", "error", "audit", "redirected", "traced", "translated"}

func (v Verdict) String() string { return name(verdictNames[:], uint8(v)) }

// Point is the observation point. Values are those of Hubble's flow.TraceObservationPoint.
type Point uint8

const (
	PointUnknown      Point = 0
	PointToProxy      Point = 1
	PointToHost       Point = 2
	PointToStack      Point = 3
	PointToOverlay    Point = 4
	PointToEndpoint   Point = 101
	PointFromEndpoint Point = 5
	PointFromProxy    Point = 6
	PointFromHost     Point = 7
	PointFromStack    Point = 8
	PointFromOverlay  Point = 9
	PointFromNetwork  Point = 10
	PointToNetwork    Point = 11
	PointFromCrypto   Point = 12
	PointToCrypto     Point = 13
)

var pointNames = map[Point]string{
	PointToProxy: "to-proxy", PointToHost: "to-host", PointToStack: "to-stack", PointToOverlay: "to-overlay",
	PointToEndpoint: "to-endpoint", PointFromEndpoint: "from-endpoint", PointFromProxy: "from-proxy",
	PointFromHost: "from-host", PointFromStack: "from-stack", PointFromOverlay: "from-overlay",
	PointFromNetwork: "from-network", PointToNetwork: "to-network", PointFromCrypto: "from-crypto", PointToCrypto: "to-crypto",
}

func (p Point) String() string {
	if s, ok := pointNames[p]; ok {
		return s
	}
	return "unknown"
}

// Direction is the traffic direction seen from the endpoint at the observation point. Values are those of Hubble's flow.TrafficDirection.
type Direction uint8

const (
	DirectionUnknown Direction = 0
	DirectionIngress Direction = 1
	DirectionEgress  Direction = 2
)

var directionNames = []string{"unknown", "ingress", "egress"}

func (d Direction) String() string { return name(directionNames, uint8(d)) }

// Proto is an IP protocol number (IANA "Assigned Internet Protocol Numbers").
type Proto uint8

const (
	ProtoICMP   Proto = 1
	ProtoTCP    Proto = 6
	ProtoUDP    Proto = 17
	ProtoICMPv6 Proto = 58
	ProtoSCTP   Proto = 132
)

func (p Proto) String() string {
	switch p {
	case ProtoICMP:
		return "ICMPv4"
	case ProtoTCP:
		return "TCP"
	case ProtoUDP:
		return "UDP"
	case ProtoICMPv6:
		return "ICMPv6"
	case ProtoSCTP:
		return "SCTP"
	case 0:
		return "unknown"
	}
	return "IP-" + itoa(uint8(p))
}

// TCP flag bits (RFC 9293 section 3.1, RFC 3168 section 6.1).
const (
	TCPFin uint8 = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// EndpointKind says what stands behind an address.
type EndpointKind uint8

const (
	EndpointUnknown EndpointKind = iota
	EndpointPod
	EndpointProcess // a process, systemd unit or container of a host, where there is no pod
	EndpointHost    // a node, without a known process
	EndpointService // a virtual address that was not resolved to a backend
	EndpointWorld   // outside of everything that Parallax knows
	endpointKindCount
)

var endpointKindNames = [endpointKindCount]string{"unknown", "pod", "process", "host", "service", "world"}

func (k EndpointKind) String() string { return name(endpointKindNames[:], uint8(k)) }

// L7Protocol is the application protocol of an exchange.
type L7Protocol uint8

const (
	L7Unknown L7Protocol = iota
	L7HTTP
	L7DNS
	l7Count
)

var l7Names = [l7Count]string{"unknown", "http", "dns"}

func (p L7Protocol) String() string { return name(l7Names[:], uint8(p)) }

func name(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return names[0]
}

func itoa(v uint8) string {
	if v < 10 {
		return string([]byte{'0' + v})
	}
	if v < 100 {
		return string([]byte{'0' + v/10, '0' + v%10})
	}
	return string([]byte{'0' + v/100, '0' + v/10%10, '0' + v%10})
}
