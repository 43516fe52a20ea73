package bpf

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// Packets on all CPUs while policy changes all the time: each packet is counted once, and when policy has come to rest
// it is obeyed, whatever was in flight.
func TestPolicyRace(t *testing.T) {
	// Nobody reads until the end: a reader could be slower than the writers for good. What no longer finds room is lost as
	// a record, not as a count.
	p := newPoliced(t, func(c *Config) {
		c.Interval, c.DropInterval, c.RingBytes = time.Millisecond, time.Millisecond, 8<<20
	})
	in80, out80 := ruleKey(tableIn, anyPeer, 0, 8, 6, 0), ruleKey(tableOut, anyPeer, 0, 8, 6, 0)
	udp := ruleKey(tableIn, anyPeer, 0, 8, 17, 0)
	type run struct {
		prog   *ebpf.Program
		packet []byte
	}
	var all []run
	for i := range uint16(3) { // few flows, so that CPUs meet
		for _, flags := range []uint8{syn, syn | ack, ack, ack | psh, fin | ack, rst} {
			for seq := range uint32(2) {
				all = append(all, run{p.Egress, tcp(t, client4, server4, 40000+i, 80, flags, seq)},
					run{p.Ingress, tcp(t, server4, client4, 80, 40000+i, flags, seq)})
			}
		}
		all = append(all, run{p.Egress, datagram(t, client4, server4, 7000+i, 80, "")},
			run{p.Ingress, datagram(t, server4, client4, 80, 7000+i, "")})
	}

	var (
		stop atomic.Bool
		wg   sync.WaitGroup
	)
	for worker := range uint64(4) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 5))
			for !stop.Load() {
				r := all[rng.IntN(len(all))]
				if _, _, err := r.prog.Benchmark(r.packet, 20, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 400 {
		switch i % 8 {
		case 0:
			p.allow(in80, 500).allow(udp, 600)
		case 1:
			p.forbid(in80)
		case 2:
			p.allow(out80, 501)
		case 3:
			p.forbid(out80).forbid(udp)
		case 4:
			p.isolate(true, false)
		case 5:
			p.isolate(true, true)
		case 6:
			p.disown()
		case 7:
			p.own()
		}
	}
	stop.Store(true)
	wg.Wait()
	p.consistent()
	p.change()
	for _, r := range all {
		if got := p.act(r.prog, r.packet); got != "drop" {
			t.Errorf("%s of %x, want drop", got, r.packet)
		}
	}
	for k, e := range p.table() {
		if e.State&StateDeciding != 0 || e.Verdict != VerdictDenied || e.Rule != denyIn && e.Rule != denyOut {
			t.Errorf("flow %+v of %+v", e, k)
		}
	}
}

// consistent takes the records, and checks that no kind says what it cannot.
func (p *policed) consistent() {
	p.t.Helper()
	for _, v := range p.take() {
		e := v.(*FlowEvent)
		if decides := e.Kind == KindDrop || e.Kind == KindVerdict; !decides && (e.Verdict != VerdictNone || e.Rule != 0) ||
			e.Kind == KindDrop && e.Verdict != VerdictDenied || e.Kind == KindVerdict && e.Packets != [2]uint64{} {
			p.t.Errorf("%s: verdict %d by %d", summary(v), e.Verdict, e.Rule)
		}
	}
}
