package l7

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

// tap shows a Tracker what passes a connection, as the datapath would: the first bytes of each packet that looks like
// the start of a message.
type tap struct {
	net.Conn
	mu    *sync.Mutex
	tr    *Tracker
	out   *flow.Batch
	clock *int64
	seg   Segment
	seq   [2]uint32
}

func (c *tap) see(b []byte, reply bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.clock += 1e6
	i := side(reply)
	if method, _, _ := bytes.Cut(b, []byte{' '}); bytes.HasPrefix(b, []byte("HTTP/1.")) || strings.Contains("GET POST PUT HEAD", string(method)) {
		s := c.seg
		s.Time, s.Reply, s.Seq, s.PayloadLen, s.Payload = *c.clock, reply, c.seq[i], len(b), b[:min(len(b), 1024)]
		c.tr.Segment(&s, c.out)
	}
	c.seq[i] += uint32(len(b))
}

func (c *tap) Write(b []byte) (int, error) {
	c.see(b, false)
	return c.Conn.Write(b)
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.see(b[:n], true)
	}
	return n, err
}

// TestAgainstNetHTTP runs a real client and server and wants one exchange for each request, in order.
func TestAgainstNetHTTP(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/chunked":
			for range 3 {
				fmt.Fprint(w, strings.Repeat("x", 3000))
				w.(http.Flusher).Flush()
			}
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/fail":
			http.Error(w, "no", http.StatusBadGateway)
		default:
			fmt.Fprint(w, "ok")
		}
	}))
	defer srv.Close()
	var (
		mu    sync.Mutex
		out   flow.Batch
		clock int64
		port  uint16
	)
	tr := New(Config{})
	dial := func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		port++
		return &tap{Conn: c, mu: &mu, tr: tr, out: &out, clock: &clock,
			seg: Segment{SrcAddr: client, DstAddr: server, SrcPort: port, DstPort: 80, Proto: flow.ProtoTCP, Protocol: flow.L7HTTP}}, err
	}
	client := &http.Client{Transport: &http.Transport{Dial: dial, ExpectContinueTimeout: 1 << 40}}
	defer client.CloseIdleConnections()

	var want []string
	ask := func(method, path string, body io.Reader, header ...string) {
		req, err := http.NewRequest(method, srv.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret")
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		want = append(want, fmt.Sprintf("%s %s %d", method, strings.Split(path, "?")[0], resp.StatusCode))
	}
	for range 3 {
		ask("GET", "/a?token=secret", nil)
		ask("HEAD", "/a", nil)
		ask("GET", "/chunked", nil)
		ask("POST", "/big", strings.NewReader(strings.Repeat("y", 100_000)))
		ask("PUT", "/wait", strings.NewReader("z"), "Expect", "100-continue")
		ask("GET", "/none", nil)
		ask("GET", "/fail", nil)
		ask("GET", "/last", nil, "Connection", "close")
	}
	mu.Lock()
	defer mu.Unlock()
	var got []string
	for _, f := range out.Flows {
		got = append(got, fmt.Sprintf("%s %s %d", f.L7.Operation, strings.Split(f.L7.Resource, "?")[0], f.L7.Status))
		if strings.Contains(fmt.Sprintf("%+v", *f.L7), "secret") || f.L7.Latency <= 0 || f.L7.Host != srv.Listener.Addr().String() {
			t.Errorf("%+v", *f.L7)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := tr.Stats(); s.Interim != 3 || s.Orphans != 0 || tr.Pending() != 0 {
		t.Errorf("%+v, %d pending", s, tr.Pending())
	}
}
