package wire

import (
	"encoding/binary"
	"math"

	"github.com/parallax-flow/parallax/flow"
)

// columns reads the columns of one batch, block by block. bad is set, and stays set, when a column is too short or a
// number too large.
type columns struct {
	d      *Decoder
	cols   [numColumns][]byte
	absent [numColumns]bool // left out: all zeros
	l7     []flow.L7        // one for each flow with flagL7
	bad    bool
}

// uints reads the next n numbers of column k; the result is good until the next call.
func (c *columns) uints(k column, n int, limit uint64) []uint64 {
	out := c.d.scratch[:n]
	if c.absent[k] {
		clear(out)
		return out
	}
	col := c.cols[k]
	for i := range out {
		if len(col) > 0 && col[0] < 0x80 {
			out[i], col = uint64(col[0]), col[1:]
			continue
		}
		v, w := binary.Uvarint(col)
		if w <= 0 || v > limit {
			c.bad = true
			clear(out)
			return out
		}
		out[i], col = v, col[w:]
	}
	c.cols[k] = col
	return out
}

// fixed returns the next n bytes of column k.
func (c *columns) fixed(k column, n int) []byte {
	if c.absent[k] {
		return zeros[:n]
	}
	col := c.cols[k]
	if len(col) < n {
		c.bad = true
		return zeros[:n]
	}
	c.cols[k] = col[n:]
	return col[:n]
}

// done reports whether all was read without a fault and nothing is left.
func (c *columns) done() bool {
	for _, col := range c.cols {
		if len(col) > 0 {
			return false
		}
	}
	return !c.bad
}

var zeros [block]byte

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// flows reads len(fs), at most block, flows.
func (c *columns) flows(fs []flow.Flow) {
	c.times(fs)
	c.names(fs)
	c.counters(fs)
	c.bytes(fs)
	c.paths(fs)
}

func (c *columns) times(fs []flow.Flow) {
	d, n := c.d, len(fs)
	for i, v := range c.uints(colTime, n, math.MaxUint64) {
		d.time += unzigzag(v)
		fs[i].Time = d.time
	}
	for i, v := range c.uints(colStart, n, math.MaxUint64) {
		fs[i].Start = fs[i].Time - unzigzag(v)
	}
	for i, v := range c.uints(colSeq, n, math.MaxUint64) {
		d.seq += uint64(unzigzag(v))
		fs[i].Seq = d.seq
	}
	for i, v := range c.uints(colPorts, n, math.MaxUint64) {
		d.ports += uint32(unzigzag(v))
		fs[i].SrcPort, fs[i].DstPort = uint16(d.ports>>16), uint16(d.ports)
	}
}

func (c *columns) names(fs []flow.Flow) {
	b, n := &c.d.batch, len(fs)
	for i, v := range c.uints(colSrc, n, math.MaxUint64) {
		fs[i].Src = at(b.endpoints, v, &c.bad)
	}
	for i, v := range c.uints(colDst, n, math.MaxUint64) {
		fs[i].Dst = at(b.endpoints, v, &c.bad)
	}
	for i, v := range c.uints(colNode, n, math.MaxUint64) {
		fs[i].Node = at(b.nodes, v, &c.bad)
	}
	for i, v := range c.uints(colDrop, n, math.MaxUint64) {
		fs[i].Drop = at(b.drops, v, &c.bad)
	}
	for i, v := range c.uints(colProcess, n, math.MaxUint64) {
		fs[i].Process = at(b.processes, v, &c.bad)
	}
	if !c.absent[colPolicy] {
		for i, v := range c.uints(colPolicy, n, math.MaxUint64) {
			fs[i].Policy = at(b.decisions, v, &c.bad)
		}
	}
	for i, v := range c.uints(colSrcAddr, n, math.MaxUint64) {
		fs[i].SrcAddr = at(b.addrs, v, &c.bad)
	}
	for i, v := range c.uints(colDstAddr, n, math.MaxUint64) {
		fs[i].DstAddr = at(b.addrs, v, &c.bad)
	}
}

func (c *columns) counters(fs []flow.Flow) {
	n := len(fs)
	for i, v := range c.uints(colPackets, n, math.MaxUint64) {
		fs[i].Packets = v
	}
	for i, v := range c.uints(colBytes, n, math.MaxUint64) {
		fs[i].Bytes = v
	}
	for i, v := range c.uints(colReplyPackets, n, math.MaxUint64) {
		fs[i].ReplyPackets = v
	}
	for i, v := range c.uints(colReplyBytes, n, math.MaxUint64) {
		fs[i].ReplyBytes = v
	}
	for i, v := range c.uints(colCookie, n, math.MaxUint64) {
		fs[i].Cookie = v
	}
	for i, v := range c.uints(colRTT, n, math.MaxUint32) {
		fs[i].HandshakeRTT = uint32(v)
	}
	for i, v := range c.uints(colIfindex, n, math.MaxUint32) {
		fs[i].Ifindex = uint32(v)
	}
	for i, v := range c.uints(colPID, n, math.MaxUint32) {
		fs[i].PID = uint32(v)
	}
}

func (c *columns) bytes(fs []flow.Flow) {
	n := len(fs)
	flags, icmpType, icmpCode := c.fixed(colTCPFlags, n), c.fixed(colICMPType, n), c.fixed(colICMPCode, n)
	proto, kind, verdict := c.fixed(colProto, n), c.fixed(colKind, n), c.fixed(colVerdict, n)
	point, direction, bits := c.fixed(colPoint, n), c.fixed(colDirection, n), c.fixed(colFlags, n)
	for i := range fs {
		f := &fs[i]
		f.TCPFlags, f.ICMPType, f.ICMPCode = flags[i], icmpType[i], icmpCode[i]
		f.Proto, f.Kind, f.Verdict = flow.Proto(proto[i]), flow.Kind(kind[i]), flow.Verdict(verdict[i])
		f.Point, f.Direction = flow.Point(point[i]), flow.Direction(direction[i])
		f.Reply, f.Secondary = bits[i]&flagReply != 0, bits[i]&flagSecondary != 0
		f.ProcessDst = bits[i]&flagProcessDst != 0
		if bits[i]&flagL7 != 0 {
			f.L7, c.l7 = &c.l7[0], c.l7[1:]
		}
	}
}

// minHop is the least number of bytes of an encoded hop.
const minHop = 8

func (c *columns) paths(fs []flow.Flow) {
	if c.absent[colPath] {
		return
	}
	r := reader{buf: c.cols[colHops], absent: c.absent[colHops]}
	for i, n := range c.uints(colPath, len(fs), math.MaxUint64) {
		if n == 0 {
			continue
		}
		if n > uint64(len(r.buf)/minHop) {
			c.bad = true
			return
		}
		fs[i].Path = make([]flow.Hop, n)
		for j := range fs[i].Path {
			node, time := at(c.d.batch.nodes, r.uvarint(), &r.bad), fs[i].Time-r.varint()
			fs[i].Path[j] = flow.Hop{
				Node: node, Time: time, Start: time - r.varint(), Packets: r.uvarint(),
				Bytes: r.uvarint(), Ifindex: uint32(r.limited(math.MaxUint32)),
				Point: flow.Point(r.byte()), Direction: flow.Direction(r.byte()),
			}
		}
	}
	c.cols[colHops] = r.buf
	c.bad = c.bad || r.bad
}

// l7s reads the L7 records of all flows into one slice; the column of flags says how many there are.
func (c *columns) l7s() {
	n := 0
	for _, b := range c.cols[colFlags] {
		if b&flagL7 != 0 {
			n++
		}
	}
	if n == 0 {
		return
	}
	var r [numColumns]reader
	for k := colL7Protocol; k < numPlainColumns; k++ {
		r[k] = reader{buf: c.cols[k], absent: c.absent[k]}
	}
	str := func(k column) string { return at(c.d.batch.strings, r[k].uvarint(), &r[k].bad) }
	c.l7 = make([]flow.L7, n)
	for i := range c.l7 {
		bits := r[colL7Flags].byte()
		c.l7[i] = flow.L7{
			Protocol: flow.L7Protocol(r[colL7Protocol].byte()), Operation: str(colL7Operation), Resource: str(colL7Resource),
			Host: str(colL7Host), Version: str(colL7Version), TraceParent: str(colL7TraceParent), UserAgent: str(colL7UserAgent),
			Latency: r[colL7Latency].varint(), Status: uint16(r[colL7Status].limited(math.MaxUint16)),
			MinTTL: uint32(r[colL7MinTTL].limited(math.MaxUint32)), Answered: bits&flagAnswered != 0, Error: bits&flagError != 0,
		}
		if a := r[colL7Answers].limited(uint64(len(r[colL7Answers].buf))); a > 0 {
			c.l7[i].Answers = make([]string, a)
			for j := range c.l7[i].Answers {
				c.l7[i].Answers[j] = str(colL7Answers)
			}
		}
	}
	for k := colL7Protocol; k < numPlainColumns; k++ {
		c.cols[k] = r[k].buf
		c.bad = c.bad || r[k].bad
	}
}
