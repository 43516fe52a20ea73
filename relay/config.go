package relay

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/relay/names"
)

// Config is what a person may choose. Zero values are replaced by the defaults named here.
type Config struct {
	Listen   string        // address for collectors, 127.0.0.1:4246
	Window   time.Duration // how long a flow waits for those of other nodes: 500 ms; 50 ms to 10 s
	Waiting  int           // flows that may wait at once, 262,144: about 150 MiB if as many do
	RingSize int           // flows kept for live queries, 65,536: about 14 MiB
}

// Defaults of Config.
const (
	DefaultListen   = "127.0.0.1:4246"
	DefaultWindow   = 500 * time.Millisecond
	DefaultWaiting  = 1 << 18
	DefaultRingSize = 1 << 16
)

// Deps are what a relay needs from outside. All may be nil.
type Deps struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Listener   net.Listener // instead of listening on Config.Listen; the relay closes it
	Names      *names.Names // tells of endpoints that a collector does not know
}

func (c *Config) fill() {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.Waiting == 0 {
		c.Waiting = DefaultWaiting
	}
	if c.RingSize == 0 {
		c.RingSize = DefaultRingSize
	}
}

// Check returns what is wrong with c, one line for a person.
func (c Config) Check() error {
	c.fill()
	if c.Window < 50*time.Millisecond || c.Window > 10*time.Second {
		return fmt.Errorf("merge window %v: choose 50ms to 10s", c.Window)
	}
	if c.Waiting < 0 || c.RingSize < 0 {
		return fmt.Errorf("%d waiting flows, %d in the ring: neither can be negative", c.Waiting, c.RingSize)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("ingest address %q: %w", c.Listen, err)
	}
	return nil
}
