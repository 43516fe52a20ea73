package otel

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a person may choose. Zero values are replaced by the defaults named here, but for Ratio.
type Config struct {
	// Endpoint is where spans go: "host:port" for OTLP/gRPC, "http://host:port[/path]" or https:// for OTLP/HTTP; the
	// path is /v1/traces if there is none.
	Endpoint string
	Insecure bool          // gRPC without TLS; with HTTP the scheme says it
	Ratio    float64       // part of the traces that is sent, 0 to 1; exchanges that failed are sent always
	MaxSpans int           // spans that may wait, 8192; what comes beyond is dropped and counted
	Batch    int           // spans sent at once, 512
	Age      time.Duration // a span waits at most this long for others, 1 s
	Timeout  time.Duration // of one attempt to send, 10 s
	Drain    time.Duration // at the end what waits is sent within this time, 5 s
	Version  string        // of Parallax, for the instrumentation scope
	TLS      *tls.Config   // nil: the system's certificates
}

// Deps are what an Exporter needs from outside. All may be nil.
type Deps struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) fill() {
	setDefault(&c.MaxSpans, 8192)
	setDefault(&c.Batch, 512)
	setDefault(&c.Age, time.Second)
	setDefault(&c.Timeout, 10*time.Second)
	setDefault(&c.Drain, 5*time.Second)
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Check returns what is wrong with c, one line for a person.
func (c Config) Check() error {
	if c.Ratio < 0 || c.Ratio > 1 || c.Ratio != c.Ratio {
		return fmt.Errorf("trace sample %v: choose a part from 0 (only what failed) to 1 (everything)", c.Ratio)
	}
	_, err := parseEndpoint(c.Endpoint, c.Insecure)
	return err
}

// endpoint is a parsed Config.Endpoint.
type endpoint struct {
	http   string // URL of OTLP/HTTP, else empty
	target string // host:port of OTLP/gRPC
}

func parseEndpoint(s string, insecure bool) (endpoint, error) {
	fail := func(err error) (endpoint, error) {
		return endpoint{}, fmt.Errorf("OTLP endpoint %q: %w: give HOST:PORT for gRPC (usually port 4317) or http://HOST:PORT (usually 4318)", s, err)
	}
	if scheme, _, found := strings.Cut(s, "://"); found {
		if scheme != "http" && scheme != "https" {
			return fail(fmt.Errorf("unknown scheme %q", scheme))
		}
		u, err := url.Parse(s)
		switch {
		case err != nil:
			return fail(errors.New("not a URL"))
		case u.Host == "":
			return fail(errors.New("no host"))
		case insecure && scheme == "https":
			return fail(errors.New("https is not insecure"))
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/traces" // OTLP specification, "OTLP/HTTP Request"
		}
		return endpoint{http: u.String()}, nil
	}
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil:
		return fail(errors.New("no port"))
	case host == "" || port == "":
		return fail(errors.New("no host or port"))
	}
	return endpoint{target: s}, nil
}
