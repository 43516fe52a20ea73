package lab

import (
	"strings"
	"testing"
)

// TestMissingTools checks that a person is told all that is missing at once, in one line, with the command that helps.
func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := findTools()
	if err == nil {
		t.Fatal("found tools in an empty PATH")
	}
	for _, want := range []string{"lab: redis-server, openssl", "not found: apt-get install -y redis-server openssl"} {
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %q, want one line with %q", err, want)
		}
	}
}

func TestPostgresVersion(t *testing.T) {
	for path, want := range map[string]int{
		"/usr/lib/postgresql/15/bin/initdb": 15,
		"/usr/lib/postgresql/9/bin/initdb":  9,
		"initdb":                            0,
	} {
		if got := postgresVersion(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}

// TestTail checks that what a program wrote last is kept, and no more of it.
func TestTail(t *testing.T) {
	var out tail
	for range 1000 {
		if _, err := out.Write([]byte("noise\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := out.Write([]byte("panic: one\ngoroutine 1\nexit 2\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "panic: one; goroutine 1; exit 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(out.buf) > tailBytes {
		t.Errorf("keeps %d bytes", len(out.buf))
	}
}
