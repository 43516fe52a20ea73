package bpf

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
)

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

// Whatever is done to a packet: where all is denied, no IP passes but to the endpoint itself and to find neighbours.
func TestPolicyRandomPackets(t *testing.T) {
	p := newPoliced(t, silent)
	rng := rand.New(rand.NewPCG(7, 8))
	all := append(seeds(t), icmp(t, client6, server6, 135, 0, strings.Repeat("x", 20)), icmp(t, client4, server4, 3, 1, strings.Repeat("x", 40)))
	dropped, passed := 0, 0
	for range 4000 {
		b := mutate(rng, all[rng.IntN(len(all))])
		prog := []*ebpf.Program{p.Ingress, p.Egress}[rng.IntN(2)]
		action, err := prog.Run(&ebpf.RunOptions{Data: b})
		if errors.Is(err, syscall.EINVAL) {
			continue // the kernel itself refuses to make a packet of it
		}
		if err != nil {
			t.Fatal(err)
		}
		excepted := false
		for k, e := range p.table() {
			excepted = k.Exempt != 0 || e.Rule == 1
		}
		switch {
		case int32(action) == drop:
			dropped++
		case looksLikeIP(b) && !excepted:
			t.Fatalf("%x passed", b)
		default:
			passed++
		}
		p.clear()
	}
	if dropped < 1000 || passed < 50 {
		t.Errorf("%d dropped, %d passed: not both ways were tried", dropped, passed)
	}
}

// looksLikeIP follows VLAN tags.
func looksLikeIP(frame []byte) bool {
	for off := 12; off+2 <= len(frame); off += 4 {
		switch layers.EthernetType(binary.BigEndian.Uint16(frame[off:])) {
		case layers.EthernetTypeIPv4, layers.EthernetTypeIPv6:
			return true
		case layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ:
		default:
			return false
		}
	}
	return false
}
