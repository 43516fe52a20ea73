package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ifLoopback is the interface that prog-run gives a packet without context.
const ifLoopback = 1

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, and in CI root is a must")
	}
	t.Skip("needs root")
}

// rig is a loaded datapath with a reader of its events.
type rig struct {
	*Objects
	t      testing.TB
	reader *ringbuf.Reader
}

// newRig loads the programs as change makes the default configuration, and observes loopback as an endpoint.
func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	requireRoot(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.RingBytes, cfg.WakeBytes, cfg.MaxFlows = 1<<20, 4096, 1024
	if change != nil {
		change(&cfg)
	}
	spec, err := Plan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	o, err := spec.Load()
	if err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			t.Fatalf("%+v", ve)
		}
		t.Fatal(err)
	}
	for _, err := range []error{o.DropErr, o.ProcErr} {
		if err != nil {
			t.Fatal(err)
		}
	}
	reader, err := ringbuf.NewReader(o.Events)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		reader.Close()
		o.Close()
	})
	r := &rig{Objects: o, t: t, reader: reader}
	r.role(ifLoopback, RoleEndpoint)
	return r
}

func (r *rig) role(ifindex int, role Role) {
	r.t.Helper()
	if err := r.Interfaces.Put(uint32(ifindex), role); err != nil {
		r.t.Fatal(err)
	}
}

// in and out send packets through the ingress and egress programs.
func (r *rig) in(packets ...[]byte) *rig  { return r.run(r.Ingress, next, nil, packets...) }
func (r *rig) out(packets ...[]byte) *rig { return r.run(r.Egress, next, nil, packets...) }

// What the tcx programs return: TCX_NEXT and TCX_DROP of headers/enforce.h.
const (
	next = -1
	drop = 2
)

func (r *rig) run(p *ebpf.Program, want int32, context any, packets ...[]byte) *rig {
	r.t.Helper()
	for _, packet := range packets {
		action, err := p.Run(&ebpf.RunOptions{Data: packet, Context: context})
		if err != nil {
			r.t.Fatalf("run on %x: %v", packet, err)
		}
		if int32(action) != want {
			r.t.Fatalf("action %d on %x, want %d", int32(action), packet, want)
		}
	}
	return r
}

// records returns what is in the ring, decoded to *FlowEvent, *DropEvent or *payload.
func (r *rig) records() []any {
	r.t.Helper()
	var all []any
	r.reader.SetDeadline(time.Now().Add(-time.Second))
	for {
		rec, err := r.reader.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, decode(r.t, rec.RawSample))
	}
}

// wait collects records until done says so, or fails after ten seconds.
func (r *rig) wait(what string, done func([]any) bool) []any {
	r.t.Helper()
	var all []any
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if all = append(all, r.records()...); done(all) {
			return all
		}
	}
	r.t.Fatalf("no %s within 10 s in %d records: %s", what, len(all), describe(all))
	return nil
}

func (r *rig) stat(s Stat) uint64 {
	r.t.Helper()
	var perCPU []uint64
	if err := r.Stats.Lookup(s, &perCPU); err != nil {
		r.t.Fatal(err)
	}
	var sum uint64
	for _, v := range perCPU {
		sum += v
	}
	return sum
}

// forget empties the flow table and the ring.
func (r *rig) forget() *rig {
	r.t.Helper()
	for k := range r.table() {
		if err := r.Flows.Delete(k); err != nil {
			r.t.Fatal(err)
		}
	}
	r.records()
	return r
}

// table returns the flow table.
func (r *rig) table() map[FlowKey]FlowEntry {
	r.t.Helper()
	var (
		k   FlowKey
		e   FlowEntry
		all = make(map[FlowKey]FlowEntry)
	)
	it := r.Flows.Iterate()
	for it.Next(&k, &e) {
		all[k] = e
	}
	if err := it.Err(); err != nil {
		r.t.Fatal(err)
	}
	return all
}

type payload struct {
	PayloadEvent
	Data string
}

func decode(t testing.TB, raw []byte) any {
	t.Helper()
	var h Header
	if _, err := binary.Decode(raw, binary.NativeEndian, &h); err != nil {
		t.Fatal(err)
	}
	if h.Version != EventVersion || int(h.Len) > len(raw) {
		t.Fatalf("bad header %+v of %d bytes", h, len(raw))
	}
	var (
		v any
		p payload
	)
	switch h.Type {
	case EventFlow:
		v = new(FlowEvent)
	case EventDrop:
		v = new(DropEvent)
	case EventPayload:
		v = &p.PayloadEvent
	default:
		t.Fatalf("unknown record type %d", h.Type)
	}
	n, err := binary.Decode(raw, binary.NativeEndian, v)
	if err != nil {
		t.Fatal(err)
	}
	if h.Type == EventPayload {
		p.Data = string(raw[n:h.Len])
		return &p
	}
	if n != int(h.Len) {
		t.Fatalf("record of type %d has %d bytes, its header says %d", h.Type, n, h.Len)
	}
	return v
}

func endpoint(addr [16]byte, port uint16) string {
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), port).String()
}

var kindNames = map[uint8]string{KindNew: "NEW", KindState: "STATE", KindUpdate: "UPDATE", KindClose: "CLOSE", KindDrop: "DROPPED",
	KindVerdict: "VERDICT"}

var verdictNames = [...]string{"none", "allowed", "denied", "audit"}

// summary is an event in one line: what the tests compare.
func summary(v any) string {
	switch e := v.(type) {
	case *FlowEvent:
		arrow := "in "
		if e.Egress == 1 {
			arrow = "out"
		}
		if e.Reply == 1 {
			arrow += " reply"
		}
		line := fmt.Sprintf("%s %s > %s p%d %s packets %d+%d bytes %d+%d flags %02x", kindNames[e.Kind],
			endpoint(e.Tuple.Saddr, e.Tuple.Sport), endpoint(e.Tuple.Daddr, e.Tuple.Dport), e.Tuple.Proto, arrow,
			e.Packets[0], e.Packets[1], e.Bytes[0], e.Bytes[1], e.TcpFlags)
		if e.Kind == KindDrop || e.Kind == KindVerdict {
			line += fmt.Sprintf(" %s by %d", verdictNames[e.Verdict], e.Rule)
		}
		return line
	case *payload:
		return fmt.Sprintf("PAYLOAD %s > %s l7 %d reply %d len %d %q", endpoint(e.Tuple.Saddr, e.Tuple.Sport),
			endpoint(e.Tuple.Daddr, e.Tuple.Dport), e.L7, e.Reply, e.PayloadLen, e.Data)
	case *DropEvent:
		return fmt.Sprintf("DROP %s > %s p%d bytes %d flags %02x", endpoint(e.Tuple.Saddr, e.Tuple.Sport),
			endpoint(e.Tuple.Daddr, e.Tuple.Dport), e.Tuple.Proto, e.Bytes, e.TcpFlags)
	}
	return fmt.Sprintf("%T", v)
}

func describe(all []any) []string {
	lines := []string{}
	for _, v := range all {
		lines = append(lines, summary(v))
	}
	return lines
}
