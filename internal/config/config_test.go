package config

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

type values struct {
	Server string
	Last   int
	Every  time.Duration
	Names  []string
}

func layer(t *testing.T, file string, env map[string]string, args ...string) (values, error) {
	t.Helper()
	var v values
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.StringVar(&v.Server, "server", "default", "")
	flags.IntVar(&v.Last, "last", 20, "")
	flags.DurationVar(&v.Every, "flow-interval", time.Second, "")
	flags.StringArrayVar(&v.Names, "names", nil, "")
	flags.Bool("help", false, "")
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "parallax.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Chdir(filepath.Dir(path))
		path = "parallax.yaml"
	}
	err := Layer(flags, []string{"server", "last", "flow-interval", "names", "other-command"}, path, func(k string) (string, bool) {
		s, ok := env[k]
		return s, ok
	})
	return v, err
}

func TestLayers(t *testing.T) {
	const file = "# shared\nserver: from-file\nlast: 3\nflow-interval: 250ms\nnames: [a, b]\nother-command: yes\n"
	tests := []struct {
		name, file string
		env        map[string]string
		args       []string
		want       values
	}{
		{"defaults", "", nil, nil, values{"default", 20, time.Second, nil}},
		{"file", file, nil, nil, values{"from-file", 3, 250 * time.Millisecond, []string{"a", "b"}}},
		{"environment before file", file, map[string]string{"PARALLAX_LAST": "4", "PARALLAX_FLOW_INTERVAL": "5s"}, nil, values{"from-file", 4, 5 * time.Second, []string{"a", "b"}}},
		{"flags before all", file, map[string]string{"PARALLAX_LAST": "4"}, []string{"--last=5", "--names=c"}, values{"from-file", 5, 250 * time.Millisecond, []string{"c"}}},
		{"empty file", "# nothing\n", nil, nil, values{"default", 20, time.Second, nil}},
		{"other variables are not ours", "", map[string]string{"PARALLAX_HELP": "true", "PARALLAX_X": "y"}, nil, values{"default", 20, time.Second, nil}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := layer(t, tt.file, tt.env, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestVariablesOfKubernetes: a service called parallax does not configure the program, a person still does.
func TestVariablesOfKubernetes(t *testing.T) {
	injected := map[string]string{ // what a kubelet sets for the services parallax and parallax-relay
		"PARALLAX_SERVICE_HOST": "10.96.0.9", "PARALLAX_SERVICE_PORT": "4245", "PARALLAX_SERVICE_PORT_OBSERVER": "4245",
		"PARALLAX_PORT": "tcp://10.96.0.9:4245", "PARALLAX_PORT_4245_TCP": "tcp://10.96.0.9:4245", "PARALLAX_PORT_4245_TCP_PROTO": "tcp",
		"PARALLAX_PORT_4245_TCP_PORT": "4245", "PARALLAX_PORT_4245_TCP_ADDR": "10.96.0.9",
		"PARALLAX_RELAY_SERVICE_HOST": "10.96.0.8", "PARALLAX_RELAY_PORT": "tcp://10.96.0.8:4246",
	}
	with := func(name, value string) map[string]string {
		env := maps.Clone(injected)
		env[name] = value
		return env
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		want []string // port, relay-port, service-port
	}{
		{"a pod", injected, []string{"", "", ""}},
		{"a pod, and a person", with("PARALLAX_PORT", "443"), []string{"443", "", ""}},
		{"no pod", map[string]string{"PARALLAX_PORT": "443", "PARALLAX_SERVICE_PORT": "80"}, []string{"443", "", "80"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			names := []string{"port", "relay-port", "service-port"}
			for _, n := range names {
				flags.String(n, "", "")
			}
			if err := Layer(flags, names, "", func(k string) (string, bool) { v, ok := tt.env[k]; return v, ok }); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range names {
				got = append(got, flags.Lookup(n).Value.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrorsAreOneLineThatHelps(t *testing.T) {
	for want, file := range map[string]string{
		`parallax.yaml: line 2: unknown key "sever": did you mean "server"?`:                                           "last: 1\nsever: x\n",
		`parallax.yaml: line 2: "last" is there twice`:                                                                 "last: 1\nlast: 2\n",
		`parallax.yaml: line 1: server: expected a value or a list of values`:                                          "server:\n  host: x\n",
		`parallax.yaml: line 1: names: a list may hold only plain values`:                                              "names: [[a]]\n",
		`parallax.yaml: line 1: expected "key: value" lines`:                                                           "- a\n",
		`parallax.yaml: line 1: invalid argument "x" for "--last" flag: strconv.ParseInt: parsing "x": invalid syntax`: "last: x\n",
		`parallax.yaml: yaml: line 1: did not find expected ',' or ']'`:                                                "names: [a\n",
	} {
		_, err := layer(t, file, nil)
		got := "no error"
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	_, err := layer(t, "", map[string]string{"PARALLAX_LAST": "x"})
	if err == nil || err.Error() != `environment variable PARALLAX_LAST: invalid argument "x" for "--last" flag: strconv.ParseInt: parsing "x": invalid syntax` {
		t.Errorf("error = %v", err)
	}
	if err := Layer(pflag.NewFlagSet("", pflag.ContinueOnError), nil, "/does/not/exist", nil); err == nil {
		t.Error("a missing file was accepted")
	}
}

func TestNearest(t *testing.T) {
	known := []string{"server", "last", "since", "namespace"}
	for give, want := range map[string]string{"srver": "server", "lst": "last", "sinc": "since", "name-space": "namespace", "": "last"} {
		if got := Nearest(give, known); got != want {
			t.Errorf("%q: got %q, want %q", give, got, want)
		}
	}
}
