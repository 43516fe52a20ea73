package otel

import "github.com/prometheus/client_golang/prometheus"

var (
	descSpans   = prometheus.NewDesc("parallax_otel_spans_total", "Spans by what became of them: sent, rejected (left out of a batch that was taken), refused (with a whole batch), dropped (no room while the endpoint is away, or left at the end), unsampled.", []string{"result"}, nil)
	descWaiting = prometheus.NewDesc("parallax_otel_spans_waiting", "Spans that wait to be sent.", nil, nil)
	descRetries = prometheus.NewDesc("parallax_otel_retries_total", "Attempts to send spans that failed and were repeated.", nil, nil)
)

// collector exports the Stats of an Exporter.
type collector struct{ *Exporter }

func (e *Exporter) register(r prometheus.Registerer) { r.MustRegister(collector{e}) }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descSpans
	ch <- descWaiting
	ch <- descRetries
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.Stats()
	for result, n := range map[string]uint64{
		"sent": s.Sent, "rejected": s.Rejected, "refused": s.Refused, "dropped": s.Dropped, "unsampled": s.Unsampled,
	} {
		ch <- prometheus.MustNewConstMetric(descSpans, prometheus.CounterValue, float64(n), result)
	}
	ch <- prometheus.MustNewConstMetric(descWaiting, prometheus.GaugeValue, float64(s.Waiting))
	ch <- prometheus.MustNewConstMetric(descRetries, prometheus.CounterValue, float64(s.Retries))
}
