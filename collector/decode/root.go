// Package decode turns the records of the kernel (bpf/headers/event.h) into flows and payload segments.
//
// It owns the conversion of the kernel's boot clock to wall clock, the names of drop reasons and kernel functions, and
// the interning of what repeats (flow.Drop, flow.Process). Records keep their order. A record that cannot be decoded
// makes no flow and gives ErrRecord: the caller counts it as lost at flow.StageDecode.
package decode

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/parallax-flow/parallax/collector/l7"
	"github.com/parallax-flow/parallax/flow"
)

// ErrRecord is returned for a record of unknown type, version, shape or value.
var ErrRecord = errors.New("kernel record of unknown version or shape")

// Config of a Decoder. What several decoders of one process can share (Clock excepted) is given by pointer.
type Config struct {
	Node    *flow.Node // set on every flow; required
	Clock   *Clock     // nil: this machine's
	Reasons *Reasons   // nil: read from the running kernel's BTF when the first drop arrives
	Symbols *Symbols   // nil: read from /proc/kallsyms when the first drop arrives

	// Policy tells what the number of a rule means, by a value that is shared and does not change; nil for one that it
	// does not know. It is called for each verdict and drop by policy. nil: none is known.
	Policy func(rule uint32) *flow.Decision
}

// Decoder decodes the records of one node. It is not safe for concurrent use.
type Decoder struct {
	node    *flow.Node
	clock   *Clock
	reasons *Reasons
	symbols *Symbols
	drops   map[dropKey]*flow.Drop
	procs   map[procKey]*flow.Process
	rules   map[uint32]*flow.Decision // that are not known
	policy  func(rule uint32) *flow.Decision
	segment l7.Segment
}

// New returns a Decoder. Its only error is a missing Config.Node.
func New(cfg Config) (*Decoder, error) {
	if cfg.Node == nil {
		return nil, fmt.Errorf("decode: no node given")
	}
	d := &Decoder{
		node: cfg.Node, clock: cfg.Clock, reasons: cfg.Reasons, symbols: cfg.Symbols, policy: cfg.Policy,
		drops: make(map[dropKey]*flow.Drop), procs: make(map[procKey]*flow.Process), rules: make(map[uint32]*flow.Decision),
	}
	if d.clock == nil {
		d.clock = NewClock()
	}
	if d.reasons == nil {
		d.reasons = NewReasons()
	}
	if d.symbols == nil {
		d.symbols = NewSymbols("")
	}
	return d, nil
}

// Decode appends the flow of rec to out, or hands its payload to payload, which may be nil. The segment and its bytes
// are good during the call only. The error is ErrRecord, and then nothing was appended. rec need not be aligned.
func (d *Decoder) Decode(rec []byte, out *flow.Batch, payload func(*l7.Segment)) error {
	if len(rec) < hdrSize || rec[hdrVersion] != abiVersion {
		return ErrRecord
	}
	n := int(binary.NativeEndian.Uint16(rec[hdrLen:]))
	if n > len(rec) {
		return ErrRecord
	}
	switch rec = rec[:n]; rec0(rec) {
	case eventFlow:
		return d.flow(rec, out)
	case eventDrop:
		return d.drop(rec, out)
	case eventPayload:
		return d.payload(rec, payload)
	}
	return ErrRecord
}

// rec0 is the record's type; 0, which is none, where the length in the header leaves no byte.
func rec0(rec []byte) byte {
	if len(rec) == 0 {
		return 0
	}
	return rec[hdrType]
}
