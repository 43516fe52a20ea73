package probe

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads a BPF ring buffer (kernel/bpf/ringbuf.c) in place: records are handed out as they lie in the shared
// memory, and the consumer position is published once per batch. Memory: one page that is ours (consumer position), one
// of the kernel (producer position), then the data, mapped twice so that no record is cut at the end.
type ring struct {
	consumer *uint64
	producer *uint64
	data     []byte
	mask     uint64

	mine, theirs []byte // mappings
	epoll, wake  int
}

const (
	ringHeader  = unix.BPF_RINGBUF_HDR_SZ
	ringBusy    = unix.BPF_RINGBUF_BUSY_BIT
	ringDiscard = unix.BPF_RINGBUF_DISCARD_BIT
)

// openRing maps m. The ring holds no reference on m: close the ring first.
func openRing(m *ebpf.Map) (_ *ring, err error) {
	r := &ring{epoll: -1, wake: -1}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	page, size := os.Getpagesize(), int(m.MaxEntries())
	if r.mine, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring consumer page: %w", err)
	}
	if r.theirs, err = unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring data: %w", err)
	}
	r.consumer = (*uint64)(unsafe.Pointer(&r.mine[0]))
	r.producer = (*uint64)(unsafe.Pointer(&r.theirs[0]))
	r.data, r.mask = r.theirs[page:], uint64(size-1)
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	if r.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	for _, fd := range [...]int{m.FD(), r.wake} {
		if err = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, fmt.Errorf("poll ring: %w", err)
		}
	}
	return r, nil
}

// drain gives up to limit records to record, in the order of their reservation, and returns how many. The bytes are good
// during the call only.
//
// The kernel wakes us only for a record that lies at the published position. So a caller may wait only after a pass that
// gave nothing: such a pass looked at the next header after the position was published.
func (r *ring) drain(limit int, record func([]byte)) int {
	n, at := 0, *r.consumer // nobody else writes it
	for end := atomic.LoadUint64(r.producer); at < end && n < limit; {
		start := at & r.mask
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[start])))
		if header&ringBusy != 0 {
			break // reserved, not yet submitted
		}
		size := uint64(header &^ (ringBusy | ringDiscard))
		if header&ringDiscard == 0 {
			start += ringHeader
			record(r.data[start : start+size : start+size])
			n++
		}
		at += (size + ringHeader + 7) &^ 7
	}
	atomic.StoreUint64(r.consumer, at)
	return n
}

// wait returns when the ring has records, when interrupt was called, or behind timeout.
func (r *ring) wait(timeout time.Duration) error {
	var events [2]unix.EpollEvent
	// Rounded up: a wait of less than a millisecond must not become a busy loop.
	ms := max(0, int((timeout+time.Millisecond-1)/time.Millisecond))
	if _, err := unix.EpollWait(r.epoll, events[:], ms); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for ring: %w", err)
	}
	return nil
}

// interrupt ends all waits from now on. It may be called from any goroutine.
func (r *ring) interrupt() {
	_, _ = unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (r *ring) close() {
	for _, m := range [...][]byte{r.mine, r.theirs} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
	for _, fd := range [...]int{r.epoll, r.wake} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
