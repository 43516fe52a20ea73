package meta

import (
	"encoding/binary"

	"github.com/parallax-flow/parallax/flow"
)

// table is an immutable hash table with open addressing, at most half full. It costs a third of a built-in map's lookup,
// which is most of what naming a flow costs.
type table struct {
	slots []slot // a power of two
	used  int
}

type slot struct {
	addr     flow.Addr
	timeline *timeline // nil: empty
}

// hash spreads addresses that differ in any few bytes; the top bits are the best.
func hash(a flow.Addr) uint64 {
	hi, lo := binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:])
	h := (hi*0x9e3779b97f4a7c15 ^ lo) * 0xd6e8feb86659fd93
	return (h ^ h>>32) * 0x9e3779b97f4a7c15
}

const shardBits = 8

func (t *table) get(a flow.Addr, h uint64) *timeline {
	mask := uint64(len(t.slots) - 1)
	for i := h >> 32 & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.timeline == nil || s.addr == a {
			return s.timeline
		}
	}
}

// with returns a copy of t in which a has this timeline, without the entries that keep refuses.
func (t *table) with(a flow.Addr, tl *timeline, keep func(*timeline) bool) *table {
	next := &table{slots: make([]slot, sizeFor(t.used+1))}
	next.put(a, tl)
	for i := range t.slots {
		if s := &t.slots[i]; s.timeline != nil && s.addr != a && keep(s.timeline) {
			next.put(s.addr, s.timeline)
		}
	}
	return next
}

// put adds an address that is not there.
func (t *table) put(a flow.Addr, tl *timeline) {
	mask := uint64(len(t.slots) - 1)
	i := hash(a) >> 32 & mask
	for t.slots[i].timeline != nil {
		i = (i + 1) & mask
	}
	t.slots[i] = slot{a, tl}
	t.used++
}

// sizeFor returns how many slots n entries need; one is always empty, so that a search ends.
func sizeFor(n int) int {
	size := 2
	for size < 2*n {
		size *= 2
	}
	return size
}
