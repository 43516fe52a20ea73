package policy

import (
	"cmp"
	"net/netip"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// Compiled is what the datapath of one node looks up. Its maps are those of the kernel, key for key; Decide reads them as
// the datapath does.
//
// A table holds the rules of one direction for all endpoints that share them. Its number is a hash of these rules, so a
// change of rules makes another table, and an endpoint goes over to it in one write of its record, both directions at
// once. What changes inside of a table is only which identities its selectors match.
type Compiled struct {
	Endpoints map[EndpointKey]Record
	Peers     map[flow.Addr]uint32  // identity of an address; one that is missing is the world
	CIDRs     map[Prefix]uint32     // longest prefix -> set of the blocks that allow these addresses, 0: none
	Services  map[ServiceKey]uint32 // number of a service: for egress to it only its own entry counts
	Entries   map[Entry]uint32      // longest match -> rule that allows
	Rules     map[uint32]RuleInfo   // what rule numbers mean; stays in user space
	SkipPods  bool                  // Options.BlocksSkipPods: no look-up in CIDRs for identities of pods
}

// EndpointKey names a pod of the node.
type EndpointKey struct {
	Namespace, Name string
}

// Record is all that the datapath knows of an endpoint. It is replaced as a whole.
type Record struct {
	Tables   [2]uint64 // by Direction; 0: not isolated
	Deny     [2]uint32 // rule to report where the table allows nothing
	Identity uint32
}

// Prefix is the key of a longest-prefix match on the address, within a table.
type Prefix struct {
	Table uint64
	Addr  flow.Addr
	Bits  uint8 // of Addr, IPv4-mapped: 0-128
}

// Entry is the key of a longest-prefix match on protocol and port, within what precedes them.
type Entry struct {
	Table uint64
	Peer  uint32 // identity, set or service, 0 for PeerAny
	Kind  PeerKind
	Proto flow.Proto
	Port  uint16
	Bits  uint8 // of Proto and Port: 0 (any traffic), 8 (any port of Proto) to 24 (exactly Port)
}

// PeerKind says what the peer of an Entry is.
type PeerKind uint8

const (
	PeerAny PeerKind = iota
	PeerIdentity
	PeerSet     // of Compiled.CIDRs
	PeerService // of Compiled.Services; Bits is 0
)

// Rules that no policy wrote.
const (
	RuleNone       uint32 = 0 // the endpoint is not one of this node's
	RuleItself     uint32 = 1 // ToItself
	RuleUnisolated uint32 = 2 // NotIsolated
	RuleOwnNode    uint32 = 3 // FromOwnNode

	firstRule uint32 = 256
)

// RuleInfo is what a rule number stands for.
type RuleInfo struct {
	ID        uint32
	Allows    bool
	Direction Direction
	Match     flow.PolicyMatch // what a rule looks at; PolicyMatchNone of a denial
	Index     int              // of the rule in its policy's section; -1 for what is no rule of a policy
	Policies  []Ref            // the rule's policy; of a denial all that isolate the endpoint
	Text      string           // one line for a person
}

// Decision returns r as flows carry it.
func (r RuleInfo) Decision() *flow.Decision {
	return &flow.Decision{Match: r.Match, Rule: r.Index, Policies: r.Policies, Text: r.Text}
}

// Verdict is the answer of the datapath.
type Verdict struct {
	Allowed bool
	Rule    uint32
}

// Decide answers for the first packet of a connection as the datapath does: local is the endpoint's address, peer the
// other one. It does not allocate.
func (c *Compiled) Decide(endpoint EndpointKey, d Direction, local, peer flow.Addr, proto flow.Proto, port uint16) Verdict {
	record, known := c.Endpoints[endpoint]
	switch {
	case !known:
		return Verdict{true, RuleNone}
	case local == peer:
		return Verdict{true, RuleItself}
	case record.Tables[d] == 0:
		return Verdict{true, RuleUnisolated}
	}
	identity := c.Peers[peer]
	if d == Ingress && identity == meta.IdentityHost {
		return Verdict{true, RuleOwnNode}
	}
	if rule := c.allowing(d, record.Tables[d], ServiceKey{peer, port, proto}); rule != 0 {
		return Verdict{true, rule}
	}
	return Verdict{false, record.Deny[d]}
}

// allowing returns the rule of a table that allows a connection with peer, 0 if none does.
func (c *Compiled) allowing(d Direction, table uint64, peer ServiceKey) uint32 {
	if d == Egress {
		if number, is := c.Services[peer]; is {
			return c.Entries[Entry{Table: table, Peer: number, Kind: PeerService}]
		}
	}
	identity := c.Peers[peer.Addr]
	at := Entry{Table: table, Proto: peer.Proto, Port: peer.Port}
	if rule := c.entry(at); rule != 0 {
		return rule
	}
	if isPod(identity) {
		at.Kind, at.Peer = PeerIdentity, identity
		if rule := c.entry(at); rule != 0 || c.SkipPods {
			return rule
		}
	}
	if at.Peer = c.set(table, peer.Addr); at.Peer == 0 {
		return 0
	}
	at.Kind = PeerSet
	return c.entry(at)
}

// isPod tells the identities of pods from the reserved ones.
func isPod(identity uint32) bool { return identity >= meta.FirstIdentity }

// entry finds the longest match for the exact key at, 0 if there is none.
func (c *Compiled) entry(at Entry) uint32 {
	for bits := uint8(24); bits >= 8; bits-- {
		if rule := c.Entries[at.cut(bits)]; rule != 0 {
			return rule
		}
	}
	return c.Entries[at.cut(0)]
}

// cut returns e with only that many bits of its protocol and port.
func (e Entry) cut(bits uint8) Entry {
	e.Bits = bits
	if bits < 8 {
		e.Proto, e.Port = 0, 0
	} else {
		e.Port &= 0xffff << (24 - bits)
	}
	return e
}

// set finds the longest prefix of a, 0 if there is none.
func (c *Compiled) set(table uint64, a flow.Addr) uint32 {
	for bits := uint8(128); ; bits-- {
		if set, found := c.CIDRs[Prefix{table, a, bits}]; found {
			return set
		}
		if bits == 0 {
			return 0
		}
		a[(bits-1)/8] &^= 0x80 >> ((bits - 1) % 8)
	}
}

// mapped returns p in the form of keys.
func mapped(p netip.Prefix) (flow.Addr, uint8) {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return flow.AddrFrom(p.Addr()), uint8(bits)
}

func (p Prefix) compare(o Prefix) int {
	return cmp.Or(cmp.Compare(p.Table, o.Table), p.Addr.Netip().Compare(o.Addr.Netip()), cmp.Compare(p.Bits, o.Bits))
}

func (e Entry) compare(o Entry) int {
	return cmp.Or(cmp.Compare(e.Table, o.Table), cmp.Compare(e.Kind, o.Kind), cmp.Compare(e.Peer, o.Peer),
		cmp.Compare(e.Bits, o.Bits), cmp.Compare(e.Proto, o.Proto), cmp.Compare(e.Port, o.Port))
}

func (k EndpointKey) compare(o EndpointKey) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}
