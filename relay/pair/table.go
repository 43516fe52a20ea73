package pair

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/parallax-flow/parallax/flow"
)

// key is what observations of one event have in common: addresses, content, and ports, protocol, kind and flags in one word.
type key [6]uint64

func (p *Pairer) keyOf(f *flow.Flow) key {
	k := key{
		binary.NativeEndian.Uint64(f.SrcAddr[:8]), binary.NativeEndian.Uint64(f.SrcAddr[8:]),
		binary.NativeEndian.Uint64(f.DstAddr[:8]), binary.NativeEndian.Uint64(f.DstAddr[8:]),
		p.content(f),
		uint64(f.SrcPort)<<48 | uint64(f.DstPort)<<32 | uint64(f.Proto)<<24 | uint64(f.Kind)<<16,
	}
	switch f.Kind {
	case flow.KindState:
		k[5] |= uint64(f.TCPFlags)<<8 | reply(f)
	case flow.KindNew:
		k[5] |= reply(f)
	}
	return k
}

func reply(f *flow.Flow) uint64 {
	if f.Reply {
		return 1
	}
	return 0
}

// table finds chains by key. Chains of one slot are linked through themselves: a look-up touches the slot and the chain, which the
// caller needs anyway. Go's map, whose groups hold copies of the keys, took a fifth of the relay's time.
type table struct {
	slots []*chain
	count int
	seed  [2]uint64 // addresses come from outside: nobody shall be able to fill one slot
}

func newTable() table {
	return table{slots: make([]*chain, 1024), seed: [2]uint64{rand.Uint64() | 1, rand.Uint64() | 1}}
}

// slot mixes as wyhash does: the two halves of a product of 64-bit words, folded.
func (t *table) slot(k *key) **chain {
	h := t.seed[0]
	for i := 0; i < len(k); i += 2 {
		hi, lo := bits.Mul64(k[i]^h, k[i+1]^t.seed[1])
		h = hi ^ lo ^ t.seed[0]
	}
	hi, lo := bits.Mul64(h, t.seed[1])
	return &t.slots[(hi^lo)&uint64(len(t.slots)-1)]
}

func (t *table) get(k *key) *chain {
	for c := *t.slot(k); c != nil; c = c.link {
		if c.key == *k {
			return c
		}
	}
	return nil
}

func (t *table) put(c *chain) {
	if t.count == len(t.slots) {
		old := t.slots
		t.slots = make([]*chain, 2*len(old))
		for _, c := range old {
			for c != nil {
				next := c.link
				t.link(c)
				c = next
			}
		}
	}
	t.link(c)
	t.count++
}

func (t *table) link(c *chain) {
	at := t.slot(&c.key)
	c.link, *at = *at, c
}

func (t *table) remove(c *chain) {
	at := t.slot(&c.key)
	for *at != c {
		at = &(*at).link
	}
	*at, c.link = c.link, nil
	t.count--
}
