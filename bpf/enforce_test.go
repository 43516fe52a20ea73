package bpf

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// silent keeps interval reports out of a test.
func silent(c *Config) { c.Interval, c.DropInterval = time.Hour, time.Hour }

// TCP whose begin was not seen passes if either end may have begun it, and is then that end's.
func TestPolicyMidStream(t *testing.T) {
	shared := newPoliced(t, silent)
	in80, out80 := ruleKey(tableIn, anyPeer, 0, 24, 6, 80), ruleKey(tableOut, anyPeer, 0, 24, 6, 80)
	for _, v6 := range []bool{false, true} {
		peer, local := both(v6)
		clientOfEndpoint := tcp(t, peer, local, 40000, 80, ack, 1) // to port 80 of the endpoint, or an answer to its port 80
		answerToEndpoint := tcp(t, peer, local, 80, 40000, ack, 1)
		synAck := tcp(t, peer, local, 80, 40000, syn|ack, 1)
		for _, c := range []struct {
			name   string
			rule   PolicyRule
			packet []byte
			want   string
			byPeer bool // the initiator
		}{
			{"client of the endpoint, allowed", in80, clientOfEndpoint, "allowed by 500", true},
			{"server of the endpoint, allowed", out80, answerToEndpoint, "allowed by 500", false},
			{"syn-ack of the endpoint's server", out80, synAck, "allowed by 500", false},
			{"the guess was wrong", ruleKey(tableOut, anyPeer, 0, 24, 6, 40000), clientOfEndpoint, "allowed by 500", false},
			{"the guess was wrong of a syn-ack", ruleKey(tableIn, anyPeer, 0, 24, 6, 40000), synAck, "allowed by 500", true},
			{"neither", ruleKey(tableIn, anyPeer, 0, 24, 6, 81), clientOfEndpoint, "denied by 901", true},
			{"neither, of a server", ruleKey(tableOut, anyPeer, 0, 24, 6, 81), answerToEndpoint, "denied by 902", false},
		} {
			t.Run(c.name, func(t *testing.T) {
				p := shared.reset(t).allow(c.rule, 500)
				want := "pass"
				if strings.HasPrefix(c.want, "denied") {
					want = "drop"
				}
				p.to(want, c.packet).verdict(c.want)
				if _, e := p.only(); (e.State&StateInitEgress != 0) != c.byPeer {
					t.Errorf("state %#x, initiator the peer: %v", e.State, c.byPeer)
				}
				for _, v := range p.take() {
					e := v.(*FlowEvent)
					if (addr16(peer) == e.Tuple.Saddr) != c.byPeer {
						t.Errorf("initiator of %s", summary(v))
					}
				}
			})
		}
		t.Run("audit", func(t *testing.T) {
			p := shared.reset(t).flags(PolicyAudit).allow(out80, 500)
			p.to("pass", answerToEndpoint).verdict("allowed by 500").clear()
			p.to("pass", clientOfEndpoint).verdict("audit by 901")
		})
	}
}

// A SYN is decided itself, whatever let other packets between the same ports pass.
func TestPolicySYNIsDecided(t *testing.T) {
	shared := newPoliced(t, silent)
	out80, in80 := ruleKey(tableOut, anyPeer, 0, 24, 6, 80), ruleKey(tableIn, anyPeer, 0, 24, 6, 80)
	in40000 := ruleKey(tableIn, anyPeer, 0, 24, 6, 40000)
	open := tcp(t, client4, server4, 80, 40000, syn, 1) // by a peer whose port 80 the endpoint may reach
	for _, c := range []struct {
		name  string
		first func(*policed)
	}{
		{"behind an ack", func(p *policed) { p.to("pass", tcp(t, client4, server4, 80, 40000, ack, 1)) }},
		{"behind a syn-ack", func(p *policed) { p.to("pass", tcp(t, client4, server4, 80, 40000, syn|ack, 1)) }},
		{"behind a reset", func(p *policed) { p.to("pass", tcp(t, client4, server4, 80, 40000, rst, 1)) }},
		{"within a connection of the endpoint", func(p *policed) {
			p.from("pass", tcp(t, server4, client4, 40000, 80, syn, 1)).to("pass", tcp(t, client4, server4, 80, 40000, syn|ack, 1))
			p.from("pass", tcp(t, server4, client4, 40000, 80, ack, 2))
		}},
		{"behind a connection of the endpoint", func(p *policed) {
			p.from("pass", tcp(t, server4, client4, 40000, 80, syn, 1)).to("pass", tcp(t, client4, server4, 80, 40000, rst|ack, 1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := shared.reset(t).allow(out80, 500)
			c.first(p)
			p.to("drop", open, open)
		})
		t.Run(c.name+", allowed", func(t *testing.T) {
			p := shared.reset(t).allow(out80, 500).allow(in40000, 501)
			c.first(p)
			p.to("pass", open).entry("10.0.0.2:80 > 10.0.0.1:40000 allowed by 501")
			p.from("pass", tcp(t, server4, client4, 40000, 80, syn|ack, 1))
		})
	}
	t.Run("a forged one does not end a connection", func(t *testing.T) {
		p := newPoliced(t, silent).allow(out80, 500)
		p.from("pass", tcp(t, server4, client4, 40000, 80, syn, 1)).to("pass", tcp(t, client4, server4, 80, 40000, syn|ack, 1))
		p.from("pass", tcp(t, server4, client4, 40000, 80, ack, 2)).take()
		lost := p.stat(StatLostTable)
		p.to("drop", tcp(t, client4, server4, 80, 40000, syn, 99))
		p.to("pass", tcp(t, client4, server4, 80, 40000, ack, 2)).entry("10.0.0.1:40000 > 10.0.0.2:80 allowed by 500")
		p.expect("DROPPED 10.0.0.2:80 > 10.0.0.1:40000 p6 out packets 0+0 bytes 0+0 flags 02 denied by 901")
		if got := p.stat(StatLostTable) - lost; got != 1 {
			t.Errorf("%d packets without entry, want 1", got)
		}
	})
	t.Run("the same again is the same connection", func(t *testing.T) {
		p := shared.reset(t).allow(in80, 500)
		p.to("pass", tcp(t, client4, server4, 40000, 80, syn, 1)).take()
		p.to("pass", tcp(t, client4, server4, 40000, 80, syn, 1)).expect()
	})
	t.Run("another is another", func(t *testing.T) {
		p := shared.reset(t).allow(in80, 500)
		const conn = "10.0.0.2:40000 > 10.0.0.1:80 p6 out packets "
		p.to("pass", tcp(t, client4, server4, 40000, 80, syn, 1)).take()
		p.to("pass", tcp(t, client4, server4, 40000, 80, syn, 2)).expect(
			"CLOSE "+conn+"0+0 bytes 0+0 flags 00", "VERDICT "+conn+"0+0 bytes 0+0 flags 02 allowed by 500",
			"NEW "+conn+"1+0 bytes 40+0 flags 02")
		p.forbid(in80).to("drop", tcp(t, client4, server4, 40000, 80, syn, 3)).expect(
			"CLOSE "+conn+"0+0 bytes 0+0 flags 00", "VERDICT "+conn+"0+0 bytes 0+0 flags 02 denied by 901",
			"DROPPED "+conn+"1+0 bytes 40+0 flags 02 denied by 901")
		// Trying again, and with whatever numbers, is one denial; once allowed, it is one connection.
		p.to("drop", tcp(t, client4, server4, 40000, 80, syn, 4), tcp(t, client4, server4, 40000, 80, syn, 4)).expect()
		p.allow(in80, 501).to("pass", tcp(t, client4, server4, 40000, 80, syn, 4)).expect(
			"DROPPED "+conn+"2+0 bytes 80+0 flags 02 denied by 901", "VERDICT "+conn+"0+0 bytes 0+0 flags 02 allowed by 501",
			"NEW "+conn+"1+0 bytes 40+0 flags 02")
	})
}

// A connection that is older than the enforcement is decided for whom the table holds to be its initiator; if that is
// TCP whose begin was not seen, for either.
func TestPolicyOlderConnection(t *testing.T) {
	shared := newPoliced(t, silent)
	begin := func(t *testing.T, packet []byte) *policed {
		p := shared.reset(t).disown().to("pass", packet)
		p.take()
		return p.verdict("none by 0")
	}
	wrong := tcp(t, client4, server4, 40000, 80, ack, 1) // of the endpoint's connection from port 80 to 40000
	t.Run("udp", func(t *testing.T) {
		p := begin(t, datagram(t, client4, server4, 7000, 6000, "")).allow(ruleKey(tableOut, anyPeer, 0, 0, 0, 0), 500).own()
		p.from("drop", datagram(t, server4, client4, 6000, 7000, "")).entry("10.0.0.2:7000 > 10.0.0.1:6000 denied by 901")
		// It was allowed once, so what the endpoint sends are replies, which are denied as well.
		p.from("drop", datagram(t, server4, client4, 6000, 7000, "")).verdict("denied by 901")
	})
	t.Run("tcp guessed wrong", func(t *testing.T) {
		p := begin(t, wrong).to("pass", wrong).allow(ruleKey(tableOut, anyPeer, 0, 24, 6, 40000), 500).own()
		p.to("pass", wrong).entry("10.0.0.1:80 > 10.0.0.2:40000 allowed by 500")
		p.expect(
			"UPDATE 10.0.0.2:40000 > 10.0.0.1:80 p6 out packets 1+0 bytes 40+0 flags 10",
			"VERDICT 10.0.0.1:80 > 10.0.0.2:40000 p6 out reply packets 0+0 bytes 0+0 flags 10 allowed by 500")
		_, e := p.only()
		if e.Packets != [2]uint64{0, 1} || e.State&StateInitEgress != 0 || e.State&StatePassed == 0 {
			t.Errorf("entry %+v", e)
		}
		p.from("pass", tcp(t, server4, client4, 80, 40000, ack, 1))
	})
	t.Run("tcp whose begin was seen", func(t *testing.T) {
		p := begin(t, tcp(t, client4, server4, 40000, 80, syn, 1)).allow(ruleKey(tableOut, anyPeer, 0, 24, 6, 40000), 500).own()
		p.to("drop", wrong).verdict("denied by 901").from("drop", tcp(t, server4, client4, 80, 40000, ack, 1))
	})
	t.Run("interface without policy is not asked", func(t *testing.T) {
		p := begin(t, wrong)
		p.change().to("pass", wrong).expect()
		p.to("pass", tcp(t, client4, server4, 40000, 80, syn, 1)).expect(
			"CLOSE 10.0.0.2:40000 > 10.0.0.1:80 p6 out packets 1+0 bytes 40+0 flags 10",
			"NEW 10.0.0.2:40000 > 10.0.0.1:80 p6 out packets 1+0 bytes 40+0 flags 02")
	})
}

// The endpoint cannot let its peer in, or get out, by sending under its peer's address.
func TestPolicyForgedSender(t *testing.T) {
	shared := newPoliced(t, silent)
	forged, real, answer := datagram(t, client4, server4, 53, 40000, ""), datagram(t, client4, server4, 53, 40000, ""), datagram(t, server4, client4, 40000, 53, "")
	toItself := func(p *policed) *policed { // its policy lets it reach its own address, by which it is no peer
		return p.put(p.PolicyPeers, addr16(server4), uint32(301)).allow(ruleKey(tableOut, identity, 301, 0, 0, 0), 500)
	}
	t.Run("peer is not let in", func(t *testing.T) {
		p := toItself(shared.reset(t))
		p.from("pass", forged).verdict("allowed by 500").to("drop", real)
	})
	t.Run("nor the endpoint out", func(t *testing.T) {
		p := toItself(shared.reset(t))
		p.from("pass", forged).from("drop", answer)
	})
	t.Run("not isolated", func(t *testing.T) {
		p := shared.reset(t).isolate(true, false)
		p.from("pass", forged).verdict("allowed by 2").to("drop", real)
	})
	t.Run("a denied one keeps nobody out", func(t *testing.T) {
		p := shared.reset(t).isolate(false, true)
		lost := p.stat(StatLostTable)
		p.from("drop", forged).verdict("denied by 902").to("pass", real)
		if got := p.stat(StatLostTable) - lost; got != 1 {
			t.Errorf("%d packets without entry, want 1", got)
		}
	})
}

// Without room in the flow table each packet is decided for itself.
func TestPolicyTableFull(t *testing.T) {
	p := newPoliced(t, func(c *Config) { silent(c); c.MaxFlows = 2 }).allow(ruleKey(tableIn, anyPeer, 0, 24, 17, 80), 500)
	for port := range uint16(2) {
		p.to("pass", datagram(t, client4, server4, 7000+port, 80, ""))
	}
	p.take()
	denied := datagram(t, client4, server4, 7002, 81, "")
	p.to("pass", datagram(t, client4, server4, 7002, 80, "")).to("drop", denied, denied)
	p.expect("DROPPED 10.0.0.2:7002 > 10.0.0.1:81 p17 out packets 0+0 bytes 0+0 flags 00 denied by 901")
	if got := p.stat(StatLostTable); got != 3 {
		t.Errorf("%d packets lost, want 3", got)
	}
	p.flags(PolicyAudit).to("pass", denied)
}

// Denied packets come in one event now and then, and with the idle report what is left.
func TestPolicyDropInterval(t *testing.T) {
	p := newPoliced(t, func(c *Config) { c.Interval, c.DropInterval = time.Hour, time.Nanosecond })
	denied := datagram(t, client4, server4, 7000, 6000, "abcd")
	const conn = "10.0.0.2:7000 > 10.0.0.1:6000 p17 out packets "
	p.to("drop", denied).take()
	tick()
	p.to("drop", denied).expect("DROPPED " + conn + "1+0 bytes 32+0 flags 00 denied by 901")
	k, e := p.only()
	p.reported -= 5 // as if they had been seen
	e.Packets, e.Bytes = [2]uint64{2, 3}, [2]uint64{64, 96}
	p.put(p.Flows, k, e)
	tick()
	p.reportIdle()
	p.expect("DROPPED " + conn + "2+3 bytes 64+96 flags 00 denied by 901")
	p.reportIdle()
	p.expect()
}

// A denied GSO packet counts as what it would have become on the wire.
func TestPolicyGSO(t *testing.T) {
	p := newPoliced(t, silent)
	p.run(p.Egress, drop, &context{GSOSegs: 3, GSOSize: 1000}, segment(t, true, ack, 1, strings.Repeat("x", 2500)))
	p.expect(
		"VERDICT 10.0.0.2:40000 > 10.0.0.1:80 p6 out packets 0+0 bytes 0+0 flags 10 denied by 901",
		"DROPPED 10.0.0.2:40000 > 10.0.0.1:80 p6 out packets 3+0 bytes 2620+0 flags 10 denied by 901")
}

// Neither payload nor TCP states of what nobody received.
func TestPolicyDeniedIsNotInspected(t *testing.T) {
	p := newPoliced(t, silent)
	p.to("drop", datagram(t, client4, server4, 7000, 53, "question")).expect(
		"VERDICT 10.0.0.2:7000 > 10.0.0.1:53 p17 out packets 0+0 bytes 0+0 flags 00 denied by 901",
		"DROPPED 10.0.0.2:7000 > 10.0.0.1:53 p17 out packets 1+0 bytes 36+0 flags 00 denied by 901")
	p.clear().to("drop", segment(t, true, syn, 1, "")).take()
	p.to("drop", segment(t, true, rst, 2, ""), segment(t, true, psh|ack, 2, request)).expect()
	if _, e := p.only(); e.State&StateClosed != 0 {
		t.Error("a denied reset closed the connection")
	}
}

// A ring without room loses records, never packets, and drops all the same.
func TestPolicyRingFull(t *testing.T) {
	p := newPoliced(t, func(c *Config) { c.RingBytes, c.WakeBytes, c.DropInterval = 4096, 4096, time.Nanosecond })
	for i := range uint16(200) {
		p.to("drop", datagram(t, client4, server4, 7000+i%50, 6000, ""))
	}
	if p.stat(StatLostRing) == 0 {
		t.Error("the ring was large enough")
	}
}

// An interface that is owned is decided even if its role is not known.
func TestPolicyWithoutRole(t *testing.T) {
	p := newPoliced(t, silent).allow(ruleKey(tableIn, anyPeer, 0, 24, 17, 80), 500)
	if err := p.Interfaces.Delete(uint32(ifLoopback)); err != nil {
		t.Fatal(err)
	}
	p.to("drop", datagram(t, client4, server4, 7000, 81, "")).clear()
	p.to("pass", datagram(t, client4, server4, 7000, 80, "")).from("pass", datagram(t, server4, client4, 80, 7000, ""))
}

// Without generation nothing is asked, whatever the maps hold.
func TestPolicyOff(t *testing.T) {
	p := newPoliced(t, silent)
	if err := p.PolicyGeneration.Set(uint64(0)); err != nil {
		t.Fatal(err)
	}
	p.to("pass", datagram(t, client4, server4, 7000, 80, "")).verdict("none by 0")
	if err := p.PolicyGeneration.Set(binary.BigEndian.Uint64([]byte{0, 0, 0, 1, 0, 0, 0, 1})); err != nil {
		t.Fatal(err)
	}
	p.to("drop", datagram(t, client4, server4, 7000, 80, ""))
}
