package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// classify turns blocks into prefixes whose longest match for an address tells all blocks that contain it: set i+1 are
// the blocks sets[i], by their index, and set 0 is none of them. The prefixes of blocks and exceptions are nested or
// disjoint, so the longest match of an address is in the same blocks as the address.
func classify(blocks []Block) (prefixes map[Prefix]uint32, sets [][]int) {
	c := classifier{blocks: blocks, begin: make(map[netip.Prefix][]int), prefixes: make(map[Prefix]uint32), numbers: make(map[string]uint32)}
	var families [2][]netip.Prefix // IPv6, IPv4
	note := func(p netip.Prefix) {
		f := 0
		if p.Addr().Is4() {
			f = 1
		}
		families[f] = append(families[f], p)
	}
	hides := false
	for i, b := range blocks {
		note(b.Prefix)
		c.begin[b.Prefix] = append(c.begin[b.Prefix], i)
		hides = hides || !b.Prefix.Addr().Is4() && b.Prefix.Overlaps(mappedRange)
		for _, x := range b.Except {
			note(x)
		}
	}
	c.walk(families[0], 0)
	if hides { // "::/0" holds no IPv4 address, but its key would match one
		families[1] = append(families[1], netip.PrefixFrom(netip.IPv4Unspecified(), 0))
		c.walk(families[1], hidden)
	} else {
		c.walk(families[1], 0)
	}
	return c.prefixes, c.sets
}

// mappedRange holds the keys of IPv4 addresses.
var mappedRange = netip.MustParsePrefix("::ffff:0:0/96")

// hidden is a set that is not there: what is inside of it is always written.
const hidden = 1<<32 - 1

type classifier struct {
	blocks   []Block
	begin    map[netip.Prefix][]int // blocks by their prefix
	prefixes map[Prefix]uint32
	sets     [][]int
	numbers  map[string]uint32
}

// level is a prefix around the one that walk is at.
type level struct {
	prefix  netip.Prefix
	members []int
	set     uint32
}

// walk goes through the prefixes of one family from the outside in; outside is the set around them all.
func (c *classifier) walk(list []netip.Prefix, outside uint32) {
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var around []level
	for _, p := range slices.Compact(list) {
		for len(around) > 0 && !around[len(around)-1].prefix.Contains(p.Addr()) {
			around = around[:len(around)-1]
		}
		parent := level{set: outside}
		if len(around) > 0 {
			parent = around[len(around)-1]
		}
		l := level{prefix: p}
		for _, candidates := range [2][]int{parent.members, c.begin[p]} {
			for _, b := range candidates {
				if !c.excepted(b, p) {
					l.members = append(l.members, b)
				}
			}
		}
		slices.Sort(l.members)
		l.set = c.number(l.members)
		if l.set != parent.set {
			addr, bits := mapped(p)
			c.prefixes[Prefix{Addr: addr, Bits: bits}] = l.set
		}
		around = append(around, l)
	}
}

// excepted reports whether an exception of block b holds all of p.
func (c *classifier) excepted(b int, p netip.Prefix) bool {
	return slices.ContainsFunc(c.blocks[b].Except, func(x netip.Prefix) bool { return x.Bits() <= p.Bits() && x.Contains(p.Addr()) })
}

// number returns the number of a set.
func (c *classifier) number(members []int) uint32 {
	if len(members) == 0 {
		return 0
	}
	key := fmt.Sprint(members)
	n, known := c.numbers[key]
	if !known {
		c.sets = append(c.sets, members)
		n = uint32(len(c.sets))
		c.numbers[key] = n
	}
	return n
}
