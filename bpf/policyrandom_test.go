package bpf

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// model decides as policy.Compiled.Decide does, by looking at everything.
type model struct {
	record   PolicyRecord
	peers    map[[16]byte]uint32
	blocks   map[PolicyBlock]uint32
	rules    map[PolicyRule]uint32
	services map[PolicyService]uint32
}

func (m *model) decide(dir int, local, peer [16]byte, proto uint8, port uint16) string {
	id := m.peers[peer]
	table := m.record.Table[dir]
	switch {
	case local == peer:
		return "allowed by 1"
	case table == 0:
		return "allowed by 2"
	case dir == 0 && id == 1:
		return "allowed by 3"
	}
	if proto == 1 || proto == 58 {
		port = 0
	}
	rule := m.allowing(dir, table, id, peer, proto, port)
	switch {
	case rule != 0:
		return fmt.Sprintf("allowed by %d", rule)
	case m.record.Flags&PolicyAudit != 0:
		return fmt.Sprintf("audit by %d", m.record.Deny[dir])
	}
	return fmt.Sprintf("denied by %d", m.record.Deny[dir])
}

func (m *model) allowing(dir int, table uint64, id uint32, peer [16]byte, proto uint8, port uint16) uint32 {
	if number, is := m.services[serviceKey(peer, proto, port)]; is && dir == 1 {
		return m.rules[ruleKey(table, service, number, 0, 0, 0)]
	}
	rule := m.rule(table, anyPeer, 0, proto, port)
	if rule == 0 && id >= 256 {
		rule = m.rule(table, identity, id, proto, port)
	}
	if rule == 0 && (id < 256 || m.record.Flags&PolicySkipPods == 0) {
		if set := m.set(table, peer); set != 0 {
			rule = m.rule(table, blockSet, set, proto, port)
		}
	}
	return rule
}

func (m *model) rule(table uint64, kind uint8, peer uint32, proto uint8, port uint16) (rule uint32) {
	longest := -1
	for k, r := range m.rules {
		bits := int(k.Prefixlen) - 104
		if k.Table != table || k.Kind != kind || k.Peer != peer || bits <= longest {
			continue
		}
		if bits == 0 || k.Proto == proto && (k.Port<<8|k.Port>>8)>>(24-bits) == port>>(24-bits) {
			longest, rule = bits, r
		}
	}
	return rule
}

func (m *model) set(table uint64, addr [16]byte) (set uint32) {
	longest := -1
	for k, s := range m.blocks {
		bits := int(k.Prefixlen) - 96
		if k.Table == table && bits > longest && samePrefix(k.Addr, addr, bits) {
			longest, set = bits, s
		}
	}
	return set
}

func samePrefix(a, b [16]byte, bits int) bool {
	for i := range bits {
		if (a[i/8]^b[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

// universe draws from few values, so that all kinds of matches are common.
type universe struct{ *rand.Rand }

func (u universe) addr(v6 bool) net.IP {
	n := byte(u.IntN(24))
	if v6 {
		ip := make(net.IP, 16)
		copy(ip, []byte{0xfd, 0, 0, 0, 0, n % 2})
		ip[15] = n
		return ip
	}
	return net.IP{10, 0, n % 2, n}
}

func (u universe) port() uint16   { return uint16(80 + u.IntN(20)) }
func (u universe) proto() uint8   { return []uint8{6, 17, 132, 1, 58, 47}[u.IntN(6)] }
func (u universe) table() uint64  { return []uint64{0, tableIn, tableOut, tableIn, tableOut}[u.IntN(5)] }
func (u universe) v6() bool       { return u.IntN(2) == 0 }
func (u universe) number() uint32 { return 256 + u.Uint32N(1<<20) }
func (u universe) identity() uint32 {
	return []uint32{1, 2, 255, 256, 257, 258, 259}[u.IntN(7)]
}

// fill draws a policy and writes it into the kernel.
func (u universe) fill(p *policed) *model {
	m := &model{
		record: PolicyRecord{
			Table: [2]uint64{u.table(), u.table()}, Deny: [2]uint32{u.number(), u.number()}, Identity: 256,
			Flags: uint32(max(u.IntN(6)-2, 0)),
		},
		peers: make(map[[16]byte]uint32), blocks: make(map[PolicyBlock]uint32), rules: make(map[PolicyRule]uint32),
		services: make(map[PolicyService]uint32),
	}
	for range u.IntN(30) {
		m.peers[addr16(u.addr(u.v6()))] = u.identity()
	}
	for range u.IntN(12) {
		bits := uint32(96 + u.IntN(33))
		v6 := u.v6()
		if v6 {
			bits = uint32(u.IntN(129))
		}
		k := blockKey([]uint64{tableIn, tableOut}[u.IntN(2)], addr16(u.addr(v6)), bits)
		for i := int(bits); i < 128; i++ {
			k.Addr[i/8] &^= 0x80 >> (i % 8)
		}
		m.blocks[k] = u.Uint32N(4)
	}
	for range u.IntN(20) {
		kind, peer := uint8(u.IntN(3)), uint32(0)
		switch kind {
		case identity:
			peer = 256 + u.Uint32N(4)
		case blockSet:
			peer = 1 + u.Uint32N(3)
		}
		bits := []uint32{0, 8, 21, 22, 23, 24}[u.IntN(6)]
		proto, port := u.proto(), u.port()
		if bits == 0 {
			proto, port = 0, 0
		} else {
			port &= 0xffff << (24 - bits)
		}
		m.rules[ruleKey([]uint64{tableIn, tableOut}[u.IntN(2)], kind, peer, bits, proto, port)] = u.number()
	}
	for range u.IntN(600) {
		m.services[serviceKey(addr16(u.addr(u.v6())), []uint8{6, 17, 132}[u.IntN(3)], u.port())] = 1 + u.Uint32N(6)
	}
	for number := range uint32(6) {
		m.rules[ruleKey([]uint64{tableIn, tableOut}[u.IntN(2)], service, 1+number, 0, 0, 0)] = u.number() | 1<<30
	}
	for k, v := range m.services {
		p.put(p.PolicyServices, k, v)
	}
	for k, v := range m.peers {
		p.put(p.PolicyPeers, k, v)
	}
	for k, v := range m.blocks {
		p.put(p.PolicyBlocks, k, v)
	}
	for k, v := range m.rules {
		p.put(p.PolicyRules, k, v)
	}
	p.record = m.record
	p.own()
	return m
}

// packet draws the first packet of a connection, and says what it is.
func (u universe) packet(t testing.TB) (b []byte, src, dst net.IP, proto uint8, port uint16) {
	v6 := u.v6()
	src, dst, proto = u.addr(v6), u.addr(v6), u.proto()
	sport, dport := u.port(), u.port()
	switch proto {
	case 6:
		return tcp(t, src, dst, sport, dport, syn, u.Uint32()), src, dst, proto, dport
	case 17:
		return datagram(t, src, dst, sport, dport, "x"), src, dst, proto, dport
	case 132:
		return sctp(t, src, dst, sport, dport, 1), src, dst, proto, dport
	case 1, 58: // of the other family's number it is any protocol
		typ := byte(8)
		if proto == 58 {
			typ = 128
		}
		return other(t, src, dst, proto, string(binary.BigEndian.AppendUint16([]byte{typ, 0, 0, 0}, sport))+"\x00\x00"), src, dst, proto, 0
	}
	return other(t, src, dst, proto, "12345678"), src, dst, proto, 0
}

// Policies and packets drawn at random: the kernel decides as the model does.
func TestPolicyRandom(t *testing.T) {
	p := newPoliced(t, silent)
	u := universe{rand.New(rand.NewPCG(3, 4))}
	seen := make(map[string]int)
	for range 120 {
		p.reset(t)
		empty[[16]byte, uint32](p, p.PolicyPeers) // those that every test has
		m := u.fill(p)
		for range 25 {
			b, src, dst, proto, port := u.packet(t)
			dir, local, peer, prog := 0, addr16(dst), addr16(src), p.Egress
			if u.IntN(2) == 0 {
				dir, local, peer, prog = 1, addr16(src), addr16(dst), p.Ingress
			}
			want := m.decide(dir, local, peer, proto, port)
			action := p.act(prog, b)
			p.verdict(want).clear()
			if (action == "drop") != (want[:3] == "den") {
				t.Fatalf("%s on %x, want %s", action, b, want)
			}
			if t.Failed() {
				t.Fatalf("direction %d, %v > %v protocol %d port %d; %+v", dir, src, dst, proto, port, m)
			}
			word, rule := "", 0
			fmt.Sscanf(want, "%s by %d", &word, &rule)
			if seen[fmt.Sprint(word, min(rule, 4))]++; rule >= 1<<30 {
				seen["service"]++
			}
		}
	}
	t.Logf("decisions: %v", seen)
	for _, word := range []string{"allowed1", "allowed2", "allowed3", "allowed4", "denied4", "audit4", "service"} {
		if seen[word] < 20 {
			t.Errorf("only %d of %s", seen[word], word)
		}
	}
}
