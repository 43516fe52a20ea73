// Package merge brings the records of all nodes into the order of their time.
//
// Each record waits until the watermark, the present less the window, has passed its time: whatever arrives within the
// window leaves in order, without one inversion, and no record waits longer than the window, whether other nodes
// are busy, silent or gone. The order is that of the time, then of arrival. Nothing is lost here: what comes behind the
// watermark goes out at once and is counted as late; what doesn't fit goes out before its time, the oldest first, and is counted
// as early.
//
// A node whose clock runs ahead doesn't move the watermark for the others: its records are ordered as of their arrival.
package merge

import (
	"cmp"
	"slices"
	"time"
)

// bucketShift makes a bucket 2^20 ns, about a millisecond: few enough of them to walk, small enough ones to sort.
const bucketShift = 20

// Buffer holds the records that wait. It belongs to one goroutine, has no clock and starts nothing. Times are Unix ns.
type Buffer[T any] struct {
	window int64
	limit  int

	// buckets is a ring; the bucket of time t is buckets[t>>bucketShift & mask].
	buckets [][]entry[T]
	mask    int64
	low     int64 // number of the first bucket that was not released: the watermark
	high    int64 // number of the last bucket with records
	count   int
	order   uint64
	stats   Stats
}

type entry[T any] struct {
	key   int64
	order uint64
	value T
}

// Stats are cumulative.
type Stats struct {
	Late  uint64 // arrived behind the watermark
	Early uint64 // released before the watermark for want of room
	Ahead uint64 // had a time in the future
}

// New returns a Buffer that holds records for window and about limit of them at most: limit and what is added between two
// calls of Release.
func New[T any](window time.Duration, limit int) *Buffer[T] {
	// Twice the window: room for what arrives while the owner is held up.
	size := int64(16)
	for size < 2*(int64(window)>>bucketShift)+2 {
		size *= 2
	}
	return &Buffer[T]{window: int64(window), limit: limit, buckets: make([][]entry[T], size), mask: size - 1}
}

// Len returns how many records wait.
func (b *Buffer[T]) Len() int { return b.count }

// Stats returns what was counted so far.
func (b *Buffer[T]) Stats() Stats { return b.stats }

// Add takes v, whose time is t. Call Release with the same now, or one little older, before.
func (b *Buffer[T]) Add(t, now int64, v T) {
	if t > now {
		t = now
		b.stats.Ahead++
	}
	if b.count == 0 {
		b.low = max(b.low, (now-b.window)>>bucketShift)
		b.high = b.low
	}
	n := t >> bucketShift
	switch {
	case n < b.low:
		b.stats.Late++
		n = b.low // in front of all that is there: a bucket is sorted by time
	case n > b.low+b.mask:
		n = b.low + b.mask
	}
	b.high = max(b.high, n)
	b.order++
	at := &b.buckets[n&b.mask]
	*at = append(*at, entry[T]{key: t, order: b.order, value: v})
	b.count++
}

// Release hands every record behind the watermark to emit, in order, and as many more as there are beyond the limit.
func (b *Buffer[T]) Release(now int64, emit func(T)) {
	mark := (now - b.window) >> bucketShift
	for b.count > 0 && b.low < mark {
		b.releaseLow(emit)
	}
	if b.count == 0 {
		b.low = max(b.low, mark)
	}
	for b.count > b.limit {
		b.stats.Early += uint64(len(b.buckets[b.low&b.mask]))
		b.releaseLow(emit)
	}
}

// Flush hands out everything and forgets the watermark: time may begin anew.
func (b *Buffer[T]) Flush(emit func(T)) {
	for b.count > 0 {
		b.releaseLow(emit)
	}
	b.low = 0
}

func (b *Buffer[T]) releaseLow(emit func(T)) {
	at := &b.buckets[b.low&b.mask]
	b.low++
	if len(*at) == 0 {
		return
	}
	slices.SortFunc(*at, func(x, y entry[T]) int {
		if c := cmp.Compare(x.key, y.key); c != 0 {
			return c
		}
		return cmp.Compare(x.order, y.order)
	})
	for i := range *at {
		emit((*at)[i].value)
	}
	b.count -= len(*at)
	clear(*at)
	*at = (*at)[:0]
}

// Next returns when Release has something to do again; ok is false if the buffer is empty.
func (b *Buffer[T]) Next() (at int64, ok bool) {
	if b.count == 0 {
		return 0, false
	}
	for n := b.low; n <= b.high; n++ {
		if len(b.buckets[n&b.mask]) > 0 {
			return (n+1)<<bucketShift + b.window, true
		}
	}
	return 0, false
}
