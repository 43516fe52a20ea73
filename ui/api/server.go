package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// Config is what a person can set.
type Config struct {
	Listen string // host:port of the page
}

// store answers for the past.
type store interface {
	Flows(ctx context.Context, q query.Flows, each func(*flow.Flow) bool) error
	Edges(ctx context.Context, q query.Edges) ([]query.Edge, error)
	Served(ctx context.Context, q query.Edges) ([]query.Served, error)
	Timeline(ctx context.Context, q query.Timeline) ([]query.Bucket, error)
	Detail(ctx context.Context, q query.Detail) (query.DetailResult, error)
	Groups(ctx context.Context, r query.Range) ([]string, error)
}

// Deps are what the page reads from.
type Deps struct {
	Live   *Live
	Store  store
	Status func() Status
	Files  fs.FS // the built page
	Log    *slog.Logger
}

// Server serves the page. It is read-only: nothing that it answers changes anything.
type Server struct {
	cfg  Config
	deps Deps
	done chan struct{} // closed when Run ends: WebSockets are hijacked, the HTTP server does not end them
}

// New returns a Server that does nothing yet.
func New(cfg Config, deps Deps) *Server {
	return &Server{cfg: cfg, deps: deps, done: make(chan struct{})}
}

// Listen opens the page's port. A busy port is one clear line.
func (s *Server) Listen() (net.Listener, error) {
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the page on %s: %w; choose another with --ui-listen", s.cfg.Listen, err)
	}
	return l, nil
}

// Run serves on l until ctx ends, and closes it.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the page: %w", err)
	case <-ctx.Done():
	}
	close(s.done)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close() // a request that outlives the grace period is cut: nothing here needs to end well
	}
	<-failed
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/map", s.getMap)
	mux.HandleFunc("GET /api/v1/flows", s.getFlows)
	mux.HandleFunc("GET /api/v1/node", s.getDetail)
	mux.HandleFunc("GET /api/v1/edge", s.getDetail)
	mux.HandleFunc("GET /api/v1/trace", s.getTrace)
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.deps.Status()) })
	mux.HandleFunc("GET /api/v1/ws", s.websocket)
	mux.HandleFunc("GET /api/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, fmt.Errorf("no such page of the API: %s", r.URL.Path))
	})
	mux.Handle("GET /", s.page())
	return s.guard(mux)
}

// guard refuses requests that name another host while the page listens on loopback: a web site that resolves its own
// name to 127.0.0.1 (DNS rebinding) must not read a cluster's flows.
func (s *Server) guard(next http.Handler) http.Handler {
	host, _, _ := net.SplitHostPort(s.cfg.Listen)
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		if loopback && net.ParseIP(strings.Trim(name, "[]")) == nil && name != "localhost" {
			fail(w, http.StatusForbidden, fmt.Errorf("host %q is not served here: open the page as http://%s", name, s.cfg.Listen))
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// page serves the built files. Paths without a file are views of the page: they get its index.
func (s *Server) page() http.Handler {
	files := http.FileServerFS(s.deps.Files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if strings.HasPrefix(name, "assets/") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // names carry a hash of the content
			files.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-cache")
		if name != "" {
			if _, err := fs.Stat(s.deps.Files, name); err == nil {
				files.ServeHTTP(w, r)
				return
			}
		}
		index, err := fs.ReadFile(s.deps.Files, "index.html")
		if err != nil {
			http.Error(w, "The page was not built into this binary: run `make build`. The API is at /api/v1/.", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(index)
	})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // fails only if the client has gone
}

func fail(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// failQuery answers a failed question to the store. A person's browser that went away is not worth an answer.
func (s *Server) failQuery(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return
	}
	s.deps.Log.Warn("query for the page failed", "path", r.URL.Path, "err", err)
	fail(w, http.StatusBadGateway, fmt.Errorf("storage did not answer: %w", err))
}
