package probe

import (
	"errors"
	"fmt"
	"io"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/bpf"
	"github.com/parallax-flow/parallax/flow"
)

// sweep has the kernel report what silent connections have counted. It takes connections out of the flow table that have
// been idle for their timeout, and makes the CLOSE records, or DROP, of what they had not yet reported. An entry is taken by one
// look-up-and-delete: no packet is counted twice, and none is missed but for one that another CPU is counting in the very
// instant in which its connection's timeout strikes.
type sweep struct {
	flows  *ebpf.Map
	idlers *link.Iter // runs plx_report_idle over flows
	netns  uint32
	limits Timeouts

	keys    []bpf.FlowKey
	entries []bpf.FlowEntry
	event   bpf.FlowEvent
}

// sweepBatch must hold the fullest hash bucket; a bucket of the table holds one entry on average.
const sweepBatch = 4096

func newSweep(d *datapath, cfg *Config) (*sweep, error) {
	it, err := link.AttachIter(link.IterOptions{Program: d.objects.ReportIdle, Map: d.objects.Flows})
	if err != nil {
		return nil, fmt.Errorf("attach iterator of the flow table: %w", err)
	}
	return &sweep{
		flows: d.objects.Flows, idlers: it, netns: d.netns, limits: cfg.Timeouts,
		keys: make([]bpf.FlowKey, sweepBatch), entries: make([]bpf.FlowEntry, sweepBatch),
	}, nil
}

// every is the interval between two passes of expire: a connection is closed at most a quarter of the shortest timeout
// late, and a full table costs little.
func (s *sweep) every() time.Duration {
	shortest := min(s.limits.Closed, s.limits.Denied, s.limits.TCP, s.limits.UDP, s.limits.ICMP)
	return min(max(shortest/4, 100*time.Millisecond), 10*time.Second)
}

func (s *sweep) close() { _ = s.idlers.Close() }

// reportIdle makes the kernel send UPDATE records through the ring. The iterator itself prints nothing.
func (s *sweep) reportIdle() error {
	r, err := s.idlers.Open()
	if err != nil {
		return fmt.Errorf("open iterator of the flow table: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("iterate the flow table: %w", err)
	}
	return nil
}

// expire makes one pass. all takes every entry: at the end, when no program is attached any more.
func (s *sweep) expire(all bool, record func([]byte)) error {
	now := nanotime(unix.CLOCK_MONOTONIC)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := s.flows.BatchLookup(&cursor, s.keys, s.entries, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read flow table: %w", err)
		}
		for i := range n {
			if !all && !s.idle(now, &s.keys[i], &s.entries[i]) {
				continue
			}
			if err := s.take(&s.keys[i], all, record); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// idle reports whether the connection's timeout has passed. last_seen is of the coarse clock and may lie ahead of now
// where a packet came while the batch was read.
func (s *sweep) idle(now int64, k *bpf.FlowKey, e *bpf.FlowEntry) bool {
	return now-int64(e.LastSeen) >= int64(s.timeout(k, e))
}

func (s *sweep) timeout(k *bpf.FlowKey, e *bpf.FlowEntry) time.Duration {
	if e.Verdict == bpf.VerdictDenied {
		return s.limits.Denied
	}
	switch flow.Proto(k.Proto) {
	case flow.ProtoTCP:
		if e.State&bpf.StateClosed != 0 {
			return s.limits.Closed
		}
		return s.limits.TCP
	case flow.ProtoICMP, flow.ProtoICMPv6:
		return s.limits.ICMP
	}
	return s.limits.UDP
}

// take removes the entry and records what it holds. A connection that has reported its close and nothing since goes
// silently, and so does a denied one whose packets were all reported; one that is taken at the end lives on, so it is not
// said to be closed.
func (s *sweep) take(k *bpf.FlowKey, all bool, record func([]byte)) error {
	var e bpf.FlowEntry
	if err := s.flows.LookupAndDelete(k, &e); errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("take from flow table: %w", err)
	}
	rest, denied := e.Packets[0]+e.Packets[1] > 0, e.Verdict == bpf.VerdictDenied
	if !rest && (all || denied || e.State&bpf.StateCloseSent != 0) {
		return nil
	}
	kind := bpf.KindClose
	switch {
	case denied:
		kind = bpf.KindDrop
	case all:
		kind = bpf.KindUpdate
	}
	fill(&s.event, k, &e, kind, s.netns)
	record(unsafe.Slice((*byte)(unsafe.Pointer(&s.event)), unsafe.Sizeof(s.event)))
	return nil
}

// fill makes the event that the kernel would make of the entry for a packet of the initiator.
func fill(ev *bpf.FlowEvent, k *bpf.FlowKey, e *bpf.FlowEntry, kind uint8, netns uint32) {
	*ev = bpf.FlowEvent{
		Hdr: bpf.Header{
			Type: bpf.EventFlow, Version: bpf.EventVersion, Len: uint16(unsafe.Sizeof(*ev)), Netns: netns,
		},
		Ts: uint64(nanotime(unix.CLOCK_BOOTTIME)), FirstTs: e.FirstTs,
		Packets: e.Packets, Bytes: e.Bytes, Cookie: e.Cookie,
		Tuple: bpf.Tuple{
			Saddr: k.Lo, Daddr: k.Hi, Sport: k.LoPort, Dport: k.HiPort, Proto: k.Proto, Ifindex: k.Ifindex,
		},
		Pid: e.Pid, HandshakeUs: e.HandshakeUs, SynackUs: e.SynackUs,
		Kind: kind, Role: e.Role, TcpFlags: uint8(e.TcpFlags), IcmpType: e.IcmpType, IcmpCode: e.IcmpCode, Comm: e.Comm,
	}
	if e.State&bpf.StateInitHi != 0 {
		ev.Tuple.Saddr, ev.Tuple.Daddr, ev.Tuple.Sport, ev.Tuple.Dport = k.Hi, k.Lo, k.HiPort, k.LoPort
	}
	if e.State&bpf.StateInitEgress != 0 {
		ev.Egress = 1
	}
	if e.State&bpf.StatePIDResponder != 0 {
		ev.PidResponder = 1
	}
	if kind == bpf.KindDrop {
		ev.Rule, ev.Verdict = e.Rule, e.Verdict
	}
}

// nanotime cannot fail: both clocks exist on every supported kernel.
func nanotime(clock int32) int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(clock, &ts)
	return ts.Nano()
}
