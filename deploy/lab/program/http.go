package program

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	httpPort = 8080
	maxBody  = 64 << 10
)

// serve serves handler by HTTP/1.1 until ctx ends. It adds /healthz, /e2e/ and the trace context.
func (p *pod) serve(ctx context.Context, port uint16, handler http.Handler) error {
	ln, err := net.Listen("tcp", p.listenAddr(port))
	if err != nil {
		return err
	}
	return p.serveOn(ctx, ln, handler)
}

func (p *pod) serveOn(ctx context.Context, ln net.Listener, handler http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("/e2e/{token}/{status}", answerE2E)
	mux.HandleFunc("/e2e/{token}/{status}/{ms}", answerE2E)
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       30 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.served.Add(1)
			mux.ServeHTTP(w, r.WithContext(withTrace(r.Context(), r.Header.Get("Traceparent"))))
		}),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// answerE2E answers with the status, and after the time, that the path asks for.
func answerE2E(w http.ResponseWriter, r *http.Request) {
	status, err := strconv.Atoi(r.PathValue("status"))
	if err != nil || status < 200 || status > 599 {
		http.Error(w, "status must be 200 to 599", http.StatusBadRequest)
		return
	}
	if text := r.PathValue("ms"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms < 0 || ms > 10_000 {
			http.Error(w, "milliseconds must be 0 to 10000", http.StatusBadRequest)
			return
		}
		if !sleep(r.Context(), time.Duration(ms)*time.Millisecond) {
			return
		}
	}
	w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		fmt.Fprintln(w, r.PathValue("token"))
	}
}

// sleep waits for d and reports whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

type traceKey struct{}

// withTrace keeps the trace of a traceparent header (W3C Trace Context, 3.2) in ctx. A malformed one starts no trace.
func withTrace(ctx context.Context, header string) context.Context {
	part := strings.Split(header, "-")
	if len(part) != 4 || part[0] != "00" || len(part[1]) != 32 || len(part[2]) != 16 {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, part[1])
}

// newTrace starts a trace in ctx unless it has one.
func newTrace(ctx context.Context) context.Context {
	if ctx.Value(traceKey{}) != nil {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, randomHex(16))
}

// traceparent returns the header of a call made under ctx: its trace, and a span of its own. Empty: no trace.
func traceparent(ctx context.Context) string {
	trace, ok := ctx.Value(traceKey{}).(string)
	if !ok {
		return ""
	}
	return "00-" + trace + "-" + randomHex(8) + "-01"
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// call makes one request under ctx's trace and returns the answer's status and body.
func (p *pod) call(ctx context.Context, client *http.Client, method, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("User-Agent", p.name)
	if header := traceparent(ctx); header != "" {
		req.Header.Set("Traceparent", header)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return resp.StatusCode, string(body), err
}

// relay makes one request and passes its answer on; a call that fails is answered as a proxy does.
func (p *pod) relay(w http.ResponseWriter, r *http.Request, client *http.Client, method, url string) {
	status, body, err := p.call(r.Context(), client, method, url)
	if err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// fail answers 504 where err is a timeout, else 502.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		status = http.StatusGatewayTimeout
	}
	http.Error(w, err.Error(), status)
}
