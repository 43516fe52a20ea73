package observe

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
)

// painter colours for a terminal, if true.
type painter bool

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	cyan   = "36"
	dim    = "2"
	bold   = "1;31"
)

func (p painter) paint(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) verdict(v *view) string {
	code := map[flow.Verdict]string{
		flow.VerdictForwarded: green, flow.VerdictRedirected: green, flow.VerdictTranslated: green,
		flow.VerdictDropped: bold, flow.VerdictError: red, flow.VerdictAudit: yellow, flow.VerdictTraced: blue,
	}[v.flow.Verdict]
	return p.paint(code, v.verdict())
}

// compact is one line for each flow. Columns are as wide as what they have held, up to a bound, so that lines stay aligned
// while they stream; what does not follow is held back at the beginning until the widths are known.
type compact struct {
	*Printer
	src, dst, what int
	held           []*view
}

const (
	nameWidth = 44
	whatWidth = 60
	holdMost  = 1000
)

func (c *compact) write(v *view) error {
	if !c.opts.hold {
		c.widen(v)
		return c.line(v)
	}
	c.held = append(c.held, v)
	if len(c.held) < holdMost {
		return nil
	}
	return c.finish()
}

// finish prints what is held back; what comes later is not.
func (c *compact) finish() error {
	c.opts.hold = false
	for _, v := range c.held {
		c.widen(v)
	}
	for _, v := range c.held {
		if err := c.line(v); err != nil {
			return err
		}
	}
	c.held = nil
	return nil
}

func (c *compact) widen(v *view) {
	src, dst := v.names(c.opts.Translation, true)
	least := 0
	if !c.opts.hold && c.held == nil { // nothing is known yet of what will come
		least = 20
	}
	c.src, c.dst, c.what = widen(c.src, src, least, nameWidth), widen(c.dst, dst, least, nameWidth), widen(c.what, v.brief(), least, whatWidth)
}

func (c *compact) line(v *view) error {
	src, dst := v.names(c.opts.Translation, true)
	what := v.brief()
	code := ""
	if v.failed() {
		code = red
	}
	node := ""
	if c.opts.NodeName {
		node = c.paint.paint(dim, "["+v.node()+"]") + " "
	}
	_, err := fmt.Fprintf(c.out, "%s  %s%s %s %s  %s  %s\n", c.paint.paint(dim, v.time(c.layout)), node,
		pad(c.paint.paint(cyan, src), src, c.src), c.paint.paint(dim, v.arrow()), pad(c.paint.paint(cyan, dst), dst, c.dst),
		pad(c.colored(code, what), what, c.what), c.outcome(v))
	return err
}

// outcome is the verdict, and the reason of one of policy.
func (c *compact) outcome(v *view) string {
	if because := v.because(); because != "" {
		return c.paint.verdict(v) + "  (" + because + ")"
	}
	return c.paint.verdict(v)
}

func (p *Printer) colored(code, s string) string {
	if code == "" {
		return s
	}
	return p.paint.paint(code, s)
}

func widen(width int, s string, least, most int) int {
	return max(least, width, min(utf8.RuneCountInString(s), most))
}

// pad adds spaces to painted, which shows as s, up to width.
func pad(painted, s string, width int) string {
	return painted + strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}

// dict is a block of lines for each flow.
type dict struct {
	*Printer
	begun bool
}

func (d *dict) write(v *view) error {
	var b strings.Builder
	if d.begun {
		b.WriteString("------------\n")
	}
	d.begun = true
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%13s: %s\n", key, value)
		}
	}
	f := v.flow
	src, dst := v.names(d.opts.Translation, false)
	line("TIMESTAMP", v.time(d.layout))
	line("NODE", v.node())
	line("SOURCE", d.paint.paint(cyan, withAddress(src, f.SrcAddr)))
	line("DESTINATION", d.paint.paint(cyan, withAddress(dst, f.DstAddr)))
	line("TYPE", v.kind())
	line("VERDICT", d.paint.verdict(v))
	line("SUMMARY", v.what())
	if f.Policy != nil {
		for _, p := range f.Policy.Policies {
			line("POLICY", plain(p.String()))
		}
	}
	if f.Point != flow.PointUnknown {
		line("SEEN", f.Point.String()+" "+f.Direction.String())
	}
	if f.Packets+f.ReplyPackets > 0 {
		line("PACKETS", fmt.Sprintf("%d (%s), replies %d (%s)", f.Packets, hubble.Bytes(f.Bytes), f.ReplyPackets, hubble.Bytes(f.ReplyBytes)))
	}
	if f.HandshakeRTT > 0 {
		line("HANDSHAKE", flow.Duration(int64(f.HandshakeRTT)*int64(time.Microsecond)))
	}
	if f.Proto == flow.ProtoTCP && f.TCPFlags != 0 {
		line("TCP FLAGS", flow.TCPFlagNames(f.TCPFlags))
	}
	if f.Process != nil {
		line("PROCESS", plain(fmt.Sprintf("%s (%d)", f.Process.Comm, f.Process.PID)))
	}
	for _, h := range f.Path {
		line("ALSO SEEN", plain(fmt.Sprintf("%s %s, %s", hubble.NodeName(h.Node), h.Point, offset(h.Time-f.Time))))
	}
	line("TRACE", plain(v.proto.GetTraceContext().GetParent().GetTraceId()))
	line("UUID", plain(v.proto.GetUuid()))
	_, err := fmt.Fprint(d.out, b.String())
	return err
}

func withAddress(name string, addr flow.Addr) string {
	if addr.IsZero() || strings.Contains(name, addr.String()) {
		return name
	}
	return name + " (" + addr.String() + ")"
}

func offset(ns int64) string {
	if ns < 0 {
		return flow.Duration(-ns) + " before"
	}
	return flow.Duration(ns) + " after"
}

func (d *dict) finish() error { return nil }

// table holds everything back until it knows how wide its columns are.
type table struct {
	*Printer
	tabs  *tabwriter.Writer
	begun bool
}

func newTable(p *Printer) *table {
	p.paint = false // escape sequences would count as width
	return &table{Printer: p, tabs: tabwriter.NewWriter(p.out, 2, 0, 3, ' ', 0)}
}

func (t *table) write(v *view) error {
	src, dst := v.names(t.opts.Translation, false)
	row := []string{v.time(t.layout), v.node(), src, dst, v.kind(), v.verdict(), v.what()}
	if !t.begun {
		t.begun = true
		if err := t.row([]string{"TIMESTAMP", "NODE", "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"}); err != nil {
			return err
		}
	}
	return t.row(row)
}

func (t *table) row(cells []string) error {
	if !t.opts.NodeName {
		cells = append(cells[:1:1], cells[2:]...)
	}
	_, err := fmt.Fprintln(t.tabs, strings.Join(cells, "\t"))
	return err
}

func (t *table) finish() error { return t.tabs.Flush() }
