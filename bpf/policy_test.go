package bpf

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The life of a connection whose verdict changes: each event carries what was counted under its verdict.
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

const (
	anyPeer  = 0
	identity = 1
	blockSet = 2
	service  = 3
)

// The order of look-ups, as policy.Compiled.Decide has it, each for both families.
func TestPolicyDecision(t *testing.T) {
	shared := newPoliced(t, nil)
	for _, v6 := range []bool{false, true} {
		peer, local := both(v6)
		bits := func(n uint32) uint32 {
			if v6 {
				return n * 2
			}
			return 96 + n
		}
		p80 := func(kind uint8, peer uint32) PolicyRule { return ruleKey(tableIn, kind, peer, 24, 17, 80) }
		request := datagram(t, peer, local, 7000, 80, "")
		for _, c := range []struct {
			name  string
			setup func(*policed)
			from  []byte // from the endpoint; nil: request goes to it
			want  string
		}{
			{name: "denied", want: "denied by 901"},
			{name: "denied out", from: datagram(t, local, peer, 7000, 80, ""), want: "denied by 902"},
			{name: "not owned", setup: func(p *policed) { p.disown() }, want: "none by 0"},
			{name: "itself", from: datagram(t, local, local, 7000, 80, ""), want: "allowed by 1"},
			{name: "not isolated", setup: func(p *policed) { p.isolate(false, true) }, want: "allowed by 2"},
			{name: "not isolated out", setup: func(p *policed) { p.isolate(true, false) },
				from: datagram(t, local, peer, 7000, 80, ""), want: "allowed by 2"},
			{name: "own node", setup: func(p *policed) { p.put(p.PolicyPeers, addr16(peer), uint32(1)) }, want: "allowed by 3"},
			{name: "to the own node", setup: func(p *policed) { p.put(p.PolicyPeers, addr16(peer), uint32(1)) },
				from: datagram(t, local, peer, 7000, 80, ""), want: "denied by 902"},
			{name: "other node", setup: func(p *policed) { p.put(p.PolicyPeers, addr16(peer), uint32(2)) }, want: "denied by 901"},
			{name: "anybody, exact port", setup: func(p *policed) { p.allow(p80(anyPeer, 0), 501) }, want: "allowed by 501"},
			{name: "a port of another table", setup: func(p *policed) { p.allow(ruleKey(tableOut, anyPeer, 0, 24, 17, 80), 501) }, want: "denied by 901"},
			{name: "a port of another protocol", setup: func(p *policed) { p.allow(ruleKey(tableIn, anyPeer, 0, 24, 6, 80), 501) }, want: "denied by 901"},
			{name: "the sender's port", setup: func(p *policed) { p.allow(ruleKey(tableIn, anyPeer, 0, 24, 17, 7000), 501) }, want: "denied by 901"},
			{name: "longest match", setup: func(p *policed) {
				p.allow(ruleKey(tableIn, anyPeer, 0, 0, 0, 0), 501)
				p.allow(ruleKey(tableIn, anyPeer, 0, 8, 17, 0), 502)
				p.allow(ruleKey(tableIn, anyPeer, 0, 20, 17, 80), 503) // ports 80-95
				p.allow(p80(anyPeer, 0), 504)
			}, want: "allowed by 504"},
			{name: "range", setup: func(p *policed) {
				p.allow(ruleKey(tableIn, anyPeer, 0, 8, 17, 0), 502)
				p.allow(ruleKey(tableIn, anyPeer, 0, 20, 17, 80), 503)
			}, want: "allowed by 503"},
			{name: "protocol", setup: func(p *policed) {
				p.allow(ruleKey(tableIn, anyPeer, 0, 0, 0, 0), 501)
				p.allow(ruleKey(tableIn, anyPeer, 0, 8, 17, 0), 502)
			}, want: "allowed by 502"},
			{name: "any traffic", setup: func(p *policed) { p.allow(ruleKey(tableIn, anyPeer, 0, 0, 0, 0), 501) }, want: "allowed by 501"},
			{name: "anybody before identity before set", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), 128), uint32(9))
				p.allow(p80(blockSet, 9), 503).allow(p80(identity, peerIdentity), 502).allow(ruleKey(tableIn, anyPeer, 0, 0, 0, 0), 501)
			}, want: "allowed by 501"},
			{name: "identity before set", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), 128), uint32(9))
				p.allow(p80(blockSet, 9), 503).allow(p80(identity, peerIdentity), 502)
			}, want: "allowed by 502"},
			{name: "set", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), bits(24)), uint32(9)).allow(p80(blockSet, 9), 503)
			}, want: "allowed by 503"},
			{name: "everybody's set", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), 0), uint32(9)).allow(p80(blockSet, 9), 503)
			}, want: "allowed by 503"},
			{name: "longest block counts alone", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), bits(8)), uint32(9))
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), bits(24)), uint32(8)).allow(p80(blockSet, 9), 503)
			}, want: "denied by 901"},
			{name: "block that allows nothing", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), bits(8)), uint32(9))
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), bits(24)), uint32(0)).allow(p80(blockSet, 9), 503)
			}, want: "denied by 901"},
			{name: "block of another table", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableOut, addr16(peer), bits(24)), uint32(9)).allow(p80(blockSet, 9), 503)
			}, want: "denied by 901"},
			{name: "blocks skip pods", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), bits(24)), uint32(9)).allow(p80(blockSet, 9), 503)
				p.flags(PolicySkipPods)
			}, want: "denied by 901"},
			{name: "blocks do not skip the world", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableIn, addr16(peer), bits(24)), uint32(9)).allow(p80(blockSet, 9), 503)
				p.put(p.PolicyPeers, addr16(peer), uint32(255)).flags(PolicySkipPods)
			}, want: "allowed by 503"},
			{name: "identities below the first are not looked up", setup: func(p *policed) {
				p.put(p.PolicyPeers, addr16(peer), uint32(255)).allow(p80(identity, 255), 502)
			}, want: "denied by 901"},
			{name: "audit", setup: func(p *policed) { p.flags(PolicyAudit) }, want: "audit by 901"},
			{name: "audit allows", setup: func(p *policed) { p.flags(PolicyAudit).allow(p80(anyPeer, 0), 501) }, want: "allowed by 501"},
		} {
			t.Run(fmt.Sprintf("%s v6 %v", c.name, v6), func(t *testing.T) {
				p := shared.reset(t)
				if c.setup != nil {
					c.setup(p)
				}
				action := "pass"
				if strings.HasPrefix(c.want, "denied") {
					action = "drop"
				}
				reported := 1 // NEW or the drop
				if strings.HasPrefix(c.want, "denied") || strings.HasPrefix(c.want, "audit") || !strings.HasSuffix(c.want, " by 0") &&
					!strings.HasSuffix(c.want, " by 1") && !strings.HasSuffix(c.want, " by 2") {
					reported = 2 // and the verdict
				}
				if c.from != nil {
					p.from(action, c.from)
				} else {
					p.to(action, request)
				}
				p.verdict(c.want)
				if got := describe(p.take()); len(got) != reported {
					t.Errorf("records %q, want %d", got, reported)
				}
			})
		}
	}
}

// Protocols beside TCP and UDP, and whose numbers count.
func TestPolicyProtocols(t *testing.T) {
	shared := newPoliced(t, nil)
	for _, v6 := range []bool{false, true} {
		peer, local := both(v6)
		echo, proto := uint8(8), uint8(1)
		if v6 {
			echo, proto = 128, 58
		}
		ping := icmp(t, peer, local, echo, 0, "\x00\x50\x00\x01") // identifier 80
		for _, c := range []struct {
			name   string
			rule   PolicyRule
			packet []byte
			want   string
		}{
			{"ping, any traffic", ruleKey(tableIn, anyPeer, 0, 0, 0, 0), ping, "allowed by 500"},
			{"ping, its protocol", ruleKey(tableIn, anyPeer, 0, 8, proto, 0), ping, "allowed by 500"},
			{"an identifier is no port", ruleKey(tableIn, anyPeer, 0, 24, proto, 80), ping, "denied by 901"},
			{"sctp", ruleKey(tableIn, anyPeer, 0, 24, 132, 80), sctp(t, peer, local, 7000, 80, 1), "allowed by 500"},
			{"sctp, the other port", ruleKey(tableIn, anyPeer, 0, 24, 132, 7000), sctp(t, peer, local, 7000, 80, 1), "denied by 901"},
			{"gre, any traffic", ruleKey(tableIn, anyPeer, 0, 0, 0, 0), other(t, peer, local, 47, "12345678"), "allowed by 500"},
			{"gre", ruleKey(tableIn, anyPeer, 0, 8, 17, 0), other(t, peer, local, 47, "12345678"), "denied by 901"},
			{"tcp", ruleKey(tableIn, anyPeer, 0, 24, 6, 80), tcp(t, peer, local, 7000, 80, syn, 1), "allowed by 500"},
		} {
			t.Run(fmt.Sprintf("%s v6 %v", c.name, v6), func(t *testing.T) {
				p := shared.reset(t).allow(c.rule, 500)
				p.act(p.Egress, c.packet)
				p.verdict(c.want)
			})
		}
	}
}

// What an endpoint may do with the port of a service's virtual address, which is the peer's here.
func TestPolicyServices(t *testing.T) {
	const number = 0xdecade
	shared := newPoliced(t, nil)
	for _, v6 := range []bool{false, true} {
		vip, local := both(v6)
		everything := ruleKey(tableOut, anyPeer, 0, 0, 0, 0)
		ofService := ruleKey(tableOut, service, number, 0, 0, 0)
		udp := datagram(t, local, vip, 7000, 80, "")
		ping, echo := uint8(8), uint8(1)
		if v6 {
			ping, echo = 128, 58
		}
		for _, c := range []struct {
			name  string
			setup func(*policed)
			from  []byte // nil: to is sent
			to    []byte
			want  string
		}{
			{name: "its rule", setup: func(p *policed) { p.allow(ofService, 501) }, from: udp, want: "allowed by 501"},
			{name: "its rule before all others", setup: func(p *policed) { p.allow(everything, 500).allow(ofService, 501) }, from: udp, want: "allowed by 501"},
			{name: "no rule", from: udp, want: "denied by 902"},
			{name: "nobody else's rule", setup: func(p *policed) {
				p.put(p.PolicyBlocks, blockKey(tableOut, addr16(vip), 128), uint32(9)).allow(ruleKey(tableOut, blockSet, 9, 0, 0, 0), 503)
				p.allow(everything, 500).allow(ruleKey(tableOut, identity, peerIdentity, 0, 0, 0), 502)
			}, from: udp, want: "denied by 902"},
			{name: "another service's rule", setup: func(p *policed) { p.allow(ruleKey(tableOut, service, number+1, 0, 0, 0), 501) }, from: udp, want: "denied by 902"},
			{name: "another table's rule", setup: func(p *policed) { p.allow(ruleKey(tableIn, service, number, 0, 0, 0), 501) }, from: udp, want: "denied by 902"},
			{name: "audit", setup: func(p *policed) { p.flags(PolicyAudit).allow(everything, 500) }, from: udp, want: "audit by 902"},
			{name: "audit allows", setup: func(p *policed) { p.flags(PolicyAudit).allow(ofService, 501) }, from: udp, want: "allowed by 501"},
			{name: "not isolated", setup: func(p *policed) { p.isolate(true, false) }, from: udp, want: "allowed by 2"},
			{name: "tcp", setup: func(p *policed) { p.allow(ofService, 501) }, from: tcp(t, local, vip, 7000, 80, syn, 1), want: "allowed by 501"},
			{name: "answer to tcp that was there before", setup: func(p *policed) { p.allow(ofService, 501) },
				to: tcp(t, vip, local, 80, 7000, ack, 1), want: "allowed by 501"},
			{name: "another port", setup: func(p *policed) { p.allow(everything, 500) }, from: datagram(t, local, vip, 7000, 81, ""), want: "allowed by 500"},
			{name: "another port, denied", setup: func(p *policed) { p.allow(ofService, 501) }, from: datagram(t, local, vip, 7000, 81, ""), want: "denied by 902"},
			{name: "another protocol", setup: func(p *policed) { p.allow(everything, 500) }, from: sctp(t, local, vip, 7000, 80, 1), want: "allowed by 500"},
			{name: "the sender's port", setup: func(p *policed) { p.allow(everything, 500) }, from: datagram(t, local, vip, 80, 81, ""), want: "allowed by 500"},
			{name: "ping", setup: func(p *policed) { p.allow(everything, 500) }, from: icmp(t, local, vip, ping, 0, "\x00\x50\x00\x01"), want: "allowed by 500"},
			{name: "ping, denied", setup: func(p *policed) { p.allow(ruleKey(tableOut, anyPeer, 0, 8, 17, 0), 500) },
				from: icmp(t, local, vip, ping, 0, "\x00\x50\x00\x01"), want: "denied by 902"},
			{name: "ping, its protocol", setup: func(p *policed) { p.allow(ruleKey(tableOut, anyPeer, 0, 8, echo, 0), 500) },
				from: icmp(t, local, vip, ping, 0, "\x00\x50\x00\x01"), want: "allowed by 500"},
			{name: "to the endpoint", setup: func(p *policed) {
				p.put(p.PolicyServices, serviceKey(addr16(vip), 17, 7000), uint32(number))
				p.put(p.PolicyServices, serviceKey(addr16(local), 17, 80), uint32(number)).allow(ruleKey(tableIn, anyPeer, 0, 24, 17, 80), 500)
			}, to: datagram(t, vip, local, 7000, 80, ""), want: "allowed by 500"},
			{name: "itself", setup: func(p *policed) { p.put(p.PolicyServices, serviceKey(addr16(local), 17, 80), uint32(number)) },
				from: datagram(t, local, local, 7000, 80, ""), want: "allowed by 1"},
		} {
			t.Run(fmt.Sprintf("%s v6 %v", c.name, v6), func(t *testing.T) {
				p := shared.reset(t)
				for _, proto := range []uint8{6, 17} {
					p.put(p.PolicyServices, serviceKey(addr16(vip), proto, 80), uint32(number))
				}
				if p.change(); c.setup != nil {
					c.setup(p)
				}
				action := "pass"
				if strings.HasPrefix(c.want, "denied") {
					action = "drop"
				}
				if c.from != nil {
					p.from(action, c.from)
				} else {
					p.to(action, c.to)
				}
				p.verdict(c.want)
			})
		}
	}
}

// Nobody gets in by writing that he only answers.
func TestPolicyInitiator(t *testing.T) {
	shared := newPoliced(t, nil)
	for _, v6 := range []bool{false, true} {
		peer, local := both(v6)
		reply := uint8(0)
		if v6 {
			reply = 129
		}
		for _, c := range []struct {
			name   string
			packet []byte
		}{
			{"udp from a well-known port", datagram(t, peer, local, 53, 40000, "")},
			{"echo reply", icmp(t, peer, local, reply, 0, "\x01\x41\x00\x01")},
			{"sctp init ack", sctp(t, peer, local, 80, 7000, 2)},
			{"tcp syn from a well-known port", tcp(t, peer, local, 80, 40000, syn, 1)},
			{"syn and fin", tcp(t, peer, local, 80, 40000, syn|fin, 1)},
		} {
			t.Run(fmt.Sprintf("%s v6 %v", c.name, v6), func(t *testing.T) {
				p := shared.reset(t).isolate(true, false)
				p.to("drop", c.packet, c.packet).verdict("denied by 901")
				if _, e := p.only(); e.State&StateInitEgress == 0 || e.State&StatePassed != 0 {
					t.Errorf("state %#x: the sender must be the initiator, and nothing have passed", e.State)
				}
			})
		}
	}
}

// What answers to a connection passes, whatever the other direction's policy; what begins one does not.
func TestPolicyReply(t *testing.T) {
	p := newPoliced(t, nil).allow(ruleKey(tableOut, anyPeer, 0, 24, 17, 53), 500)
	p.from("pass", datagram(t, server4, client4, 40000, 53, "")).to("pass", datagram(t, client4, server4, 53, 40000, ""))
	p.entry("10.0.0.1:40000 > 10.0.0.2:53 allowed by 500")
	p.to("drop", datagram(t, client4, server4, 53, 40001, ""))
	p.clear().allow(ruleKey(tableOut, anyPeer, 0, 8, 1, 0), 501)
	p.from("pass", icmp(t, server4, client4, 8, 0, "\x01\x41\x00\x01")).to("pass", icmp(t, client4, server4, 0, 0, "\x01\x41\x00\x01"))
	p.to("drop", icmp(t, client4, server4, 8, 0, "\x01\x42\x00\x01"))
}

// Who is denied cannot keep the endpoint from his address by sending first.
func TestPolicyDeniedFirst(t *testing.T) {
	p := newPoliced(t, func(c *Config) { c.DropInterval = time.Hour }).isolate(true, false)
	p.to("drop", datagram(t, client4, server4, 53, 40000, "xx")).entry("10.0.0.2:53 > 10.0.0.1:40000 denied by 901")
	p.to("drop", datagram(t, client4, server4, 53, 40000, "xx")).take()
	p.from("pass", datagram(t, server4, client4, 40000, 53, "")).expect(
		"DROPPED 10.0.0.2:53 > 10.0.0.1:40000 p17 in  reply packets 1+0 bytes 30+0 flags 00 denied by 901",
		"NEW 10.0.0.1:40000 > 10.0.0.2:53 p17 in  packets 1+0 bytes 28+0 flags 00",
	)
}

// An audit becomes a denial, the denial an audit; and an endpoint that is let go of is free.
func TestPolicyAudit(t *testing.T) {
	p := newPoliced(t, silent).flags(PolicyAudit)
	packet := datagram(t, client4, server4, 7000, 6000, "")
	const conn = "10.0.0.2:7000 > 10.0.0.1:6000 p17 out packets "
	p.to("pass", packet).expect(
		"VERDICT "+conn+"0+0 bytes 0+0 flags 00 audit by 901", "NEW "+conn+"1+0 bytes 28+0 flags 00")
	p.to("pass", packet).from("pass", datagram(t, server4, client4, 6000, 7000, "")).expect()
	p.flags(0).to("drop", packet).expect(
		"UPDATE "+conn+"1+1 bytes 28+28 flags 00", "VERDICT "+conn+"0+0 bytes 0+0 flags 00 denied by 901",
		"DROPPED "+conn+"1+0 bytes 28+0 flags 00 denied by 901")
	p.to("drop", packet).flags(PolicyAudit).to("pass", packet).expect(
		"DROPPED "+conn+"1+0 bytes 28+0 flags 00 denied by 901", "VERDICT "+conn+"0+0 bytes 0+0 flags 00 audit by 901")
	p.clear().flags(0).to("drop", packet, packet).take()
	p.disown().to("pass", packet).expect(
		"DROPPED "+conn+"1+0 bytes 28+0 flags 00 denied by 901", "VERDICT "+conn+"0+0 bytes 0+0 flags 00 none by 0",
		"NEW "+conn+"1+0 bytes 28+0 flags 00")
}
