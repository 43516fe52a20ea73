package bpf

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Numbers of the tables, rules and identities of these tests. The endpoint is server4 and server6, so what leaves by
// the egress hook goes to it; client4 and client6 are its peer.
const (
	tableIn, tableOut = 1<<40 | 1, 1<<40 | 2
	denyIn, denyOut   = 901, 902
	peerIdentity      = 300
)

func addr16(ip net.IP) (a [16]byte) { return [16]byte(ip.To16()) }

// policed is a rig whose loopback is owned.
type policed struct {
	*rig
	record     PolicyRecord
	generation uint64
	index      uint32 // of the owned interface
	reported   uint64 // packets of all events so far, and of entries that were removed
}

// newPoliced isolates the endpoint both ways: nothing is allowed yet.
func newPoliced(t testing.TB, change func(*Config)) *policed {
	t.Helper()
	p := (&policed{rig: newRig(t, change), index: ifLoopback}).fill()
	t.Cleanup(p.balance)
	return p
}

// reset returns p as newPoliced gave it, for the subtest t.
func (p *policed) reset(t testing.TB) *policed {
	t.Helper()
	p.clear()
	parent := p.t
	p.t = t
	t.Cleanup(func() { p.t = parent })
	empty[PolicyRule, uint32](p, p.PolicyRules)
	empty[PolicyBlock, uint32](p, p.PolicyBlocks)
	empty[[16]byte, uint32](p, p.PolicyPeers)
	empty[PolicyService, uint32](p, p.PolicyServices)
	return p.fill()
}

func (p *policed) fill() *policed {
	p.t.Helper()
	p.record = PolicyRecord{Table: [2]uint64{tableIn, tableOut}, Deny: [2]uint32{denyIn, denyOut}, Identity: 257}
	for _, ip := range []net.IP{client4, client6} {
		p.put(p.PolicyPeers, addr16(ip), uint32(peerIdentity))
	}
	return p.own()
}

// empty removes all of a map.
func empty[K comparable, V any](p *policed, m *ebpf.Map) {
	p.t.Helper()
	var (
		k    K
		v    V
		keys []K
	)
	it := m.Iterate()
	for it.Next(&k, &v) {
		keys = append(keys, k)
	}
	if err := it.Err(); err != nil {
		p.t.Fatal(err)
	}
	for _, k := range keys {
		if err := m.Delete(k); err != nil {
			p.t.Fatal(err)
		}
	}
}

// balance checks that each packet is in an event, in the flow table, or counted as lost.
func (p *policed) balance() {
	p.take()
	held := p.reported
	for _, e := range p.table() {
		held += e.Packets[0] + e.Packets[1]
	}
	if lost, all := p.stat(StatLostTable)+p.stat(StatUnparsed), p.stat(StatPackets); held+lost != all {
		p.t.Errorf("%d packets seen, %d reported or held, %d lost", all, held, lost)
	}
}

// take returns the records so far.
func (p *policed) take() []any {
	p.t.Helper()
	all := p.records()
	for _, v := range all {
		if e, ok := v.(*FlowEvent); ok {
			p.reported += e.Packets[0] + e.Packets[1]
		}
	}
	return all
}

func (p *policed) put(m *ebpf.Map, key, value any) *policed {
	p.t.Helper()
	if err := m.Put(key, value); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// own writes the record, and with it a new generation.
func (p *policed) own() *policed {
	p.t.Helper()
	return p.put(p.PolicyRecords, p.index, p.record).change()
}

func (p *policed) disown() *policed {
	p.t.Helper()
	if err := p.PolicyRecords.Delete(p.index); err != nil {
		p.t.Fatal(err)
	}
	return p.change()
}

func (p *policed) change() *policed {
	p.t.Helper()
	p.generation++
	if err := p.PolicyGeneration.Set(p.generation); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// ruleKey is the key of a rule for bits of protocol and port.
func ruleKey(table uint64, kind uint8, peer uint32, bits uint32, proto uint8, port uint16) PolicyRule {
	return PolicyRule{Prefixlen: 104 + bits, Peer: peer, Table: table, Kind: kind, Proto: proto, Port: port<<8 | port>>8}
}

func blockKey(table uint64, a [16]byte, bits uint32) PolicyBlock {
	return PolicyBlock{Prefixlen: 96 + bits, Table: table, Addr: a}
}

func serviceKey(a [16]byte, proto uint8, port uint16) PolicyService {
	return PolicyService{Addr: a, Port: port<<8 | port>>8, Proto: proto}
}

// isolate says in which directions the endpoint is isolated.
func (p *policed) isolate(in, out bool) *policed {
	p.t.Helper()
	p.record.Table = [2]uint64{}
	if in {
		p.record.Table[0] = tableIn
	}
	if out {
		p.record.Table[1] = tableOut
	}
	return p.own()
}

func (p *policed) flags(flags uint32) *policed {
	p.t.Helper()
	p.record.Flags = flags
	return p.own()
}

// allow adds a rule and a generation.
func (p *policed) allow(k PolicyRule, rule uint32) *policed {
	p.t.Helper()
	return p.put(p.PolicyRules, k, rule).change()
}

func (p *policed) forbid(k PolicyRule) *policed {
	p.t.Helper()
	if err := p.PolicyRules.Delete(k); err != nil {
		p.t.Fatal(err)
	}
	return p.change()
}

func (p *policed) act(prog *ebpf.Program, packet []byte) string {
	p.t.Helper()
	action, err := prog.Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		p.t.Fatalf("run on %x: %v", packet, err)
	}
	switch int32(action) {
	case next:
		return "pass"
	case drop:
		return "drop"
	}
	p.t.Fatalf("action %d on %x", int32(action), packet)
	return ""
}

// to and from run a packet to the endpoint and one from it.
func (p *policed) to(want string, packets ...[]byte) *policed {
	p.t.Helper()
	for _, b := range packets {
		if got := p.act(p.Egress, b); got != want {
			p.t.Errorf("to the endpoint: %s, want %s; records %q", got, want, describe(p.take()))
		}
	}
	return p
}

func (p *policed) from(want string, packets ...[]byte) *policed {
	p.t.Helper()
	for _, b := range packets {
		if got := p.act(p.Ingress, b); got != want {
			p.t.Errorf("from the endpoint: %s, want %s; records %q", got, want, describe(p.take()))
		}
	}
	return p
}

// clear empties flow table and ring.
func (p *policed) clear() *policed {
	p.t.Helper()
	p.take()
	for _, e := range p.table() {
		p.reported += e.Packets[0] + e.Packets[1]
	}
	p.forget()
	return p
}

func (p *policed) expect(want ...string) *policed {
	p.t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), describe(p.take())); diff != "" {
		p.t.Errorf("records (-want +got):\n%s", diff)
	}
	return p
}

// only returns the one entry of the flow table.
func (p *policed) only() (FlowKey, FlowEntry) {
	p.t.Helper()
	all := p.table()
	if len(all) != 1 {
		p.t.Fatalf("%d flows, want 1: %+v", len(all), all)
	}
	for k, e := range all {
		return k, e
	}
	panic("unreachable")
}

// entry expects one flow, in the form "initiator > responder verdict by rule".
func (p *policed) entry(want string) *policed {
	p.t.Helper()
	k, e := p.only()
	from, to := endpoint(k.Lo, k.LoPort), endpoint(k.Hi, k.HiPort)
	if e.State&StateInitHi != 0 {
		from, to = to, from
	}
	if got := fmt.Sprintf("%s > %s %s by %d", from, to, verdictNames[e.Verdict], e.Rule); got != want {
		p.t.Errorf("flow %s, want %s", got, want)
	}
	if e.State&StateDeciding != 0 {
		p.t.Error("a claim was not given back")
	}
	return p
}

// both returns the peer and the endpoint of one address family.
func both(v6 bool) (peer, local net.IP) {
	if v6 {
		return client6, server6
	}
	return client4, server4
}

func network(src, dst net.IP, proto layers.IPProtocol) []gopacket.SerializableLayer {
	if src.To4() != nil {
		return []gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv4), ipv4(src.To4(), dst.To4(), proto)}
	}
	return []gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv6), ipv6(src, dst, proto)}
}

// tcp makes a TCP packet of either family.
func tcp(t testing.TB, src, dst net.IP, sport, dport uint16, flags uint8, seq uint32) []byte {
	t.Helper()
	return packet(t, append(network(src, dst, layers.IPProtocolTCP), &layers.TCP{
		SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: seq, Window: 1000,
		FIN: flags&fin != 0, SYN: flags&syn != 0, RST: flags&rst != 0, PSH: flags&psh != 0, ACK: flags&ack != 0,
	})...)
}

// other makes a packet of any protocol with body behind its IP header.
func other(t testing.TB, src, dst net.IP, proto uint8, body string) []byte {
	t.Helper()
	return packet(t, append(network(src, dst, layers.IPProtocol(proto)), raw(body))...)
}

// icmp makes an ICMP packet of the family; rest is what follows the first 4 bytes.
func icmp(t testing.TB, src, dst net.IP, typ, code uint8, rest string) []byte {
	t.Helper()
	proto := uint8(1)
	if src.To4() == nil {
		proto = 58
	}
	return other(t, src, dst, proto, string([]byte{typ, code, 0, 0})+rest)
}

// sctp makes the head of an SCTP packet.
func sctp(t testing.TB, src, dst net.IP, sport, dport uint16, chunk byte) []byte {
	t.Helper()
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, sport), dport)
	return other(t, src, dst, 132, string(append(b, 0, 0, 0, 0, 0, 0, 0, 0, chunk, 0, 0, 4)))
}

// verdict expects one flow with that verdict, in the form "allowed by 500".
func (p *policed) verdict(want string) *policed {
	p.t.Helper()
	_, e := p.only()
	if got := fmt.Sprintf("%s by %d", verdictNames[e.Verdict], e.Rule); got != want {
		p.t.Errorf("%s, want %s", got, want)
	}
	return p
}
