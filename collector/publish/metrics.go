package publish

import "github.com/prometheus/client_golang/prometheus"

var (
	descProduced  = prometheus.NewDesc("parallax_publish_produced_total", "Records that the node made or lost before they were made.", nil, nil)
	descAcked     = prometheus.NewDesc("parallax_publish_acknowledged_total", "Flows that the relay handed to its consumers.", nil, nil)
	descLost      = prometheus.NewDesc("parallax_publish_lost_total", "Records that were lost on the node, by stage.", []string{"stage"}, nil)
	descFlows     = prometheus.NewDesc("parallax_publish_queue_flows", "Flows that wait for the relay's acknowledgement.", nil, nil)
	descBytes     = prometheus.NewDesc("parallax_publish_queue_bytes", "Encoded size of the flows that wait for the relay's acknowledgement.", nil, nil)
	descConnected = prometheus.NewDesc("parallax_publish_connected", "1 while there is a stream to the relay.", nil, nil)
)

// collector is the publisher as a prometheus.Collector.
type collector struct{ p *Publisher }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descProduced, descAcked, descLost, descFlows, descBytes, descConnected} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.p.Stats()
	put := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	put(descProduced, prometheus.CounterValue, float64(s.Produced))
	put(descAcked, prometheus.CounterValue, float64(s.Acknowledged))
	for stage, n := range s.Lost {
		put(descLost, prometheus.CounterValue, float64(n), stage)
	}
	put(descFlows, prometheus.GaugeValue, float64(s.QueuedFlows))
	put(descBytes, prometheus.GaugeValue, float64(s.QueuedBytes))
	connected := 0.0
	if s.Connected {
		connected = 1
	}
	put(descConnected, prometheus.GaugeValue, connected)
}
