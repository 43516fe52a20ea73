package policy

import (
	"maps"
	"slices"

	"github.com/parallax-flow/parallax/flow"
)

// Changes turns one Compiled into another. Who writes them in the order of the fields never lets an endpoint see half of
// a change of rules: new tables are complete before a record points at them, and old ones go when no record does. Keep
// the old RuleInfos until the records that name them are read.
//
// A write that fails (a full map) is taken back by the writes of Undo(from, to): they need no room, since all of from is
// still there, and a key that they drop may be missing.
//
// Until a record points at its new table, the old one has to answer for services that are new, and behind that the new
// one for services that have not gone yet. Diff has entries for both that last only for the change, so that no connection
// is denied for a moment that is allowed before and behind a change of services and policies together.
//
// An address that gets another identity in the same change as the rules may be denied until both are there: go by Path,
// so that this happens only where a pod's own labels, its namespace's or its ports changed together with the rules.
type Changes struct {
	Entries   []EntryValue
	CIDRs     []PrefixValue
	Peers     []PeerValue
	Services  []ServiceValue
	Endpoints []EndpointValue

	DropEndpoints []EndpointKey
	DropServices  []ServiceKey // programs that run must not use these and the records before any more, when the rest is dropped
	DropPeers     []flow.Addr
	DropCIDRs     []Prefix
	DropEntries   []Entry
}

// Nothing is the Compiled of a datapath in which nothing was written.
func Nothing() *Compiled { return newCompiled() }

// Unknown stands for a datapath that holds some of the keys of a and b with some of their values. Diff from it to any other
// writes all that the other has and drops all that it has not; it decides nothing.
func Unknown(a, b *Compiled) *Compiled {
	u := newCompiled()
	for _, c := range [...]*Compiled{a, b} {
		for k := range c.Entries {
			u.Entries[k] = RuleNone // the value of no entry
		}
		for k := range c.CIDRs {
			u.CIDRs[k] = ^uint32(0)
		}
		for k := range c.Peers {
			u.Peers[k] = 0
		}
		for k := range c.Services {
			u.Services[k] = 0 // the number of no service
		}
		for k := range c.Endpoints {
			u.Endpoints[k] = Record{Identity: ^uint32(0)}
		}
	}
	for k := range meanwhile(a, b) {
		u.Entries[k] = RuleNone
	}
	return u
}

// Path returns the inputs to compile and write one after another on the way from one input, which is in force, to another;
// the last is to. It is to alone but where a policy begins or ceases to name a label or port that tells identities apart:
// that renumbers pods, and the old tables do not know the new numbers. The way then leads over the identities of both, under
// which first the old and then the new policies hold, so that no step changes numbers and rules together. Services change
// with the policies: which of them old policies allow may have been no question.
func Path(from, to Input) []Input {
	if watch(from.Policies, from.Apart).equal(watch(to.Policies, to.Apart)) {
		return []Input{to}
	}
	both := slices.Concat(from.Policies, from.Apart, to.Policies, to.Apart)
	old, fresh := to, to
	old.Policies, old.Apart, fresh.Apart = from.Policies, both, both
	old.Inventory.Services = from.Inventory.Services
	return []Input{old, fresh, to}
}

// EntryValue is a key of Compiled.Entries with its value; the others alike.
type EntryValue struct {
	Key  Entry
	Rule uint32
}

type PrefixValue struct {
	Key Prefix
	Set uint32
}

type PeerValue struct {
	Addr     flow.Addr
	Identity uint32
}

type ServiceValue struct {
	Key    ServiceKey
	Number uint32
}

type EndpointValue struct {
	Key    EndpointKey
	Record Record
}

// Empty reports whether there is nothing to write.
func (c *Changes) Empty() bool {
	return len(c.Entries)+len(c.CIDRs)+len(c.Peers)+len(c.Services)+len(c.Endpoints)+
		len(c.DropEndpoints)+len(c.DropServices)+len(c.DropPeers)+len(c.DropCIDRs)+len(c.DropEntries) == 0
}

// Diff returns how from becomes to, each list sorted; a nil from is empty.
func Diff(from, to *Compiled) Changes {
	if from == nil {
		from = newCompiled()
	}
	c := difference(from, to)
	for at, rule := range meanwhile(from, to) {
		c.Entries = append(c.Entries, EntryValue{at, rule})
		c.DropEntries = append(c.DropEntries, at)
	}
	slices.SortFunc(c.Entries, func(a, b EntryValue) int { return a.Key.compare(b.Key) })
	slices.SortFunc(c.DropEntries, Entry.compare)
	return c
}

// Undo returns how the datapath becomes from again if Diff(from, to) was written up to anywhere.
func Undo(from, to *Compiled) Changes {
	c := difference(to, from)
	c.DropEntries = slices.AppendSeq(c.DropEntries, maps.Keys(meanwhile(from, to)))
	slices.SortFunc(c.DropEntries, Entry.compare)
	return c
}

func difference(from, to *Compiled) (c Changes) {
	put, drop := diff(from.Entries, to.Entries, Entry.compare)
	for _, k := range put {
		c.Entries = append(c.Entries, EntryValue{k, to.Entries[k]})
	}
	c.DropEntries = drop
	prefixes, gone := diff(from.CIDRs, to.CIDRs, Prefix.compare)
	for _, k := range prefixes {
		c.CIDRs = append(c.CIDRs, PrefixValue{k, to.CIDRs[k]})
	}
	c.DropCIDRs = gone
	addrs, left := diff(from.Peers, to.Peers, func(a, b flow.Addr) int { return slices.Compare(a[:], b[:]) })
	for _, k := range addrs {
		c.Peers = append(c.Peers, PeerValue{k, to.Peers[k]})
	}
	c.DropPeers = left
	services, closed := diff(from.Services, to.Services, ServiceKey.compare)
	for _, k := range services {
		c.Services = append(c.Services, ServiceValue{k, to.Services[k]})
	}
	c.DropServices = closed
	endpoints, ended := diff(from.Endpoints, to.Endpoints, EndpointKey.compare)
	for _, k := range endpoints {
		c.Endpoints = append(c.Endpoints, EndpointValue{k, to.Endpoints[k]})
	}
	c.DropEndpoints = ended
	return c
}

// meanwhile returns the entries of services that only the change from one of two states to the other needs, which are the
// same there and back: for each service that one of them does not know, or by another number, what its tables allow without
// it, where they allow nothing with it.
func meanwhile(from, to *Compiled) map[Entry]uint32 {
	entries := make(map[Entry]uint32)
	answer := func(c, other *Compiled) {
		var services []ServiceKey
		for k, number := range other.Services {
			if number != 0 && number != c.Services[k] {
				services = append(services, k)
			}
		}
		if len(services) == 0 {
			return
		}
		for table := range c.egressTables() {
			for _, k := range services {
				at := Entry{Table: table, Peer: other.Services[k], Kind: PeerService}
				if rule := c.allowing(Egress, table, k); rule != 0 && from.Entries[at] == 0 && to.Entries[at] == 0 {
					entries[at] = rule
				}
			}
		}
	}
	answer(from, to)
	answer(to, from)

	return entries
}

func (c *Compiled) egressTables() map[uint64]bool {
	tables := make(map[uint64]bool)
	for _, r := range c.Endpoints {
		if table := r.Tables[Egress]; table != 0 {
			tables[table] = true
		}
	}
	return tables
}

// diff returns the keys that are new or have another value in to, and those that are gone, sorted.
func diff[K, V comparable](from, to map[K]V, compare func(K, K) int) (put, drop []K) {
	for _, k := range sortedKeys(to, compare) {
		if v, there := from[k]; !there || v != to[k] {
			put = append(put, k)
		}
	}
	for _, k := range sortedKeys(from, compare) {
		if _, there := to[k]; !there {
			drop = append(drop, k)
		}
	}
	return put, drop
}

func sortedKeys[K comparable, V any](m map[K]V, compare func(K, K) int) []K {
	return slices.SortedFunc(maps.Keys(m), compare)
}
