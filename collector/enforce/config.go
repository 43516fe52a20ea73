package enforce

import (
	"fmt"
	"log/slog"
	"path"
	"time"

	"github.com/parallax-flow/parallax/policy"
)

// Mode says what becomes of policies.
type Mode uint8

const (
	Observe Mode = iota // nothing: no policy is compiled or written
	Audit               // each connection is decided and what would be denied is said; nothing is dropped
	Enforce             // what no rule allows is dropped
)

var modeNames = [...]string{"observe", "audit", "enforce"}

// String returns the word that ParseMode takes.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode %d", m)
}

// ParseMode reads "observe", "audit" or "enforce".
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return Observe, fmt.Errorf("policy mode %q: choose observe, audit or enforce", s)
}

// Config of an Enforcer. The zero value observes.
type Config struct {
	Node    string // whose pods are bound
	NetNS   string // path of the network namespace in which the host's ends of the pods' interfaces lie; "": that of the process
	Mode    Mode
	Own     []string // patterns (path.Match) of host interfaces that Parallax owns; empty: all behind which a pod of the node sits
	Options policy.Options

	Proc      string        // where processes are looked for, and by them the pods' network namespaces; "": /proc
	Settle    time.Duration // news are put into force after this much quiet; 0: 100 ms
	SettleMax time.Duration // and not later than this after the first of them; 0: 1 s
	FirstMax  time.Duration // how long metadata that cannot say whether it is whole may come at the beginning; 0: 10 s
	Retry     time.Duration // longest time between two looks for the interface of a pod that has none; 0: 5 s

	Logger *slog.Logger // nil: slog.Default
}

func (c *Config) setDefaults() {
	for _, d := range [...]struct {
		v   *time.Duration
		def time.Duration
	}{{&c.Settle, 100 * time.Millisecond}, {&c.SettleMax, time.Second}, {&c.FirstMax, 10 * time.Second}, {&c.Retry, 5 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Proc == "" {
		c.Proc = "/proc"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

// Validate says what is wrong with c.
func (c Config) Validate() error {
	if int(c.Mode) >= len(modeNames) {
		return fmt.Errorf("unknown policy %v: choose observe, audit or enforce", c.Mode)
	}
	if c.Mode != Observe && c.Node == "" {
		return fmt.Errorf("policy mode %s: say which node this is", c.Mode)
	}
	for _, p := range c.Own {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("pattern %q of owned interfaces: %w", p, err)
		}
	}
	return nil
}

// owns reports whether the host interface of that name is ours to police.
func (c *Config) owns(name string) bool {
	for _, p := range c.Own {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return len(c.Own) == 0
}
