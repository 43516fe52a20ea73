// Command bench runs the benchmarks whose figures Parallax promises and writes docs/benchmarks.md and
// docs/benchmarks.json. Figures are of one machine and one run: what matters is a ratio against a baseline of the same
// run, or the distance to a goal. A missing figure is an error: nothing is left out quietly.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// result is one line of docs/benchmarks.json.
type result struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Goal   float64 `json:"goal"`
	Better string  `json:"better"` // "higher" or "lower"
	Issue  int     `json:"issue"`
	method string
}

func (r result) met() bool {
	if r.Better == "lower" {
		return r.Value <= r.Goal
	}
	return r.Value >= r.Goal
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var results []result
	for _, s := range suites {
		fmt.Printf("bench: %s %s\n", s.pkg, s.pattern)
		out, err := s.run()
		if err != nil {
			return err
		}
		for _, f := range s.figures {
			v, err := f.pick(out)
			if err != nil {
				return fmt.Errorf("%s: %w", s.pkg, err)
			}
			results = append(results, result{f.name, v, f.unit, f.goal, f.better, f.issue, f.method})
			fmt.Printf("  %-58s %12s %s\n", f.name, number(v), f.unit)
		}
	}
	for _, m := range measures {
		fmt.Printf("bench: %s\n", m.what)
		rs, err := m.run()
		if err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		for _, r := range rs {
			fmt.Printf("  %-58s %12s %s\n", r.Name, number(r.Value), r.Unit)
		}
		results = append(results, rs...)
	}
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile("docs/benchmarks.json", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile("docs/benchmarks.md", page(results), 0o644)
}

// suite is one `go test -bench` run.
type suite struct {
	pkg     string
	pattern string
	time    string // -benchtime; default 1s
	cpu     string // -cpu; default 1: figures are per core
	figures []figure
}

// figure is a metric of one benchmark of the suite.
type figure struct {
	name      string
	benchmark string // as printed, without the "Benchmark" prefix and the -cpu suffix
	metric    string // unit as printed: "ns/op", "flows/s", ...
	unit      string
	goal      float64
	better    string
	issue     int
	method    string
}

func (s suite) run() (map[string]map[string]float64, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", s.pattern, "-benchmem",
		"-benchtime", cmp.Or(s.time, "1s"), "-cpu", cmp.Or(s.cpu, "1"), "-timeout", "20m", "./"+s.pkg)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.String())
	}
	return parse(string(out)), nil
}

// parse reads the lines of `go test -bench`: name, iterations, then pairs of value and unit.
func parse(out string) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		name, ok := strings.CutPrefix(line, "Benchmark")
		if !ok || len(f) < 4 {
			continue
		}
		name, _, _ = strings.Cut(strings.Fields(name)[0], "-")
		metrics := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				metrics[f[i+1]] = v
			}
		}
		all[name] = metrics
	}
	return all
}

func (f figure) pick(out map[string]map[string]float64) (float64, error) {
	metrics, ok := out[f.benchmark]
	if !ok {
		return 0, fmt.Errorf("benchmark %q did not run", f.benchmark)
	}
	v, ok := metrics[f.metric]
	if !ok {
		return 0, fmt.Errorf("benchmark %q has no metric %q: it has %v", f.benchmark, f.metric, metrics)
	}
	return v, nil
}

func page(results []result) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Benchmarks

Made by `+"`make bench`"+`; do not edit. One run on one machine: compare ratios, and figures of the same run.

| | |
|---|---|
| date | %s |
| machine | %s, %d cores, %s |
| kernel | %s |
| go | %s |

| what | figure | unit | goal | |
|---|---:|---|---:|---|
`, time.Now().UTC().Format("2006-01-02"), cpuModel(), runtime.NumCPU(), memory(), kernel(), runtime.Version())
	for _, r := range results {
		sign, verdict := "≥", "met"
		if r.Better == "lower" {
			sign = "≤"
		}
		if !r.met() {
			verdict = "**falls short**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s %s | %s |\n", r.Name, number(r.Value), r.Unit, sign, number(r.Goal), verdict)
	}
	b.WriteString("\n## Method\n\n")
	for _, r := range results {
		fmt.Fprintf(&b, "- **%s**: %s\n", r.Name, r.method)
	}
	return b.Bytes()
}

// number formats v as a person reads it: 1234567 as "1,234,567", 0.956 as "0.956".
func number(v float64) string {
	switch {
	case v != 0 && v < 10:
		return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(v, 'f', 3, 64), "0"), ".")
	case v < 1000:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(name, "\t :\n")
		}
	}
	return runtime.GOARCH
}

func memory() string {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "unknown memory"
	}
	return fmt.Sprintf("%d GiB", (info.Totalram*uint64(info.Unit)+1<<29)>>30)
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return release
}
