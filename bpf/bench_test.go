package bpf

import (
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// BenchmarkEstablished measures what the program adds to a packet of an established connection: the time of a test run
// less that of an empty program in the same run, best of several rounds of each, because the machine is shared.
func BenchmarkEstablished(b *testing.B) {
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer empty.Close()
	body := strings.Repeat("x", 1000)
	for _, c := range []struct {
		name      string
		handshake [][]byte
		packet    []byte
	}{
		{"tcp4", [][]byte{segment(b, true, syn, 1, ""), segment(b, false, syn|ack, 1, ""), segment(b, true, ack, 2, "")}, segment(b, true, ack, 2, body)},
		{"tcp6", [][]byte{segment6(b, true, syn), segment6(b, false, syn|ack), segment6(b, true, ack)}, segment6(b, true, ack)},
		{"udp4", nil, datagram(b, client4, server4, 7000, 6000, body)},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, nil)
			// Enough payload that is no HTTP for the program to stop looking, as it does on real connections.
			r.in(c.handshake...)
			for range 20 {
				r.in(c.packet)
			}
			const rounds = 10
			repeat := max(b.N/rounds, 1)
			best := func(p *ebpf.Program) time.Duration {
				_, d, err := p.Benchmark(c.packet, repeat, nil)
				if err != nil {
					b.Fatal(err)
				}
				return d
			}
			without, with := best(empty), best(r.Ingress)
			for range rounds - 1 {
				without, with = min(without, best(empty)), min(with, best(r.Ingress))
			}
			b.ReportMetric(float64(with-without), "ns-added/packet")
			b.ReportMetric(float64(without), "ns-empty/packet")
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
