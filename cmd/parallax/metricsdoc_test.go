package main

import (
	"cmp"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

const metricsPage = "../../docs/metrics.md"

// TestMetricsPage holds docs/metrics.md to what relay and collector register.
func TestMetricsPage(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	r, err := newRelay(t.Context(), &relayOptions{
		ingest: "127.0.0.1:0", listen: "127.0.0.1:0", metrics: "127.0.0.1:0", storage: "memory:", series: 1000,
		otlp: otlpOptions{endpoint: "127.0.0.1:4317", sample: 1},
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	c, err := newCollector(&nodeOptions{name: "n", metrics: "127.0.0.1:0", series: 1000}, "127.0.0.1:1", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer c.closePorts()
	all := map[string]*metric{}
	describe(t, all, r.reg, "relay")
	describe(t, all, c.reg, "collector")
	page := metricsText(all)
	if *update {
		if err := os.WriteFile(metricsPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(old) != page {
		t.Error("docs/metrics.md is stale: go test ./cmd/parallax -run TestMetricsPage -update")
	}
}

// metric is what the page says of one.
type metric struct {
	name, kind, help string
	labels, where    []string
}

// descText is the form of prometheus.Desc.String, the only way to what a Desc holds.
var descText = regexp.MustCompile(`^Desc\{fqName: "(.*)", help: "(.*)", constLabels: \{.*\}, variableLabels: \{(.*)\}\}$`)

// describe adds what is registered with r, also where it has no series yet.
func describe(t *testing.T, all map[string]*metric, r *prometheus.Registry, where string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, f := range families {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	ch := make(chan *prometheus.Desc, 4096)
	r.Describe(ch)
	close(ch)
	for d := range ch {
		m := descText.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("not understood: %s", d)
		}
		if strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
			continue
		}
		known, ok := all[m[1]]
		if !ok {
			known = &metric{name: m[1], help: m[2], kind: cmp.Or(kinds[m[1]], kindByName(m[1]))}
			if m[3] != "" {
				known.labels = strings.Split(m[3], ",")
			}
			all[m[1]] = known
		}
		known.where = append(known.where, where)
	}
}

// kindByName is the kind of a metric that has no series yet.
func kindByName(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case strings.HasSuffix(name, "_seconds"):
		return "histogram"
	}
	return "gauge"
}

const metricsIntro = `# Metrics

Generated from what the program registers: ` + "`go test ./cmd/parallax -run TestMetricsPage -update`" + `.

The relay serves them at ` + "`127.0.0.1:9966/metrics`" + ` (` + "`--relay-metrics`" + `), each collector at ` + "`127.0.0.1:9965/metrics`" + ` (` + "`--collector-metrics`" + `). Both have those
of the Go runtime and the process (` + "`go_*`, `process_*`" + `) as well.

**Metrics of flows** have Hubble's names and labels where Hubble has the metric. An event counts once: at the relay where its traffic is
[primary](architecture.md#what-is-counted-once), at a collector where it would be if every node had one. Don't add the two up: the dashboards read
the relay's. Between whom say six labels, by workload (` + "`context`" + ` below):

| label | value |
|---|---|
| ` + "`source`, `destination`" + ` | ` + "`namespace/workload`" + `; without a namespace the workload; else a DNS name; else ` + "`reserved:world`, `reserved:host`, `reserved:unknown`" + ` |
| ` + "`source_namespace`, `destination_namespace`" + ` | empty outside of the cluster |
| ` + "`source_workload`, `destination_workload`" + ` | Deployment, StatefulSet, ..., systemd unit or process; empty if unknown |

The source is the initiator of the connection. In ` + "`hubble_drop_total`, `hubble_tcp_flags_total`, `hubble_icmp_total`, `hubble_dns_responses_total` and `hubble_dns_response_types_total`" + ` it is who sent the packet
or message. ` + "`hubble_http_*`" + ` count requests with an answer; those without are in ` + "`parallax_l7_requests_total`" + `. ` + "`hubble_tcp_flags_total`" + ` counts connections' SYN, SYN-ACK, first
FIN of each side and RST. ` + "`hubble_lost_events_total`" + ` has Hubble's sources: the kernel's ring, the queues between the stages, and the metrics' own.

A metric of flows has at most ` + "`--metrics-max-series`" + ` series (10,000; a histogram needs one for each bucket and three more). When it is full, what was not used for an hour goes; what
still has no room counts in one series with all labels ` + "`overflow`, and in `parallax_metrics_overflow_total`" + `.

`

// metricsText writes the page.
func metricsText(all map[string]*metric) string {
	var b strings.Builder
	b.WriteString(metricsIntro)
	b.WriteString("| metric | kind | labels | at | meaning |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		slices.Sort(m.where)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.name, m.kind, labelText(m.labels), strings.Join(m.where, ", "), strings.TrimSuffix(m.help, "."))
	}
	return b.String()
}

// labelText shortens the labels that all metrics of flows have to one word.
func labelText(labels []string) string {
	var out []string
	for _, l := range labels {
		if strings.HasPrefix(l, "source_") || strings.HasPrefix(l, "destination") || l == "source" && len(labels) > 1 {
			if !slices.Contains(out, "context") {
				out = append(out, "context")
			}
			continue
		}
		out = append(out, "`"+l+"`")
	}
	return strings.Join(out, ", ")
}
