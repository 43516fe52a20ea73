package clickhouse

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
)

var utc = time.UTC

// decoder turns rows of flows into records. Endpoints, nodes, drops and repeated strings are shared among all records of one
// decoder.
type decoder struct {
	results proto.Results

	time                   proto.ColDateTime64
	duration, wait         proto.ColInt64
	seq, cookie, nodeBoot  proto.ColUInt64
	verdict                proto.ColEnum8
	ifindex, pid, procPID  proto.ColUInt32
	srcAddr, dstAddr       proto.ColIPv6
	srcPort, dstPort       proto.ColUInt16
	protocol, tcpFlags     proto.ColUInt8
	icmpType, icmpCode     proto.ColUInt8
	packets, bytes         proto.ColUInt64
	rPackets, rBytes       proto.ColUInt64
	rtt, dropCode, minTTL  proto.ColUInt32
	status                 proto.ColUInt16
	reply, secondary       proto.ColBool
	processDst             proto.ColBool
	answered, failed       proto.ColBool
	pathLag, pathStart     *proto.ColArr[int32]
	pathPackets, pathBytes *proto.ColArr[int64]

	resource, traceparent                                                      proto.ColStr
	kind, direction, point, node, nodeCluster, process, dropReason, dropSymbol *wordReader
	l7protocol, operation, host, version, userAgent, answers, pathHops         *wordReader
	policies, policyMatch, policyText                                          *wordReader
	rule                                                                       proto.ColInt32
	src, dst                                                                   endpointReader

	strings   map[string]string
	endpoints map[string]*flow.Endpoint
	nodes     map[flow.Node]*flow.Node
	drops     map[flow.Drop]*flow.Drop
	decisions map[decision]*flow.Decision
	processes map[flow.Process]*flow.Process
	scratch   []byte
}

// endpointReader is the columns that an endpoint is made from again.
type endpointReader struct {
	names    [9]*wordReader // readColumns
	identity proto.ColUInt32
}

// readColumns of an endpoint: endpointColumns without what Endpoint.Key gives.
var readColumns = endpointColumns[3:]

func newDecoder() *decoder {
	d := &decoder{
		pathLag: proto.NewArray(new(proto.ColInt32)), pathStart: proto.NewArray(new(proto.ColInt32)), pathPackets: proto.NewArray(new(proto.ColInt64)), pathBytes: proto.NewArray(new(proto.ColInt64)),
		strings: make(map[string]string), endpoints: make(map[string]*flow.Endpoint), nodes: make(map[flow.Node]*flow.Node),
		drops: make(map[flow.Drop]*flow.Drop), decisions: make(map[decision]*flow.Decision), processes: make(map[flow.Process]*flow.Process),
	}
	for _, w := range []**wordReader{&d.kind, &d.direction, &d.point, &d.node, &d.nodeCluster, &d.process, &d.dropReason, &d.dropSymbol,
		&d.l7protocol, &d.operation, &d.host, &d.version, &d.userAgent, &d.answers, &d.pathHops,
		&d.policies, &d.policyMatch, &d.policyText} {
		*w = newWordReader()
	}
	add := func(name string, c proto.ColResult) {
		d.results = append(d.results, proto.ResultColumn{Name: name, Data: c})
	}
	for _, c := range []struct {
		name   string
		column proto.ColResult
	}{
		{"time", &d.time}, {"duration", &d.duration}, {"seq", &d.seq}, {"cookie", &d.cookie}, {"kind", d.kind},
		{"verdict", &d.verdict}, {"direction", d.direction}, {"point", d.point}, {"reply", &d.reply}, {"secondary", &d.secondary},
		{"node", d.node}, {"node_cluster", d.nodeCluster}, {"node_boot", &d.nodeBoot}, {"ifindex", &d.ifindex}, {"pid", &d.pid},
		{"process_pid", &d.procPID}, {"process_comm", d.process}, {"process_dst", &d.processDst},
		{"src_identity", &d.src.identity}, {"src_addr", &d.srcAddr}, {"src_port", &d.srcPort},
		{"dst_identity", &d.dst.identity}, {"dst_addr", &d.dstAddr}, {"dst_port", &d.dstPort},
		{"proto", &d.protocol}, {"tcp_flags", &d.tcpFlags}, {"icmp_type", &d.icmpType}, {"icmp_code", &d.icmpCode},
		{"packets", &d.packets}, {"bytes", &d.bytes}, {"reply_packets", &d.rPackets}, {"reply_bytes", &d.rBytes},
		{"handshake_rtt", &d.rtt}, {"drop_reason", d.dropReason}, {"drop_symbol", d.dropSymbol}, {"drop_code", &d.dropCode},
		{"policy", d.policies}, {"policy_match", d.policyMatch}, {"policy_rule", &d.rule}, {"policy_text", d.policyText},
		{"l7_protocol", d.l7protocol}, {"l7_operation", d.operation}, {"l7_resource", &d.resource}, {"l7_host", d.host},
		{"l7_version", d.version}, {"l7_traceparent", &d.traceparent}, {"l7_user_agent", d.userAgent}, {"l7_answers", d.answers},
		{"l7_wait", &d.wait}, {"l7_status", &d.status}, {"l7_min_ttl", &d.minTTL}, {"l7_answered", &d.answered}, {"l7_error", &d.failed},
		{"path", d.pathHops}, {"path_lag", d.pathLag}, {"path_start", d.pathStart}, {"path_packets", d.pathPackets}, {"path_bytes", d.pathBytes},
	} {
		add(c.name, c.column)
	}
	for i, name := range readColumns {
		d.src.names[i], d.dst.names[i] = newWordReader(), newWordReader()
		add("src_"+name, d.src.names[i])
		add("dst_"+name, d.dst.names[i])
	}
	return d
}

// columns is the list for a SELECT.
func (d *decoder) columns() string {
	names := make([]string, len(d.results))
	for i, r := range d.results {
		names[i] = r.Name
	}
	return strings.Join(names, ", ")
}

func (d *decoder) rows() int { return d.time.Rows() }

// flow makes the record of row i.
func (d *decoder) flow(i int) flow.Flow {
	f := flow.Flow{
		Time: int64(d.time.Data[i]), Start: int64(d.time.Data[i]) - d.duration[i]*1000,
		Src: d.endpoint(&d.src, i), Dst: d.endpoint(&d.dst, i),
		Node:    intern(d.nodes, flow.Node{Name: d.str(d.node, i), Cluster: d.str(d.nodeCluster, i), Boot: d.nodeBoot[i]}),
		Packets: d.packets[i], Bytes: d.bytes[i], ReplyPackets: d.rPackets[i], ReplyBytes: d.rBytes[i],
		Seq: d.seq[i], Cookie: d.cookie[i], SrcAddr: flow.Addr(d.srcAddr[i]), DstAddr: flow.Addr(d.dstAddr[i]),
		HandshakeRTT: d.rtt[i], Ifindex: d.ifindex[i], PID: d.pid[i], SrcPort: d.srcPort[i], DstPort: d.dstPort[i],
		TCPFlags: d.tcpFlags[i], ICMPType: d.icmpType[i], ICMPCode: d.icmpCode[i], Proto: flow.Proto(d.protocol[i]),
		Kind: kinds[d.str(d.kind, i)], Verdict: flow.Verdict(d.verdict[i]), Point: points[d.str(d.point, i)],
		Direction: directions[d.str(d.direction, i)], Reply: d.reply[i], ProcessDst: d.processDst[i], Secondary: d.secondary[i],
	}
	if p := (flow.Process{PID: d.procPID[i], Comm: d.str(d.process, i)}); p != (flow.Process{}) {
		f.Process = intern(d.processes, p)
	}
	if drop := (flow.Drop{Reason: d.str(d.dropReason, i), Symbol: d.str(d.dropSymbol, i), Code: d.dropCode[i]}); f.Kind == flow.KindDrop || drop != (flow.Drop{}) {
		f.Drop = intern(d.drops, drop)
	}
	f.Policy = d.policy(i)
	if f.Kind == flow.KindL7 {
		f.L7 = &flow.L7{
			Protocol: l7protocols[d.str(d.l7protocol, i)], Operation: d.str(d.operation, i), Resource: d.resource.Row(i),
			Host: d.str(d.host, i), Version: d.str(d.version, i), TraceParent: d.traceparent.Row(i), UserAgent: d.str(d.userAgent, i),
			Answers: lines(d.str(d.answers, i)), Latency: latency(d.duration[i] - d.wait[i]), Status: d.status[i], MinTTL: d.minTTL[i],
			Answered: d.answered[i], Error: d.failed[i],
		}
	}
	f.Path = d.path(&f, i)
	return f
}

// decision is a flow.Decision that can be compared.
type decision struct {
	policies, match, text string
	rule                  int32
}

func (d *decoder) policy(i int) *flow.Decision {
	k := decision{policies: d.str(d.policies, i), match: d.str(d.policyMatch, i), text: d.str(d.policyText, i), rule: d.rule[i]}
	if k.match == "" {
		return nil
	}
	p := d.decisions[k]
	if p == nil {
		p = &flow.Decision{Match: policyMatches[k.match], Rule: int(k.rule), Text: k.text}
		for _, name := range lines(k.policies) {
			p.Policies = append(p.Policies, flow.ParsePolicyRef(name))
		}
		if len(d.decisions) < maxShared {
			d.decisions[k] = p
		}
	}
	return p
}

func (d *decoder) path(f *flow.Flow, i int) []flow.Hop {
	n := d.pathLag.RowLen(i)
	if n == 0 {
		return nil
	}
	first := int(d.pathLag.Offsets[i]) - n
	hops := make([]flow.Hop, n)
	rest := d.str(d.pathHops, i)
	for j := range hops {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		h := d.hop(line)
		h.Time, h.Packets, h.Bytes = f.Time+int64(d.pathLag.Data.Row(first+j))*1000, f.Packets, f.Bytes
		if d.pathStart.RowLen(i) == n {
			h.Start = f.Start + int64(d.pathStart.Data.Row(int(d.pathStart.Offsets[i])-n+j))*1000
		}
		if d.pathPackets.RowLen(i) == n {
			k := int(d.pathPackets.Offsets[i]) - n + j
			h.Packets += uint64(d.pathPackets.Data.Row(k))
			h.Bytes += uint64(d.pathBytes.Data.Row(k))
		}
		hops[j] = h
	}
	return hops
}

// hop reads a line of the path column: "point direction ifindex boot cluster node". Only the node may hold spaces.
func (d *decoder) hop(line string) flow.Hop {
	part := strings.SplitN(line, " ", 6)
	if len(part) < 6 {
		return flow.Hop{Node: noNode}
	}
	number := func(i int) uint64 {
		n, _ := strconv.ParseUint(part[i], 10, 64)
		return n
	}
	return flow.Hop{
		Point: flow.Point(number(0)), Direction: flow.Direction(number(1)), Ifindex: uint32(number(2)),
		Node: intern(d.nodes, flow.Node{Boot: number(3), Cluster: part[4], Name: part[5]}),
	}
}

func (d *decoder) endpoint(c *endpointReader, i int) *flow.Endpoint {
	key := d.scratch[:0]
	for j := range c.names {
		key = append(append(key, c.names[j].bytes(i)...), 0)
	}
	id := c.identity[i]
	key = append(key, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	d.scratch = key
	if e := d.endpoints[string(key)]; e != nil {
		return e
	}
	var v [len(c.names)]string
	for j := range c.names {
		v[j] = d.str(c.names[j], i)
	}
	e := &flow.Endpoint{
		Kind: endpointKinds[v[0]], Identity: id, Namespace: v[1], Pod: v[2], Workload: v[3], WorkloadKind: v[4], Name: v[5], NodeName: v[6], Cluster: v[7],
		Labels: lines(v[8]),
	}
	d.endpoints[string(bytes.Clone(key))] = e
	return e
}

// maxShared bounds what a decoder remembers, for a query that runs over millions of rows.
const maxShared = 100_000

// str is the string of row i, shared with the other rows that have it.
func (d *decoder) str(c *wordReader, i int) string {
	b := c.bytes(i)
	if s, ok := d.strings[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(d.strings) < maxShared {
		d.strings[s] = s
	}
	return s
}

// wordReader is a LowCardinality(String) column.
type wordReader struct {
	proto.ColLowCardinalityRaw
	index proto.ColStr
}

func newWordReader() *wordReader {
	w := new(wordReader)
	w.Index = &w.index
	return w
}

// bytes is row i, good until the next block.
func (w *wordReader) bytes(i int) []byte {
	var key int
	switch w.Key {
	case proto.KeyUInt8:
		key = int(w.Keys8[i])
	case proto.KeyUInt16:
		key = int(w.Keys16[i])
	case proto.KeyUInt32:
		key = int(w.Keys32[i])
	default:
		key = int(w.Keys64[i])
	}
	p := w.index.Pos[key]
	return w.index.Buf[p.Start:p.End]
}

// latency turns microseconds into ns; -1 stays.
func latency(us int64) int64 {
	if us < 0 {
		return -1
	}
	return us * 1000
}

func intern[T comparable](shared map[T]*T, v T) *T {
	p := shared[v]
	if p == nil {
		p = &v
		if len(shared) < maxShared {
			shared[v] = p
		}
	}
	return p
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// The values of enumerations by name.
var (
	kinds         = byName[flow.Kind]()
	points        = byName[flow.Point]()
	directions    = byName[flow.Direction]()
	endpointKinds = byName[flow.EndpointKind]()
	l7protocols   = byName[flow.L7Protocol]()
	policyMatches = byName[flow.PolicyMatch]()
)

func byName[T interface {
	~uint8
	String() string
}]() map[string]T {
	m := make(map[string]T)
	for i := 255; i >= 0; i-- { // the lowest value of a name stays: values that are out of range are called like the first
		m[T(i).String()] = T(i)
	}
	return m
}
