// Package ring keeps the newest flows in memory, in the order in which they were added, each under a sequence number
// that counts from 0 and never repeats. One goroutine adds, any number read.
//
// The writer never waits for a slow reader: it overwrites the oldest flow. A reader that was overtaken learns how many
// flows it missed. Writer and readers share one lock that neither holds longer than the copy of chunk flows takes.
package ring

import (
	"context"
	"math"
	"math/bits"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/parallax-flow/parallax/flow"
)

// chunk bounds the flows that are copied while the lock is held: about 25 kB, a few microseconds.
const chunk = 128

// Ring is a fixed number of flows. The zero Ring is not usable; see New.
type Ring struct {
	mask uint64

	mu      sync.RWMutex
	flows   []flow.Flow
	newest  []int64       // newest[i] is the largest Time of all flows up to the one in slot i: ascending by sequence
	evicted int64         // largest Time that was overwritten
	next    atomic.Uint64 // written under mu

	waitMu  sync.Mutex
	wake    chan struct{} // closed by the next Add; made by the first waiter
	waiting atomic.Bool
}

// New makes a ring that holds capacity flows, rounded up to a power of two; at least 1. All of its memory (about 220 bytes a
// flow) is taken at once.
func New(capacity int) *Ring {
	size := uint64(1)
	if capacity > 1 {
		size = 1 << bits.Len64(uint64(capacity-1))
	}
	return &Ring{
		mask:    size - 1,
		flows:   make([]flow.Flow, size),
		newest:  make([]int64, size),
		evicted: math.MinInt64,
	}
}

// Add copies flows into the ring, overwriting the oldest ones, and wakes readers that wait. It allocates nothing. Only one goroutine
// may add.
func (r *Ring) Add(flows []flow.Flow) {
	for len(flows) > 0 {
		part := flows[:min(len(flows), chunk)]
		flows = flows[len(part):]
		r.add(part)
	}
	if r.waiting.Load() {
		r.waitMu.Lock()
		r.waiting.Store(false)
		close(r.wake)
		r.wake = nil
		r.waitMu.Unlock()
	}
}

func (r *Ring) add(part []flow.Flow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.next.Load()
	newest := int64(math.MinInt64)
	if next > 0 {
		newest = r.newest[(next-1)&r.mask]
	}
	for i := range part {
		slot := next & r.mask
		if next > r.mask {
			r.evicted = max(r.evicted, r.flows[slot].Time)
		}
		r.flows[slot] = part[i]
		newest = max(newest, part[i].Time)
		r.newest[slot] = newest
		next++
	}
	r.next.Store(next)
}

// Cap returns how many flows the ring holds at most.
func (r *Ring) Cap() int { return len(r.flows) }

// Bounds returns the sequence number of the oldest flow that is held and the one that the next added flow will get, which is also
// the number of flows ever added. They are equal if and only if the ring is empty.
func (r *Ring) Bounds() (oldest, next uint64) {
	next = r.next.Load()
	return r.oldest(next), next
}

func (r *Ring) oldest(next uint64) uint64 {
	if size := r.mask + 1; next > size {
		return next - size
	}
	return 0
}

// Complete returns the time, Unix ns, from which on the ring is complete: it holds every flow ever added whose Time is not
// before it. It is math.MinInt64 as long as nothing was overwritten.
func (r *Ring) Complete() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.evicted == math.MinInt64 {
		return r.evicted
	}
	return r.evicted + 1
}

// Since returns the sequence number of the first held flow whose Time is t (Unix ns) or later, or of the next flow to be added if
// there is none. Later flows may still be older than t: flows are in the order of Add.
func (r *Ring) Since(t int64) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	next := r.next.Load()
	oldest := r.oldest(next)
	return oldest + uint64(sort.Search(int(next-oldest), func(i int) bool {
		return r.newest[(oldest+uint64(i))&r.mask] >= t
	}))
}

// Read copies flows into buf, from sequence number seq on, or from the oldest one held if seq is no longer held. It returns
// how many it copied, which is less than len(buf) only at the newest flow, and the sequence number of buf[0]; that one minus
// seq is the number of flows missed. It does not wait.
func (r *Ring) Read(seq uint64, buf []flow.Flow) (n int, first uint64) {
	n, first = r.read(seq, buf[:min(len(buf), chunk)])
	for n > 0 && n < len(buf) {
		more, at := r.read(first+uint64(n), buf[n:min(len(buf), n+chunk)])
		if more == 0 || at != first+uint64(n) { // at the end, or overtaken between two chunks: a hole must be at the front
			break
		}
		n += more
	}
	return n, first
}

func (r *Ring) read(seq uint64, buf []flow.Flow) (n int, first uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	next := r.next.Load()
	first = max(seq, r.oldest(next))
	if first >= next {
		return 0, seq
	}
	n = int(min(uint64(len(buf)), next-first))
	slot := first & r.mask
	copied := copy(buf[:n], r.flows[slot:])
	copy(buf[copied:n], r.flows)
	return n, first
}

// Wait returns nil as soon as the flow with sequence number seq was added, or the error of ctx.
func (r *Ring) Wait(ctx context.Context, seq uint64) error {
	for {
		if r.next.Load() > seq {
			return nil
		}
		r.waitMu.Lock()
		if r.wake == nil {
			r.wake = make(chan struct{})
			r.waiting.Store(true)
		}
		wake := r.wake
		r.waitMu.Unlock()
		if r.next.Load() > seq { // added before waiting was set
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
