package probe

import (
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"time"
)

// Config of a Probe. The zero value observes the network namespace of the process with the defaults below.
type Config struct {
	NetNS      string // path of the network namespace to observe, /run/netns/NAME or /proc/PID/ns/net; "": that of the process
	Interfaces Interfaces
	Mechanism  Mechanism

	// DropScope holds the inode numbers of the network namespaces whose drops are reported. nil: all of the machine;
	// not nil and empty: none. SetScope changes it.
	DropScope []uint32

	Cgroup string // cgroup2 mount, for the processes behind sockets; "": looked for in /proc/mounts

	RingBytes   int           // ring buffer: a power of two, at least a page; 0: 8 MiB
	WakeBytes   int           // the kernel wakes the reader at this many pending bytes, a power of two; less waits for Poll; 0: 64 KiB
	FlowEntries int           // connections held at a time over all interfaces; 0: 65536
	PayloadMax  int           // bytes of L7 payload taken of a packet, 1 to 4096; 0: 1024
	Interval    time.Duration // report of an active connection; 0: 5 s
	Poll        time.Duration // longest that a record lies in the ring; 0: 20 ms
	Timeouts    Timeouts

	Logger *slog.Logger // nil: slog.Default
}

// Timeouts after a connection's last packet, behind which it is closed. 0 stands for the default.
type Timeouts struct {
	Closed time.Duration // TCP, after both FINs or a RST; 10 s
	TCP    time.Duration // 5 min
	UDP    time.Duration // 60 s; SCTP and other protocols too
	ICMP   time.Duration // 30 s
	Denied time.Duration // what policy denies; 10 s
}

func (c *Config) setDefaults() {
	or(&c.RingBytes, 8<<20)
	or(&c.WakeBytes, 64<<10)
	or(&c.FlowEntries, 1<<16)
	or(&c.PayloadMax, 1024)
	or(&c.Interval, 5*time.Second)
	or(&c.Poll, 20*time.Millisecond)
	or(&c.Timeouts.Closed, 10*time.Second)
	or(&c.Timeouts.TCP, 5*time.Minute)
	or(&c.Timeouts.UDP, time.Minute)
	or(&c.Timeouts.ICMP, 30*time.Second)
	or(&c.Timeouts.Denied, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate says what is wrong with c, defaults applied.
func (c Config) Validate() error {
	c.setDefaults()
	switch {
	case c.RingBytes < os.Getpagesize() || c.RingBytes > 1<<30 || bits.OnesCount(uint(c.RingBytes)) != 1:
		return fmt.Errorf("ring of %d bytes: give a power of two from %d to 1 GiB", c.RingBytes, os.Getpagesize())
	case c.WakeBytes < 1 || bits.OnesCount(uint(c.WakeBytes)) != 1:
		return fmt.Errorf("wake-up at %d bytes: give a power of two", c.WakeBytes)
	case c.FlowEntries < 1 || c.FlowEntries > 1<<24:
		return fmt.Errorf("%d flow entries: give 1 to %d", c.FlowEntries, 1<<24)
	case c.PayloadMax < 1 || c.PayloadMax > 4096:
		return fmt.Errorf("payload of %d bytes: give 1 to 4096", c.PayloadMax)
	case c.Mechanism > MechanismClsact:
		return fmt.Errorf("unknown attach mechanism %d", c.Mechanism)
	}
	for name, d := range map[string]time.Duration{
		"interval": c.Interval, "poll": c.Poll, "timeout of closed connections": c.Timeouts.Closed,
		"timeout of TCP": c.Timeouts.TCP, "timeout of UDP": c.Timeouts.UDP, "timeout of ICMP": c.Timeouts.ICMP,
		"timeout of denied connections": c.Timeouts.Denied,
	} {
		if d < time.Millisecond {
			return fmt.Errorf("%s of %v: give at least 1ms", name, d)
		}
	}
	return c.Interfaces.validate()
}
