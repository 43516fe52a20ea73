package bpf

import (
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// raw is a layer of given bytes.
func raw(s string) gopacket.Payload { return gopacket.Payload(s) }

// patch returns a copy of p with the bytes at off replaced.
func patch(p []byte, off int, b ...byte) []byte {
	q := append([]byte(nil), p...)
	copy(q[off:], b)
	return q
}

func ext6(next byte, words int, fill ...byte) gopacket.Payload {
	b := make([]byte, 8*(words+1))
	b[0], b[1] = next, byte(words)
	copy(b[2:], fill)
	return b
}

const udpHeader = "\x1b\x58\x17\x70\x00\x0c\x00\x00abcd" // 7000 > 6000, four bytes of payload

func TestParse(t *testing.T) {
	udp := func() *layers.UDP { return &layers.UDP{SrcPort: 7000, DstPort: 6000} }
	ip4 := func() *layers.IPv4 { return ipv4(client4, server4, layers.IPProtocolUDP) }
	ip6 := func(next layers.IPProtocol) *layers.IPv6 { return ipv6(client6, server6, next) }
	eth4, eth6 := ethernet(layers.EthernetTypeIPv4), ethernet(layers.EthernetTypeIPv6)
	vlan := func(t layers.EthernetType) *layers.Dot1Q { return &layers.Dot1Q{VLANIdentifier: 5, Type: t} }
	options := ip4()
	options.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
	r := newRig(t, nil)
	padded := append(packet(t, eth4, ip4(), udp()), make([]byte, 18)...)

	for _, c := range []struct {
		name   string
		packet []byte
		want   string // of the NEW event, behind its kind
	}{
		{"udp", packet(t, eth4, ip4(), udp(), raw("abcd")), "10.0.0.2:7000 > 10.0.0.1:6000 p17 in  packets 1+0 bytes 32+0"},
		{"ethernet padding is not layer 3", padded, "10.0.0.2:7000 > 10.0.0.1:6000 p17 in  packets 1+0 bytes 28+0"},
		{"ip options", packet(t, eth4, options, udp(), raw("abcd")), "10.0.0.2:7000 > 10.0.0.1:6000 p17 in  packets 1+0 bytes 36+0"},
		{"vlan", packet(t, ethernet(layers.EthernetTypeDot1Q), vlan(layers.EthernetTypeIPv4), ip4(), udp()),
			"10.0.0.2:7000 > 10.0.0.1:6000 p17 in  packets 1+0 bytes 28+0"},
		{"qinq", packet(t, ethernet(layers.EthernetTypeQinQ), vlan(layers.EthernetTypeDot1Q), vlan(layers.EthernetTypeIPv6), ip6(layers.IPProtocolUDP), udp()),
			"[fd00::2]:7000 > [fd00::1]:6000 p17 in  packets 1+0 bytes 48+0"},
		{"udp6", packet(t, eth6, ip6(layers.IPProtocolUDP), udp(), raw("abcd")), "[fd00::2]:7000 > [fd00::1]:6000 p17 in  packets 1+0 bytes 52+0"},
		{"tcp6", packet(t, eth6, ip6(layers.IPProtocolTCP), &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true}),
			"[fd00::2]:40000 > [fd00::1]:80 p6 in  packets 1+0 bytes 60+0 flags 02"},
		{"hop-by-hop and destination options", packet(t, eth6, ip6(0), ext6(60, 0), ext6(17, 2), raw(udpHeader)),
			"[fd00::2]:7000 > [fd00::1]:6000 p17 in  packets 1+0 bytes 84+0"},
		{"routing header", packet(t, eth6, ip6(43), ext6(17, 0), raw(udpHeader)), "[fd00::2]:7000 > [fd00::1]:6000 p17"},
		{"authentication header", packet(t, eth6, ip6(51), ext6(17, 2)[:16], raw(udpHeader)), "[fd00::2]:7000 > [fd00::1]:6000 p17"},
		{"atomic fragment", packet(t, eth6, ip6(44), ext6(17, 0), raw(udpHeader)), "[fd00::2]:7000 > [fd00::1]:6000 p17"},
		{"eight extension headers", packet(t, append([]gopacket.SerializableLayer{eth6, ip6(60)}, chain(7)...)...), "[fd00::2]:7000 > [fd00::1]:6000 p17"},
		{"no next header", packet(t, eth6, ip6(59)), "[fd00::2]:0 > [fd00::1]:0 p59 in  packets 1+0"},
		{"ping", packet(t, eth4, ipv4(client4, server4, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 8 << 8, Id: 321}),
			"10.0.0.2:321 > 10.0.0.1:321 p1 in  packets 1+0 bytes 28+0"},
		{"pong", packet(t, eth4, ipv4(server4, client4, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 0, Id: 321}),
			"10.0.0.2:321 > 10.0.0.1:321 p1 in  reply packets 0+1 bytes 0+28"},
		{"unreachable", packet(t, eth4, ipv4(server4, client4, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 3<<8 | 3}, raw("12345678")),
			"10.0.0.1:0 > 10.0.0.2:0 p1 in  packets 1+0"},
		{"ping6", packet(t, eth6, ip6(58), raw("\x80\x00\x00\x00\x01\x41\x00\x01")), "[fd00::2]:321 > [fd00::1]:321 p58 in  packets 1+0 bytes 48+0"},
		{"pong6", packet(t, eth6, ipv6(server6, client6, 58), raw("\x81\x00\x00\x00\x01\x41\x00\x01")), "[fd00::2]:321 > [fd00::1]:321 p58 in  reply packets 0+1"},
		{"sctp init", packet(t, eth4, ipv4(server4, client4, layers.IPProtocolSCTP), raw("\x00\x50\x17\x70\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x14")),
			"10.0.0.1:80 > 10.0.0.2:6000 p132 in  packets 1+0 bytes 36+0"},
		{"sctp init ack", packet(t, eth4, ipv4(client4, server4, layers.IPProtocolSCTP), raw("\x17\x70\x00\x50\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x14")),
			"10.0.0.1:80 > 10.0.0.2:6000 p132 in  reply packets 0+1"},
		{"gre", packet(t, eth4, ipv4(client4, server4, layers.IPProtocolGRE), raw("12345678")), "10.0.0.2:0 > 10.0.0.1:0 p47 in  packets 1+0 bytes 28+0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := describe(r.forget().in(c.packet).records())
			if len(got) != 1 || !strings.HasPrefix(got[0], "NEW "+c.want) {
				t.Errorf("got %q\nwant NEW %q", got, c.want)
			}
			if n := r.stat(StatUnparsed); n != 0 {
				t.Errorf("%d packets unparsed", n)
			}
		})
	}
}

// chain is n destination options headers and UDP.
func chain(n int) []gopacket.SerializableLayer {
	var all []gopacket.SerializableLayer
	for i := range n {
		next := byte(60)
		if i == n-1 {
			next = 17
		}
		all = append(all, ext6(next, 0))
	}
	return append(all, raw(udpHeader))
}

// tagged puts a VLAN tag into p. The kernel's test run itself refuses a cut IP header right behind Ethernet.
func tagged(p []byte) []byte {
	q := append([]byte(nil), p[:12]...)
	return append(append(q, 0x81, 0, 0, 5), p[12:]...)
}

func TestParseMalformed(t *testing.T) {
	eth4, eth6 := ethernet(layers.EthernetTypeIPv4), ethernet(layers.EthernetTypeIPv6)
	tcp := segment(t, true, syn, 1, "data")
	udp6 := datagram(t, client6, server6, 7000, 6000, "abcd")
	r := newRig(t, nil)
	for _, c := range []struct {
		name   string
		packet []byte
	}{
		{"arp", packet(t, ethernet(layers.EthernetTypeARP), raw(strings.Repeat("a", 46)))},
		{"noise", []byte(strings.Repeat("\xff", 64))},
		{"ip header is cut", tagged(tcp[:14+19])},
		{"header length below 20", patch(tcp, 14, 0x44)},
		{"header length beyond the packet", patch(packet(t, eth4, ipv4(client4, server4, layers.IPProtocolUDP), raw("12345678")), 14, 0x4f)},
		{"version 6 in an IPv4 frame", patch(tcp, 14, 0x65)},
		{"total length beyond the packet", patch(tcp, 16, 0xff)},
		{"total length below the header", patch(tcp, 16, 0, 19)},
		{"tcp header is cut", patch(tcp, 16, 0, 30)[:14+30]},
		{"data offset below 20", patch(tcp, 14+20+12, 0x40)},
		{"data offset beyond the packet", patch(tcp, 14+20+12, 0xf0)},
		{"udp header is cut", packet(t, eth4, ipv4(client4, server4, layers.IPProtocolUDP), raw("1234567"))},
		{"icmp header is cut", packet(t, eth4, ipv4(client4, server4, layers.IPProtocolICMPv4), raw("123"))},
		{"ipv6 header is cut", tagged(udp6[:14+39])},
		{"version 4 in an IPv6 frame", patch(udp6, 14, 0x45)},
		{"payload length beyond the packet", patch(udp6, 14+4, 0xff)},
		{"nine extension headers", packet(t, append([]gopacket.SerializableLayer{eth6, ipv6(client6, server6, 60)}, chain(9)...)...)},
		{"extension header beyond the packet", packet(t, eth6, ipv6(client6, server6, 60), ext6(17, 0, 0)[:4])},
		{"three vlan tags", packet(t, ethernet(layers.EthernetTypeQinQ), &layers.Dot1Q{Type: layers.EthernetTypeDot1Q},
			&layers.Dot1Q{Type: layers.EthernetTypeDot1Q}, &layers.Dot1Q{Type: layers.EthernetTypeIPv4}, raw(string(tcp[14:])))},
	} {
		t.Run(c.name, func(t *testing.T) {
			packets, unparsed := r.stat(StatPackets), r.stat(StatUnparsed)
			r.in(c.packet)
			packets, unparsed = r.stat(StatPackets)-packets, r.stat(StatUnparsed)-unparsed
			if packets != 1 || unparsed != 1 {
				t.Errorf("packets %d, unparsed %d, want 1 and 1; records %q", packets, unparsed, describe(r.records()))
			}
		})
	}
}

// Later fragments have no ports; they belong to the flow of the first.
func TestFragments(t *testing.T) {
	first4 := ipv4(client4, server4, layers.IPProtocolUDP)
	first4.Flags = layers.IPv4MoreFragments
	later4 := ipv4(client4, server4, layers.IPProtocolUDP)
	later4.FragOffset = 100
	eth4, eth6 := ethernet(layers.EthernetTypeIPv4), ethernet(layers.EthernetTypeIPv6)
	for _, c := range []struct {
		name  string
		parts [][]byte
		flow  string
		bytes uint64
	}{
		{"ipv4", [][]byte{
			packet(t, eth4, first4, raw(udpHeader)), packet(t, eth4, later4, raw("efgh")),
		}, "10.0.0.2:7000 > 10.0.0.1:6000", 32 + 24},
		{"ipv6", [][]byte{
			packet(t, eth6, ipv6(client6, server6, 44), ext6(17, 0, 0, 1, 9, 9, 9, 9), raw(udpHeader)),
			packet(t, eth6, ipv6(client6, server6, 44), ext6(17, 0, 0, 64, 9, 9, 9, 9), raw("efgh")),
		}, "[fd00::2]:7000 > [fd00::1]:6000", 60 + 52},
		{"the first was not seen", [][]byte{
			packet(t, eth4, later4, raw("efgh")), packet(t, eth4, later4, raw("efgh")),
		}, "10.0.0.2:0 > 10.0.0.1:0", 24 + 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil).in(c.parts...)
			all := r.records()
			if len(all) != 1 || !strings.HasPrefix(summary(all[0]), "NEW "+c.flow+" ") {
				t.Fatalf("got %q, want one flow %s", describe(all), c.flow)
			}
			e := all[0].(*FlowEvent)
			for _, rest := range r.table() {
				if packets, bytes := e.Packets[0]+rest.Packets[0], e.Bytes[0]+rest.Bytes[0]; packets != 2 || bytes != c.bytes {
					t.Errorf("%d packets, %d bytes, want 2 and %d", packets, bytes, c.bytes)
				}
			}
		})
	}
}

// context is the part of struct __sk_buff that a test run takes.
type context struct {
	_       [41]uint32
	GSOSegs uint32
	_       [2]uint32
	GSOSize uint32
	_       uint32
}

// A GSO packet counts as what it becomes on the wire: each segment has the headers.
func TestGSO(t *testing.T) {
	big := segment(t, true, ack, 1, strings.Repeat("x", 2500))
	for _, c := range []struct {
		name string
		ctx  context
		want string
	}{
		{"segments known", context{GSOSegs: 3, GSOSize: 1000}, "packets 3+0 bytes 2620+0"},
		{"segments unknown", context{GSOSize: 1000}, "packets 3+0 bytes 2620+0"},
		{"one segment", context{}, "packets 1+0 bytes 2540+0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.run(r.Ingress, next, &c.ctx, big)
			if got := describe(r.records()); len(got) != 1 || !strings.Contains(got[0], c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
