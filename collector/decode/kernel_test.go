package decode

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClockKeepsOffsetWithinNoise(t *testing.T) {
	var boot uint64
	var offset, margin int64
	c := &Clock{sample: func() (uint64, int64, int64) { return boot, offset, margin }}
	for _, step := range []struct {
		name           string
		boot           uint64
		offset, margin int64
		want           int64 // offset used
	}{
		{"first", 1e9, 5000, 100, 5000},
		{"not yet due", 5e9, 9000, 100, 5000},
		{"noise", 20e9, 5050, 100, 5000},
		{"tighter sample", 40e9, 5080, 10, 5080},
		{"step", 60e9, 1_005_080, 200, 1_005_080},
		{"step back", 80e9, -3_000_000, 100, -3_000_000},
	} {
		boot, offset, margin = step.boot, step.offset, step.margin
		if got := c.Wall(step.boot) - int64(step.boot); got != step.want {
			t.Errorf("%s: offset %d, want %d", step.name, got, step.want)
		}
	}
}

func TestClockOfThisMachine(t *testing.T) {
	c := NewClock()
	before := time.Now().UnixNano()
	got := c.Wall(uint64(read(unix.CLOCK_BOOTTIME)))
	after := time.Now().UnixNano()
	if got < before-c.margin || got > after+c.margin {
		t.Errorf("wall %d is not in %d..%d +-%d", got, before, after, c.margin)
	}
}

func TestReasonsOfThisKernel(t *testing.T) {
	r := NewReasons()
	n, err := r.Count()
	if err != nil {
		unavailable(t, "this kernel has no drop reasons", err)
	}
	seen := map[string]bool{}
	for i := range uint32(n + 8) {
		seen[r.Name(i)] = true
	}
	for _, want := range []string{"NO_SOCKET", "NETFILTER_DROP", "NOT_SPECIFIED"} {
		if !seen[want] {
			t.Errorf("no %s among %d reasons", want, n)
		}
	}
	if seen["MAX"] || seen["SUBSYS_MASK"] {
		t.Error("MAX and SUBSYS_MASK are no reasons")
	}
	if got := r.Name(1 << 30); got != "REASON_1073741824" {
		t.Errorf("unknown reason: %q", got)
	}
}

func TestSymbols(t *testing.T) {
	const table = `0000000000000000 A fixed_percpu_data
0000000000002000 T second
0000000000001000 T first
0000000000001000 T first_alias
0000000000001800 d data
0000000000003000 t third.isra.0	[module]
garbage
`
	s, err := parseSymbols(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[uint64]string{
		0xfff: "", 0x1000: "first", 0x1fff: "first", 0x2000: "second", 0x2001: "second", 0x3fff: "third",
		0x3000 + maxSymbol: "", ^uint64(0): "",
	} {
		if got := s.lookup(addr); got != want {
			t.Errorf("%#x: %q, want %q", addr, got, want)
		}
	}
}

func TestSymbolsHiddenOrMissing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "kallsyms")
	if err := os.WriteFile(file, []byte("0000000000000000 T tcp_v4_rcv\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewSymbols(file)
	if _, err := s.Count(); !errors.Is(err, ErrHidden) {
		t.Errorf("hidden: %v", err)
	}
	if got := s.Lookup(0x1000); got != "" {
		t.Errorf("hidden: symbol %q", got)
	}
	if _, err := NewSymbols(filepath.Join(dir, "none")).Count(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestSymbolsOfThisKernel(t *testing.T) {
	s := NewSymbols("")
	n, err := s.Count()
	if errors.Is(err, ErrHidden) {
		unavailable(t, "the kernel hides its symbols", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	table, _ := s.load()
	for _, sym := range table.symbols {
		if name := string(table.names[sym.name : sym.name+sym.len]); name == "tcp_v4_rcv" {
			if got := s.Lookup(sym.addr + 5); got != name {
				t.Errorf("tcp_v4_rcv+5 is %q of %d", got, n)
			}
			return
		}
	}
	t.Errorf("no tcp_v4_rcv among %d functions", n)
}

// unavailable skips a test of what this kernel does not give; CI has a kernel that does.
func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}
