package l7

import (
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// Config bounds a Tracker. A zero field takes the default named beside it.
type Config struct {
	Node *flow.Node // set on every flow; may be nil

	Timeout     time.Duration // 30s: an HTTP request without a response is given up
	DNSTimeout  time.Duration // 10s: the same for a query, two attempts of a usual resolver
	CloseGrace  time.Duration // 500ms: how long a response may be read after its connection's close
	IdleTimeout time.Duration // 5m: a connection without messages is forgotten; at least Timeout

	MaxConns          int // 65536: HTTP connections
	MaxPending        int // 65536: requests without response, all protocols
	MaxPendingPerConn int // 64: pipelined requests
	MaxStrings        int // 16384: distinct strings (hosts, paths, names) held for reuse, in each of two generations

	KeepQueryValues bool // leave the values of query and matrix parameters in Resource; off: "/s?q=secret" becomes "/s?q=-"
}

func (c *Config) setDefaults() {
	def(&c.Timeout, 30*time.Second)
	def(&c.DNSTimeout, 10*time.Second)
	def(&c.CloseGrace, 500*time.Millisecond)
	def(&c.IdleTimeout, 5*time.Minute)
	c.IdleTimeout = max(c.IdleTimeout, c.Timeout)
	def(&c.MaxConns, 1<<16)
	def(&c.MaxPending, 1<<16)
	def(&c.MaxPendingPerConn, 64)
	def(&c.MaxStrings, 1<<14)
}

func def[T ~int | ~int64](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}
