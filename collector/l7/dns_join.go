package l7

import (
	"net/netip"
	"strconv"

	"github.com/parallax-flow/parallax/flow"
)

// portMDNS is that of Multicast DNS (RFC 6762). Its answers go to a group, from whom the question was not sent to, and
// silence is an answer: there is no exchange to join.
const portMDNS = 5353

// dnsSegment takes one DNS message over UDP.
func (t *Tracker) dnsSegment(s *Segment, out *flow.Batch) {
	if s.SrcPort == portMDNS || s.DstPort == portMDNS {
		t.stats.Skipped++
		return
	}
	m := &t.dns
	if !m.parse(s.Payload) {
		t.stats.Malformed++
		return
	}
	key := queryKey{keyOf(s), m.id, m.qtype}
	p := t.queries[key]
	name := t.strings.get(m.name)
	if !m.response {
		t.dnsQuery(s, key, p, name, out)
		return
	}
	t.stats.Responses++
	if p == nil || p.l7.Resource != name || p.swapped == s.Reply {
		t.stats.Orphans++
		return
	}
	p.replyBytes = uint64(max(0, s.PayloadLen))
	p.l7.Status = uint16(m.rcode)
	p.l7.Error = m.rcode != 0
	p.l7.MinTTL = m.minTTL
	p.l7.Answers = t.answerText()
	t.emit(p, s.Time, s, out)
	t.dropQuery(p)
}

// dnsQuery keeps a query; one that is already in flight keeps its first time.
func (t *Tracker) dnsQuery(s *Segment, key queryKey, p *pending, name string, out *flow.Batch) {
	if p != nil {
		if p.l7.Resource == name {
			t.stats.Retransmits++
			return
		}
		// The resolver uses the id for another question: it no longer waits for the first.
		t.emit(p, s.Time, nil, out)
		t.dropQuery(p)
	}
	p = t.admit(s)
	p.swapped = s.Reply
	p.id, p.qtype = key.id, key.qtype
	p.l7.Operation = t.typeName(key.qtype)
	p.l7.Resource = name
	t.queries[key] = p
	t.lookups.pushBack(&p.byTime)
}

// answerText returns the answers of t.dns as text.
func (t *Tracker) answerText() []string {
	m := &t.dns
	if len(m.answers) == 0 {
		return nil
	}
	texts := t.answers.take(len(m.answers))
	for i, a := range m.answers {
		switch a.qtype {
		case dnsTypeA:
			t.scratch = netip.AddrFrom4([4]byte(a.data)).AppendTo(t.scratch[:0])
			texts[i] = t.strings.get(t.scratch)
		case dnsTypeAAAA:
			t.scratch = netip.AddrFrom16([16]byte(a.data)).AppendTo(t.scratch[:0])
			texts[i] = t.strings.get(t.scratch)
		default:
			texts[i] = t.strings.get(a.data)
		}
	}
	return texts
}

// typeName returns the mnemonic of a query type, "TYPE65280" for one without (RFC 3597 section 5).
func (t *Tracker) typeName(qtype uint16) string {
	if s := dnsTypeNames[qtype]; s != "" {
		return s
	}
	t.scratch = strconv.AppendUint(append(t.scratch[:0], "TYPE"...), uint64(qtype), 10)
	return t.strings.get(t.scratch)
}

// dnsTypeNames is an extract of the IANA registry "Domain Name System (DNS) Parameters", resource record types.
var dnsTypeNames = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 17: "RP", 28: "AAAA",
	29: "LOC", 33: "SRV", 35: "NAPTR", 37: "CERT", 39: "DNAME", 43: "DS", 44: "SSHFP", 46: "RRSIG", 47: "NSEC",
	48: "DNSKEY", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 59: "CDS", 60: "CDNSKEY", 61: "OPENPGPKEY", 64: "SVCB",
	65: "HTTPS", 99: "SPF", 251: "IXFR", 252: "AXFR", 255: "ANY", 256: "URI", 257: "CAA",
}
