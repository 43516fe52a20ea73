package l7

import (
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestDNSTypeNames(t *testing.T) {
	for qtype, got := range dnsTypeNames {
		if want := dns.TypeToString[qtype]; got != want {
			t.Errorf("type %d is %q, want %q", qtype, got, want)
		}
	}
}

// reply builds a response of the oracle, compressed.
func reply(t testing.TB, id uint16, name string, qtype uint16, rcode int, rrs ...string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.Id, m.Response, m.Rcode, m.Compress = id, true, rcode, true
	for _, s := range rrs {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func query(t testing.TB, id uint16, name string, qtype uint16) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.Id = id
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDNSParse(t *testing.T) {
	b := reply(t, 7, "WWW.Example.com", dns.TypeA, dns.RcodeSuccess,
		"www.example.com. 300 IN CNAME cdn.example.net.", "cdn.example.net. 60 IN A 192.0.2.1",
		"cdn.example.net. 90 IN AAAA 2001:db8::1", "cdn.example.net. 20 IN TXT x")
	var m dnsMessage
	if !m.parse(b) {
		t.Fatal("not parsed")
	}
	got := []any{m.id, m.qtype, m.response, m.rcode, string(m.name), m.minTTL, len(m.answers), string(m.answers[0].data), m.answers[1].data}
	want := []any{uint16(7), uint16(1), true, uint8(0), "www.example.com", uint32(20), 3, "cdn.example.net", []byte{192, 0, 2, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for n := range b {
		m.parse(b[:n]) // must not panic
	}
	if !m.parse(b[:60]) || string(m.name) != "www.example.com" {
		t.Error("a response cut behind the question must keep the question")
	}
}

func TestDNSRejects(t *testing.T) {
	q := query(t, 1, "a.b", dns.TypeA)
	with := func(i int, v byte) []byte {
		c := append([]byte(nil), q...)
		c[i] = v
		return c
	}
	for name, b := range map[string][]byte{
		"empty": nil, "header only": q[:12], "cut question": q[:len(q)-1], "opcode": with(2, 0x28), "no question": with(5, 0),
		"pointer to itself": with(12, 0xc0|0), "label type": with(12, 0x40),
	} {
		if name == "pointer to itself" {
			b[13] = 12
		}
		var m dnsMessage
		if m.parse(b) {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDNSAnswerBound(t *testing.T) {
	var rrs []string
	for i := range 40 {
		rrs = append(rrs, "x. 9 IN A "+net.IPv4(10, 0, 0, byte(i)).String())
	}
	var m dnsMessage
	if !m.parse(reply(t, 1, "x", dns.TypeA, 0, rrs...)) || len(m.answers) != maxAnswers {
		t.Errorf("%d answers, want %d", len(m.answers), maxAnswers)
	}
}

func FuzzDNS(f *testing.F) {
	f.Add(query(f, 9, "a.example", dns.TypeAAAA))
	f.Add(reply(f, 9, "a\\.b.example", dns.TypeA, dns.RcodeNameError))
	f.Add(reply(f, 9, "a.example", dns.TypeA, 0, "a.example. 5 IN CNAME b.example.", "b.example. 6 IN A 1.2.3.4", "b.example. 6 IN AAAA ::1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m dnsMessage
		ours := m.parse(b)
		if ours && (len(m.answers) > maxAnswers || !printable(string(m.name)) || len(m.name) == 0) {
			t.Errorf("%q: %+v", b, m)
		}
		var want dns.Msg
		if err := want.Unpack(b); err != nil || want.Opcode != dns.OpcodeQuery || len(want.Question) == 0 {
			return
		}
		if !ours {
			_, end, err := dns.UnpackDomainName(b, dnsHeaderLen)
			if forwardPointer(b) || err != nil || end+4 > len(b) {
				return // miekg/dns takes a question without a class
			}
			t.Fatalf("miekg/dns accepts %q as %v", b, &want)
		}
		q := want.Question[0]
		if m.id != want.Id || m.response != want.Response || int(m.rcode) != want.Rcode&0xf || m.qtype != q.Qtype {
			t.Errorf("%q: %+v, want %v", b, m, &want)
		}
		if got, want := string(m.name), text(q.Name); got != want {
			t.Errorf("%q: name %q, want %q", b, got, want)
		}
		if !m.response || len(want.Answer) > maxAnswers || forwardPointer(b) {
			return
		}
		var answers []string
		for _, rr := range want.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				answers = append(answers, rr.A.String())
			case *dns.AAAA:
				answers = append(answers, rr.AAAA.String())
			case *dns.CNAME:
				answers = append(answers, text(rr.Target))
			}
		}
		if len(m.answers) != len(answers) && !emptyData(&want) {
			t.Errorf("%q: %d answers, want %q", b, len(m.answers), answers)
		}
	})
}

// forwardPointer reports whether b could hold a pointer that does not go backwards, which miekg/dns follows.
func forwardPointer(b []byte) bool {
	for i := 0; i+1 < len(b); i++ {
		if b[i]&0xc0 == 0xc0 && int(b[i]&0x3f)<<8|int(b[i+1]) >= i {
			return true
		}
	}
	return false
}

// emptyData reports whether an answer has no data, as in a dynamic update, which miekg/dns takes for its type.
func emptyData(m *dns.Msg) bool {
	for _, rr := range m.Answer {
		if rr.Header().Rdlength == 0 {
			return true
		}
	}
	return false
}

func text(fqdn string) string {
	if fqdn == "." {
		return fqdn
	}
	// ASCII only: escapes stand for other bytes, and strings.ToLower would not change them.
	return strings.ToLower(strings.TrimSuffix(fqdn, "."))
}
