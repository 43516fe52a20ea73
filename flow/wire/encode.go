package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/s2"

	"github.com/parallax-flow/parallax/flow"
)

// Encoder turns batches into bytes. It keeps its buffers from one batch to the next and nothing else. Not safe for
// concurrent use.
type Encoder struct {
	cols [numColumns][]byte

	addrs     table[flow.Addr]
	endpoints table[*flow.Endpoint]
	nodes     table[*flow.Node]
	drops     table[*flow.Drop]
	processes table[*flow.Process]
	decisions table[*flow.Decision]
	strings   table[string]

	body     []byte
	time     int64 // of the flow before
	seq      uint64
	ports    uint32
	compress bool
}

// NewEncoder returns an Encoder whose batches are compressed with S2.
func NewEncoder() *Encoder { return &Encoder{compress: true} }

// table numbers the distinct values of a batch from 1; the zero value is 0. last spares the map where values come in runs.
type table[T comparable] struct {
	ids    map[T]uint32
	values []T
	last   T
	lastID uint32
}

func (t *table[T]) reset() {
	var zero T
	if t.ids == nil {
		t.ids = make(map[T]uint32)
	}
	clear(t.ids)
	clear(t.values)
	t.values, t.last, t.lastID = t.values[:0], zero, 0
}

func (t *table[T]) id(v T) uint64 {
	if v == t.last {
		return uint64(t.lastID)
	}
	var zero T
	if v == zero {
		return 0
	}
	id, ok := t.ids[v]
	if !ok {
		t.values = append(t.values, v)
		id = uint32(len(t.values))
		t.ids[v] = id
	}
	t.last, t.lastID = v, id
	return uint64(id)
}

// Encode appends the encoded batch to dst and returns it. b is not changed and not kept. The error is ErrTooLarge.
func (e *Encoder) Encode(dst []byte, b *flow.Batch) ([]byte, error) {
	if len(b.Flows) > MaxFlows || len(b.Lost) > MaxLost {
		return dst, fmt.Errorf("%d flows and %d lost records: %w", len(b.Flows), len(b.Lost), ErrTooLarge)
	}
	e.reset()
	for rest := b.Flows; len(rest) > 0; {
		n := min(block, len(rest))
		e.flows(rest[:n])
		rest = rest[n:]
	}
	var lost []byte
	for i := range b.Lost {
		lost = e.lost(lost, &b.Lost[i])
	}

	body := binary.AppendUvarint(e.body[:0], uint64(len(b.Flows)))
	body = binary.AppendUvarint(body, uint64(len(b.Lost)))
	version, columns := byte(versionPlain), e.cols[:numPlainColumns]
	if len(e.decisions.values) > 0 {
		version, columns = Version, e.cols[:]
	}
	body = e.tables(body, version)
	for i, col := range columns {
		if column(i) != colKind && allZero(col) {
			col = nil
		}
		body = binary.AppendUvarint(body, uint64(len(col)))
		body = append(body, col...)
	}
	body = append(body, lost...)
	e.body = body
	if len(body) > MaxBody {
		return dst, fmt.Errorf("%d bytes: %w", len(body), ErrTooLarge)
	}
	return e.seal(dst, body, version), nil
}

func (e *Encoder) seal(dst, body []byte, version byte) []byte {
	dst = append(dst, magic...)
	dst = append(dst, version)
	if !e.compress {
		dst = append(dst, compressNone)
		dst = binary.AppendUvarint(dst, uint64(len(body)))
		return append(dst, body...)
	}
	dst = append(dst, compressS2)
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	n := len(dst)
	dst = append(dst, make([]byte, s2.MaxEncodedLen(len(body)))...)
	return dst[:n+len(s2.Encode(dst[n:], body))]
}

func (e *Encoder) reset() {
	for i := range e.cols {
		e.cols[i] = e.cols[i][:0]
	}
	e.addrs.reset()
	e.endpoints.reset()
	e.nodes.reset()
	e.drops.reset()
	e.processes.reset()
	e.decisions.reset()
	e.strings.reset()
	e.time, e.seq, e.ports = 0, 0, 0
}

// flows adds at most block flows to all columns.
func (e *Encoder) flows(fs []flow.Flow) {
	e.times(fs)
	e.names(fs)
	e.counters(fs)
	e.bytes(fs)
	for i := range fs {
		if len(fs[i].Path) > 0 {
			e.paths(fs)
			break
		}
	}
	for i := range fs {
		if fs[i].L7 != nil {
			e.l7(fs[i].L7)
		}
	}
}

func (e *Encoder) times(fs []flow.Flow) {
	c := e.cols[colTime]
	for i := range fs {
		c = binary.AppendVarint(c, fs[i].Time-e.time)
		e.time = fs[i].Time
	}
	e.cols[colTime] = c
	c = e.cols[colStart]
	for i := range fs {
		c = binary.AppendVarint(c, fs[i].Time-fs[i].Start)
	}
	e.cols[colStart] = c
	c = e.cols[colSeq]
	for i := range fs {
		c = binary.AppendVarint(c, int64(fs[i].Seq-e.seq))
		e.seq = fs[i].Seq
	}
	e.cols[colSeq] = c
	c = e.cols[colPorts]
	for i := range fs {
		p := uint32(fs[i].SrcPort)<<16 | uint32(fs[i].DstPort)
		c = binary.AppendVarint(c, int64(int32(p-e.ports)))
		e.ports = p
	}
	e.cols[colPorts] = c
}

// uints appends one number of each flow to column k.
func (e *Encoder) uints(k column, fs []flow.Flow, get func(*flow.Flow) uint64) {
	c := e.cols[k]
	for i := range fs {
		v := get(&fs[i])
		if v < 0x80 {
			c = append(c, byte(v))
			continue
		}
		c = binary.AppendUvarint(c, v)
	}
	e.cols[k] = c
}

func (e *Encoder) names(fs []flow.Flow) {
	e.uints(colSrc, fs, func(f *flow.Flow) uint64 { return e.endpoints.id(f.Src) })
	e.uints(colDst, fs, func(f *flow.Flow) uint64 { return e.endpoints.id(f.Dst) })
	e.uints(colNode, fs, func(f *flow.Flow) uint64 { return e.nodes.id(f.Node) })
	e.uints(colDrop, fs, func(f *flow.Flow) uint64 { return e.drops.id(f.Drop) })
	e.uints(colProcess, fs, func(f *flow.Flow) uint64 { return e.processes.id(f.Process) })
	e.uints(colPolicy, fs, func(f *flow.Flow) uint64 { return e.decisions.id(f.Policy) })
	e.uints(colSrcAddr, fs, func(f *flow.Flow) uint64 { return e.addrs.id(f.SrcAddr) })
	e.uints(colDstAddr, fs, func(f *flow.Flow) uint64 { return e.addrs.id(f.DstAddr) })
}

func (e *Encoder) counters(fs []flow.Flow) {
	e.uints(colPackets, fs, func(f *flow.Flow) uint64 { return f.Packets })
	e.uints(colBytes, fs, func(f *flow.Flow) uint64 { return f.Bytes })
	e.uints(colReplyPackets, fs, func(f *flow.Flow) uint64 { return f.ReplyPackets })
	e.uints(colReplyBytes, fs, func(f *flow.Flow) uint64 { return f.ReplyBytes })
	e.uints(colCookie, fs, func(f *flow.Flow) uint64 { return f.Cookie })
	e.uints(colRTT, fs, func(f *flow.Flow) uint64 { return uint64(f.HandshakeRTT) })
	e.uints(colIfindex, fs, func(f *flow.Flow) uint64 { return uint64(f.Ifindex) })
	e.uints(colPID, fs, func(f *flow.Flow) uint64 { return uint64(f.PID) })
	e.uints(colPath, fs, func(f *flow.Flow) uint64 { return uint64(len(f.Path)) })
}

// byteColumn appends one byte of each flow to column k.
func (e *Encoder) byteColumn(k column, fs []flow.Flow, get func(*flow.Flow) byte) {
	c := e.cols[k]
	for i := range fs {
		c = append(c, get(&fs[i]))
	}
	e.cols[k] = c
}

func (e *Encoder) bytes(fs []flow.Flow) {
	e.byteColumn(colTCPFlags, fs, func(f *flow.Flow) byte { return f.TCPFlags })
	e.byteColumn(colICMPType, fs, func(f *flow.Flow) byte { return f.ICMPType })
	e.byteColumn(colICMPCode, fs, func(f *flow.Flow) byte { return f.ICMPCode })
	e.byteColumn(colProto, fs, func(f *flow.Flow) byte { return byte(f.Proto) })
	e.byteColumn(colKind, fs, func(f *flow.Flow) byte { return byte(f.Kind) })
	e.byteColumn(colVerdict, fs, func(f *flow.Flow) byte { return byte(f.Verdict) })
	e.byteColumn(colPoint, fs, func(f *flow.Flow) byte { return byte(f.Point) })
	e.byteColumn(colDirection, fs, func(f *flow.Flow) byte { return byte(f.Direction) })
	e.byteColumn(colFlags, fs, func(f *flow.Flow) byte {
		return bit(f.Reply, flagReply) | bit(f.Secondary, flagSecondary) | bit(f.L7 != nil, flagL7) |
			bit(f.ProcessDst, flagProcessDst)
	})
}

func (e *Encoder) paths(fs []flow.Flow) {
	c := e.cols[colHops]
	for i := range fs {
		for j := range fs[i].Path {
			h := &fs[i].Path[j]
			c = binary.AppendUvarint(c, e.nodes.id(h.Node))
			c = binary.AppendVarint(c, fs[i].Time-h.Time)
			c = binary.AppendVarint(c, h.Time-h.Start)
			c = binary.AppendUvarint(c, h.Packets)
			c = binary.AppendUvarint(c, h.Bytes)
			c = binary.AppendUvarint(c, uint64(h.Ifindex))
			c = append(c, byte(h.Point), byte(h.Direction))
		}
	}
	e.cols[colHops] = c
}

func (e *Encoder) l7(l *flow.L7) {
	put := func(k column, v uint64) { e.cols[k] = binary.AppendUvarint(e.cols[k], v) }
	e.cols[colL7Protocol] = append(e.cols[colL7Protocol], byte(l.Protocol))
	put(colL7Operation, e.strings.id(l.Operation))
	put(colL7Resource, e.strings.id(l.Resource))
	put(colL7Host, e.strings.id(l.Host))
	put(colL7Version, e.strings.id(l.Version))
	put(colL7TraceParent, e.strings.id(l.TraceParent))
	put(colL7UserAgent, e.strings.id(l.UserAgent))
	put(colL7Answers, uint64(len(l.Answers)))
	for _, a := range l.Answers {
		put(colL7Answers, e.strings.id(a))
	}
	e.cols[colL7Latency] = binary.AppendVarint(e.cols[colL7Latency], l.Latency)
	put(colL7Status, uint64(l.Status))
	put(colL7MinTTL, uint64(l.MinTTL))
	e.cols[colL7Flags] = append(e.cols[colL7Flags], bit(l.Answered, flagAnswered)|bit(l.Error, flagError))
}

func (e *Encoder) lost(dst []byte, l *flow.Lost) []byte {
	dst = binary.AppendUvarint(dst, e.nodes.id(l.Node))
	dst = binary.AppendVarint(dst, l.Time)
	dst = binary.AppendUvarint(dst, e.strings.id(l.Stage))
	dst = binary.AppendUvarint(dst, e.strings.id(l.Reason))
	return binary.AppendUvarint(dst, l.Count)
}

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
