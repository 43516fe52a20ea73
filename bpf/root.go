// Package bpf holds the programs that observe traffic in the kernel, and loads them.
//
// Three families share the maps events (ring buffer of the records of headers/event.h) and stats (per-CPU counters):
//
//   - tcx: flow table, connection events, L7 payload and policy at an interface; attach Ingress and Egress by tcx or clsact
//   - drop: what the kernel drops, with its reason; attach Drop as a tracing program
//   - proc: which process made a socket; attach SockCreate and SockRelease to the root of the cgroup2 hierarchy
//
// [Plan] needs no privilege and touches no kernel; [Spec.Load] puts the programs into the kernel, attached to nothing.
// Nothing is lost silently: a record that finds no room in the ring and a packet that finds none in the flow table are
// counted in stats, and the counters that a lost record would have carried stay in the flow table for the next one.
// StatPackets is the sum of the packets of all flow events, of what the flow table holds, of StatLostTable and of
// StatUnparsed.
//
// # Policy
//
// Interfaces that PolicyRecords has are owned: there the tcx programs decide on each connection by the policy maps, as
// policy.Compiled does, and drop what is denied. User space writes the maps and then another PolicyGeneration; each
// connection is decided anew with its next packet. Generation 0 turns policy off. The verdict is kept in the flow table
// for both directions: a reply passes because its connection may. What an endpoint sends to a port that PolicyServices has
// is decided by that service's own rules, since the node rewrites address and port behind the hook.
//
// A denied connection has a VERDICT event and then DROP events, one at once and later one in each Config.DropInterval,
// with the counters of what was dropped; it has neither of the others. A packet that is dropped without an entry in the
// flow table has a DROP event without counters, at most one for each interface, CPU and interval, and is counted: in
// StatUnparsed if it is IP that cannot be read, else in StatLostTable: the table is full, it is a SYN against the
// direction of a connection that is allowed, or the endpoint forged its sender. The kernel's own record of these drops
// (kfree_skb) is left out; what others drop at the same place is in the drop family.
//
// # Expiry
//
// The kernel never removes a flow: user space finds silent ones by FlowEntry.LastSeen (batch lookup) and takes each with
// Map.LookupAndDelete, which copies and removes under one lock. What the copy holds in Packets and Bytes is exactly what
// no event has carried; a copy without StateCloseSent has not reported its end. If its Verdict is VerdictDenied, the
// counters are of dropped packets: they belong into a last DROP record, and its end is no news. On an owned interface an
// entry is also what lets replies pass: other than TCP, a reply that comes later than the expiry is decided as if its
// sender began. Entries that were never passed (no StatePassed) can go early, and make room under a flood. A packet that arrives in the same
// instant on another CPU, between its lookup and its count, is counted on an entry that is free already: expire only
// what has been silent for long.
package bpf

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Errors of Load that callers tell apart.
var (
	ErrPermission = errors.New("no permission to load eBPF programs: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed, or root")
	ErrNoBTF      = errors.New("the kernel has no BTF: it must be built with CONFIG_DEBUG_INFO_BTF")
)

// Spec is what Load will create. Plan it, change it where a test needs that, load it.
type Spec struct {
	tcx, drop, proc *ebpf.CollectionSpec
}

// Objects are the loaded programs and maps. The caller owns them; Close releases them, what is attached elsewhere stays.
type Objects struct {
	Events         *ebpf.Map // ring buffer
	Stats          *ebpf.Map // per-CPU array of uint64, index Stat
	Flows          *ebpf.Map // FlowKey -> FlowEntry
	Interfaces     *ebpf.Map // uint32 ifindex -> uint32 Role
	LocalEndpoints *ebpf.Map // [16]byte address (IPv4 mapped) -> uint32
	Scope          *ebpf.Map // uint32 network namespace inode -> uint8; nil if DropErr is not
	PolicyRecords  *ebpf.Map // uint32 ifindex -> PolicyRecord: the interfaces that are owned
	PolicyPeers    *ebpf.Map // [16]byte address (IPv4 mapped) -> uint32 identity
	PolicyBlocks   *ebpf.Map // PolicyBlock -> uint32 set
	PolicyRules    *ebpf.Map // PolicyRule -> uint32 rule
	PolicyServices *ebpf.Map // PolicyService -> uint32 service
	SockProc       *ebpf.Map // uint64 socket cookie -> Process

	PolicyGeneration *ebpf.Variable // uint64: change it behind each change of the policy maps

	Ingress, Egress         *ebpf.Program
	ReportIdle              *ebpf.Program // iterator over Flows: UPDATE and DROP events of what was counted longer than their interval ago
	Drop                    *ebpf.Program // nil if DropErr is not
	SockCreate, SockRelease *ebpf.Program // nil if ProcErr is not

	DropErr error // why this kernel does not take the drop program: reasons need Linux 5.17
	ProcErr error // why this kernel does not take the process programs

	collections []*ebpf.Collection
}

// Plan makes the specification of everything that cfg asks for.
func Plan(cfg Config) (*Spec, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var s Spec
	dropMark := rand.Uint64() | 1 // 0 is no mark
	for _, load := range []struct {
		name string
		into **ebpf.CollectionSpec
		from func() (*ebpf.CollectionSpec, error)
	}{{"tcx", &s.tcx, loadTcx}, {"drop", &s.drop, loadDrop}, {"proc", &s.proc, loadProc}} {
		spec, err := load.from()
		if err != nil {
			return nil, fmt.Errorf("read %s object: %w", load.name, err)
		}
		if err := cfg.apply(spec, dropMark); err != nil {
			return nil, fmt.Errorf("configure %s object: %w", load.name, err)
		}
		*load.into = spec
	}
	return &s, nil
}

// Load creates the maps and loads the programs. It returns an error that wraps ErrPermission or ErrNoBTF where that is
// the cause. A kernel that takes the tcx programs but not one of the other families is no error: see Objects.DropErr and
// Objects.ProcErr.
func (s *Spec) Load() (*Objects, error) {
	var o Objects
	tcx, err := o.load(s.tcx, nil)
	if err != nil {
		return nil, fmt.Errorf("load flow programs: %w", classify(err))
	}
	o.Events, o.Stats, o.Flows = tcx.Maps["events"], tcx.Maps["stats"], tcx.Maps["flows"]
	o.Interfaces, o.LocalEndpoints, o.SockProc = tcx.Maps["ifaces"], tcx.Maps["local_eps"], tcx.Maps["sock_proc"]
	o.PolicyRecords, o.PolicyPeers = tcx.Maps["policy_records"], tcx.Maps["policy_peers"]
	o.PolicyBlocks, o.PolicyRules = tcx.Maps["policy_blocks"], tcx.Maps["policy_rules"]
	o.PolicyServices = tcx.Maps["policy_services"]
	o.PolicyGeneration = tcx.Variables["plx_policy_generation"]
	o.Ingress, o.Egress = tcx.Programs["plx_ingress"], tcx.Programs["plx_egress"]
	o.ReportIdle = tcx.Programs["plx_report_idle"]

	shared := map[string]*ebpf.Map{"events": o.Events, "stats": o.Stats, "sock_proc": o.SockProc}
	if drop, err := o.load(s.drop, shared); err != nil {
		o.DropErr = fmt.Errorf("load drop program: %w", classify(err))
	} else {
		o.Drop, o.Scope = drop.Programs["plx_drop"], drop.Maps["scope"]
	}
	if proc, err := o.load(s.proc, shared); err != nil {
		o.ProcErr = fmt.Errorf("load process programs: %w", classify(err))
	} else {
		o.SockCreate, o.SockRelease = proc.Programs["plx_sock_create"], proc.Programs["plx_sock_release"]
	}
	return &o, nil
}

// load loads one family, taking those maps from shared that it has in common with it.
func (o *Objects) load(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	replace := make(map[string]*ebpf.Map)
	for name := range spec.Maps {
		if m := shared[name]; m != nil {
			replace[name] = m
		}
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		return nil, err
	}
	o.collections = append(o.collections, c)
	return c, nil
}

// Close releases all programs and maps.
func (o *Objects) Close() error {
	for _, c := range o.collections {
		c.Close()
	}
	o.collections = nil
	return nil
}

// classify adds the sentinel that tells the cause of err, if one does.
func classify(err error) error {
	if _, btfErr := btf.LoadKernelSpec(); errors.Is(btfErr, btf.ErrNotFound) || errors.Is(btfErr, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w (%w)", ErrNoBTF, err)
	}
	if errors.Is(err, unix.EPERM) { // the verifier's own refusal is EACCES
		return fmt.Errorf("%w (%w)", ErrPermission, err)
	}
	return err
}
