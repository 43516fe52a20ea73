package decode

import (
	"testing"
	"unsafe"

	"github.com/parallax-flow/parallax/bpf"
)

// TestLayout compares the offsets that the decoder reads with the types in the compiled programs' BTF.
func TestLayout(t *testing.T) {
	var (
		h bpf.Header
		u bpf.Tuple
		f bpf.FlowEvent
		d bpf.DropEvent
		p bpf.PayloadEvent
	)
	for _, c := range []struct {
		name string
		have uintptr
		want uintptr
	}{
		{"hdr.type", hdrType, unsafe.Offsetof(h.Type)},
		{"hdr.version", hdrVersion, unsafe.Offsetof(h.Version)},
		{"hdr.len", hdrLen, unsafe.Offsetof(h.Len)},
		{"hdr", hdrSize, unsafe.Sizeof(h)},
		{"tuple.saddr", tupleSaddr, unsafe.Offsetof(u.Saddr)},
		{"tuple.daddr", tupleDaddr, unsafe.Offsetof(u.Daddr)},
		{"tuple.sport", tupleSport, unsafe.Offsetof(u.Sport)},
		{"tuple.dport", tupleDport, unsafe.Offsetof(u.Dport)},
		{"tuple.proto", tupleProto, unsafe.Offsetof(u.Proto)},
		{"tuple.ifindex", tupleIfindex, unsafe.Offsetof(u.Ifindex)},
		{"tuple", tupleSize, unsafe.Sizeof(u)},
		{"flow.ts", recTs, unsafe.Offsetof(f.Ts)},
		{"flow.first_ts", flowFirstTs, unsafe.Offsetof(f.FirstTs)},
		{"flow.packets", flowPackets, unsafe.Offsetof(f.Packets)},
		{"flow.bytes", flowBytes, unsafe.Offsetof(f.Bytes)},
		{"flow.cookie", flowCookie, unsafe.Offsetof(f.Cookie)},
		{"flow.tuple", flowTuple, unsafe.Offsetof(f.Tuple)},
		{"flow.pid", flowPid, unsafe.Offsetof(f.Pid)},
		{"flow.handshake_us", flowHandshakeUs, unsafe.Offsetof(f.HandshakeUs)},
		{"flow.kind", flowKind, unsafe.Offsetof(f.Kind)},
		{"flow.role", flowRole, unsafe.Offsetof(f.Role)},
		{"flow.egress", flowEgress, unsafe.Offsetof(f.Egress)},
		{"flow.reply", flowReply, unsafe.Offsetof(f.Reply)},
		{"flow.tcp_flags", flowTCPFlags, unsafe.Offsetof(f.TcpFlags)},
		{"flow.icmp_type", flowICMPType, unsafe.Offsetof(f.IcmpType)},
		{"flow.icmp_code", flowICMPCode, unsafe.Offsetof(f.IcmpCode)},
		{"flow.pid_responder", flowPidResponder, unsafe.Offsetof(f.PidResponder)},
		{"flow.comm", flowComm, unsafe.Offsetof(f.Comm)},
		{"flow.rule", flowRule, unsafe.Offsetof(f.Rule)},
		{"flow.verdict", flowVerdict, unsafe.Offsetof(f.Verdict)},
		{"flow", flowSize, unsafe.Sizeof(f)},
		{"drop.ts", recTs, unsafe.Offsetof(d.Ts)},
		{"drop.location", dropLocation, unsafe.Offsetof(d.Location)},
		{"drop.tuple", dropTuple, unsafe.Offsetof(d.Tuple)},
		{"drop.reason", dropReason, unsafe.Offsetof(d.Reason)},
		{"drop.bytes", dropBytes, unsafe.Offsetof(d.Bytes)},
		{"drop.tcp_flags", dropTCPFlags, unsafe.Offsetof(d.TcpFlags)},
		{"drop.icmp_type", dropICMPType, unsafe.Offsetof(d.IcmpType)},
		{"drop.icmp_code", dropICMPCode, unsafe.Offsetof(d.IcmpCode)},
		{"drop", dropSize, unsafe.Sizeof(d)},
		{"payload.ts", recTs, unsafe.Offsetof(p.Ts)},
		{"payload.cookie", payloadCookie, unsafe.Offsetof(p.Cookie)},
		{"payload.tuple", payloadTuple, unsafe.Offsetof(p.Tuple)},
		{"payload.seq", payloadSeq, unsafe.Offsetof(p.Seq)},
		{"payload.payload_len", payloadLen, unsafe.Offsetof(p.PayloadLen)},
		{"payload.pid", payloadPid, unsafe.Offsetof(p.Pid)},
		{"payload.role", payloadRole, unsafe.Offsetof(p.Role)},
		{"payload.egress", payloadEgress, unsafe.Offsetof(p.Egress)},
		{"payload.reply", payloadReply, unsafe.Offsetof(p.Reply)},
		{"payload.l7", payloadL7, unsafe.Offsetof(p.L7)},
		{"payload", payloadSize, unsafe.Sizeof(p)},
		{"verdict none", verdictNone, uintptr(bpf.VerdictNone)},
		{"verdict denied", verdictDenied, uintptr(bpf.VerdictDenied)},
		{"verdict audit", verdictAudit, uintptr(bpf.VerdictAudit)},
		{"version", abiVersion, bpf.EventVersion},
		{"roles", roleCount, uintptr(bpf.RoleOverlay) + 1},
		{"comm", commSize, unsafe.Sizeof(f.Comm)},
	} {
		if c.have != c.want {
			t.Errorf("%s: decoder has %d, the programs %d", c.name, c.have, c.want)
		}
	}
}
