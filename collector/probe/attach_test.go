package probe

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attachedNothing returns an error unless the interface of this namespace is as it was made.
func attachedNothing(t testing.TB, name string) error {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		res, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
		if errors.Is(err, unix.EINVAL) {
			break // a kernel without tcx
		}
		if err != nil {
			return err
		}
		if len(res.Programs) != 0 {
			return fmt.Errorf("%s: %d programs at %v", name, len(res.Programs), at)
		}
	}
	qdiscs, err := netlink.QdiscList(l)
	if err != nil {
		return err
	}
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			return fmt.Errorf("%s still has a clsact qdisc", name)
		}
	}
	return nil
}
