package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// Service is what has virtual addresses.
type Service struct {
	Namespace, Name string
	Forwards        []meta.Forward
}

// ServiceKey is a port of a virtual address.
type ServiceKey struct {
	Addr  flow.Addr
	Port  uint16
	Proto flow.Proto
}

func (k ServiceKey) compare(o ServiceKey) int {
	return cmp.Or(slices.Compare(k.Addr[:], o.Addr[:]), cmp.Compare(k.Proto, o.Proto), cmp.Compare(k.Port, o.Port))
}

// virtual is what is behind a ServiceKey.
type virtual struct {
	name     string           // "namespace/name" of the service; of several that claim the port the first
	backends []netip.AddrPort // unmapped, sorted; those of all that claim the port: any of them may be taken
}

func virtuals(services []Service) map[ServiceKey]*virtual {
	sorted := slices.SortedStableFunc(slices.Values(services), func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	all := make(map[ServiceKey]*virtual)
	for _, s := range sorted {
		for _, f := range s.Forwards {
			k := ServiceKey{flow.AddrFrom(f.Addr), f.Port, f.Proto}
			v := all[k]
			if v == nil {
				v = &virtual{name: s.Namespace + "/" + s.Name}
				all[k] = v
			}
			for _, b := range f.To {
				v.backends = append(v.backends, netip.AddrPortFrom(b.Addr().Unmap(), b.Port()))
			}
		}
	}
	for _, v := range all {
		slices.SortFunc(v.backends, netip.AddrPort.Compare)
		v.backends = slices.Compact(v.backends)
	}
	return all
}

// target is a service as the tables see it: connections to it are those to its backends, each by its address, identity
// and port.
type target struct {
	number   uint32
	backends int // which of compiler.backends
}

// backend is where the node may lead a connection.
type backend struct {
	at       ServiceKey
	identity uint32
	class    int // of all backends of this identity, port and protocol
}

// services gives each service its number: a hash of its key, so that entries keep their meaning when other services come
// and go, but for the rare one that shares its hash. Equal backends are kept once.
func (c *compiler) services() {
	known, taken := make(map[string]int), make(map[uint32]bool)
	classes := make(map[backend]int)
	for _, k := range sortedKeys(c.index.services, ServiceKey.compare) {
		v := c.index.services[k]
		t := target{number: k.number(taken)}
		c.out.Services[k] = t.number
		var content []byte
		list := make([]backend, len(v.backends))
		for i, b := range v.backends {
			a := flow.AddrFrom(b.Addr())
			of := backend{at: ServiceKey{Port: b.Port(), Proto: k.Proto}, identity: c.out.Peers[a]}
			class, there := classes[of]
			if !there {
				class = len(classes)
				classes[of] = class
			}
			list[i] = backend{ServiceKey{a, b.Port(), k.Proto}, of.identity, class}
			content = binary.BigEndian.AppendUint16(append(content, a[:]...), b.Port())
		}
		content = append(content, byte(k.Proto))
		n, there := known[string(content)]
		if !there {
			n = len(c.backends)
			known[string(content)] = n
			c.backends = append(c.backends, list)
		}
		t.backends = n
		c.targets = append(c.targets, t)
	}
	c.classes = len(classes)
}

func (k ServiceKey) number(taken map[uint32]bool) uint32 {
	for i := byte(0); ; i++ {
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint16(append(k.Addr[:], byte(k.Proto)), k.Port), i))
		if n := binary.BigEndian.Uint32(sum[:]); n != 0 && !taken[n] {
			taken[n] = true
			return n
		}
	}
}

// emitServices writes an entry for each service all of whose backends the table allows. The rule is that of the first.
func (t *tableBuilder) emitServices() {
	find := finder{Compiled: t.out, table: t.id, lengths: t.lengths, classes: make([]answer, t.classes)}
	rules := make([]uint32, len(t.backends))
	for i, list := range t.backends {
		rules[i] = find.all(list)
	}
	for _, s := range t.targets {
		if rule := rules[s.backends]; rule != 0 {
			t.out.Entries[Entry{Table: t.id, Peer: s.number, Kind: PeerService}] = rule
		}
	}
}

// finder is Compiled.allowing for many peers of one table.
type finder struct {
	*Compiled
	table   uint64
	lengths lengths
	classes []answer
}

// answer is the rule of a class of backends, whatever their address; 0: none.
type answer struct {
	rule  uint32
	known bool
}

// all returns the rule for the first of list, 0 if there is none or another one is not allowed.
func (f *finder) all(list []backend) (rule uint32) {
	for i := range list {
		r := f.allowing(&list[i])
		if r == 0 {
			return 0
		}
		if i == 0 {
			rule = r
		}
	}
	return rule
}

func (f *finder) allowing(b *backend) uint32 {
	class := &f.classes[b.class]
	if !class.known {
		class.known, class.rule = true, f.port(PeerAny, 0, b)
		if class.rule == 0 && isPod(b.identity) {
			class.rule = f.port(PeerIdentity, b.identity, b)
		}
	}
	if class.rule != 0 || f.SkipPods && isPod(b.identity) {
		return class.rule
	}
	for _, bits := range f.lengths.prefixes {
		if set, found := f.CIDRs[Prefix{f.table, masked(b.at.Addr, bits), bits}]; found && set != 0 {
			return f.port(PeerSet, set, b)
		} else if found {
			return 0
		}
	}
	return 0
}

// port finds the longest match for the port of b.
func (f *finder) port(kind PeerKind, peer uint32, b *backend) uint32 {
	at := Entry{Table: f.table, Peer: peer, Kind: kind, Proto: b.at.Proto, Port: b.at.Port}
	for _, bits := range f.lengths.entries {
		if rule := f.Entries[at.cut(bits)]; rule != 0 {
			return rule
		}
	}
	return 0
}

// masked returns the first bits of a.
func masked(a flow.Addr, bits uint8) flow.Addr {
	if i := int(bits / 8); i < len(a) {
		a[i] &= ^byte(0xff >> (bits % 8))
		clear(a[i+1:])
	}
	return a
}
