package probe

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/bpf"
	"github.com/parallax-flow/parallax/collector/netns"
	"github.com/parallax-flow/parallax/flow"
)

// datapath is what is loaded, with the hooks that belong to no interface.
type datapath struct {
	objects  *bpf.Objects
	netns    uint32
	allDrops bool // fixed when the programs are loaded
	links    []io.Closer

	generation uint64 // of policy
	policyOver bool   // guarded by Probe.mu
}

// load puts the programs into the kernel and attaches those for drops and processes; a kernel that refuses them gives
// less, and says so once. It publishes the maps to SetScope, SetLocalEndpoints and Stats.
func (p *Probe) load() (*datapath, error) {
	d := &datapath{}
	var err error
	if d.netns, err = netns.Inode(p.cfg.NetNS); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d.allDrops = p.scope == nil
	spec, err := bpf.Plan(p.cfg.datapath(d))
	if err != nil {
		return nil, err
	}
	if d.objects, err = spec.Load(); errors.Is(err, bpf.ErrPermission) {
		return nil, ErrPermission
	} else if err != nil {
		return nil, err
	}
	p.datapath = d
	if err := p.fillMaps(); err != nil {
		return nil, errors.Join(err, p.unloadLocked())
	}
	close(p.loaded)
	if err := d.attachDrop(); err != nil {
		p.cfg.Logger.Warn("drops are not observed", "error", err)
	}
	if err := d.attachProcess(p.cfg.Cgroup); err != nil {
		p.cfg.Logger.Warn("processes behind sockets are not observed", "error", err)
	}
	return d, nil
}

func (c *Config) datapath(d *datapath) bpf.Config {
	b := bpf.DefaultConfig()
	b.NetNS = d.netns
	b.Interval = c.Interval
	b.PayloadMax = uint32(c.PayloadMax)
	b.MaxFlows = uint32(c.FlowEntries)
	b.RingBytes, b.WakeBytes = uint32(c.RingBytes), uint32(c.WakeBytes)
	b.DropScopeAll = d.allDrops
	return b
}

func (d *datapath) attachDrop() error {
	if d.objects.DropErr != nil {
		return d.objects.DropErr
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: d.objects.Drop, AttachType: ebpf.AttachTraceRawTp})
	if err != nil {
		return fmt.Errorf("attach to tracepoint kfree_skb: %w", err)
	}
	d.links = append(d.links, l)
	return nil
}

func (d *datapath) attachProcess(cgroup string) error {
	if d.objects.ProcErr != nil {
		return d.objects.ProcErr
	}
	if cgroup == "" {
		var err error
		if cgroup, err = findMount("cgroup2"); err != nil {
			return err
		}
	}
	// Release first: a socket that is made between the two is forgotten when it goes.
	for _, h := range [...]struct {
		at      ebpf.AttachType
		program *ebpf.Program
	}{{ebpf.AttachCgroupInetSockRelease, d.objects.SockRelease}, {ebpf.AttachCGroupInetSockCreate, d.objects.SockCreate}} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: filepath.Clean(cgroup), Attach: h.at, Program: h.program})
		if err != nil {
			return fmt.Errorf("attach to cgroup %s: %w", cgroup, err)
		}
		d.links = append(d.links, l)
	}
	return nil
}

const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL, include/uapi/linux/membarrier.h

// gracePeriod waits until no program runs that runs now: a global membarrier is an RCU grace period (membarrier(2)). A
// kernel that refuses it (nohz_full) leaves a window of microseconds.
func gracePeriod() { _, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0) }

// detach takes the programs off the hooks that belong to no interface, and waits for those that still run.
func (d *datapath) detach() {
	for _, l := range d.links {
		_ = l.Close()
	}
	d.links = nil
	gracePeriod()
}

// unload releases the datapath and keeps its last counters.
func (p *Probe) unload() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.unloadLocked()
}

func (p *Probe) unloadLocked() error {
	p.last = p.kernelStats()
	d := p.datapath
	p.datapath = nil
	d.detach()
	return d.objects.Close()
}

// SetScope replaces the network namespaces, by inode number, whose drops are reported; nil stands for all. Whether it is
// all or some is fixed when Run loads the programs: a change from one to the other behind that is an error.
func (p *Probe) SetScope(inodes []uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.datapath != nil && p.datapath.allDrops != (inodes == nil) {
		return errors.New("set scope of drops: a running probe cannot change between all namespaces and some")
	}
	p.scope = inodes
	return p.fillScope()
}

// SetLocalEndpoints replaces the addresses of the pods whose own interface is observed: L7 payload of theirs is taken
// there, and not again at the node's NIC.
func (p *Probe) SetLocalEndpoints(addrs []flow.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoints = addrs
	return p.fillEndpoints()
}

func (p *Probe) fillMaps() error { return errors.Join(p.fillScope(), p.fillEndpoints()) }

func (p *Probe) fillScope() error {
	if p.datapath == nil || p.datapath.objects.Scope == nil {
		return nil
	}
	if err := replaceKeys(p.datapath.objects.Scope, p.scope, uint8(1)); err != nil {
		return fmt.Errorf("set scope of drops: %w", err)
	}
	return nil
}

func (p *Probe) fillEndpoints() error {
	if p.datapath == nil {
		return nil
	}
	if err := replaceKeys(p.datapath.objects.LocalEndpoints, p.endpoints, uint32(1)); err != nil {
		return fmt.Errorf("set local endpoints: %w", err)
	}
	return nil
}

// replaceKeys makes keys those of m, each with value. It adds before it removes, so that a key that stays is never away.
func replaceKeys[K comparable, V any](m *ebpf.Map, keys []K, value V) error {
	keep := make(map[K]bool, len(keys))
	for _, k := range keys {
		keep[k] = true
		if err := m.Put(&k, &value); err != nil {
			return err
		}
	}
	var (
		stale []K
		k     K
		v     V
	)
	it := m.Iterate()
	for it.Next(&k, &v) {
		if !keep[k] {
			stale = append(stale, k)
		}
	}
	for _, k := range stale {
		if err := m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return it.Err()
}
