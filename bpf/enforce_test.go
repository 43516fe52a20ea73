package bpf

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
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

// TestPolicyICMPError: an error about a connection that is allowed passes, and opens nothing else.
func TestPolicyICMPError(t *testing.T) {
	shared := newPoliced(t, silent)
	router4, router6 := net.IP{10, 9, 9, 9}, net.ParseIP("fd00::9")
	for _, v6 := range []bool{false, true} {
		peer, local := both(v6)
		router, unreachable, query, proto := router4, uint8(3), uint8(13), uint8(1)
		if v6 {
			router, unreachable, query, proto = router6, 1, 139, 58
		}
		sent := datagram(t, local, peer, 40000, 53, "question")
		sentTCP := tcp(t, local, peer, 40000, 443, syn, 1)
		about := func(src, dst net.IP, typ uint8, inner []byte, cut int) []byte {
			head := 14 + 20
			if v6 {
				head = 14 + 40
			}
			return icmp(t, src, dst, typ, 0, "\x00\x00\x00\x00"+string(inner[14:min(len(inner), head+cut)]))
		}
		established := func(t *testing.T) *policed {
			p := shared.reset(t).allow(ruleKey(tableOut, anyPeer, 0, 24, 17, 53), 500).allow(ruleKey(tableOut, anyPeer, 0, 24, 6, 443), 501)
			p.from("pass", sent, sentTCP).take()
			return p
		}
		for _, c := range []struct {
			name   string
			packet []byte
			want   string
		}{
			{"about a datagram", about(router, local, unreachable, sent, 8), "pass"},
			{"about tcp, cut behind 8 bytes", about(router, local, unreachable, sentTCP, 8), "pass"},
			{"from the peer", about(peer, local, unreachable, sent, 8), "pass"},
			{"about another port", about(router, local, unreachable, datagram(t, local, peer, 40001, 53, ""), 8), "drop"},
			{"about what the endpoint did not send", about(router, local, unreachable, datagram(t, peer, local, 53, 40000, ""), 8), "drop"},
			{"cut within the ports", about(router, local, unreachable, sent, 7), "drop"},
			{"cut within the IP header", about(router, local, unreachable, sent, -1), "drop"},
			{"no error", about(router, local, query, sent, 8), "drop"},
		} {
			t.Run(c.name, func(t *testing.T) { established(t).to(c.want, c.packet) })
		}
		t.Run("opens nothing", func(t *testing.T) {
			p := established(t).to("pass", about(router, local, unreachable, sent, 8))
			p.to("drop", icmp(t, router, local, query, 0, "\x00\x00\x00\x00")).to("pass", about(router, local, unreachable, sent, 8))
			if len(p.table()) != 4 {
				t.Errorf("flows %+v: an error that passes must have its own", p.table())
			}
		})
		t.Run("about a denied connection", func(t *testing.T) {
			p := established(t).forbid(ruleKey(tableOut, anyPeer, 0, 24, 17, 53)).from("drop", sent)
			p.to("drop", about(router, local, unreachable, sent, 8))
		})
		t.Run("by the endpoint", func(t *testing.T) {
			p := shared.reset(t).allow(ruleKey(tableIn, anyPeer, 0, 24, 17, 80), 500)
			got := datagram(t, peer, local, 7000, 80, "")
			p.from("drop", about(local, peer, unreachable, got, 8)).clear()
			p.to("pass", got).from("pass", about(local, peer, unreachable, got, 8))
		})
		t.Run("by rule", func(t *testing.T) {
			p := shared.reset(t).allow(ruleKey(tableIn, anyPeer, 0, 8, proto, 0), 500)
			p.to("pass", about(router, local, unreachable, sent, 8)).verdict("allowed by 500")
		})
		t.Run("not owned", func(t *testing.T) {
			p := established(t).disown().to("pass", about(router, local, unreachable, sent, 8))
			for k := range p.table() {
				if k.Exempt != 0 {
					t.Errorf("exempt flow %+v of an interface without policy", k)
				}
			}
		})
	}
}

// What is no IP, and what IPv6 needs to find neighbours, passes.
func TestPolicyNeighbours(t *testing.T) {
	p := newPoliced(t, silent)
	p.to("pass", packet(t, ethernet(layers.EthernetTypeARP), raw(strings.Repeat("a", 46))))
	p.from("pass", packet(t, ethernet(layers.EthernetTypeARP), raw(strings.Repeat("a", 46))))
	p.from("pass", []byte(strings.Repeat("\xff", 64)))
	for typ := range 256 {
		want := "drop"
		if typ >= 130 && typ <= 137 || typ == 143 {
			want = "pass"
		}
		b := icmp(t, client6, server6, uint8(typ), 0, strings.Repeat("\x00", 20))
		p.to(want, b).from(want, icmp(t, server6, client6, uint8(typ), 0, strings.Repeat("\x00", 20)))
	}
}

// Later fragments have their first one's verdict; where that is unknown, port 0 decides, and who sends is the initiator.
func TestPolicyFragments(t *testing.T) {
	shared := newPoliced(t, silent)
	eth4, eth6 := ethernet(layers.EthernetTypeIPv4), ethernet(layers.EthernetTypeIPv6)
	id := uint16(100)
	fragments := func(v6 bool, proto layers.IPProtocol, body string) (first, later []byte) {
		id++ // what is remembered of others' ports must not matter
		if v6 {
			n := []byte{byte(id >> 8), byte(id)}
			return packet(t, eth6, ipv6(client6, server6, 44), ext6(byte(proto), 0, 0, 1, 0, 0, n[0], n[1]), raw(body)),
				packet(t, eth6, ipv6(client6, server6, 44), ext6(byte(proto), 0, 0, 64, 0, 0, n[0], n[1]), raw("efgh"))
		}
		a, b := ipv4(client4, server4, proto), ipv4(client4, server4, proto)
		a.Id, b.Id, a.Flags, b.FragOffset = id, id, layers.IPv4MoreFragments, 100
		return packet(t, eth4, a, raw(body)), packet(t, eth4, b, raw("efgh"))
	}
	port6000 := ruleKey(tableIn, anyPeer, 0, 24, 17, 6000)
	for _, v6 := range []bool{false, true} {
		t.Run("allowed", func(t *testing.T) {
			first, later := fragments(v6, layers.IPProtocolUDP, udpHeader)
			shared.reset(t).allow(port6000, 500).to("pass", first, later).verdict("allowed by 500")
		})
		t.Run("denied", func(t *testing.T) {
			first, later := fragments(v6, layers.IPProtocolUDP, udpHeader)
			shared.reset(t).to("drop", first, later).verdict("denied by 901")
		})
		t.Run("first unknown", func(t *testing.T) {
			_, later := fragments(v6, layers.IPProtocolUDP, udpHeader)
			shared.reset(t).allow(port6000, 500).to("drop", later).verdict("denied by 901")
		})
		t.Run("first unknown, any port", func(t *testing.T) {
			_, later := fragments(v6, layers.IPProtocolUDP, udpHeader)
			shared.reset(t).allow(ruleKey(tableIn, anyPeer, 0, 8, 17, 0), 500).to("pass", later).verdict("allowed by 500")
		})
		t.Run("tcp is not taken for older", func(t *testing.T) {
			_, later := fragments(v6, layers.IPProtocolTCP, "")
			shared.reset(t).isolate(true, false).to("drop", later).verdict("denied by 901")
		})
		t.Run("first too short for TCP", func(t *testing.T) {
			first, _ := fragments(v6, layers.IPProtocolTCP, "\x9c\x40\x00\x50\x00\x00\x00\x01")
			shared.reset(t).allow(ruleKey(tableIn, anyPeer, 0, 0, 0, 0), 500).to("drop", first)
		})
	}
}

// IP that cannot be read does not pass where the endpoint is isolated.
func TestPolicyUnparsed(t *testing.T) {
	p := newPoliced(t, silent)
	good := tcp(t, client4, server4, 40000, 80, syn, 1)
	vlan3 := packet(t, ethernet(layers.EthernetTypeQinQ), &layers.Dot1Q{Type: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{Type: layers.EthernetTypeDot1Q}, &layers.Dot1Q{Type: layers.EthernetTypeIPv4}, raw(string(good[14:])))
	vlanARP := packet(t, ethernet(layers.EthernetTypeDot1Q), &layers.Dot1Q{Type: layers.EthernetTypeARP}, raw(strings.Repeat("a", 46)))
	for _, c := range []struct {
		name   string
		packet []byte
		want   string
	}{
		{"cut header", patch(good, 16, 0, 30)[:14+30], "drop"},
		{"bad header length", patch(good, 14, 0x44), "drop"},
		{"version 6 in an IPv4 frame", patch(good, 14, 0x65), "drop"},
		{"bad data offset", patch(good, 14+20+12, 0x40), "drop"},
		{"extension headers without end", packet(t, append(network(client6, server6, 60), chain(9)...)...), "drop"},
		{"vlan, cut", tagged(good[:14+19]), "drop"},
		{"three vlan tags", vlan3, "drop"},
		{"arp in a vlan", vlanARP, "pass"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.reset(t).allow(ruleKey(tableIn, anyPeer, 0, 0, 0, 0), 500).allow(ruleKey(tableOut, anyPeer, 0, 0, 0, 0), 500)
			before := p.stat(StatUnparsed)
			p.to(c.want, c.packet).from(c.want, c.packet).isolate(false, false).to("pass", c.packet).from("pass", c.packet)
			p.isolate(true, true).flags(PolicyAudit).to("pass", c.packet).disown().to("pass", c.packet)
			if got := p.stat(StatUnparsed) - before; got != 6 {
				t.Errorf("%d packets counted as unparsed, want 6", got)
			}
		})
	}
	t.Run("event", func(t *testing.T) {
		p := newPoliced(t, silent)
		p.to("drop", patch(good, 14+20+12, 0x40), patch(good, 14+20+12, 0x40)) // the second within the interval
		p.expect("DROPPED 10.0.0.2:0 > 10.0.0.1:0 p6 out packets 0+0 bytes 0+0 flags 00 denied by 901")
	})
	t.Run("event of audit", func(t *testing.T) {
		p := newPoliced(t, silent).flags(PolicyAudit).from("pass", patch(good, 14, 0x44))
		p.expect("VERDICT [::]:0 > [::]:0 p0 in  packets 0+0 bytes 0+0 flags 00 audit by 902")
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
