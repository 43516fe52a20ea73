package api

import "github.com/parallax-flow/parallax/flow"

// sums is the traffic of one edgeKey in one slot.
type sums struct {
	records                                      uint64
	connections, requests, errors, drops, audits uint64
	bytes, replyBytes, packets, replyPackets     uint64
	rttSum, rttCount                             uint64 // µs
	first, last                                  int64
	latency                                      *hist
	reasons                                      map[*flow.Drop]uint64
	lost                                         uint64 // records that forwarded nothing: drops, and the denials that they follow
	decisions                                    map[decisionKey]decided
}

// decisionKey is one set of policies and what they said.
type decisionKey struct {
	verdict  flow.Verdict
	policies string // query.PolicyKey
}

type decided struct {
	connections, packets uint64
	last                 int64 // Unix ns
}

func (e *sums) add(f *flow.Flow) {
	e.records++
	e.last = max(e.last, f.Time)
	switch f.Verdict {
	case flow.VerdictDropped:
		e.lost++
	case flow.VerdictAudit:
		e.audits++
	}
	switch f.Kind {
	case flow.KindL7:
		e.requests++
		if f.L7.Error {
			e.errors++
		}
		if f.L7.Latency >= 0 {
			if e.latency == nil {
				e.latency = &hist{}
			}
			e.latency.add(f.L7.Latency)
		}
		return // its bytes are those of the connection's own records
	case flow.KindNew:
		e.connections++
	case flow.KindDrop:
		e.drops += f.Dropped()
		if e.reasons == nil {
			e.reasons = map[*flow.Drop]uint64{}
		}
		e.reasons[f.Drop] += f.Dropped()
		return
	}
	if f.HandshakeRTT > 0 {
		e.rttSum += uint64(f.HandshakeRTT)
		e.rttCount++
	}
	e.bytes += f.Bytes
	e.replyBytes += f.ReplyBytes
	e.packets += f.Packets
	e.replyPackets += f.ReplyPackets
}

// decide counts what policies said in f. It reports false if e has no place for one more set of them.
func (e *sums) decide(f *flow.Flow, policies string) bool {
	k := decisionKey{f.Verdict, policies}
	d, known := e.decisions[k]
	if !known && len(e.decisions) >= maxDecided {
		return false
	}
	if f.Kind == flow.KindVerdict {
		d.connections++
	}
	d.packets += f.Dropped()
	d.last = max(d.last, f.Time)
	if e.decisions == nil {
		e.decisions = map[decisionKey]decided{}
	}
	e.decisions[k] = d
	return true
}

func (e *sums) merge(o *sums) {
	e.records += o.records
	e.connections += o.connections
	e.requests += o.requests
	e.errors += o.errors
	e.drops += o.drops
	e.audits += o.audits
	e.lost += o.lost
	e.bytes += o.bytes
	e.replyBytes += o.replyBytes
	e.packets += o.packets
	e.replyPackets += o.replyPackets
	e.rttSum += o.rttSum
	e.rttCount += o.rttCount
	e.last = max(e.last, o.last)
	if e.first == 0 || o.first < e.first {
		e.first = o.first
	}
	if o.latency != nil {
		if e.latency == nil {
			e.latency = &hist{}
		}
		e.latency.merge(o.latency)
	}
	for d, n := range o.reasons {
		if e.reasons == nil {
			e.reasons = map[*flow.Drop]uint64{}
		}
		e.reasons[d] += n
	}
	for k, d := range o.decisions {
		if e.decisions == nil {
			e.decisions = map[decisionKey]decided{}
		}
		sum := e.decisions[k]
		e.decisions[k] = decided{sum.connections + d.connections, sum.packets + d.packets, max(sum.last, d.last)}
	}
}

func (e *sums) topReason() string {
	var best string
	var most uint64
	for d, n := range e.reasons {
		if n > most || n == most && d.Reason < best {
			best, most = d.Reason, n
		}
	}
	return best
}
