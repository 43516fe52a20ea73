package wire

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// The ingest stream: gRPC method Push of service parallax.v1.Ingest, messages in both directions are frames.
//
//	collector                     relay
//	Hello                   ->
//	                        <-    Ack   what it holds of this boot already
//	Batch, Counters, ...    ->
//	                        <-    Ack, ...
//
// Batches are numbered from 1 per boot, without gaps, when they are first sent. An Ack means: the relay handed every flow
// of that batch and of those before it to its consumers. What was sent and not acknowledged is sent again on the next
// stream, under the same numbers.
const (
	ServiceName = "parallax.v1.Ingest"
	MethodName  = "Push"
	FullMethod  = "/" + ServiceName + "/" + MethodName
)

// MaxFrame is the largest frame: a batch that didn't compress, its counters and some room.
const MaxFrame = MaxBody + 1<<20

// MaxStages is the most stages that Counters may name.
const MaxStages = 64

// ProtocolVersion is that of the frames.
const ProtocolVersion = 1

// FrameKind is the first byte of a frame.
type FrameKind byte

const (
	FrameHello    FrameKind = 'H'
	FrameBatch    FrameKind = 'B'
	FrameCounters FrameKind = 'C'
	FrameAck      FrameKind = 'A'
)

// Hello is the first frame of a collector.
type Hello struct {
	Node, Cluster string
	Boot          uint64 // never 0
	Version       string // of the collector, for people
	First         uint64 // number of the first batch that will be sent: the oldest one not acknowledged
	Acked         uint64 // flows in the batches before First
}

// Counters are cumulative for one boot.
type Counters struct {
	// Produced counts flows that were given to the publisher, and all that Lost counts at the stages before it.
	Produced uint64
	Lost     map[string]uint64 // by stage
}

// Batch is a frame with flows.
type Batch struct {
	Counters Counters // at the time of sending
	Number   uint64   // from 1
	Flows    int      // in Data; told apart so that a batch that can't be decoded is counted
	Data     []byte   // for a Decoder
}

// Kind returns the kind of a frame, 0 of an empty one.
func Kind(frame []byte) FrameKind {
	if len(frame) == 0 {
		return 0
	}
	return FrameKind(frame[0])
}

// AppendHello appends the frame of h to dst.
func AppendHello(dst []byte, h *Hello) []byte {
	dst = append(dst, byte(FrameHello), ProtocolVersion)
	dst = appendString(dst, h.Node)
	dst = appendString(dst, h.Cluster)
	dst = appendString(dst, h.Version)
	dst = binary.AppendUvarint(dst, h.Boot)
	dst = binary.AppendUvarint(dst, h.First)
	return binary.AppendUvarint(dst, h.Acked)
}

// ParseHello returns ErrVersion for a collector that is newer than this program.
func ParseHello(frame []byte) (*Hello, error) {
	r := reader{buf: frame}
	if kind, version := r.byte(), r.byte(); FrameKind(kind) == FrameHello && version > ProtocolVersion {
		return nil, fmt.Errorf("hello version %d: %w", version, ErrVersion)
	}
	h := &Hello{Node: r.string(), Cluster: r.string(), Version: r.string(), Boot: r.uvarint(), First: r.uvarint(), Acked: r.uvarint()}
	if r.bad || len(r.buf) > 0 || Kind(frame) != FrameHello || h.Boot == 0 || h.Node == "" || h.First == 0 {
		return nil, fmt.Errorf("hello: %w", ErrMalformed)
	}
	return h, nil
}

// AppendCounters appends the frame of c to dst.
func AppendCounters(dst []byte, c *Counters) []byte {
	return appendCounters(append(dst, byte(FrameCounters)), c)
}

// ParseCounters reads a frame of AppendCounters.
func ParseCounters(frame []byte) (*Counters, error) {
	r := reader{buf: frame}
	kind := FrameKind(r.byte())
	c := parseCounters(&r)
	if r.bad || len(r.buf) > 0 || kind != FrameCounters {
		return nil, fmt.Errorf("counters: %w", ErrMalformed)
	}
	return &c, nil
}

// AppendBatch appends the frame of b to dst.
func AppendBatch(dst []byte, b *Batch) []byte {
	dst = appendCounters(append(dst, byte(FrameBatch)), &b.Counters)
	dst = binary.AppendUvarint(dst, b.Number)
	dst = binary.AppendUvarint(dst, uint64(b.Flows))
	return append(dst, b.Data...)
}

// ParseBatch reads a frame of AppendBatch; Data of the result is a part of frame.
func ParseBatch(frame []byte) (*Batch, error) {
	r := reader{buf: frame}
	kind := FrameKind(r.byte())
	b := &Batch{Counters: parseCounters(&r), Number: r.uvarint(), Flows: r.count(MaxFlows)}
	b.Data = r.buf
	if r.bad || kind != FrameBatch || b.Number == 0 {
		return nil, fmt.Errorf("batch frame: %w", ErrMalformed)
	}
	return b, nil
}

// AppendAck appends an acknowledgement of the batches up to and with number.
func AppendAck(dst []byte, number uint64) []byte {
	return binary.AppendUvarint(append(dst, byte(FrameAck)), number)
}

// ParseAck reads a frame of AppendAck.
func ParseAck(frame []byte) (number uint64, err error) {
	r := reader{buf: frame}
	kind := FrameKind(r.byte())
	number = r.uvarint()
	if r.bad || len(r.buf) > 0 || kind != FrameAck {
		return 0, fmt.Errorf("ack: %w", ErrMalformed)
	}
	return number, nil
}

func appendCounters(dst []byte, c *Counters) []byte {
	dst = binary.AppendUvarint(dst, c.Produced)
	dst = binary.AppendUvarint(dst, uint64(len(c.Lost)))
	for _, stage := range slices.Sorted(maps.Keys(c.Lost)) {
		dst = appendString(dst, stage)
		dst = binary.AppendUvarint(dst, c.Lost[stage])
	}
	return dst
}

func parseCounters(r *reader) Counters {
	c := Counters{Produced: r.uvarint()}
	n := r.count(MaxStages)
	if n == 0 {
		return c
	}
	c.Lost = make(map[string]uint64, n)
	for range n {
		stage := r.string()
		c.Lost[stage] = r.uvarint()
	}
	return c
}

// FrameCodec passes frames through gRPC as they are: messages are *[]byte. It satisfies google.golang.org/grpc/encoding.Codec;
// the bytes that it delivers belong to the receiver.
type FrameCodec struct{}

// Marshal returns the frame itself.
func (FrameCodec) Marshal(v any) ([]byte, error) {
	frame, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("frame of type %T", v)
	}
	return *frame, nil
}

// Unmarshal stores data in *v.
func (FrameCodec) Unmarshal(data []byte, v any) error {
	frame, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("frame of type %T", v)
	}
	*frame = data
	return nil
}

// Name is the content-subtype on the wire.
func (FrameCodec) Name() string { return "parallax-frame" }
