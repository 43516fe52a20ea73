package decode

import (
	"bytes"
	"fmt"

	"github.com/parallax-flow/parallax/flow"
)

// Bounds of the intern tables. A full table is emptied: values in use live on, and the next record makes them anew.
const (
	maxDrops = 1 << 12 // reason x location; a kernel uses some hundreds
	maxRules = 1 << 12 // that nobody knows
	maxProcs = 1 << 16
)

const commSize = 16

type dropKey struct {
	location uint64
	reason   uint32
}

type procKey struct {
	pid  uint32
	comm [commSize]byte
}

// reason names a drop. It gives nil for what only looks like one.
func (d *Decoder) reason(reason uint32, location uint64) *flow.Drop {
	k := dropKey{location, reason}
	if v, ok := d.drops[k]; ok {
		return v
	}
	if len(d.drops) >= maxDrops {
		clear(d.drops)
	}
	v := &flow.Drop{Reason: d.reasons.Name(reason), Symbol: d.symbols.Lookup(location), Code: reason}
	if isConsumed(v) {
		v = nil
	}
	d.drops[k] = v
	return v
}

// isConsumed reports whether d is a packet that was put to use: a connection in TIME_WAIT takes its peer's last segments and
// frees them without naming a reason (net/ipv4/tcp_ipv4.c and net/ipv6/tcp_ipv6.c, TCP_TW_SUCCESS). What those functions
// really drop has a reason.
func isConsumed(d *flow.Drop) bool {
	return d.Reason == "NOT_SPECIFIED" && (d.Symbol == "tcp_v4_rcv" || d.Symbol == "tcp_v6_rcv")
}

// decision returns what rule means. What was forgotten is said to be so.
func (d *Decoder) decision(rule uint32) *flow.Decision {
	if d.policy != nil {
		if v := d.policy(rule); v != nil {
			return v
		}
	}
	if v, ok := d.rules[rule]; ok {
		return v
	}
	if len(d.rules) >= maxRules {
		clear(d.rules)
	}
	v := &flow.Decision{Rule: -1, Text: fmt.Sprintf("rule %d, which is no longer known", rule)}
	d.rules[rule] = v
	return v
}

func (d *Decoder) process(pid uint32, comm *[commSize]byte) *flow.Process {
	if pid == 0 {
		return nil
	}
	k := procKey{pid, *comm}
	if v, ok := d.procs[k]; ok {
		return v
	}
	if len(d.procs) >= maxProcs {
		clear(d.procs)
	}
	name, _, _ := bytes.Cut(comm[:], []byte{0})
	v := &flow.Process{PID: pid, Comm: string(name)}
	d.procs[k] = v
	return v
}
