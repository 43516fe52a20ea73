package bpf

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/cilium/ebpf"
)

// PayloadCap is the most payload that a record carries, bytes; PLX_PAYLOAD_CAP in headers/payload.h.
const PayloadCap = 4096

// Config is fixed when the programs are loaded. Start from DefaultConfig.
type Config struct {
	NetNS           uint32        // inode number of the observed network namespace, put into each record; 0 is unknown
	Interval        time.Duration // between two UPDATE events of an active connection; > 0
	PayloadMax      uint32        // bytes of L7 payload in a record, 0 to PayloadCap
	HTTP            bool          // report TCP payload that begins like an HTTP/1.x message
	DNS             bool          // report UDP payload of ports 53 and 5353
	MaxFlows        uint32        // entries of the flow table, preallocated; about 220 bytes each
	RingBytes       uint32        // size of the ring buffer; a power of two, at least 4096
	WakeBytes       uint32        // the reader is woken each time that the pending bytes cross a multiple of this power of two; it polls for the rest
	DropInterval    time.Duration // between two DROP events of a connection that policy denies; > 0
	DropScopeAll    bool          // report drops of every network namespace, not only of those in Objects.Scope
	DropUnspecified bool          // report drops for which the kernel gave no reason
}

// DefaultConfig suits a node with some ten thousand connections.
func DefaultConfig() Config {
	return Config{
		Interval:        5 * time.Second,
		DropInterval:    time.Second,
		PayloadMax:      1024,
		HTTP:            true,
		DNS:             true,
		MaxFlows:        65536,
		RingBytes:       8 << 20,
		WakeBytes:       64 << 10,
		DropUnspecified: true,
	}
}

// Validate says what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.Interval <= 0:
		return fmt.Errorf("interval %v is not positive", c.Interval)
	case c.DropInterval <= 0:
		return fmt.Errorf("drop interval %v is not positive", c.DropInterval)
	case c.PayloadMax > PayloadCap:
		return fmt.Errorf("payload limit %d is greater than %d", c.PayloadMax, PayloadCap)
	case c.MaxFlows == 0:
		return errors.New("the flow table needs room for at least one flow")
	case c.RingBytes < 4096 || bits.OnesCount32(c.RingBytes) != 1:
		return fmt.Errorf("ring size %d is not a power of two of at least 4096 bytes", c.RingBytes)
	case bits.OnesCount32(c.WakeBytes) != 1 || c.WakeBytes > c.RingBytes:
		return fmt.Errorf("wake-up threshold %d is not a power of two up to the ring size %d", c.WakeBytes, c.RingBytes)
	}
	return nil
}

// apply sets the variables and map sizes of c that spec has. By dropMark the drop program knows what the flow programs
// dropped.
func (c Config) apply(spec *ebpf.CollectionSpec, dropMark uint64) error {
	for name, value := range map[string]any{
		"plx_netns":            c.NetNS,
		"plx_interval_ns":      uint64(c.Interval),
		"plx_drop_interval_ns": uint64(c.DropInterval),
		"plx_drop_mark":        dropMark,
		"plx_payload_max":      c.PayloadMax,
		"plx_l7_http":          flag(c.HTTP && c.PayloadMax > 0),
		"plx_l7_dns":           flag(c.DNS && c.PayloadMax > 0),
		"plx_wake_bytes":       uint64(c.WakeBytes),
		"plx_scope_all":        flag(c.DropScopeAll),
		"plx_drop_unspecified": flag(c.DropUnspecified),
	} {
		v := spec.Variables[name]
		if v == nil {
			continue // of another family
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	for name, size := range map[string]uint32{"flows": c.MaxFlows, "events": c.RingBytes} {
		if m := spec.Maps[name]; m != nil {
			m.MaxEntries = size
		}
	}
	return nil
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
