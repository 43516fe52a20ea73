package observe

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	relaypb "github.com/cilium/cilium/api/v1/relay"
	"github.com/spf13/pflag"

	flowpb "github.com/cilium/cilium/api/v1/flow"
)

// PrintOptions say how flows are printed.
type PrintOptions struct {
	Output      string
	Color       string
	NoColor     bool
	TimeFormat  string
	NodeName    bool
	Translation bool
	Quiet       bool

	hold bool // all comes at once: there is time to align
}

func (o *PrintOptions) register(flags *pflag.FlagSet) {
	flags.StringVarP(&o.Output, "output", "o", "compact", "compact, dict, table, json or jsonpb (the same as json: Hubble's JSON lines)")
	flags.StringVar(&o.Color, "color", "auto", "auto (on a terminal, unless NO_COLOR is set), always or never")
	flags.BoolVar(&o.NoColor, "no-color", false, "the same as --color never")
	flags.StringVar(&o.TimeFormat, "time-format", "TimeMilli", strings.Join(slices.Sorted(maps.Keys(timeFormats)), ", ")+"; not for json")
	flags.BoolVar(&o.NodeName, "print-node-name", false, "show the node of the observation")
	flags.BoolVar(&o.Translation, "ip-translation", true, "show names in place of addresses")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "flows only: no notices of lost flows and of nodes")
}

var timeFormats = map[string]string{
	"TimeMilli": "15:04:05.000", "StampMilli": time.StampMilli, "YearMonthDay": time.DateOnly, "YearMonthDayHour": "2006-01-02T15-07:00",
	"YearMonthDayHourMinute": "2006-01-02T15:04-07:00", "RFC3339": time.RFC3339, "RFC3339Milli": "2006-01-02T15:04:05.000Z07:00",
	"RFC3339Micro": "2006-01-02T15:04:05.000000Z07:00", "RFC3339Nano": time.RFC3339Nano, "RFC1123Z": time.RFC1123Z,
}

var outputs = []string{"compact", "dict", "table", "json", "jsonpb"}

func (o *PrintOptions) check() error {
	if !slices.Contains(outputs, o.Output) {
		return fmt.Errorf("--output %q: choose %s", o.Output, strings.Join(outputs, ", "))
	}
	if !slices.Contains([]string{"auto", "always", "never"}, o.Color) {
		return fmt.Errorf("--color %q: choose auto, always or never", o.Color)
	}
	if timeFormats[o.TimeFormat] == "" {
		return fmt.Errorf("--time-format %q: choose %s", o.TimeFormat, strings.Join(slices.Sorted(maps.Keys(timeFormats)), ", "))
	}
	return nil
}

// Printer writes responses as lines.
type Printer struct {
	opts   PrintOptions
	out    io.Writer
	notice io.Writer
	paint  painter
	layout string
	format formatter
}

// formatter writes flows; finish ends what it has begun.
type formatter interface {
	write(*view) error
	finish() error
}

// NewPrinter returns a printer of o, which Options.Request has checked, to out; notices go to notice. terminal tells whether out is one.
func NewPrinter(o PrintOptions, out, notice io.Writer, terminal bool) *Printer {
	p := &Printer{opts: o, out: out, notice: notice, layout: timeFormats[o.TimeFormat]}
	if o.Quiet {
		p.notice = io.Discard
	}
	p.paint = painter(!o.NoColor && (o.Color == "always" || o.Color == "auto" && terminal))
	switch o.Output {
	case "compact":
		p.format = &compact{Printer: p}
	case "dict":
		p.format = &dict{Printer: p}
	case "table":
		p.format = newTable(p)
	}
	return p
}

// Write prints one response.
func (p *Printer) Write(r *observerpb.GetFlowsResponse) error {
	if p.format == nil {
		if p.opts.Quiet && r.GetFlow() == nil {
			return nil
		}
		encoder := json.NewEncoder(p.out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(r)
	}
	switch {
	case r.GetFlow() != nil:
		v, err := newView(r.GetFlow())
		if err != nil {
			return fmt.Errorf("the server sent a flow that cannot be read: %w", err)
		}
		return p.format.write(v)
	case r.GetLostEvents() != nil:
		p.lost(r.GetNodeName(), r.GetLostEvents())
	case r.GetNodeStatus() != nil:
		p.nodes(r.GetNodeStatus())
	}
	return nil
}

// Close ends the output.
func (p *Printer) Close() error {
	if p.format == nil {
		return nil
	}
	return p.format.finish()
}

func (p *Printer) lost(node string, l *flowpb.LostEvent) {
	why := map[flowpb.LostEventSource]string{
		flowpb.LostEventSource_PERF_EVENT_RING_BUFFER: "in the kernel: its ring buffer was full",
		flowpb.LostEventSource_OBSERVER_EVENTS_QUEUE:  "on their way to the server: a queue was full",
		flowpb.LostEventSource_HUBBLE_RING_BUFFER:     "here: this client reads more slowly than flows arrive",
	}[l.GetSource()]
	if node != "" {
		node = " of node " + node
	}
	fmt.Fprintf(p.notice, "parallax: %d flows%s were lost %s\n", l.GetNumEventsLost(), plain(node), why)
}

func (p *Printer) nodes(s *relaypb.NodeStatusEvent) {
	what := map[relaypb.NodeState]string{
		relaypb.NodeState_NODE_UNAVAILABLE: "unavailable: its flows are missing",
		relaypb.NodeState_NODE_GONE:        "gone",
		relaypb.NodeState_NODE_ERROR:       "in error: its flows are missing",
	}[s.GetStateChange()]
	if what == "" {
		return
	}
	for _, name := range s.GetNodeNames() {
		fmt.Fprintf(p.notice, "parallax: node %s is %s\n", plain(name), strings.TrimSpace(what+" "+plain(s.GetMessage())))
	}
}

// plain takes away what could control a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, s)
}
