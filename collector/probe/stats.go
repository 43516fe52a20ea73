package probe

import "github.com/parallax-flow/parallax/bpf"

// Stats counts since the start of Run. Exactly, once the ring is empty:
//
//	Produced = Delivered + LostRing
type Stats struct {
	Produced  uint64 // records that the kernel tried to send, and those that the sweep made
	Delivered uint64 // records given to record
	LostRing  uint64 // records for which the ring had no room; what they counted comes with the next record of the connection
	LostTable uint64 // packets not tracked because the flow table was full
	LostHint  uint64 // process names and fragments' ports for which their tables had no room
	Packets   uint64 // packets seen at the interfaces; segments of a GSO packet count each
	Unparsed  uint64 // of these: not IP, cut or malformed
	Drops     uint64 // packets dropped by the kernel within the scope

	Interfaces       int // observed now
	InterfacesFailed int // to be observed, but attaching failed
}

// Stats may be called at any time from any goroutine; behind the end of Run it gives the final counts.
func (p *Probe) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Read in this order a record in flight makes Produced too great, never too small.
	delivered, swept := p.delivered.Load(), p.swept.Load()
	s := p.last
	if p.datapath != nil {
		s = p.kernelStats()
	}
	s.Produced += swept
	s.Delivered = delivered + swept
	if p.interfaces != nil {
		s.Interfaces, s.InterfacesFailed = int(p.interfaces.attached.Load()), int(p.interfaces.failed.Load())
	}
	return s
}

// kernelStats sums the per-CPU counters, those of losses first.
func (p *Probe) kernelStats() (s Stats) {
	for _, c := range [...]struct {
		index bpf.Stat
		to    *uint64
	}{
		{bpf.StatLostRing, &s.LostRing}, {bpf.StatLostTable, &s.LostTable}, {bpf.StatLostHint, &s.LostHint},
		{bpf.StatUnparsed, &s.Unparsed}, {bpf.StatDrops, &s.Drops}, {bpf.StatPackets, &s.Packets}, {bpf.StatEvents, &s.Produced},
	} {
		var perCPU []uint64
		// A look-up in an array of which we hold the descriptor does not fail.
		_ = p.datapath.objects.Stats.Lookup(uint32(c.index), &perCPU)
		for _, v := range perCPU {
			*c.to += v
		}
	}
	return s
}
