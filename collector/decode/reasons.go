package decode

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"
)

// Reasons names the running kernel's drop reasons, from its own BTF (enum skb_drop_reason, include/net/dropreason-core.h):
// the numbers differ between kernels. It is read once, on first use, and is safe for concurrent use.
type Reasons struct {
	load func() (map[uint32]string, error)
}

// NewReasons returns the drop reasons of the running kernel.
func NewReasons() *Reasons { return &Reasons{load: sync.OnceValues(loadReasons)} }

// Name is the reason without its SKB_DROP_REASON_ prefix, or "REASON_<n>" where the kernel has no name for it.
func (r *Reasons) Name(reason uint32) string {
	names, _ := r.load()
	if n, ok := names[reason]; ok {
		return n
	}
	return "REASON_" + strconv.FormatUint(uint64(reason), 10)
}

// Count is the number of reasons that the kernel names. The error says why there are none: a kernel without BTF, or
// one that is older than the reasons (5.17).
func (r *Reasons) Count() (int, error) {
	names, err := r.load()
	return len(names), err
}

func loadReasons() (map[uint32]string, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("read kernel BTF: %w", err)
	}
	var enum *btf.Enum
	if err := spec.TypeByName("skb_drop_reason", &enum); err != nil {
		if errors.Is(err, btf.ErrNotFound) {
			return nil, fmt.Errorf("kernel has no drop reasons (they came with 5.17): %w", err)
		}
		return nil, fmt.Errorf("read enum skb_drop_reason: %w", err)
	}
	const prefix = "SKB_DROP_REASON_"
	names := make(map[uint32]string, len(enum.Values))
	for _, v := range enum.Values {
		// Values behind the last reason: the enum's size and the mask of the subsystem bits.
		if v.Name == prefix+"MAX" || v.Name == prefix+"SUBSYS_MASK" {
			continue
		}
		names[uint32(v.Value)] = strings.TrimPrefix(v.Name, prefix)
	}
	return names, nil
}
