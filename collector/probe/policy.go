package probe

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/bpf"
	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/policy"
)

// Loaded is closed when the datapath can take policy. The interfaces need not be observed yet.
func (p *Probe) Loaded() <-chan struct{} { return p.loaded }

// WritePolicy implements enforce.Datapath.
func (p *Probe) WritePolicy(w *enforce.Write) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.datapath == nil || p.datapath.policyOver {
		return enforce.ErrUnloaded
	}
	return p.datapath.writePolicy(w)
}

func (d *datapath) writePolicy(w *enforce.Write) error {
	if err := d.putPolicy(w); err != nil {
		return err
	}
	if err := d.closePolicy(w); err != nil {
		return err
	}
	if len(w.DropPeers)+len(w.DropCIDRs)+len(w.DropEntries) > 0 {
		gracePeriod() // a program that runs has read a record, a service or an identity whose keys are about to go
	}
	if err := d.dropPolicy(w); err != nil {
		return err
	}
	d.generation++
	if uint32(d.generation) == 0 {
		d.generation++ // 0 stands for no policy at all
	}
	if err := d.objects.PolicyGeneration.Set(d.generation); err != nil {
		return fmt.Errorf("change the generation of policy: %w", err)
	}
	return nil
}

func (d *datapath) putPolicy(w *enforce.Write) error {
	for _, e := range w.Entries {
		if err := put(d.objects.PolicyRules, ruleKey(e.Key), e.Rule); err != nil {
			return err
		}
	}
	for _, e := range w.CIDRs {
		if err := put(d.objects.PolicyBlocks, blockKey(e.Key), e.Set); err != nil {
			return err
		}
	}
	for _, e := range w.Peers {
		if err := put(d.objects.PolicyPeers, e.Addr, e.Identity); err != nil {
			return err
		}
	}
	for _, e := range w.Services {
		if err := put(d.objects.PolicyServices, serviceKey(e.Key), e.Number); err != nil {
			return err
		}
	}
	for _, e := range w.Records {
		if err := put(d.objects.PolicyRecords, e.Ifindex, record(e.Record)); err != nil {
			return err
		}
	}
	return nil
}

// closePolicy drops what leads to other keys.
func (d *datapath) closePolicy(w *enforce.Write) error {
	for _, ifindex := range w.DropRecords {
		if err := remove(d.objects.PolicyRecords, ifindex); err != nil {
			return err
		}
	}
	for _, k := range w.DropServices {
		if err := remove(d.objects.PolicyServices, serviceKey(k)); err != nil {
			return err
		}
	}
	return nil
}

func (d *datapath) dropPolicy(w *enforce.Write) error {
	for _, a := range w.DropPeers {
		if err := remove(d.objects.PolicyPeers, a); err != nil {
			return err
		}
	}
	for _, k := range w.DropCIDRs {
		if err := remove(d.objects.PolicyBlocks, blockKey(k)); err != nil {
			return err
		}
	}
	for _, k := range w.DropEntries {
		if err := remove(d.objects.PolicyRules, ruleKey(k)); err != nil {
			return err
		}
	}
	return nil
}

// endPolicy lets all traffic pass, and takes no policy any more.
func (p *Probe) endPolicy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.datapath
	d.policyOver = true
	if err := replaceKeys(d.objects.PolicyRecords, []uint32(nil), bpf.PolicyRecord{}); err != nil {
		p.cfg.Logger.Error("policy is enforced until the programs are detached", "error", err)
	}
}

// put writes a key. A full hash table gives E2BIG, a full trie ENOSPC (kernel/bpf/hashtab.c, kernel/bpf/lpm_trie.c).
func put[K, V any](m *ebpf.Map, key K, value V) error {
	err := m.Put(&key, &value)
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("%w %s of %d keys: %w", enforce.ErrFull, name(m), m.MaxEntries(), err)
	} else if err != nil {
		return fmt.Errorf("write to the kernel's table %s: %w", name(m), err)
	}
	return nil
}

func remove[K any](m *ebpf.Map, key K) error {
	if err := m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove from the kernel's table %s: %w", name(m), err)
	}
	return nil
}

func name(m *ebpf.Map) string {
	info, err := m.Info()
	if err != nil {
		return m.String()
	}
	return info.Name
}

// ruleKey is the key of bpf/headers/policy.h.
func ruleKey(e policy.Entry) bpf.PolicyRule {
	const before = 104 // bits of peer, table and kind
	return bpf.PolicyRule{
		Prefixlen: before + uint32(e.Bits), Peer: e.Peer, Table: e.Table, Kind: uint8(e.Kind), Proto: uint8(e.Proto), Port: bigEndian(e.Port),
	}
}

func blockKey(p policy.Prefix) bpf.PolicyBlock {
	const before = 96 // bits of pad and table
	return bpf.PolicyBlock{Prefixlen: before + uint32(p.Bits), Table: p.Table, Addr: p.Addr}
}

func serviceKey(k policy.ServiceKey) bpf.PolicyService {
	return bpf.PolicyService{Addr: k.Addr, Port: bigEndian(k.Port), Proto: uint8(k.Proto)}
}

func record(r enforce.Record) bpf.PolicyRecord {
	v := bpf.PolicyRecord{Table: r.Tables, Deny: r.Deny, Identity: r.Identity}
	if r.Audit {
		v.Flags |= bpf.PolicyAudit
	}
	if r.SkipPods {
		v.Flags |= bpf.PolicySkipPods
	}
	return v
}

// bigEndian returns v as a number that lies in memory in network order.
func bigEndian(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
