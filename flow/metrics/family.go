package metrics

import (
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/flow"
)

const (
	// maxLabels is the largest number of labels that a family has.
	maxLabels = len(contextLabels) + 4
	// maxLabel bounds the bytes of a label's value: some come from the wire.
	maxLabel = 128
	// overflowLabel is the value of all labels of the overflow series.
	overflowLabel = "overflow"
	// sweepEvery is the least time between two looks for idle series, ns.
	sweepEvery = int64(60e9)
)

// values are the values of a family's labels in their order; what is beyond them is empty.
type values [maxLabels]string

// key holds all from which a family's labels follow, in the form in which a flow has it.
type key struct {
	src, dst *flow.Endpoint
	policy   *flow.PolicyRef
	n        uint64 // numbers, as the family packs them
	a, b     string
}

// clock is the time of the observation, the same for all flows of a batch.
type clock struct{ now, idle int64 } // Unix ns, ns

// child is a series, or what stands for several of them in one.
type child[M any] struct {
	metric   M
	used     int64 // Unix ns
	overflow bool
}

// family resolves keys to series. The cache in front of the series is by pointer and bounded: an endpoint whose labels change is another
// pointer, and the same series.
type family[M any] struct {
	name   string
	labels func(k *key) values
	width  int // number of labels
	weight int // series, as Prometheus counts them, of a child
	max    int // children
	create func(labels []string) M
	remove func(labels []string)
	clock  *clock

	cache map[key]*child[M]
	known map[values]*child[M]
	rest  *child[M] // the overflow series; nil until it is needed
	swept int64

	overflows prometheus.Counter
	series    prometheus.Gauge
}

// get returns the series for k.
func (f *family[M]) get(k key) M {
	c, ok := f.cache[k]
	if !ok || c.overflow && f.sweep() {
		c = f.resolve(k)
	}
	c.used = f.clock.now
	if c.overflow {
		f.overflows.Inc()
	}
	return c.metric
}

func (f *family[M]) resolve(k key) *child[M] {
	v := f.labels(&k)
	for i := range v[:f.width] {
		v[i] = clean(v[i])
	}
	c, ok := f.known[v]
	if !ok && len(f.known) >= f.max {
		f.sweep()
	}
	switch {
	case ok:
	case len(f.known) < f.max:
		c = &child[M]{metric: f.create(v[:f.width])}
		f.known[v] = c
		f.series.Set(float64(len(f.known) * f.weight))
	default:
		c = f.other()
	}
	if len(f.cache) >= 4*f.max {
		clear(f.cache)
	}
	f.cache[k] = c
	return c
}

// other returns the overflow series.
func (f *family[M]) other() *child[M] {
	if f.rest == nil {
		labels := make([]string, f.width)
		for i := range labels {
			labels[i] = overflowLabel
		}
		f.rest = &child[M]{metric: f.create(labels), overflow: true}
	}
	return f.rest
}

// sweep removes idle series, now and then, and reports whether it did.
func (f *family[M]) sweep() bool {
	if f.clock.now-f.swept < sweepEvery {
		return false
	}
	f.swept = f.clock.now
	before := len(f.known)
	for v, c := range f.known {
		if f.clock.now-c.used > f.clock.idle {
			f.remove(v[:f.width])
			delete(f.known, v)
		}
	}
	if len(f.known) == before {
		return false
	}
	clear(f.cache) // of what is gone, and of those that overflowed and may now have a series of their own
	f.series.Set(float64(len(f.known) * f.weight))
	return true
}

// builder makes families that share a registry and bounds.
type builder struct {
	reg      prometheus.Registerer
	max      int
	clock    *clock
	overflow *prometheus.CounterVec
	series   *prometheus.GaugeVec
}

func newFamily[M any](b *builder, name string, width, weight int, labels func(*key) values, create func([]string) M, remove func([]string)) *family[M] {
	return &family[M]{
		name: name, labels: labels, width: width, weight: weight, max: max(1, b.max/weight), create: create, remove: remove, clock: b.clock,
		cache: map[key]*child[M]{}, known: map[values]*child[M]{},
		overflows: b.overflow.WithLabelValues(name), series: b.series.WithLabelValues(name),
	}
}

// counter makes a family of counters. The context labels come first, own behind them.
func (b *builder) counter(name, help string, labels func(*key) values, own ...string) *family[prometheus.Counter] {
	vec := newCounterVec(b.reg, name, help, append(contextLabels[:], own...)...)
	return newFamily(b, name, len(contextLabels)+len(own), 1, labels,
		func(l []string) prometheus.Counter { return vec.WithLabelValues(l...) },
		func(l []string) { vec.DeleteLabelValues(l...) })
}

// histogram makes a family of histograms.
func (b *builder) histogram(name, help string, buckets []float64, labels func(*key) values, own ...string) *family[prometheus.Observer] {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, append(contextLabels[:], own...))
	b.reg.MustRegister(vec)
	return newFamily(b, name, len(contextLabels)+len(own), len(buckets)+3, labels,
		func(l []string) prometheus.Observer { return vec.WithLabelValues(l...) },
		func(l []string) { vec.DeleteLabelValues(l...) })
}

func newCounterVec(reg prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	reg.MustRegister(v)
	return v
}

func newGaugeVec(reg prometheus.Registerer, name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	reg.MustRegister(v)
	return v
}

// clean makes s a valid label value of bounded length.
func clean(s string) string {
	if len(s) > maxLabel {
		s = s[:maxLabel]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, string(utf8.RuneError))
	}
	return s
}
