package bpf

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// BenchmarkEstablished measures what the program adds to a packet of an established connection: the time of a test run
// less that of an empty program in the same run, best of several rounds of each, because the machine is shared.
func BenchmarkEstablished(b *testing.B) {
	without := emptyProgram(b)
	for _, c := range established(b) {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, nil)
			c.begin(b, r.Ingress)
			measure(b, r.Ingress, without, c.packet)
		})
	}
}

// BenchmarkPolicyEstablished is BenchmarkEstablished at an owned interface: the verdict is in the flow table.
func BenchmarkPolicyEstablished(b *testing.B) {
	without := emptyProgram(b)
	for _, c := range established(b) {
		b.Run(c.name, func(b *testing.B) {
			p := newPoliced(b, nil).allow(ruleKey(tableOut, anyPeer, 0, 0, 0, 0), 500)
			c.begin(b, p.Ingress)
			p.verdict("allowed by 500")
			measure(b, p.Ingress, without, c.packet)
			p.clear()
		})
	}
	packet := datagram(b, client4, server4, 7000, 6000, "")
	b.Run("denied udp4", func(b *testing.B) {
		p := newPoliced(b, nil)
		measure(b, p.Ingress, without, packet)
		p.clear()
	})
	// Each packet against the direction of its entry is decided: this is what looking through all of a table costs.
	b.Run("decided udp4", func(b *testing.B) {
		p := newPoliced(b, nil).to("drop", packet).flags(PolicyAudit)
		measure(b, p.Ingress, without, packet)
		p.clear()
	})
}

// life is the begin of a connection and a packet of it.
type life struct {
	name      string
	handshake [][]byte
	packet    []byte
}

func established(b *testing.B) []life {
	body := strings.Repeat("x", 1000)
	return []life{
		{"tcp4", [][]byte{segment(b, true, syn, 1, ""), segment(b, false, syn|ack, 1, ""), segment(b, true, ack, 2, "")}, segment(b, true, ack, 2, body)},
		{"tcp6", [][]byte{segment6(b, true, syn), segment6(b, false, syn|ack), segment6(b, true, ack)}, segment6(b, true, ack)},
		{"udp4", nil, datagram(b, client4, server4, 7000, 6000, body)},
	}
}

// begin sends enough payload that is no HTTP for the program to stop looking, as it does on real connections.
func (l life) begin(b *testing.B, p *ebpf.Program) {
	all := l.handshake
	for range 20 {
		all = append(all, l.packet)
	}
	for _, packet := range all {
		if _, err := p.Run(&ebpf.RunOptions{Data: packet}); err != nil {
			b.Fatal(err)
		}
	}
}

func emptyProgram(b *testing.B) *ebpf.Program {
	b.Helper()
	requireRoot(b)
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { empty.Close() })
	return empty
}

// measure reports what p adds to packet.
func measure(b *testing.B, p, empty *ebpf.Program, packet []byte) {
	const rounds = 10
	repeat := max(b.N/rounds, 1)
	best := func(p *ebpf.Program) time.Duration {
		_, d, err := p.Benchmark(packet, repeat, nil)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	without, with := best(empty), best(p)
	for range rounds - 1 {
		without, with = min(without, best(empty)), min(with, best(p))
	}
	b.ReportMetric(float64(with-without), "ns-added/packet")
	b.ReportMetric(float64(without), "ns-empty/packet")
}

// BenchmarkNewConnection measures the first packet of a connection, its events included: the lower quartile of test runs of
// one packet each, less that of an empty program.
func BenchmarkNewConnection(b *testing.B) {
	empty := emptyProgram(b)
	port80 := func(kind uint8, peer uint32) PolicyRule { return ruleKey(tableOut, kind, peer, 24, 17, 80) }
	for _, c := range []struct {
		name  string
		setup func(*policed)
	}{
		{"no policy", func(p *policed) {
			if err := p.PolicyGeneration.Set(uint64(0)); err != nil {
				p.t.Fatal(err)
			}
		}},
		{"not owned", func(p *policed) { p.disown() }},
		{"not isolated", func(p *policed) { p.isolate(true, false) }},
		{"anybody", func(p *policed) { p.allow(port80(anyPeer, 0), 500) }},
		{"identity", func(p *policed) { p.allow(port80(identity, peerIdentity), 500) }},
		{"set", func(p *policed) {
			p.put(p.PolicyBlocks, blockKey(tableOut, addr16(client4), 104), uint32(9)).allow(port80(blockSet, 9), 500)
		}},
		{"denied", func(*policed) {}},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newPoliced(b, func(c *Config) { c.MaxFlows, c.RingBytes = 65536, 8<<20 })
			c.setup(p)
			var with, without []time.Duration
			for port := range uint16(min(max(b.N, 100), 10000)) {
				packet := datagram(b, server4, client4, 20000+port, 80, "x")
				for prog, all := range map[*ebpf.Program]*[]time.Duration{empty: &without, p.Ingress: &with} {
					_, d, err := prog.Benchmark(packet, 1, nil)
					if err != nil {
						b.Fatal(err)
					}
					*all = append(*all, d)
				}
			}
			slices.Sort(with)
			slices.Sort(without)
			b.ReportMetric(float64(with[len(with)/4]-without[len(without)/4]), "ns-added/packet")
		})
	}
}

// TestVerifier logs how much of the verifier's limits each program takes, and keeps them far from the limit of one
// million instructions: older kernels see more states in the same program.
func TestVerifier(t *testing.T) {
	requireRoot(t)
	spec, err := Plan(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range []*ebpf.CollectionSpec{spec.tcx, spec.drop, spec.proc} {
		c, err := ebpf.NewCollectionWithOptions(family, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
		if err != nil {
			t.Fatal(err)
		}
		for name, p := range c.Programs {
			info, err := p.Info()
			if err != nil {
				t.Fatal(err)
			}
			n, ok := info.VerifiedInstructions()
			if !ok || n > 100000 {
				t.Errorf("%s: %d instructions verified", name, n)
			}
			t.Logf("%s: %s", name, strings.ReplaceAll(strings.TrimSpace(p.VerifierLog), "\n", ", "))
		}
		c.Close()
	}
}
