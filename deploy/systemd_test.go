package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unit is a file of systemd: key -> values.
type unit struct {
	name, text string
	values     map[string][]string
}

func units(t *testing.T) []unit {
	t.Helper()
	paths, err := filepath.Glob("systemd/*.service")
	if err != nil || len(paths) != 3 {
		t.Fatal(paths, err)
	}
	var all []unit
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		u := unit{filepath.Base(path), string(text), map[string][]string{}}
		for line := range strings.Lines(u.text) {
			if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found && !strings.HasPrefix(key, "#") {
				u.values[key] = append(u.values[key], value)
			}
		}
		all = append(all, u)
	}
	return all
}

// TestUnits has systemd say whether it understands the units and how exposed each leaves the host. Nothing is started: the
// tools read files.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		unavailable(t, "systemd-analyze is missing: run scripts/deps.sh test")
	}
	exposure := map[string]string{"parallax-collector.service": "40", "parallax.service": "40", "parallax-relay.service": "16"} // tenths, of 100
	bin := parallax(t)
	for _, u := range units(t) {
		path := filepath.Join(t.TempDir(), u.name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(u.text, "/usr/local/bin/parallax", bin)), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", u.name, err, out)
		}
		if out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+exposure[u.name], path).CombinedOutput(); err != nil {
			t.Errorf("%s: exposed more than %s: %v\n%s", u.name, exposure[u.name], err, out)
		}
	}
}

// TestUnitsCapabilities holds the units to the capabilities that are proven.
func TestUnitsCapabilities(t *testing.T) {
	want := chartCapabilities(t)
	slices.Sort(want)
	for _, u := range units(t) {
		var got []string
		for _, c := range strings.Fields(strings.Join(u.values["CapabilityBoundingSet"], " ")) {
			got = append(got, strings.TrimPrefix(c, "CAP_"))
		}
		slices.Sort(got)
		if u.name == "parallax-relay.service" {
			if got != nil {
				t.Errorf("the relay may %v", got)
			}
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-chart +unit): %s", u.name, diff)
		}
	}
}

// TestUnitsSettings has Parallax check what the units set, with each setting that parallax.default proposes.
func TestUnitsSettings(t *testing.T) {
	bin := parallax(t)
	text, err := os.ReadFile("systemd/parallax.default")
	if err != nil {
		t.Fatal(err)
	}
	var proposed, flags []string
	for _, m := range regexp.MustCompile(`(?m)^#(PARALLAX_[A-Z_]+=\S+)$`).FindAllStringSubmatch(string(text), -1) {
		proposed = append(proposed, m[1])
	}
	for _, command := range []string{"collector", "relay", "up"} {
		help, err := exec.Command(bin, command, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		flags = append(flags, regexp.MustCompile(`--[a-z0-9-]+`).FindAllString(string(help), -1)...)
	}
	for _, p := range proposed {
		name, _, _ := strings.Cut(strings.TrimPrefix(p, "PARALLAX_"), "=")
		if !slices.Contains(flags, "--"+strings.ToLower(strings.ReplaceAll(name, "_", "-"))) {
			t.Errorf("PARALLAX_%s is no flag of collector, relay or up", name)
		}
	}
	if len(proposed) < 5 {
		t.Errorf("parallax.default proposes only %v", proposed)
	}
	for _, u := range units(t) {
		for _, line := range append(u.values["ExecStartPre"], u.values["ExecStart"]...) {
			args := strings.Fields(line)
			if args[0] != "/usr/local/bin/parallax" {
				t.Errorf("%s runs %s", u.name, line)
			}
			if args[1] == "up" { // has no --check
				continue
			}
			own := slices.Concat(strings.Fields(strings.Join(u.values["Environment"], " ")), proposed)
			checkCommand(t, bin, slices.DeleteFunc(args[1:], func(a string) bool { return a == "--check" }), own)
		}
	}
}
