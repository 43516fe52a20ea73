package bpf

import (
	"net"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
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
}

// newPoliced isolates the endpoint both ways: nothing is allowed yet.
func newPoliced(t testing.TB, change func(*Config)) *policed {
	t.Helper()
	p := &policed{rig: newRig(t, change), record: PolicyRecord{
		Table: [2]uint64{tableIn, tableOut}, Deny: [2]uint32{denyIn, denyOut}, Identity: 257,
	}}
	for _, ip := range []net.IP{client4, client6} {
		p.put(p.PolicyPeers, addr16(ip), uint32(peerIdentity))
	}
	return p.own()
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
	return p.put(p.PolicyRecords, uint32(ifLoopback), p.record).change()
}

func (p *policed) disown() *policed {
	p.t.Helper()
	if err := p.PolicyRecords.Delete(uint32(ifLoopback)); err != nil {
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
	case -1:
		return "pass"
	case 2:
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
			p.t.Errorf("to the endpoint: %s, want %s; records %q", got, want, describe(p.records()))
		}
	}
	return p
}

func (p *policed) from(want string, packets ...[]byte) *policed {
	p.t.Helper()
	for _, b := range packets {
		if got := p.act(p.Ingress, b); got != want {
			p.t.Errorf("from the endpoint: %s, want %s; records %q", got, want, describe(p.records()))
		}
	}
	return p
}

// clear empties flow table and ring.
func (p *policed) clear() *policed {
	p.t.Helper()
	p.forget()
	return p
}

func (p *policed) expect(want ...string) *policed {
	p.t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), describe(p.records())); diff != "" {
		p.t.Errorf("records (-want +got):\n%s", diff)
	}
	return p
}

// life of a connection whose verdict changes: each event carries what was counted under its verdict.
func TestPolicyLife(t *testing.T) {
	p := newPoliced(t, func(c *Config) { c.Interval, c.DropInterval = time.Hour, time.Hour })
	tcp80 := ruleKey(tableIn, 1, peerIdentity, 24, 6, 80)
	const conn = "10.0.0.2:40000 > 10.0.0.1:80 p6 out"
	p.to("drop", segment(t, true, syn, 1, "")).expect(
		"VERDICT "+conn+" packets 0+0 bytes 0+0 flags 02 denied by 901",
		"DROPPED "+conn+" packets 1+0 bytes 40+0 flags 02 denied by 901")
	p.to("drop", segment(t, true, syn, 1, ""), segment(t, true, syn, 1, "")).expect()
	p.allow(tcp80, 500).to("pass", segment(t, true, syn, 1, "")).expect(
		"DROPPED "+conn+" packets 2+0 bytes 80+0 flags 02 denied by 901",
		"VERDICT "+conn+" packets 0+0 bytes 0+0 flags 02 allowed by 500",
		"NEW "+conn+" packets 1+0 bytes 40+0 flags 02")
	p.from("pass", segment(t, false, syn|ack, 1, "")).expect()
	p.to("pass", segment(t, true, ack, 2, "")).expect(
		"STATE " + conn + " packets 1+1 bytes 40+40 flags 10")
	p.to("pass", segment(t, true, ack, 2, "data")).from("pass", segment(t, false, ack, 2, "")).expect()
	p.forbid(tcp80).from("drop", segment(t, false, ack, 2, "xx"))
	p.expect(
		"UPDATE "+conn[:len(conn)-3]+"in  reply packets 1+1 bytes 44+40 flags 10",
		"VERDICT "+conn[:len(conn)-3]+"in  reply packets 0+0 bytes 0+0 flags 10 denied by 901",
		"DROPPED "+conn[:len(conn)-3]+"in  reply packets 0+1 bytes 0+42 flags 10 denied by 901")
	p.to("drop", segment(t, true, ack, 2, "data")).from("drop", segment(t, false, rst, 0, "")).expect()
	p.allow(tcp80, 501).to("pass", segment(t, true, ack, 2, "data")).expect(
		"DROPPED "+conn+" packets 1+1 bytes 44+40 flags 14 denied by 901",
		"VERDICT "+conn+" packets 0+0 bytes 0+0 flags 10 allowed by 501")
	p.allow(tcp80, 502).to("pass", segment(t, true, ack, 2, "")).expect("VERDICT " + conn + " packets 0+0 bytes 0+0 flags 10 allowed by 502")
	p.change().to("pass", segment(t, true, ack, 2, "")).expect()
	p.disown().to("pass", segment(t, true, ack, 2, "")).expect("VERDICT " + conn + " packets 0+0 bytes 0+0 flags 10 none by 0")
}
