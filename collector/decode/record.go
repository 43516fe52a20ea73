package decode

import (
	"encoding/binary"

	"github.com/parallax-flow/parallax/collector/l7"
	"github.com/parallax-flow/parallax/flow"
)

// Layout of bpf/headers/event.h. TestLayout compares it with the types in the compiled program's BTF. Offsets instead
// of a cast: ring records are aligned, but those of a file or a test need not be.
const (
	abiVersion = 2

	eventFlow    = 1
	eventDrop    = 2
	eventPayload = 3

	verdictNone   = 0
	verdictDenied = 2
	verdictAudit  = 3

	hdrType    = 0
	hdrVersion = 1
	hdrLen     = 2
	hdrSize    = 8

	tupleSaddr   = 0
	tupleDaddr   = 16
	tupleSport   = 32
	tupleDport   = 34
	tupleProto   = 36
	tupleIfindex = 40

	recTs = 8 // the same in all events

	flowFirstTs      = 16
	flowPackets      = 24
	flowBytes        = 40
	flowCookie       = 56
	flowTuple        = 64
	flowPid          = 108
	flowHandshakeUs  = 112
	flowKind         = 120
	flowRole         = 121
	flowEgress       = 122
	flowReply        = 123
	flowTCPFlags     = 124
	flowICMPType     = 125
	flowICMPCode     = 126
	flowPidResponder = 127
	flowComm         = 128
	flowRule         = 144
	flowVerdict      = 148
	flowSize         = 152

	dropLocation = 16
	dropTuple    = 24
	dropReason   = 68
	dropBytes    = 72
	dropTCPFlags = 76
	dropICMPType = 77
	dropICMPCode = 78
	dropSize     = 80

	payloadCookie = 16
	payloadTuple  = 24
	payloadSeq    = 68
	payloadLen    = 72
	payloadPid    = 76
	payloadRole   = 84
	payloadEgress = 85
	payloadReply  = 86
	payloadL7     = 87
	payloadSize   = 88
)

func (d *Decoder) flow(rec []byte, out *flow.Batch) error {
	if len(rec) < flowSize {
		return ErrRecord
	}
	r := (*[flowSize]byte)(rec)
	kind := flow.Kind(r[flowKind])
	if !isFlowKind(kind) || r[flowRole] >= roleCount || !decides(kind, r[flowVerdict]) {
		return ErrRecord
	}
	f := out.Next()
	ts := binary.NativeEndian.Uint64(r[recTs:])
	f.Time = d.clock.Wall(ts)
	f.Start = f.Time - int64(ts-binary.NativeEndian.Uint64(r[flowFirstTs:]))
	f.Node = d.node
	f.Packets = binary.NativeEndian.Uint64(r[flowPackets:])
	f.ReplyPackets = binary.NativeEndian.Uint64(r[flowPackets+8:])
	f.Bytes = binary.NativeEndian.Uint64(r[flowBytes:])
	f.ReplyBytes = binary.NativeEndian.Uint64(r[flowBytes+8:])
	f.Cookie = binary.NativeEndian.Uint64(r[flowCookie:])
	f.HandshakeRTT = binary.NativeEndian.Uint32(r[flowHandshakeUs:])
	f.PID = binary.NativeEndian.Uint32(r[flowPid:])
	f.Process = d.process(f.PID, (*[commSize]byte)(r[flowComm:]))
	f.ProcessDst = r[flowPidResponder] != 0
	setTuple(f, (*[tupleSize]byte)(r[flowTuple:]))
	f.TCPFlags, f.ICMPType, f.ICMPCode = r[flowTCPFlags], r[flowICMPType], r[flowICMPCode]
	f.Kind = kind
	f.Verdict = flow.VerdictForwarded
	f.Reply = r[flowReply] != 0
	f.Point, f.Direction = point(r[flowRole], r[flowEgress] != 0, f.Reply)
	if kind == flow.KindDrop || kind == flow.KindVerdict {
		f.Policy = d.decision(binary.NativeEndian.Uint32(r[flowRule:]))
		switch r[flowVerdict] {
		case verdictDenied:
			f.Verdict, f.Drop = flow.VerdictDropped, &policyDenied
		case verdictAudit:
			f.Verdict = flow.VerdictAudit
		}
	}
	return nil
}

// isFlowKind tells the kinds of flow events from those that other records or user space make.
func isFlowKind(k flow.Kind) bool {
	return k >= flow.KindNew && k <= flow.KindDrop || k == flow.KindVerdict
}

// decides reports whether an event of that kind can say verdict.
func decides(kind flow.Kind, verdict uint8) bool {
	switch kind {
	case flow.KindDrop:
		return verdict == verdictDenied
	case flow.KindVerdict:
		return verdict <= verdictAudit
	}
	return verdict == verdictNone
}

// policyDenied is the reason of each drop by policy.
var policyDenied = flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}

func (d *Decoder) drop(rec []byte, out *flow.Batch) error {
	if len(rec) < dropSize {
		return ErrRecord
	}
	r := (*[dropSize]byte)(rec)
	why := d.reason(binary.NativeEndian.Uint32(r[dropReason:]), binary.NativeEndian.Uint64(r[dropLocation:]))
	if why == nil {
		return nil
	}
	f := out.Next()
	f.Time = d.clock.Wall(binary.NativeEndian.Uint64(r[recTs:]))
	f.Start = f.Time
	f.Node = d.node
	f.Drop = why
	f.Packets = 1
	f.Bytes = uint64(binary.NativeEndian.Uint32(r[dropBytes:]))
	setTuple(f, (*[tupleSize]byte)(r[dropTuple:]))
	f.TCPFlags, f.ICMPType, f.ICMPCode = r[dropTCPFlags], r[dropICMPType], r[dropICMPCode]
	f.Kind = flow.KindDrop
	f.Verdict = flow.VerdictDropped
	return nil
}

func (d *Decoder) payload(rec []byte, payload func(*l7.Segment)) error {
	if len(rec) < payloadSize {
		return ErrRecord
	}
	r := (*[payloadSize]byte)(rec)
	if r[payloadRole] >= roleCount {
		return ErrRecord
	}
	if payload == nil {
		return nil
	}
	s, t := &d.segment, (*[tupleSize]byte)(r[payloadTuple:])
	s.Time = d.clock.Wall(binary.NativeEndian.Uint64(r[recTs:]))
	s.SrcAddr, s.DstAddr = flow.Addr(t[tupleSaddr:tupleSaddr+16]), flow.Addr(t[tupleDaddr:tupleDaddr+16])
	s.SrcPort = binary.NativeEndian.Uint16(t[tupleSport:])
	s.DstPort = binary.NativeEndian.Uint16(t[tupleDport:])
	s.Proto = flow.Proto(t[tupleProto])
	s.Ifindex = binary.NativeEndian.Uint32(t[tupleIfindex:])
	s.Reply = r[payloadReply] != 0
	s.Point, s.Direction = point(r[payloadRole], r[payloadEgress] != 0, s.Reply)
	s.Protocol = flow.L7Protocol(r[payloadL7])
	s.Seq = binary.NativeEndian.Uint32(r[payloadSeq:])
	s.PayloadLen = int(binary.NativeEndian.Uint32(r[payloadLen:]))
	s.Payload = rec[payloadSize:]
	s.Cookie = binary.NativeEndian.Uint64(r[payloadCookie:])
	s.PID = binary.NativeEndian.Uint32(r[payloadPid:])
	payload(s)
	s.Payload = nil // it belongs to the ring
	return nil
}

const tupleSize = 44

func setTuple(f *flow.Flow, t *[tupleSize]byte) {
	f.SrcAddr = flow.Addr(t[tupleSaddr : tupleSaddr+16])
	f.DstAddr = flow.Addr(t[tupleDaddr : tupleDaddr+16])
	f.SrcPort = binary.NativeEndian.Uint16(t[tupleSport:])
	f.DstPort = binary.NativeEndian.Uint16(t[tupleDport:])
	f.Proto = flow.Proto(t[tupleProto])
	f.Ifindex = binary.NativeEndian.Uint32(t[tupleIfindex:])
}

// roleCount is one more than the greatest enum plx_role.
const roleCount = 5

type place struct {
	point     flow.Point
	direction flow.Direction
}

// places holds, by role, where the initiator's packets are seen: [0] when they come in by the interface's ingress hook,
// [1] when they leave by egress. The host's side of a pod's veth is the mirror of the pod: what comes in there leaves the pod.
var places = [roleCount][2]place{
	1: {{flow.PointFromEndpoint, flow.DirectionEgress}, {flow.PointToEndpoint, flow.DirectionIngress}},
	2: {{flow.PointFromNetwork, flow.DirectionIngress}, {flow.PointToNetwork, flow.DirectionEgress}},
	3: {{flow.PointToHost, flow.DirectionEgress}, {flow.PointToHost, flow.DirectionEgress}},
	4: {{flow.PointFromOverlay, flow.DirectionIngress}, {flow.PointToOverlay, flow.DirectionEgress}},
}

// point places a connection by one of its packets: a reply passes in the opposite direction of the initiator's packets.
func point(role uint8, egress, reply bool) (flow.Point, flow.Direction) {
	way := 0
	if egress != reply {
		way = 1
	}
	p := &places[role][way]
	return p.point, p.direction
}
