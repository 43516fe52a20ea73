package clickhouse

import (
	"math"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/rollup"
)

// encoder turns flows into the columns of flows_in. What repeats is sent once: an endpoint's dozen names are looked up by the
// endpoint's pointer, and all of a side's columns share one list of keys. Columns keep their memory from batch to batch.
type encoder struct {
	input proto.Input

	time                   proto.ColDateTime64
	duration               proto.ColInt64
	seq, cookie            proto.ColUInt64
	verdict                proto.ColEnum8
	reply, secondary       proto.ColBool
	processDst             proto.ColBool
	ifindex, pid, procPID  proto.ColUInt32
	srcAddr, dstAddr       proto.ColIPv6
	srcPort, dstPort, port proto.ColUInt16
	protocol, tcpFlags     proto.ColUInt8
	icmpType, icmpCode     proto.ColUInt8
	packets, bytes         proto.ColUInt64
	rPackets, rBytes       proto.ColUInt64
	rtt                    proto.ColUInt32
	resource, traceparent  proto.ColStr
	wait                   proto.ColInt64
	status                 proto.ColUInt16
	minTTL                 proto.ColUInt32
	answered, failed       proto.ColBool
	pathLag, pathStart     *proto.ColArr[int32]
	pathPackets, pathBytes *proto.ColArr[int64]

	kind, direction, point, l7protocol words // of enumerations
	operation, route, host, version    words
	userAgent, answers, path, process  words
	words                              []words // all of them
	src, dst                           *endpoints
	nodes                              *table[*flow.Node]
	nodeBoot                           proto.ColUInt64
	drops                              *table[*flow.Drop]
	dropCode                           proto.ColUInt32
	decisions                          *table[*flow.Decision]
	rule                               proto.ColInt32
	scratch                            []byte
}

// verdictType is the type of the verdict column, as the schema has it.
var verdictType = func() proto.ColumnType {
	var names []string
	for v := flow.VerdictUnknown; v <= flow.VerdictTranslated; v++ {
		names = append(names, "'"+v.String()+"' = "+string('0'+rune(v)))
	}
	return proto.ColumnType("Enum8(" + strings.Join(names, ", ") + ")")
}()

func newEncoder() *encoder {
	e := &encoder{
		pathLag: proto.NewArray(new(proto.ColInt32)), pathStart: proto.NewArray(new(proto.ColInt32)), pathPackets: proto.NewArray(new(proto.ColInt64)), pathBytes: proto.NewArray(new(proto.ColInt64)),
	}
	e.time.WithPrecision(proto.PrecisionNano).WithLocation(utc)
	add := func(name string, c proto.ColInput) { e.input = append(e.input, proto.InputColumn{Name: name, Data: c}) }
	addWords := func(name string) words {
		w := words{newTable[string](1)}
		add(name, &w.columns[0])
		e.words = append(e.words, w)
		return w
	}
	add("time", &e.time)
	add("duration", &e.duration)
	add("seq", &e.seq)
	add("cookie", &e.cookie)
	e.kind = addWords("kind")
	add("verdict", proto.Alias(&e.verdict, verdictType))
	e.direction = addWords("direction")
	e.point = addWords("point")
	add("reply", &e.reply)
	add("secondary", &e.secondary)
	e.nodes = newTable[*flow.Node](2)
	add("node", &e.nodes.columns[0])
	add("node_cluster", &e.nodes.columns[1])
	add("node_boot", &e.nodeBoot)
	add("ifindex", &e.ifindex)
	add("pid", &e.pid)
	add("process_pid", &e.procPID)
	e.process = addWords("process_comm")
	add("process_dst", &e.processDst)
	e.src = newEndpoints("src_", add)
	add("src_addr", &e.srcAddr)
	add("src_port", &e.srcPort)
	e.dst = newEndpoints("dst_", add)
	add("dst_addr", &e.dstAddr)
	add("dst_port", &e.dstPort)
	add("service_port", &e.port)
	add("proto", &e.protocol)
	add("tcp_flags", &e.tcpFlags)
	add("icmp_type", &e.icmpType)
	add("icmp_code", &e.icmpCode)
	add("packets", &e.packets)
	add("bytes", &e.bytes)
	add("reply_packets", &e.rPackets)
	add("reply_bytes", &e.rBytes)
	add("handshake_rtt", &e.rtt)
	e.drops = newTable[*flow.Drop](2)
	add("drop_reason", &e.drops.columns[0])
	add("drop_symbol", &e.drops.columns[1])
	add("drop_code", &e.dropCode)
	e.decisions = newTable[*flow.Decision](3)
	add("policy", &e.decisions.columns[0])
	add("policy_match", &e.decisions.columns[1])
	add("policy_rule", &e.rule)
	add("policy_text", &e.decisions.columns[2])
	e.l7protocol = addWords("l7_protocol")
	e.operation = addWords("l7_operation")
	add("l7_resource", &e.resource)
	e.route = addWords("l7_route")
	e.host = addWords("l7_host")
	e.version = addWords("l7_version")
	add("l7_traceparent", &e.traceparent)
	e.userAgent = addWords("l7_user_agent")
	e.answers = addWords("l7_answers")
	add("l7_wait", &e.wait)
	add("l7_status", &e.status)
	add("l7_min_ttl", &e.minTTL)
	add("l7_answered", &e.answered)
	add("l7_error", &e.failed)
	e.path = addWords("path")
	add("path_lag", e.pathLag)
	add("path_start", e.pathStart)
	add("path_packets", e.pathPackets)
	add("path_bytes", e.pathBytes)
	return e
}

// encode returns the columns for flows. They are good until the next call.
func (e *encoder) encode(flows []flow.Flow) proto.Input {
	e.reset()
	for i := range flows {
		e.append(&flows[i])
	}
	e.nodes.finish()
	e.drops.finish()
	e.decisions.finish()
	e.src.finish()
	e.dst.finish()
	for _, w := range e.words {
		w.finish()
	}
	return e.input
}

func (e *encoder) reset() {
	e.input.Reset()
	for _, w := range e.words {
		w.reset()
	}
	e.nodes.reset()
	e.drops.reset()
	e.decisions.reset()
	e.src.reset()
	e.dst.reset()
}

// micros rounds ns down; what is below zero, such as the latency of an exchange without a response, stays below zero.
func micros(ns int64) int64 { return floor(ns, 1000) / 1000 }

var (
	noNode    = new(flow.Node)
	noDrop    = new(flow.Drop)
	noL7      = new(flow.L7)
	noProcess = new(flow.Process)
)

func (e *encoder) append(f *flow.Flow) {
	e.time.AppendRaw(proto.DateTime64(f.Time))
	e.duration.Append(micros(f.Time - f.Start))
	e.seq.Append(f.Seq)
	e.cookie.Append(f.Cookie)
	e.kind.append(f.Kind.String())
	e.verdict.Append(proto.Enum8(f.Verdict))
	e.direction.append(f.Direction.String())
	e.point.append(f.Point.String())
	e.reply.Append(f.Reply)
	e.secondary.Append(f.Secondary)
	node := orElse(f.Node, noNode)
	if e.nodes.append(node) {
		e.nodes.describe(node.Name, node.Cluster)
	}
	e.nodeBoot.Append(node.Boot)
	e.ifindex.Append(f.Ifindex)
	process := orElse(f.Process, noProcess)
	e.pid.Append(f.PID)
	e.procPID.Append(process.PID)
	e.process.append(process.Comm)
	e.processDst.Append(f.ProcessDst)
	e.src.append(f.Src)
	e.srcAddr.Append(proto.IPv6(f.SrcAddr))
	e.srcPort.Append(f.SrcPort)
	e.dst.append(f.Dst)
	e.dstAddr.Append(proto.IPv6(f.DstAddr))
	e.dstPort.Append(f.DstPort)
	e.port.Append(rollup.Port(f))
	e.protocol.Append(uint8(f.Proto))
	e.tcpFlags.Append(f.TCPFlags)
	e.icmpType.Append(f.ICMPType)
	e.icmpCode.Append(f.ICMPCode)
	e.packets.Append(f.Packets)
	e.bytes.Append(f.Bytes)
	e.rPackets.Append(f.ReplyPackets)
	e.rBytes.Append(f.ReplyBytes)
	e.rtt.Append(f.HandshakeRTT)
	drop := orElse(f.Drop, noDrop)
	if e.drops.append(drop) {
		e.drops.describe(drop.Reason, drop.Symbol)
	}
	e.dropCode.Append(drop.Code)
	e.appendPolicy(f.Policy)
	e.appendL7(f)
	e.appendPath(f)
}

// appendPolicy adds d, or what says that nothing was decided: an empty match.
func (e *encoder) appendPolicy(d *flow.Decision) {
	rule := 0
	if d != nil {
		rule = d.Rule
	}
	e.rule.Append(int32(rule))
	if !e.decisions.append(d) {
		return
	}
	if d == nil {
		e.decisions.describe("", "", "")
		return
	}
	e.decisions.describe(query.PolicyKey(d), d.Match.String(), d.Text)
}

func (e *encoder) appendL7(f *flow.Flow) {
	l := orElse(f.L7, noL7)
	protocol, route, wait := "", "", int64(0)
	if f.L7 != nil {
		protocol, route, wait = l.Protocol.String(), flow.Route(l), micros(f.Time-f.Start)-micros(l.Latency)
	}
	e.l7protocol.append(protocol)
	e.operation.append(l.Operation)
	e.resource.Append(l.Resource)
	e.route.append(route)
	e.host.append(l.Host)
	e.version.append(l.Version)
	e.traceparent.Append(l.TraceParent)
	e.userAgent.append(l.UserAgent)
	e.answers.append(strings.Join(l.Answers, "\n"))
	e.wait.Append(wait)
	e.status.Append(l.Status)
	e.minTTL.Append(l.MinTTL)
	e.answered.Append(l.Answered)
	e.failed.Append(l.Error)
}

func (e *encoder) appendPath(f *flow.Flow) {
	key := e.scratch[:0]
	differs := false
	for i := range f.Path {
		h := &f.Path[i]
		node := orElse(h.Node, noNode)
		if i > 0 {
			key = append(key, '\n')
		}
		key = append(strconv.AppendUint(key, uint64(h.Point), 10), ' ')
		key = append(strconv.AppendUint(key, uint64(h.Direction), 10), ' ')
		key = append(strconv.AppendUint(key, uint64(h.Ifindex), 10), ' ')
		key = append(strconv.AppendUint(key, node.Boot, 10), ' ')
		key = append(append(key, node.Cluster...), ' ')
		key = append(key, node.Name...)
		appendItem(e.pathLag, micros32(h.Time-f.Time))
		if h.Start != 0 {
			appendItem(e.pathStart, micros32(h.Start-f.Start))
		}
		differs = differs || h.Packets != f.Packets || h.Bytes != f.Bytes
	}
	e.scratch = key
	e.path.appendBytes(key)
	if differs {
		for i := range f.Path {
			appendItem(e.pathPackets, int64(f.Path[i].Packets-f.Packets))
			appendItem(e.pathBytes, int64(f.Path[i].Bytes-f.Bytes))
		}
	}
	endRow(e.pathLag)
	endRow(e.pathStart)
	endRow(e.pathPackets)
	endRow(e.pathBytes)
}

func micros32(ns int64) int32 { return int32(min(max(ns/1000, math.MinInt32), math.MaxInt32)) }

func appendItem[T any](c *proto.ColArr[T], v T) { c.Data.Append(v) }

func endRow[T any](c *proto.ColArr[T]) { c.Offsets.Append(uint64(c.Data.Rows())) }

func orElse[T any](p, other *T) *T {
	if p == nil {
		return other
	}
	return p
}
