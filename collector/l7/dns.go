package l7

import "encoding/binary"

const (
	dnsHeaderLen = 12
	dnsMaxName   = 255 // octets of a name on the wire, RFC 1035 section 2.3.4
	maxAnswers   = 16
	maxRecords   = 128 // answer records looked at, for the TTL
)

// Types and classes of RFC 1035 section 3.2 and RFC 3596 that the parser looks into.
const (
	dnsTypeA     = 1
	dnsTypeCNAME = 5
	dnsTypeAAAA  = 28
)

// dnsMessage is what we keep of a DNS message (RFC 1035 section 4.1). Names are lower-case text without the final dot,
// escaped as in a zone file (section 5.1); the root is ".".
type dnsMessage struct {
	id, qtype uint16
	response  bool
	rcode     uint8 // the header's four bits; the upper bits of EDNS (RFC 6891) are not joined in
	name      []byte
	answers   []dnsAnswer // A, AAAA and CNAME, at most maxAnswers, in the message's order
	minTTL    uint32      // of all answer records, seconds; 0 if there are none

	buf []byte // holds the names; reused
}

// dnsAnswer is one record of the answer section.
type dnsAnswer struct {
	qtype uint16
	data  []byte // A, AAAA: part of the parsed bytes; CNAME: text
}

// parse reads b, of which the end may be missing behind the question: what is not there is left out. It reports
// whether b is a standard query, or a response to one, with a question.
func (m *dnsMessage) parse(b []byte) bool {
	*m = dnsMessage{buf: m.buf[:0], answers: m.answers[:0]}
	if len(b) < dnsHeaderLen {
		return false
	}
	flags := binary.BigEndian.Uint16(b[2:])
	questions, answers := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	const opcode = 0x7800
	if flags&opcode != 0 || questions == 0 {
		return false
	}
	m.id = binary.BigEndian.Uint16(b)
	m.response = flags&0x8000 != 0
	m.rcode = uint8(flags & 0xf)

	off := dnsHeaderLen
	for i := range questions {
		name, next := m.readName(b, off)
		if next < 0 || next+4 > len(b) {
			return i > 0
		}
		if i == 0 {
			m.name, m.qtype = name, binary.BigEndian.Uint16(b[next:])
		}
		off = next + 4
	}
	if m.response {
		m.readAnswers(b, off, min(int(answers), maxRecords))
	}
	return true
}

// readAnswers takes n records at off, as far as they are there (RFC 1035 section 4.1.3).
func (m *dnsMessage) readAnswers(b []byte, off, n int) {
	for i := range n {
		next := skipName(b, off)
		if next < 0 || next+10 > len(b) {
			return
		}
		rtype, ttl := binary.BigEndian.Uint16(b[next:]), binary.BigEndian.Uint32(b[next+4:])
		data := next + 10
		off = data + int(binary.BigEndian.Uint16(b[next+8:]))
		if off > len(b) {
			return
		}
		if int32(ttl) < 0 {
			ttl = 0 // RFC 2181 section 8
		}
		if i == 0 || ttl < m.minTTL {
			m.minTTL = ttl
		}
		if len(m.answers) == maxAnswers {
			continue
		}
		switch {
		case rtype == dnsTypeA && off-data == 4, rtype == dnsTypeAAAA && off-data == 16:
			m.answers = append(m.answers, dnsAnswer{rtype, b[data:off]})
		case rtype == dnsTypeCNAME:
			if name, end := m.readName(b, data); end == off {
				m.answers = append(m.answers, dnsAnswer{rtype, name})
			}
		}
	}
}

// skipName returns the offset behind the name at off, -1 if it is cut or malformed. It does not follow pointers.
func skipName(b []byte, off int) (next int) {
	for off < len(b) {
		switch n := int(b[off]); {
		case n == 0:
			return off + 1
		case n&0xc0 == 0xc0:
			if off+2 > len(b) {
				return -1
			}
			return off + 2
		case n&0xc0 != 0:
			return -1
		default:
			off += 1 + n
		}
	}
	return -1
}

// readName returns the text of the name at off and the offset behind it, -1 if it is cut or malformed. A pointer must
// go backwards (RFC 1035 section 4.1.4: "a prior occurrence"), so that every name ends.
func (m *dnsMessage) readName(b []byte, off int) (name []byte, next int) {
	start, wire, limit := len(m.buf), 1, off
	next = -1
	for {
		if off >= len(b) {
			return nil, -1
		}
		n := int(b[off])
		switch {
		case n == 0:
			if next < 0 {
				next = off + 1
			}
			if len(m.buf) == start {
				m.buf = append(m.buf, '.')
			}
			return m.buf[start:len(m.buf):len(m.buf)], next
		case n&0xc0 == 0xc0:
			if off+2 > len(b) {
				return nil, -1
			}
			to := int(binary.BigEndian.Uint16(b[off:]) & 0x3fff)
			if next < 0 {
				next = off + 2
			}
			if to >= limit {
				return nil, -1
			}
			off, limit = to, to
		case n&0xc0 != 0 || off+1+n > len(b) || wire+1+n > dnsMaxName:
			return nil, -1
		default:
			if len(m.buf) > start {
				m.buf = append(m.buf, '.')
			}
			m.buf = appendLabel(m.buf, b[off+1:off+1+n])
			wire += 1 + n
			off += 1 + n
		}
	}
}

// appendLabel appends a label as text: lower case, special characters escaped (RFC 1035 section 5.1).
func appendLabel(dst, label []byte) []byte {
	for _, c := range label {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
			dst = append(dst, c)
		case c >= 'A' && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		case c < ' ' || c > '~':
			dst = append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		case c == '.' || c == '\\' || c == ' ' || c == '"' || c == '\'' || c == '(' || c == ')' || c == ';' || c == '@':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
