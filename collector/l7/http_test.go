package l7

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

func TestDescribeRequest(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for name, tc := range map[string]struct {
		give string
		want flow.L7
	}{
		"origin form": {
			"GET /cart?user=7&x HTTP/1.1\r\nHost: shop\r\nUser-Agent: curl/8\r\ntraceparent: " + trace + "\r\n\r\n",
			flow.L7{Operation: "GET", Resource: "/cart?user=-&-", Host: "shop", Version: "HTTP/1.1", UserAgent: "curl/8", TraceParent: trace},
		},
		"absolute form loses userinfo and wins over Host": {
			"GET http://me:pw@a.example/x HTTP/1.0\r\nHost: b\r\n\r\n",
			flow.L7{Operation: "GET", Resource: "/x", Host: "a.example", Version: "HTTP/1.0"},
		},
		"absolute form without path": {
			"GET http://a?k=v HTTP/1.1\r\n\r\n", flow.L7{Operation: "GET", Resource: "/?k=-", Host: "a", Version: "HTTP/1.1"},
		},
		"connect": {
			"CONNECT u:p@db:5432 HTTP/1.1\r\nHost: proxy\r\n\r\n",
			flow.L7{Operation: "CONNECT", Resource: "db:5432", Host: "db:5432", Version: "HTTP/1.1"},
		},
		"asterisk":               {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", flow.L7{Operation: "OPTIONS", Resource: "*", Host: "h", Version: "HTTP/1.1"}},
		"line cut in the target": {"GET /very/long", flow.L7{Operation: "GET", Resource: "/very/long"}},
		"header cut in its value is not used": {
			"GET / HTTP/1.1\r\nHost: shop.exam", flow.L7{Operation: "GET", Resource: "/", Version: "HTTP/1.1"},
		},
		"bad traceparent": {"GET / HTTP/1.1\r\ntraceparent: 00-xyz\r\n\r\n", flow.L7{Operation: "GET", Resource: "/", Version: "HTTP/1.1"}},
		"folded header is not used": {
			"GET / HTTP/1.1\r\nUser-Agent: a\r\n b\r\nHost: h\r\n\r\n",
			flow.L7{Operation: "GET", Resource: "/", Host: "h", Version: "HTTP/1.1"},
		},
		"control bytes": {
			"GET /a\x00\xff HTTP/1.1\r\nHost: h\xff\r\n\r\n",
			flow.L7{Operation: "GET", Resource: "/a%00%FF", Host: "h?", Version: "HTTP/1.1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := New(Config{})
			if !tr.http.parse([]byte(tc.give)) {
				t.Fatal("not parsed")
			}
			var got flow.L7
			tr.describeRequest(&got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAppendPath(t *testing.T) {
	for give, want := range map[string]string{
		"/":                              "/",
		"/a/b":                           "/a/b",
		"/s?q=secret":                    "/s?q=-",
		"/s?q=a=b&r=":                    "/s?q=-&r=-",
		"/s?token":                       "/s?-",
		"/s?":                            "/s?",
		"/s?a=1&&b=2":                    "/s?a=-&&b=-",
		"/s?a=1;b=2":                     "/s?a=-;b=-",
		"/s?a=1#frag":                    "/s?a=-",
		"/a;jsessionid=77/b;v=1?x=/;y":   "/a;jsessionid=-/b;v=-?x=-;-",
		"/" + strings.Repeat("a", 400):   "/" + strings.Repeat("a", 255),
		"/s?" + strings.Repeat("t", 400): "/s?-",
	} {
		if got := string(appendPath(nil, []byte(give), false)); got != want {
			t.Errorf("appendPath(%q) = %q, want %q", give, got, want)
		}
	}
	if got := string(appendPath(nil, []byte("/s;a=1?q=2&t#f"), true)); got != "/s;a=1?q=2&t" {
		t.Errorf("kept: %q", got)
	}
}

func TestParseRejects(t *testing.T) {
	for _, give := range []string{
		"", "GET", "GET ", "GET /", "GET / HTTP/2.0\r\n\r\n", "GET /x y HTTP/1.1\r\n\r\n", "G(T / HTTP/1.1\r\n\r\n",
		"GET foo HTTP/1.1\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 099 \r\n\r\n", "HTTP/1.1 20", "HTTP/2.0 200 OK\r\n\r\n",
		" / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n",
	} {
		var m httpMessage
		if got := m.parse([]byte(give)); got != (give == "GET /") {
			t.Errorf("parse(%q) = %v", give, got)
		}
	}
}

func TestBodyLen(t *testing.T) {
	for give, want := range map[string]int64{
		"GET / HTTP/1.1\r\n\r\n":                                              0,
		"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n":                       12,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n":               -1,
		"POST / HTTP/1.1\r\nContent-Length: 12\r\nContent-Length: 13\r\n\r\n": -1,
		"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n":     -1,
		"POST / HTTP/1.1\r\nContent-Length: 12\r\nContent-Len":                -1,
		"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\n":                         5,
		"HTTP/1.1 200 OK\r\n\r\n":                                             -1,
		"HTTP/1.1 204 No Content\r\n\r\n":                                     0,
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n":            0,
		"HTTP/1.1 100 Continue\r\n\r\n":                                       0,
	} {
		var m httpMessage
		if !m.parse([]byte(give)) {
			t.Errorf("%q: not parsed", give)
		} else if got := m.bodyLen(false); got != want {
			t.Errorf("bodyLen(%q) = %d, want %d", give, got, want)
		}
	}
}

// FuzzHTTPRequest compares with net/http wherever that accepts the head and takes its parts as they were sent.
func FuzzHTTPRequest(f *testing.F) {
	for _, s := range []string{
		"GET /a?b=c HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\n\r\n", "POST http://u:p@h/x HTTP/1.0\nContent-Length: 3\n\nabc",
		"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tr := New(Config{MaxStrings: 4})
		ours := tr.http.parse(b)
		var l7 flow.L7
		if ours && tr.http.status == 0 {
			tr.describeRequest(&l7)
			checkText(t, l7.Operation, l7.Resource, l7.Host, l7.Version, l7.UserAgent, l7.TraceParent)
			if len(l7.Resource) > maxPath || len(l7.Host) > maxHost || len(l7.UserAgent) > maxText {
				t.Errorf("too long: %+v", l7)
			}
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil || req.ProtoMajor != 1 || len(req.Method) > 32 {
			return
		}
		// Folded lines are joined by net/http; RFC 9112 lets us refuse them.
		if folded := bytes.Contains(b, []byte("\n ")) || bytes.Contains(b, []byte("\n\t")); folded {
			return
		}
		if !ours {
			if len(req.Proto) != 8 || !isTarget([]byte(req.Method), []byte(req.RequestURI)) {
				return
			}
			t.Fatalf("net/http accepts %q", b)
		}
		want := func(what, got, want string) {
			if printable(want) && len(want) < 200 && got != want {
				t.Errorf("%q: %s = %q, want %q", b, what, got, want)
			}
		}
		want("method", l7.Operation, req.Method)
		want("version", l7.Version, req.Proto)
		want("user agent", l7.UserAgent, req.UserAgent())
		if req.URL.User == nil && req.Method != "CONNECT" {
			want("host", l7.Host, req.Host)
		}
		if req.ContentLength >= 0 && len(req.TransferEncoding) == 0 && len(req.Header["Content-Length"]) < 2 && !tr.http.openEnded {
			if got := tr.http.bodyLen(false); got != req.ContentLength {
				t.Errorf("%q: body %d, want %d", b, got, req.ContentLength)
			}
		}
	})
}

func FuzzHTTPResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.0 404 Not Found\n\n", "HTTP/1.1 204\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m httpMessage
		ours := m.parse(b)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil || resp.ProtoMajor != 1 || resp.StatusCode < 100 || len(resp.Proto) != 8 || !bytes.HasPrefix(b, []byte("HTTP/1.")) {
			return
		}
		if len(resp.Status) < 3 || resp.Status[0] == '+' || b[8] != ' ' || b[9] == ' ' {
			return // laxer than RFC 9112 section 4
		}
		if !ours || int(m.status) != resp.StatusCode {
			t.Fatalf("%q: %v %d, want %d", b, ours, m.status, resp.StatusCode)
		}
	})
}

func checkText(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !printable(s) {
			t.Errorf("not printable: %q", s)
		}
	}
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
