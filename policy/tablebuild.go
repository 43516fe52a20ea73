package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/parallax-flow/parallax/flow"
)

// tableBuilder gathers what the rules of one direction grant to whom, and writes it as entries.
type tableBuilder struct {
	*compiler
	id        uint64
	d         Direction
	structure []string // all that makes this table another one than the next
	peers     map[peerKey][]grant
	blocks    []blockGrant
	lengths   lengths
}

// lengths are those of a table's keys, longest first: a look-up tries no others.
type lengths struct {
	prefixes, entries []uint8
}

// noted returns list with bits.
func noted(list []uint8, bits uint8) []uint8 {
	i, known := slices.BinarySearchFunc(list, bits, func(a, b uint8) int { return cmp.Compare(b, a) })
	if known {
		return list
	}
	return slices.Insert(list, i, bits)
}

type peerKey struct {
	kind PeerKind
	peer uint32
}

// grant allows a span by a rule.
type grant struct {
	span
	rule uint32
}

// blockGrant allows spans to a block by a rule.
type blockGrant struct {
	Block
	grants []grant
}

// span is a range of ports; proto 0 is all traffic.
type span struct {
	proto       flow.Proto
	first, last uint16
}

// collect adds what r grants if pod is the subject.
func (t *tableBuilder) collect(p *Policy, r *Rule, pod *Endpoint) {
	fixed := t.grants(r, fixedSpans(r))
	if t.d == Ingress {
		fixed = append(fixed, t.grants(r, namedSpans(r, pod))...)
	}
	t.structure = append(t.structure, p.Ref.String(), r.canonical(), fmt.Sprint(fixed))
	if len(r.Peers) == 0 {
		t.add(peerKey{}, fixed)
		t.addGroups(r, t.groups, nil)
	}
	for i := range r.Peers {
		if b := r.Peers[i].Block; b != nil {
			t.addBlock(r, b, fixed)
		} else {
			t.addGroups(r, t.matching(p.Namespace, &r.Peers[i]), fixed)
		}
	}
}

func (t *tableBuilder) grants(r *Rule, spans []span) []grant {
	list := make([]grant, len(spans))
	for i, s := range spans {
		list[i] = grant{s, t.rules[r]}
	}
	return list
}

func (t *tableBuilder) add(k peerKey, g []grant) {
	if len(g) > 0 {
		t.peers[k] = append(t.peers[k], g...)
	}
}

// addGroups grants fixed to groups, and on egress the named ports that each of them has.
func (t *tableBuilder) addGroups(r *Rule, groups []*group, fixed []grant) {
	for _, g := range groups {
		k := peerKey{PeerIdentity, g.id}
		t.add(k, fixed)
		if t.d == Egress {
			t.add(k, t.grants(r, namedSpans(r, g.any())))
		}
	}
}

// addBlock grants fixed to a block. A named port of egress exists at the pods inside of the block only: each becomes a
// block of one address.
func (t *tableBuilder) addBlock(r *Rule, b *Block, fixed []grant) {
	if len(fixed) > 0 {
		t.blocks = append(t.blocks, blockGrant{*b, fixed})
	}
	if t.d != Egress || t.Options.BlocksSkipPods || !hasNamed(r) {
		return
	}
	for _, a := range t.addrs {
		if spans := namedSpans(r, t.index.owner[a]); len(spans) > 0 && b.Contains(a) {
			t.blocks = append(t.blocks, blockGrant{Block{Prefix: netip.PrefixFrom(a, a.BitLen())}, t.grants(r, spans)})
			t.structure = append(t.structure, a.String(), fmt.Sprint(spans))
		}
	}
}

func hasNamed(r *Rule) bool {
	return slices.ContainsFunc(r.Ports, func(p Port) bool { return p.Name != "" })
}

// fixedSpans returns the ports of r that have a number.
func fixedSpans(r *Rule) []span {
	if len(r.Ports) == 0 {
		return []span{{0, 0, 65535}}
	}
	var list []span
	for _, p := range r.Ports {
		switch {
		case p.Name != "":
		case p.any():
			list = append(list, span{p.Proto, 0, 65535})
		default:
			list = append(list, span{p.Proto, p.First, p.Last})
		}
	}
	return list
}

// namedSpans returns the named ports of r as pod has them.
func namedSpans(r *Rule, pod *Endpoint) []span {
	var list []span
	for _, p := range r.Ports {
		if p.Name == "" {
			continue
		}
		for _, n := range pod.numbers(p.Name, p.Proto) {
			list = append(list, span{p.Proto, n, n})
		}
	}
	return list
}

// emit writes the table into the output. What everybody may do is not repeated for anybody.
func (t *tableBuilder) emit() {
	everybody := reduce(t.peers[peerKey{}], nil)
	t.blocks = slices.DeleteFunc(t.blocks, func(b blockGrant) bool { return len(reduce(b.grants, everybody)) == 0 })
	t.blockSets()
	for k, grants := range t.peers {
		entries := everybody
		if k.kind != PeerAny {
			entries = reduce(grants, everybody)
		}
		for at, rule := range entries {
			t.lengths.entries = noted(t.lengths.entries, at.Bits)
			at.Table, at.Kind, at.Peer = t.id, k.kind, k.peer
			t.out.Entries[at] = rule
		}
	}
	if t.d == Egress {
		t.emitServices()
	}
}

// blockSets writes the prefixes of the table's blocks and grants each set what its blocks are granted.
func (t *tableBuilder) blockSets() {
	blocks := make([]Block, len(t.blocks))
	for i := range t.blocks {
		blocks[i] = t.blocks[i].Block
	}
	prefixes, sets := classify(blocks)
	for p, set := range prefixes {
		p.Table = t.id
		t.out.CIDRs[p] = set
		t.lengths.prefixes = noted(t.lengths.prefixes, p.Bits)
	}
	for i, members := range sets {
		for _, m := range members {
			t.add(peerKey{PeerSet, uint32(i + 1)}, t.blocks[m].grants)
		}
	}
}

// reduce returns grants as prefixes of protocol and port, each with the first rule that has it, without those that a
// shorter one here or in wider covers.
func reduce(grants []grant, wider map[Entry]uint32) map[Entry]uint32 {
	entries := make(map[Entry]uint32)
	for _, g := range grants {
		for _, e := range g.prefixes() {
			if entries[e] == 0 {
				entries[e] = g.rule
			}
		}
	}
	for e := range entries {
		if wider[e] != 0 || covered(e, entries) || covered(e, wider) {
			delete(entries, e)
		}
	}
	return entries
}

// covered reports whether a shorter prefix than e is in entries.
func covered(e Entry, entries map[Entry]uint32) bool {
	for bits := e.Bits; bits > 0; {
		if bits--; bits < 8 {
			bits = 0
		}
		if entries[e.cut(bits)] != 0 {
			return true
		}
	}
	return false
}

// prefixes returns s as the fewest prefixes that cover exactly it.
func (s span) prefixes() []Entry {
	if s.proto == 0 {
		return []Entry{{}}
	}
	var list []Entry
	for first, end := uint32(s.first), uint32(s.last)+1; first < end; {
		bits, size := uint8(24), uint32(1)
		for first%(2*size) == 0 && first+2*size <= end && bits > 8 {
			bits, size = bits-1, 2*size
		}
		list = append(list, Entry{Proto: s.proto, Port: uint16(first), Bits: bits})
		first += size
	}
	return list
}
