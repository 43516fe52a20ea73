package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mechanism is the way to attach to an interface.
type Mechanism uint8

const (
	MechanismAuto   Mechanism = iota // tcx where the kernel has it (6.6), clsact below
	MechanismTCX                     // links: they end with the process and let others attach beside them
	MechanismClsact                  // a clsact qdisc with filters, removed at the end
)

// attachment is what holds our programs on one interface.
type attachment interface{ detach() error }

// attach puts both programs on the interface. On error nothing of ours is left there. Both go to the head of the list:
// behind another program (a CNI's, say) that passes, redirects or drops a packet itself we would never see it.
func attach(h *netlink.Handle, m Mechanism, ifindex int, ingress, egress *ebpf.Program) (attachment, Mechanism, error) {
	if m != MechanismClsact {
		a, err := attachTCX(ifindex, ingress, egress)
		if err == nil || m == MechanismTCX || !errors.Is(err, ebpf.ErrNotSupported) {
			return a, MechanismTCX, err
		}
	}
	a, err := attachClsact(h, ifindex, ingress, egress)
	return a, MechanismClsact, err
}

type tcx struct{ ingress, egress link.Link }

func attachTCX(ifindex int, ingress, egress *ebpf.Program) (attachment, error) {
	in, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: ingress, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return nil, fmt.Errorf("tcx ingress: %w", err)
	}
	out, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: egress, Attach: ebpf.AttachTCXEgress, Anchor: link.Head()})
	if err != nil {
		_ = in.Close()
		return nil, fmt.Errorf("tcx egress: %w", err)
	}
	return &tcx{in, out}, nil
}

func (t *tcx) detach() error { return errors.Join(t.ingress.Close(), t.egress.Close()) }

// Our filters are known by their handle, so that those of a collector that was killed are replaced and not doubled.
const (
	filterHandle   = 0x706c78 // "plx"
	filterPriority = 1
)

type clsact struct {
	handle  *netlink.Handle
	qdisc   *netlink.Clsact
	made    bool // the qdisc is ours to remove
	filters []*netlink.BpfFilter
}

func attachClsact(h *netlink.Handle, ifindex int, ingress, egress *ebpf.Program) (attachment, error) {
	c := &clsact{handle: h, qdisc: &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}}
	switch err := h.QdiscAdd(c.qdisc); {
	case err == nil:
		c.made = true
	case errors.Is(err, unix.EEXIST):
		if err := c.isClsact(); err != nil {
			return nil, err
		}
		c.made = c.leftover()
	default:
		return nil, fmt.Errorf("add clsact: %w", err)
	}
	for _, p := range [...]struct {
		parent  uint32
		name    string
		program *ebpf.Program
	}{{parents[0], "plx_ingress", ingress}, {parents[1], "plx_egress", egress}} {
		f := &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: ifindex, Parent: p.parent, Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
			},
			Fd: p.program.FD(), Name: p.name, DirectAction: true,
		}
		if err := h.FilterReplace(f); err != nil {
			_ = c.detach()
			return nil, fmt.Errorf("add filter %s: %w", p.name, err)
		}
		c.filters = append(c.filters, f)
	}
	return c, nil
}

var parents = [...]uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}

// isClsact returns an error if the qdisc that is there is the older ingress one: it takes filters for egress too, and runs
// them at ingress.
func (c *clsact) isClsact() error {
	qdiscs, err := c.handle.QdiscList(c.link())
	if err != nil {
		return fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT && q.Type() != "clsact" {
			return fmt.Errorf("a qdisc %s is where clsact belongs", q.Type())
		}
	}
	return nil
}

// leftover reports that the qdisc has a filter of ours: a collector that was killed made both.
func (c *clsact) leftover() bool {
	for _, parent := range parents {
		for _, f := range c.list(parent) {
			if f.Attrs().Handle == filterHandle {
				return true
			}
		}
	}
	return false
}

func (c *clsact) list(parent uint32) []netlink.Filter {
	filters, _ := c.handle.FilterList(c.link(), parent) // an error: the interface went
	return filters
}

func (c *clsact) link() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: c.qdisc.LinkIndex}}
}

// detach removes our filters, and our qdisc unless others use it by now.
func (c *clsact) detach() error {
	var errs []error
	for _, f := range c.filters {
		if err := c.handle.FilterDel(f); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove filter %s: %w", f.Name, err))
		}
	}
	if !c.made || len(c.list(parents[0]))+len(c.list(parents[1])) > 0 {
		return errors.Join(errs...)
	}
	if err := c.handle.QdiscDel(c.qdisc); err != nil && !gone(err) {
		errs = append(errs, fmt.Errorf("remove clsact: %w", err))
	}
	return errors.Join(errs...)
}

// gone reports that what was to be removed is not there any more: the interface went, or someone removed the qdisc.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}
