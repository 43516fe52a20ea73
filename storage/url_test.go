package storage

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/storage/embedded"
	"github.com/parallax-flow/parallax/storage/remote"
)

func TestParse(t *testing.T) {
	for url, want := range map[string]any{
		"memory:":            inMemory{},
		"embedded:/var/x":    embedded.Config{Dir: "/var/x"},
		"embedded:data":      embedded.Config{Dir: "data"},
		"clickhouse://h":     remote.Config{Addresses: []string{"h:9000"}, Database: "parallax", User: "default", Compression: true},
		"clickhouse://[::1]": remote.Config{Addresses: []string{"[::1]:9000"}, Database: "parallax", User: "default", Compression: true},
		"clickhouse://u:p%40@h:1,g:2/db?compress=false&dial_timeout=2s": remote.Config{
			Addresses: []string{"h:1", "g:2"}, Database: "db", User: "u", Password: "p@", DialTimeout: 2 * time.Second},
	} {
		got, err := parse(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(inMemory{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
	}
	if c, err := parseRemote("clickhouse://h?secure=true"); err != nil || c.TLS == nil || c.Addresses[0] != "h:9440" {
		t.Errorf("secure: %+v, %v", c, err)
	}
}

func TestParseErrors(t *testing.T) {
	for url, want := range map[string]string{
		"":                                  "want embedded:DIR",
		"mysql://u:secret@x":                "want embedded:DIR",
		"memory:x":                          "nothing may follow",
		"embedded:":                         "want embedded:DIR",
		"clickhouse://":                     "no host",
		"clickhouse://u:secret@h/a/b":       "not the name of a database",
		"clickhouse://u:secret@h?x=1":       `unknown parameter "x"`,
		"clickhouse://h?dial_timeout=often": "not a duration",
		"clickhouse://u:secret@h:port":      "not a URL",
	} {
		err := Check(url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q gave %v, want one line with %q and without the password", url, err, want)
		}
	}
}
