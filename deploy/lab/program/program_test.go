package program

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server serves handler as every HTTP pod does, on a port of the kernel's choice, and returns its URL.
func server(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- new(pod).serveOn(ctx, ln, handler) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

func TestE2EPaths(t *testing.T) {
	url := server(t, http.NotFound)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, test := range []struct {
		path   string
		status int
		body   string
		min    time.Duration
	}{
		{"/e2e/token/200", 200, "token\n", 0},
		{"/e2e/token/503", 503, "token\n", 0},
		{"/e2e/token/204", 204, "", 0},
		{"/e2e/token/302", 302, "token\n", 0},
		{"/e2e/token/200/40", 200, "token\n", 40 * time.Millisecond},
		{"/e2e/token/100", 400, "status must be 200 to 599\n", 0},
		{"/e2e/token/600", 400, "status must be 200 to 599\n", 0},
		{"/e2e/token/ok", 400, "status must be 200 to 599\n", 0},
		{"/e2e/token/200/-1", 400, "milliseconds must be 0 to 10000\n", 0},
		{"/e2e/token/200/soon", 400, "milliseconds must be 0 to 10000\n", 0},
		{"/healthz", 200, "ok\n", 0},
		{"/nothing", 404, "404 page not found\n", 0},
	} {
		t.Run(test.path, func(t *testing.T) {
			began := time.Now()
			resp, err := client.Get(url + test.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status || string(body) != test.body || time.Since(began) < test.min {
				t.Errorf("status %d, body %q after %v", resp.StatusCode, body, time.Since(began))
			}
		})
	}
}

var traceparentForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`)

// TestTraceIsPassedOn checks that a call made for a request stays in that request's trace with a span of its own.
func TestTraceIsPassedOn(t *testing.T) {
	const header = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	var got string
	url := server(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Traceparent") })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, test := range []struct {
		name  string
		ctx   context.Context
		trace string // "": none, "new": one of its own
	}{
		{"passed on", withTrace(t.Context(), header), "0123456789abcdef0123456789abcdef"},
		{"kept by the gateway", newTrace(withTrace(t.Context(), header)), "0123456789abcdef0123456789abcdef"},
		{"begun by the gateway", newTrace(t.Context()), "new"},
		{"none", withTrace(t.Context(), ""), ""},
		{"malformed", withTrace(t.Context(), "00-xyz"), ""},
		{"another version", withTrace(t.Context(), "01"+header[2:]), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, _, err := new(pod).call(test.ctx, client, http.MethodGet, url); err != nil {
				t.Fatal(err)
			}
			switch {
			case test.trace == "" && got != "":
				t.Errorf("got %q, want none", got)
			case test.trace == "":
			case !traceparentForm.MatchString(got):
				t.Errorf("malformed %q", got)
			case test.trace != "new" && !strings.HasPrefix(got, "00-"+test.trace+"-"):
				t.Errorf("got %q, want trace %s", got, test.trace)
			case strings.Contains(got, "-0123456789abcdef-"):
				t.Errorf("%q has its parent's span", got)
			}
		})
	}
}

func TestFail(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
	}{
		{syscall.ECONNREFUSED, 502},
		{context.DeadlineExceeded, 504},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, 504},
		{errors.Join(&net.DNSError{IsNotFound: true}), 502},
	} {
		w := httptest.NewRecorder()
		fail(w, test.err)
		if w.Code != test.status {
			t.Errorf("%v: %d, want %d", test.err, w.Code, test.status)
		}
	}
}

func TestZone(t *testing.T) {
	a1, a2, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::1")
	z := &zone{names: map[string][]netip.Addr{"two.test.": {a1, b, a2}, "one.test.": {a1}}}
	ask := func(name string, kind uint16) (string, []string) {
		reply := new(dns.Msg)
		z.answer(reply, dns.Question{Name: name, Qtype: kind, Qclass: dns.ClassINET})
		var got []string
		for _, rr := range reply.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				got = append(got, rr.A.String())
			case *dns.AAAA:
				got = append(got, rr.AAAA.String())
			}
		}
		if (len(reply.Answer) == 0) != (len(reply.Ns) == 1) {
			t.Errorf("%s: %d answers, %d authorities", name, len(reply.Answer), len(reply.Ns))
		}
		if _, err := reply.Pack(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return dns.RcodeToString[reply.Rcode], got
	}
	for _, test := range []struct {
		name  string
		kind  uint16
		rcode string
		want  []string
	}{
		{"one.test.", dns.TypeA, "NOERROR", []string{"10.0.0.1"}},
		{"ONE.Test.", dns.TypeA, "NOERROR", []string{"10.0.0.1"}},
		{"one.test.", dns.TypeAAAA, "NOERROR", nil},
		{"two.test.", dns.TypeAAAA, "NOERROR", []string{"fd00::1"}},
		{"two.test.", dns.TypeMX, "NOERROR", nil},
		{"no.test.", dns.TypeA, "NXDOMAIN", nil},
	} {
		rcode, got := ask(test.name, test.kind)
		if rcode != test.rcode || !cmp.Equal(got, test.want) {
			t.Errorf("%s %s: %s %v, want %s %v", test.name, dns.TypeToString[test.kind], rcode, got, test.rcode, test.want)
		}
	}
	_, first := ask("two.test.", dns.TypeA)
	_, second := ask("two.test.", dns.TypeA)
	if len(first) != 2 || first[0] == second[0] {
		t.Errorf("replicas are not given in turn: %v, then %v", first, second)
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		role string
		args []string
		want string
	}{
		{"nonsense", nil, "unknown role"},
		{"cart", []string{"-wrong"}, "flag provided but not defined"},
		{"dns", []string{"-dir", "/nonexistent"}, "no such file"},
		{"loadgen", []string{"-rate", "0"}, "rate must be above 0"},
		{"legacy", []string{"-addr", "192.0.2.77", "-bind"}, "cannot assign requested address"},
	} {
		t.Run(test.role, func(t *testing.T) {
			err := Run(t.Context(), test.role, test.args)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, test.want)
			}
		})
	}
}

// TestScenarioReachesEveryPath holds scenario and front end together.
func TestScenarioReachesEveryPath(t *testing.T) {
	played := map[string]int{}
	for _, s := range scenario() {
		played[s.method+" "+s.path]++
	}
	for _, want := range []string{"GET /", "GET /products/7", "POST /cart", "POST /checkout", "GET /slow", "GET /secure", "GET /error",
		"GET /missing", "GET /legacy", "GET /history", "GET /archive", "GET /partner", "GET /backup"} {
		if played[want] == 0 {
			t.Errorf("%s is never asked for", want)
		}
		delete(played, want)
	}
	if len(played) > 0 {
		t.Errorf("unknown requests: %v", played)
	}
}
