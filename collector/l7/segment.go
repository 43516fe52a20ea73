package l7

import "github.com/parallax-flow/parallax/flow"

// Segment is one packet whose payload looks like the start of an application message: an HTTP/1.x request or status
// line, or a DNS message over UDP. Src is the initiator of the connection, whatever way the packet went.
type Segment struct {
	Time      int64 // Unix ns, from the kernel's clock
	SrcAddr   flow.Addr
	DstAddr   flow.Addr
	SrcPort   uint16
	DstPort   uint16
	Proto     flow.Proto
	Ifindex   uint32 // interface of the observation
	Point     flow.Point
	Direction flow.Direction
	Reply     bool // sent by the responder

	Protocol   flow.L7Protocol // what the first bytes looked like
	Seq        uint32          // TCP sequence number of the first payload byte, 0 for UDP
	PayloadLen int             // bytes of payload in the packet; Payload may hold fewer
	Payload    []byte          // valid during the call only
	Cookie     uint64          // socket cookie of a local socket, 0 if unknown
	PID        uint32          // process that owns the local socket, 0 if unknown
}
