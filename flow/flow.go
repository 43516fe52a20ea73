// Package flow is the vocabulary of Parallax: the record of one observation of traffic and the things it names.
//
// A Flow is small, holds no maps and shares everything that repeats (Endpoint, Node, Drop) by pointer to an immutable
// value, so that stages pass records in batches without allocating. Words are those of the Hubble API where it has one.
package flow

// Flow is one record of traffic between two endpoints.
//
// It is bidirectional (RFC 5103): Src is the initiator of the connection, the client, and Dst the responder; the
// Reply counters hold what went from Dst to Src. A drop by the kernel is the exception: it is one packet, Src is that
// packet's sender, and Reply says whether the packet was a reply where that is known. A drop by policy counts what was
// denied of a connection since its last record: Src is who began it.
type Flow struct {
	Time  int64 // event, Unix ns, from the kernel's clock; of an L7 exchange: the response
	Start int64 // first packet of the connection at this point, Unix ns; of an L7 exchange: the request

	Src, Dst *Endpoint // never nil behind the enrich stage
	Node     *Node     // where it was observed; never nil behind the decode stage
	Drop     *Drop     // not nil if and only if Verdict is VerdictDropped: of KindDrop, and of a denial that is a KindVerdict
	L7       *L7       // not nil if and only if Kind is KindL7
	Policy   *Decision // not nil if policy decided: of KindVerdict, and of a drop by policy
	Process  *Process  // owner of the local socket, nil if unknown; whose side it is on says ProcessDst
	Path     []Hop     // the other observations of the same event, in time order; set by the relay

	// Since the last record of this connection at this point; for L7: of the two messages, as far as they are known.
	Packets, Bytes           uint64 // Src to Dst; bytes of layer 3 (IP header and up)
	ReplyPackets, ReplyBytes uint64 // Dst to Src

	Seq          uint64 // per node and boot, from 1, without gaps where nothing was lost
	Cookie       uint64 // socket cookie of a local socket, 0 if unknown
	SrcAddr      Addr
	DstAddr      Addr
	HandshakeRTT uint32 // TCP: SYN to the handshake's ACK at this point, microseconds; 0 if unknown
	Ifindex      uint32 // interface of the observation, 0 if unknown
	PID          uint32 // process that owns the local socket, 0 if unknown

	SrcPort, DstPort uint16 // 0 for protocols without ports
	TCPFlags         uint8  // of the packet that caused the event; Update and Close: all flags seen since the last record
	ICMPType         uint8
	ICMPCode         uint8
	Proto            Proto
	Kind             Kind
	Verdict          Verdict
	Point            Point     // relative to Src -> Dst
	Direction        Direction // relative to the endpoint at the observation point
	Reply            bool      // the packet that caused the event went from Dst to Src
	ProcessDst       bool      // Process, PID and Cookie are those of Dst's socket, else of Src's
	Secondary        bool      // the same traffic is counted at another point: leave it out of sums. Set by the relay
}

// Endpoint is one side of a flow. It is immutable and shared: a change of labels makes a new Endpoint.
type Endpoint struct {
	Kind         EndpointKind
	Identity     uint32 // numeric security identity; the reserved ones are Cilium's (1 host, 2 world, 6 remote-node)
	Namespace    string // Kubernetes namespace; empty for hosts and the world
	Pod          string // pod name; empty where there is no pod
	Workload     string // Deployment, StatefulSet, systemd unit, container or command name
	WorkloadKind string // "Deployment", "StatefulSet", "Process", "Unit", "Container", ...
	Name         string // DNS name of a world endpoint, name of a service or host
	NodeName     string // node where it runs; empty if unknown or outside
	Cluster      string
	Labels       []string // sorted "key=value"
}

// Key identifies e on a map: its namespace (or host, or "world") and the most general name it has there.
func (e *Endpoint) Key() (group, name string) {
	if e == nil {
		return "unknown", "unknown"
	}
	switch e.Kind {
	case EndpointPod, EndpointService:
		group = e.Namespace
	case EndpointProcess, EndpointHost:
		group = "host " + e.NodeName
	default:
		group = e.Kind.String()
	}
	for _, n := range [...]string{e.Workload, e.Name, e.Pod} {
		if n != "" {
			return group, n
		}
	}
	return group, e.Kind.String()
}

// Node is where an observation was made.
type Node struct {
	Name    string
	Cluster string
	Boot    uint64 // changes with each start of the collector: random, never 0
}

// Process is what the kernel knew of a socket's owner when the socket was made. It is immutable and shared; PIDs are
// reused, so only PID and Comm together name a process.
type Process struct {
	PID  uint32 // in the kernel's initial PID namespace
	Comm string // command name as the kernel holds it: at most 15 bytes, not necessarily UTF-8; empty if unknown
}

// Drop says why and where a packet was dropped. It is immutable and shared.
type Drop struct {
	Reason string // kernel's name without the SKB_DROP_REASON_ prefix ("NO_SOCKET"), or Parallax's own (DropPolicyDenied)
	Symbol string // kernel function that freed the packet ("tcp_v4_rcv"), empty if unknown
	Code   uint32 // the kernel's number for Reason; differs between kernels
}

// DropPolicyDenied is the Reason of a drop by policy. Its Symbol is empty and its Code is that of Cilium
// (DropReason POLICY_DENIED of Hubble's flow).
const (
	DropPolicyDenied            = "POLICY_DENIED"
	DropPolicyDeniedCode uint32 = 133
)

// Hop is another observation of the same event.
type Hop struct {
	Node      *Node
	Time      int64 // Unix ns, that node's clock
	Start     int64 // of an L7 exchange: the request at that point, Unix ns; else 0
	Packets   uint64
	Bytes     uint64
	Ifindex   uint32
	Point     Point
	Direction Direction
}

// L7 is one application exchange. Field use by protocol:
//
//	         Operation   Resource       Status        Host
//	HTTP     method      path           status code   Host header
//	DNS      query type  question name  RCODE         -
//
// What is sensitive is redacted before it gets here: query values, credentials, cookies.
type L7 struct {
	Protocol    L7Protocol
	Operation   string
	Resource    string
	Host        string
	Version     string   // "HTTP/1.1"
	TraceParent string   // W3C traceparent, as sent
	UserAgent   string   // HTTP
	Answers     []string // DNS: addresses and names of the answer section
	Latency     int64    // ns from the request's first byte to the response's first byte at this point; -1: no response seen
	Status      uint16   // meaningful if Answered
	MinTTL      uint32   // DNS: smallest TTL of the answers, seconds
	Answered    bool     // a response was seen
	Error       bool     // the exchange failed: HTTP >= 500, DNS RCODE other than NOERROR, or no response
}

// Lost says that records are missing, where and why.
type Lost struct {
	Node   *Node
	Time   int64  // Unix ns
	Stage  string // "kernel.ring", "kernel.table", "collector.publish", "relay.merge", ...: see docs/architecture.md
	Reason string // one line for a person
	Count  uint64
}

// Batch is what stages hand on. Its slices belong to the caller: a callee that keeps them past the call copies them.
type Batch struct {
	Flows []Flow
	Lost  []Lost
}

// Reset empties b and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Flows)
	clear(b.Lost)
	b.Flows, b.Lost = b.Flows[:0], b.Lost[:0]
}

// Next appends a zero Flow to b and returns it. The pointer is good until the next append.
func (b *Batch) Next() *Flow {
	if len(b.Flows) < cap(b.Flows) {
		b.Flows = b.Flows[:len(b.Flows)+1]
		f := &b.Flows[len(b.Flows)-1]
		*f = Flow{}
		return f
	}
	b.Flows = append(b.Flows, Flow{})
	return &b.Flows[len(b.Flows)-1]
}
