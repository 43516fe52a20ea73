package bpf

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string // part of the error; empty: none
	}{
		{"default", func(*Config) {}, ""},
		{"interval", func(c *Config) { c.Interval = 0 }, "interval"},
		{"drop interval", func(c *Config) { c.DropInterval = 0 }, "drop interval"},
		{"payload", func(c *Config) { c.PayloadMax = PayloadCap + 1 }, "payload limit 4097"},
		{"payload at the limit", func(c *Config) { c.PayloadMax = PayloadCap }, ""},
		{"flows", func(c *Config) { c.MaxFlows = 0 }, "flow table"},
		{"ring too small", func(c *Config) { c.RingBytes, c.WakeBytes = 2048, 1024 }, "ring size 2048"},
		{"ring no power of two", func(c *Config) { c.RingBytes = 5000 }, "ring size 5000"},
		{"wake-up no power of two", func(c *Config) { c.WakeBytes = 3 }, "threshold 3"},
		{"wake-up beyond the ring", func(c *Config) { c.RingBytes, c.WakeBytes = 4096, 8192 }, "threshold 8192"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			c.change(&cfg)
			_, err := Plan(cfg)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// Plan needs no privilege; Load says plainly that it does.
func TestLoadWithoutPermission(t *testing.T) {
	requireRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread loses its rights, and ends with the goroutine
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			done <- errno
			return
		}
		spec, err := Plan(DefaultConfig())
		if err != nil {
			done <- err
			return
		}
		o, err := spec.Load()
		if err == nil {
			o.Close()
		}
		done <- err
	}()
	if err := <-done; !errors.Is(err, ErrPermission) {
		t.Errorf("error %v, want %v", err, ErrPermission)
	}
}
