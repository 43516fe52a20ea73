package bpf

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	client4 = net.IP{10, 0, 0, 2}
	server4 = net.IP{10, 0, 0, 1} // lower than the client: normalization must not decide who is who
	client6 = net.ParseIP("fd00::2")
	server6 = net.ParseIP("fd00::1")
)

func ethernet(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{
		SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: t,
	}
}

func ipv4(src, dst net.IP, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Id: 77, Protocol: proto, SrcIP: src, DstIP: dst}
}

func ipv6(src, dst net.IP, next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: src, DstIP: dst}
}

// packet serializes layers with right lengths and checksums.
func packet(t testing.TB, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	for i, l := range all {
		var network gopacket.NetworkLayer
		for _, below := range all[:i] {
			if n, ok := below.(gopacket.NetworkLayer); ok {
				network = n
			}
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok && network != nil {
			if err := c.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), b.Bytes()...)
}

// segment makes a TCP packet between port 40000 of the client and port 80 of the server, IPv4 without options.
func segment(t testing.TB, fromClient bool, flags uint8, seq uint32, data string) []byte {
	t.Helper()
	src, dst, sport, dport := client4, server4, layers.TCPPort(40000), layers.TCPPort(80)
	if !fromClient {
		src, dst, sport, dport = dst, src, dport, sport
	}
	return packet(t, ethernet(layers.EthernetTypeIPv4), ipv4(src, dst, layers.IPProtocolTCP), &layers.TCP{
		SrcPort: sport, DstPort: dport, Seq: seq, Window: 1000,
		FIN: flags&fin != 0, SYN: flags&syn != 0, RST: flags&rst != 0, PSH: flags&psh != 0, ACK: flags&ack != 0,
	}, gopacket.Payload(data))
}

const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

func datagram(t testing.TB, src, dst net.IP, sport, dport uint16, data string) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if src.To4() != nil {
		return packet(t, ethernet(layers.EthernetTypeIPv4), ipv4(src.To4(), dst.To4(), layers.IPProtocolUDP), udp, gopacket.Payload(data))
	}
	return packet(t, ethernet(layers.EthernetTypeIPv6), ipv6(src, dst, layers.IPProtocolUDP), udp, gopacket.Payload(data))
}

// segment6 is segment over IPv6, without payload.
func segment6(t testing.TB, fromClient bool, flags uint8) []byte {
	t.Helper()
	src, dst, sport, dport := client6, server6, layers.TCPPort(40000), layers.TCPPort(80)
	if !fromClient {
		src, dst, sport, dport = dst, src, dport, sport
	}
	return packet(t, ethernet(layers.EthernetTypeIPv6), ipv6(src, dst, layers.IPProtocolTCP), &layers.TCP{
		SrcPort: sport, DstPort: dport, Seq: 1, Window: 1000, SYN: flags&syn != 0, ACK: flags&ack != 0,
	})
}
