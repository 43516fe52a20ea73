package publish

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
)

// Config says what to send where. Zero values are replaced by the defaults named here.
type Config struct {
	Target     string     // the relay's ingest address, 127.0.0.1:4246
	Node       *flow.Node // of this collector; its Boot must not be 0
	Version    string     // of this program, for people
	BatchFlows int        // flows in a batch at most, 4096; up to wire.MaxFlows
	BatchAge   time.Duration
	// MaxBytes bounds the encoded batches that wait for the relay, 32 MiB: some 900,000 flows.
	MaxBytes int
	// FlushTimeout is how long Run goes on after its context ended to get rid of what waits, 3 s. The relay holds each flow for its merge
	// window, so less than a second is always too short.
	FlushTimeout time.Duration
	Log          *slog.Logger
	Registerer   prometheus.Registerer
	DialOptions  []grpc.DialOption // behind our own: credentials, a dialer
}

// Defaults of Config.
const (
	DefaultTarget       = "127.0.0.1:4246"
	DefaultBatchFlows   = 4096
	DefaultBatchAge     = 100 * time.Millisecond
	DefaultMaxBytes     = 32 << 20
	DefaultFlushTimeout = 3 * time.Second
)

func (c *Config) fill() {
	if c.Target == "" {
		c.Target = DefaultTarget
	}
	if c.BatchFlows == 0 {
		c.BatchFlows = DefaultBatchFlows
	}
	if c.BatchAge == 0 {
		c.BatchAge = DefaultBatchAge
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.FlushTimeout == 0 {
		c.FlushTimeout = DefaultFlushTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Check returns what is wrong with c, one line for a person.
func (c Config) Check() error {
	c.fill()
	if c.Node == nil || c.Node.Name == "" || c.Node.Boot == 0 {
		return fmt.Errorf("publisher without the name and boot of its node")
	}
	if c.BatchFlows < 1 || c.BatchFlows > wire.MaxFlows {
		return fmt.Errorf("batches of %d flows: choose 1 to %d", c.BatchFlows, wire.MaxFlows)
	}
	if c.BatchAge < time.Millisecond || c.MaxBytes < 0 || c.FlushTimeout < 0 {
		return fmt.Errorf("batch age %v, %d bytes, flush timeout %v: out of range", c.BatchAge, c.MaxBytes, c.FlushTimeout)
	}
	if _, _, err := net.SplitHostPort(c.Target); err != nil {
		return fmt.Errorf("relay address %q: %w", c.Target, err)
	}
	return nil
}
