package decode

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/collector/l7"
	"github.com/parallax-flow/parallax/flow"
)

var (
	node   = &flow.Node{Name: "n1", Boot: 7}
	client = flow.Addr{10: 0xff, 11: 0xff, 12: 10, 13: 0, 14: 0, 15: 1}
	server = flow.Addr{10: 0xff, 11: 0xff, 12: 10, 13: 0, 14: 0, 15: 2}
)

const wallOffset = 1_000_000

func newTestDecoder(t testing.TB) *Decoder {
	t.Helper()
	symbols, err := parseSymbols(strings.NewReader("0000000000001000 T tcp_v4_rcv\n0000000000002000 t nf_hook_slow.cold\n"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{
		Node:    node,
		Clock:   &Clock{sample: func() (uint64, int64, int64) { return 1 << 62, wallOffset, 1 }},
		Reasons: &Reasons{load: func() (map[uint32]string, error) { return map[uint32]string{3: "NO_SOCKET"}, nil }},
		Symbols: &Symbols{load: func() (*symbolTable, error) { return symbols, nil }},
		Policy: func(rule uint32) *flow.Decision {
			if rule == 7 {
				return knownDecision
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func header(typ byte, size int) []byte {
	r := make([]byte, size)
	r[hdrType], r[hdrVersion] = typ, abiVersion
	binary.NativeEndian.PutUint16(r[hdrLen:], uint16(size))
	binary.NativeEndian.PutUint64(r[recTs:], 5000)
	return r
}

func putTuple(r []byte) {
	copy(r[tupleSaddr:], client[:])
	copy(r[tupleDaddr:], server[:])
	binary.NativeEndian.PutUint16(r[tupleSport:], 40000)
	binary.NativeEndian.PutUint16(r[tupleDport:], 80)
	r[tupleProto] = 6
	binary.NativeEndian.PutUint32(r[tupleIfindex:], 9)
}

func flowRecord() []byte {
	r := header(eventFlow, flowSize)
	putTuple(r[flowTuple:])
	binary.NativeEndian.PutUint64(r[flowFirstTs:], 4000)
	for i, v := range []uint64{11, 12, 1100, 1200, 77} { // packets, bytes, cookie
		binary.NativeEndian.PutUint64(r[flowPackets+8*i:], v)
	}
	binary.NativeEndian.PutUint32(r[flowPid:], 321)
	binary.NativeEndian.PutUint32(r[flowHandshakeUs:], 250)
	r[flowKind], r[flowRole], r[flowEgress], r[flowReply] = 3, 1, 1, 1
	r[flowTCPFlags], r[flowPidResponder] = flow.TCPAck|flow.TCPPsh, 1
	copy(r[flowComm:], "nginx")
	return r
}

func dropRecord(reason uint32, location uint64) []byte {
	r := header(eventDrop, dropSize)
	putTuple(r[dropTuple:])
	binary.NativeEndian.PutUint64(r[dropLocation:], location)
	binary.NativeEndian.PutUint32(r[dropReason:], reason)
	binary.NativeEndian.PutUint32(r[dropBytes:], 60)
	r[dropTCPFlags] = flow.TCPSyn
	return r
}

func payloadRecord(payload string) []byte {
	r := append(header(eventPayload, payloadSize), payload...)
	binary.NativeEndian.PutUint16(r[hdrLen:], uint16(len(r)))
	putTuple(r[payloadTuple:])
	binary.NativeEndian.PutUint64(r[payloadCookie:], 77)
	binary.NativeEndian.PutUint32(r[payloadSeq:], 0xdeadbeef)
	binary.NativeEndian.PutUint32(r[payloadLen:], 1400)
	binary.NativeEndian.PutUint32(r[payloadPid:], 321)
	r[payloadRole], r[payloadReply], r[payloadL7] = 1, 0, 1
	return r
}

func TestDecodeFlow(t *testing.T) {
	d, out := newTestDecoder(t), &flow.Batch{}
	if err := d.Decode(flowRecord(), out, nil); err != nil {
		t.Fatal(err)
	}
	want := []flow.Flow{{
		Time: wallOffset + 5000, Start: wallOffset + 4000, Node: node,
		Process: &flow.Process{PID: 321, Comm: "nginx"}, ProcessDst: true, PID: 321, Cookie: 77,
		Packets: 11, ReplyPackets: 12, Bytes: 1100, ReplyBytes: 1200,
		SrcAddr: client, DstAddr: server, SrcPort: 40000, DstPort: 80, Proto: flow.ProtoTCP, Ifindex: 9,
		HandshakeRTT: 250, TCPFlags: flow.TCPAck | flow.TCPPsh, Kind: flow.KindUpdate, Verdict: flow.VerdictForwarded,
		Point: flow.PointFromEndpoint, Direction: flow.DirectionEgress, Reply: true,
	}}
	if diff := cmp.Diff(want, out.Flows); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeDrop(t *testing.T) {
	d, out := newTestDecoder(t), &flow.Batch{}
	for _, rec := range [][]byte{dropRecord(3, 0x1010), dropRecord(3, 0x1010), dropRecord(9, 0x20ff), dropRecord(3, 5)} {
		if err := d.Decode(rec, out, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := flow.Flow{
		Time: wallOffset + 5000, Start: wallOffset + 5000, Node: node, Packets: 1, Bytes: 60,
		Drop:    &flow.Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv", Code: 3},
		SrcAddr: client, DstAddr: server, SrcPort: 40000, DstPort: 80, Proto: flow.ProtoTCP, Ifindex: 9,
		TCPFlags: flow.TCPSyn, Kind: flow.KindDrop, Verdict: flow.VerdictDropped,
	}
	if diff := cmp.Diff(want, out.Flows[0]); diff != "" {
		t.Error(diff)
	}
	if out.Flows[0].Drop != out.Flows[1].Drop {
		t.Error("equal drops are not shared")
	}
	if diff := cmp.Diff(&flow.Drop{Reason: "REASON_9", Symbol: "nf_hook_slow", Code: 9}, out.Flows[2].Drop); diff != "" {
		t.Error(diff)
	}
	if got := out.Flows[3].Drop.Symbol; got != "" {
		t.Errorf("symbol of an address before the first: %q", got)
	}
}

var knownDecision = &flow.Decision{Match: flow.PolicyMatchL3L4, Text: "a rule"}

func verdictRecord(kind flow.Kind, verdict uint8, rule uint32) []byte {
	r := flowRecord()
	r[flowKind], r[flowVerdict], r[flowReply] = byte(kind), verdict, 0
	binary.NativeEndian.PutUint32(r[flowRule:], rule)
	return r
}

func TestDecodeVerdict(t *testing.T) {
	denied := &flow.Drop{Reason: "POLICY_DENIED", Code: 133}
	forgotten := &flow.Decision{Rule: -1, Text: "rule 9, which is no longer known"}
	type result struct {
		Kind    flow.Kind
		Verdict flow.Verdict
		Drop    *flow.Drop
		Policy  *flow.Decision
		Point   flow.Point
		Packets uint64
		Dropped uint64
	}
	for name, c := range map[string]struct {
		rec  []byte
		want result
	}{
		"allowed": {verdictRecord(flow.KindVerdict, 1, 7), result{Kind: flow.KindVerdict, Verdict: flow.VerdictForwarded, Policy: knownDecision}},
		"denied":  {verdictRecord(flow.KindVerdict, 2, 7), result{Kind: flow.KindVerdict, Verdict: flow.VerdictDropped, Drop: denied, Policy: knownDecision}},
		"audit":   {verdictRecord(flow.KindVerdict, 3, 9), result{Kind: flow.KindVerdict, Verdict: flow.VerdictAudit, Policy: forgotten}},
		"no more": {verdictRecord(flow.KindVerdict, 0, 9), result{Kind: flow.KindVerdict, Verdict: flow.VerdictForwarded, Policy: forgotten}},
		"dropped": {verdictRecord(flow.KindDrop, 2, 9), result{Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Drop: denied, Policy: forgotten, Dropped: 23}},
		"update":  {flowRecord(), result{Kind: flow.KindUpdate, Verdict: flow.VerdictForwarded}},
	} {
		t.Run(name, func(t *testing.T) {
			d, out := newTestDecoder(t), &flow.Batch{}
			if err := d.Decode(c.rec, out, nil); err != nil {
				t.Fatal(err)
			}
			f := &out.Flows[0]
			c.want.Point, c.want.Packets = flow.PointToEndpoint, 11
			if f.Reply {
				c.want.Point = flow.PointFromEndpoint
			}
			got := result{Kind: f.Kind, Verdict: f.Verdict, Drop: f.Drop, Policy: f.Policy, Point: f.Point, Packets: f.Packets, Dropped: f.Dropped()}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConsumedIsNoDrop(t *testing.T) {
	for _, tt := range []struct {
		reason, symbol string
		want           bool
	}{
		{"NOT_SPECIFIED", "tcp_v4_rcv", true},
		{"NOT_SPECIFIED", "tcp_v6_rcv", true},
		{"NOT_SPECIFIED", "ip_error", false},
		{"NO_SOCKET", "tcp_v4_rcv", false},
	} {
		if got := isConsumed(&flow.Drop{Reason: tt.reason, Symbol: tt.symbol}); got != tt.want {
			t.Errorf("%s in %s: consumed %v, want %v", tt.reason, tt.symbol, got, tt.want)
		}
	}
	d, out := newTestDecoder(t), &flow.Batch{}
	d.reasons = &Reasons{load: func() (map[uint32]string, error) { return map[uint32]string{2: "NOT_SPECIFIED"}, nil }}
	for range 2 { // the second one is known already
		if err := d.Decode(dropRecord(2, 0x1010), out, nil); err != nil || len(out.Flows) != 0 {
			t.Errorf("%d flows, %v; want none", len(out.Flows), err)
		}
	}
}

func TestDecodePayload(t *testing.T) {
	d, out := newTestDecoder(t), &flow.Batch{}
	var got []l7.Segment
	err := d.Decode(payloadRecord("GET / HTTP/1.1\r\n"), out, func(s *l7.Segment) {
		got = append(got, *s)
		got[0].Payload = append([]byte(nil), s.Payload...)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []l7.Segment{{
		Time: wallOffset + 5000, SrcAddr: client, DstAddr: server, SrcPort: 40000, DstPort: 80, Proto: flow.ProtoTCP,
		Ifindex: 9, Point: flow.PointFromEndpoint, Direction: flow.DirectionEgress, Protocol: flow.L7HTTP,
		Seq: 0xdeadbeef, PayloadLen: 1400, Payload: []byte("GET / HTTP/1.1\r\n"), Cookie: 77, PID: 321,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(out.Flows) != 0 {
		t.Errorf("payload made %d flows", len(out.Flows))
	}
	if err := d.Decode(payloadRecord("x"), out, nil); err != nil {
		t.Errorf("without a payload function: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	edit := func(rec []byte, f func([]byte)) []byte { f(rec); return rec }
	for name, rec := range map[string][]byte{
		"empty":           nil,
		"header cut":      flowRecord()[:7],
		"version":         edit(flowRecord(), func(r []byte) { r[hdrVersion]++ }),
		"type":            edit(flowRecord(), func(r []byte) { r[hdrType] = 9 }),
		"no length":       edit(flowRecord(), func(r []byte) { r[hdrLen], r[hdrLen+1] = 0, 0 }),
		"cut":             flowRecord()[:flowSize-1],
		"flow too short":  edit(flowRecord(), func(r []byte) { binary.NativeEndian.PutUint16(r[hdrLen:], flowSize-1) }),
		"drop too short":  edit(dropRecord(1, 1), func(r []byte) { binary.NativeEndian.PutUint16(r[hdrLen:], dropSize-1) }),
		"payload short":   edit(payloadRecord(""), func(r []byte) { binary.NativeEndian.PutUint16(r[hdrLen:], payloadSize-1) }),
		"kind":            edit(flowRecord(), func(r []byte) { r[flowKind] = 6 }),
		"kind too great":  edit(flowRecord(), func(r []byte) { r[flowKind] = 8 }),
		"verdict of flow": edit(flowRecord(), func(r []byte) { r[flowVerdict] = 1 }),
		"verdict of drop": verdictRecord(flow.KindDrop, 3, 7),
		"verdict unknown": verdictRecord(flow.KindVerdict, 4, 7),
		"no kind":         edit(flowRecord(), func(r []byte) { r[flowKind] = 0 }),
		"role":            edit(flowRecord(), func(r []byte) { r[flowRole] = roleCount }),
		"role of payload": edit(payloadRecord(""), func(r []byte) { r[payloadRole] = roleCount }),
	} {
		t.Run(name, func(t *testing.T) {
			out := &flow.Batch{}
			if err := newTestDecoder(t).Decode(rec, out, func(*l7.Segment) { t.Error("payload called") }); !errors.Is(err, ErrRecord) {
				t.Errorf("error %v", err)
			}
			if len(out.Flows) != 0 {
				t.Errorf("made %d flows", len(out.Flows))
			}
		})
	}
}

func TestNewNeedsNode(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no error")
	}
}

func TestPoint(t *testing.T) {
	const endpoint, network, host, overlay = 1, 2, 3, 4
	for _, c := range []struct {
		role          uint8
		egress, reply bool
		point         flow.Point
		direction     flow.Direction
	}{
		{endpoint, false, false, flow.PointFromEndpoint, flow.DirectionEgress},
		{endpoint, true, true, flow.PointFromEndpoint, flow.DirectionEgress},
		{endpoint, true, false, flow.PointToEndpoint, flow.DirectionIngress},
		{endpoint, false, true, flow.PointToEndpoint, flow.DirectionIngress},
		{network, true, false, flow.PointToNetwork, flow.DirectionEgress},
		{network, false, true, flow.PointToNetwork, flow.DirectionEgress},
		{network, false, false, flow.PointFromNetwork, flow.DirectionIngress},
		{network, true, true, flow.PointFromNetwork, flow.DirectionIngress},
		{host, false, false, flow.PointToHost, flow.DirectionEgress},
		{host, true, true, flow.PointToHost, flow.DirectionEgress},
		{overlay, true, false, flow.PointToOverlay, flow.DirectionEgress},
		{overlay, false, false, flow.PointFromOverlay, flow.DirectionIngress},
		{0, true, false, flow.PointUnknown, flow.DirectionUnknown},
	} {
		if p, d := point(c.role, c.egress, c.reply); p != c.point || d != c.direction {
			t.Errorf("role %d egress %t reply %t: %v %v, want %v %v", c.role, c.egress, c.reply, p, d, c.point, c.direction)
		}
	}
}

func TestInternTablesAreBounded(t *testing.T) {
	d, out := newTestDecoder(t), &flow.Batch{}
	rec := flowRecord()
	for i := range uint32(maxProcs + 10) {
		binary.NativeEndian.PutUint32(rec[flowPid:], i+1)
		out.Reset()
		if err := d.Decode(rec, out, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.procs) > maxProcs {
		t.Errorf("%d processes held", len(d.procs))
	}
	for i := range uint32(maxDrops + 10) {
		out.Reset()
		if err := d.Decode(dropRecord(i, 0x1000), out, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.drops) > maxDrops {
		t.Errorf("%d drops held", len(d.drops))
	}
	for i := range uint32(maxRules + 10) {
		out.Reset()
		if err := d.Decode(verdictRecord(flow.KindVerdict, 2, i), out, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.rules) > maxRules {
		t.Errorf("%d rules held", len(d.rules))
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	d, out := newTestDecoder(t), &flow.Batch{Flows: make([]flow.Flow, 0, 8)}
	recs := [][]byte{
		flowRecord(), dropRecord(3, 0x1010), payloadRecord("GET / HTTP/1.1\r\n"),
		verdictRecord(flow.KindDrop, 2, 7), verdictRecord(flow.KindVerdict, 1, 9),
	}
	payload := func(*l7.Segment) {}
	if n := testing.AllocsPerRun(1000, func() {
		out.Reset()
		for _, rec := range recs {
			if err := d.Decode(rec, out, payload); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(flowRecord())
	f.Add(dropRecord(3, 0x1010))
	f.Add(payloadRecord("GET / HTTP/1.1\r\n"))
	f.Add(verdictRecord(flow.KindDrop, 2, 7))
	f.Add(verdictRecord(flow.KindVerdict, 3, 9))
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0})
	d, out := newTestDecoder(f), &flow.Batch{}
	f.Fuzz(func(t *testing.T, rec []byte) {
		out.Reset()
		segments := 0
		err := d.Decode(rec, out, func(s *l7.Segment) {
			segments++
			if len(s.Payload) > len(rec)-payloadSize {
				t.Errorf("payload of %d bytes from a record of %d", len(s.Payload), len(rec))
			}
		})
		switch made := len(out.Flows) + segments; {
		case err == nil && made != 1:
			t.Errorf("%d results", made)
		case err != nil && made != 0:
			t.Errorf("%d results with error %v", made, err)
		}
		for i := range out.Flows {
			if v := &out.Flows[i]; v.Node != node || (v.Drop != nil) != (v.Verdict == flow.VerdictDropped) ||
				v.Kind == flow.KindVerdict && v.Policy == nil || v.Policy != nil && v.Kind != flow.KindVerdict && v.Kind != flow.KindDrop {
				t.Errorf("flow breaks the rules of flow.Flow: %+v", v)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		rec  []byte
	}{{"flow", flowRecord()}, {"drop", dropRecord(3, 0x1010)}, {"payload", payloadRecord("GET / HTTP/1.1\r\n")}} {
		b.Run(c.name, func(b *testing.B) {
			d, out := newTestDecoder(b), &flow.Batch{Flows: make([]flow.Flow, 0, 1024)}
			payload := func(*l7.Segment) {}
			b.ReportAllocs()
			for b.Loop() {
				if len(out.Flows) == 1024 {
					out.Flows = out.Flows[:0]
				}
				if err := d.Decode(c.rec, out, payload); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
