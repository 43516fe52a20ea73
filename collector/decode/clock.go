package decode

import "golang.org/x/sys/unix"

// Clock converts the kernel's boot clock (bpf_ktime_get_boot_ns) to wall clock. NTP slews both clocks alike, so their
// offset changes only when the wall clock is stepped; it is sampled again each refresh interval of event time.
// A Clock is not safe for concurrent use.
type Clock struct {
	offset int64  // wall - boot, ns
	margin int64  // the true offset is within +-margin of offset
	next   uint64 // boot time of the next sample
	sample func() (boot uint64, offset, margin int64)
}

// refreshNs is how far events may run on the old offset after the wall clock was stepped.
const refreshNs = 10e9

// NewClock returns a clock of this machine.
func NewClock() *Clock { return &Clock{sample: sampleClocks} }

// Wall converts boot, in ns, to Unix ns.
func (c *Clock) Wall(boot uint64) int64 {
	if boot >= c.next {
		c.refresh()
	}
	return int64(boot) + c.offset
}

// refresh keeps the old offset where the new sample does not contradict it: samples differ by noise, and an offset that
// moves with the noise would reorder events.
func (c *Clock) refresh() {
	boot, offset, margin := c.sample()
	if c.next == 0 || abs(offset-c.offset) > margin+c.margin || margin < c.margin {
		c.offset, c.margin = offset, margin
	}
	c.next = boot + refreshNs
}

// sampleClocks reads the wall clock between two reads of the boot clock and keeps the tightest of a few tries.
func sampleClocks() (boot uint64, offset, margin int64) {
	const tries = 8
	for i := range tries {
		before, wall, after := read(unix.CLOCK_BOOTTIME), read(unix.CLOCK_REALTIME), read(unix.CLOCK_BOOTTIME)
		if half := (after - before + 1) / 2; i == 0 || half < margin {
			boot, offset, margin = uint64(after), wall-(before+half), half
		}
	}
	return boot, offset, margin
}

// read cannot fail: both clocks exist on every supported kernel.
func read(clock int32) int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(clock, &ts)
	return ts.Nano()
}

func abs(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}
