package bpf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// seeds are well-formed packets of each kind.
func seeds(t testing.TB) [][]byte {
	eth6 := ethernet(layers.EthernetTypeIPv6)
	return [][]byte{
		segment(t, true, psh|ack, 7, request),
		segment(t, false, syn|ack, 7, ""),
		segment6(t, true, syn),
		datagram(t, client4, server4, 7000, 53, "question"),
		datagram(t, client6, server6, 7000, 6000, "abcd"),
		tagged(segment(t, true, ack, 1, "data")),
		packet(t, eth6, ipv6(client6, server6, 0), ext6(60, 0), ext6(17, 2), raw(udpHeader)),
		packet(t, eth6, ipv6(client6, server6, 44), ext6(17, 0, 0, 1, 9, 9, 9, 9), raw(udpHeader)),
		packet(t, eth6, ipv6(client6, server6, 51), ext6(17, 2)[:16], raw(udpHeader)),
		packet(t, ethernet(layers.EthernetTypeIPv4), ipv4(client4, server4, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 8 << 8, Id: 321}),
	}
}

// compare runs p and checks the outcome against gopacket's reading of it.
func (r *rig) compare(p []byte) error {
	r.forget()
	packets, unparsed := r.stat(StatPackets), r.stat(StatUnparsed)
	action, err := r.Ingress.Run(&ebpf.RunOptions{Data: p})
	if errors.Is(err, syscall.EINVAL) {
		return nil // the kernel itself refuses to make a packet of it
	}
	if err != nil || int32(action) != -1 {
		return fmt.Errorf("action %d: %w", int32(action), err)
	}
	if n := r.stat(StatPackets) - packets; n != 1 {
		return fmt.Errorf("counted %d times", n)
	}
	var event *FlowEvent
	for _, v := range r.records() {
		if e, ok := v.(*FlowEvent); ok && e.Kind == KindNew {
			event = e
		}
	}
	if parsed := r.stat(StatUnparsed) == unparsed; parsed != (event != nil) {
		return fmt.Errorf("parsed %v, but event %v", parsed, event)
	}
	return oracle(p, event)
}

// oracle compares the event with what gopacket reads. Where gopacket gives up, the program may do what it likes; where
// it reads everything, the program must agree.
func oracle(p []byte, event *FlowEvent) error {
	parsed := gopacket.NewPacket(p, layers.LayerTypeEthernet, gopacket.Default)
	network, transport := parsed.NetworkLayer(), parsed.TransportLayer()
	if network == nil || transport == nil || parsed.ErrorLayer() != nil || parsed.Metadata().Truncated {
		return nil
	}
	headers, length := 0, 0 // of layers 3 and 4, as they are and as IP says
	for _, l := range parsed.Layers() {
		if l.LayerType() == gopacket.LayerTypePayload {
			break
		}
		headers += len(l.LayerContents())
		switch l := l.(type) {
		case *layers.IPv4:
			if l.Version != 4 || l.FragOffset != 0 {
				return nil
			}
			headers, length = len(l.Contents), int(l.Length)
		case *layers.IPv6:
			if l.Version != 6 || l.Length == 0 { // zero: jumbogram
				return nil
			}
			headers, length = len(l.Contents), 40+int(l.Length)
		case *layers.IPv6Fragment:
			if l.FragmentOffset != 0 {
				return nil
			}
		}
	}
	if headers > length || length > len(p) {
		return nil
	}
	var sport, dport uint16
	switch l := transport.(type) {
	case *layers.TCP:
		sport, dport = uint16(l.SrcPort), uint16(l.DstPort)
	case *layers.UDP:
		sport, dport = uint16(l.SrcPort), uint16(l.DstPort)
	default:
		return nil
	}
	if event == nil {
		return fmt.Errorf("not parsed: %v", parsed)
	}
	src, dst := network.NetworkFlow().Endpoints()
	want := [2]string{src.String() + fmt.Sprint(" ", sport), dst.String() + fmt.Sprint(" ", dport)}
	got := [2]string{hostPort(event.Tuple.Saddr, event.Tuple.Sport), hostPort(event.Tuple.Daddr, event.Tuple.Dport)}
	if event.Reply == 1 {
		got[0], got[1] = got[1], got[0]
	}
	if got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

func hostPort(addr [16]byte, port uint16) string {
	e := layers.NewIPEndpoint(addr[:])
	if addr[10] == 0xff && addr[11] == 0xff && [10]byte(addr[:10]) == [10]byte{} {
		e = layers.NewIPEndpoint(addr[12:])
	}
	return e.String() + fmt.Sprint(" ", port)
}

// mutate changes, cuts or extends p.
func mutate(rng *rand.Rand, p []byte) []byte {
	q := append([]byte(nil), p...)
	for range rng.IntN(4) {
		q[12+rng.IntN(len(q)-12)] = byte(rng.Uint32())
	}
	switch rng.IntN(6) {
	case 0:
		q = q[:14+rng.IntN(len(q)-13)]
	case 1:
		for range rng.IntN(64) {
			q = append(q, byte(rng.Uint32()))
		}
	}
	return q
}

func TestRandomPackets(t *testing.T) {
	r := newRig(t, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	all := seeds(t)
	for range 5000 {
		p := mutate(rng, all[rng.IntN(len(all))])
		if err := r.compare(p); err != nil {
			t.Fatalf("%x: %v", p, err)
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, p := range seeds(f) {
		f.Add(p)
	}
	r := newRig(f, nil)
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < 14 || len(p) > 3000 {
			return // not a frame for a test run
		}
		here := *r
		here.t = t
		if err := here.compare(p); err != nil {
			t.Fatalf("%x: %v", p, err)
		}
	})
}
