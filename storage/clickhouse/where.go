package clickhouse

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/storage/rollup"
)

// where turns filters into conditions on the columns of flows. A condition may select more than its filter, never less:
// exact is false then, and the caller looks at each record again with filter.Compile. Filters must have been compiled
// before, which is where bad values are found.
type where struct {
	params params
	exact  bool
}

// none and all are conditions.
const (
	all  = "1"
	none = "0"
)

// set returns the condition of s.
func (w *where) set(s filter.Set) string {
	var conds []string
	if !s.Secondary {
		conds = append(conds, "NOT secondary")
	}
	if len(s.Allow) > 0 {
		conds = append(conds, or(each(s.Allow, w.filter)))
	}
	if len(s.Deny) > 0 {
		// The condition of a filter that is not exact selects more: its opposite would select less.
		deny := where{params: w.params, exact: true}
		cond := or(each(s.Deny, deny.filter))
		if deny.exact {
			conds = append(conds, "NOT "+cond)
		} else {
			w.exact = false
		}
	}
	return and(conds)
}

// reverse selects records that also speak of packets from dst to src: see filter.Filter.
const reverse = "(NOT " + byKernel + " AND (reply OR reply_packets > 0 OR kind = 'l7'))"

// byKernel is what flow.Drop.ByKernel says.
const byKernel = "(verdict = 'dropped' AND drop_reason != '" + flow.DropPolicyDenied + "')"

func (w *where) filter(f filter.Filter) string {
	conds := w.record(&f)
	forward, backward := w.direction(&f, "src_", "dst_", false), w.direction(&f, "dst_", "src_", true)
	if len(forward) > 0 {
		conds = append(conds, or([]string{and(forward), and(append(backward, reverse))}))
	}
	return and(conds)
}

// direction is the conditions on the packets that go from src to dst, which are prefixes of columns.
func (w *where) direction(f *filter.Filter, src, dst string, isReverse bool) []string {
	var conds []string
	for _, side := range []struct {
		prefix                                          string
		ip, pod, namespace, workload, label, fqdn, port []string
		identity                                        []uint32
	}{
		{src, f.SrcIP, f.SrcPod, f.SrcNamespace, f.SrcWorkload, f.SrcLabel, f.SrcFQDN, f.SrcPort, f.SrcIdentity},
		{dst, f.DstIP, f.DstPod, f.DstNamespace, f.DstWorkload, f.DstLabel, f.DstFQDN, f.DstPort, f.DstIdentity},
	} {
		add := func(cond func(string, string) string, values []string) {
			if len(values) > 0 {
				conds = append(conds, or(each(values, func(v string) string { return cond(side.prefix, v) })))
			}
		}
		add(w.ip, side.ip)
		add(w.pod, side.pod)
		if len(side.namespace) > 0 {
			conds = append(conds, side.prefix+"group IN "+w.params.strs(side.namespace))
		}
		add(func(side, v string) string { return w.workload(side, "workload_kind", v) }, side.workload)
		add(w.port, side.port)
		if len(side.identity) > 0 {
			conds = append(conds, side.prefix+"identity IN "+nums(w.params, side.identity))
		}
		if len(side.label) > 0 || len(side.fqdn) > 0 {
			w.exact = false
			conds = append(conds, all)
		}
	}
	if len(f.Point) > 0 {
		points := f.Point
		if isReverse {
			points = each(points, flow.Point.Opposite)
		}
		conds = append(conds, "point IN "+w.params.strs(each(points, flow.Point.String)))
	}
	if len(f.Reply) > 0 {
		yes, no := slices.Contains(f.Reply, true), slices.Contains(f.Reply, false)
		opposite := all
		if yes && !no && !isReverse || no && !yes && isReverse {
			opposite = none
		}
		conds = append(conds, fmt.Sprintf("if(%s, reply IN %s, %s)", byKernel, nums(w.params, bits(f.Reply)), opposite))
	}
	return conds
}

func (w *where) ip(side, v string) string {
	p, err := filter.ParsePrefix(v)
	if err != nil {
		return none
	}
	first, last := bounds(p)
	return fmt.Sprintf("%saddr BETWEEN toIPv6(%s) AND toIPv6(%s)", side, w.params.str(first.String()), w.params.str(last.String()))
}

// bounds returns the first and last address of p as IPv6, the form in which they are stored.
func bounds(p netip.Prefix) (first, last netip.Addr) {
	a, bits := p.Addr().As16(), p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	z := a
	for i := bits; i < 128; i++ {
		a[i/8] &^= 0x80 >> (i % 8)
		z[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom16(a), netip.AddrFrom16(z)
}

func (w *where) pod(side, v string) string {
	namespace, prefix, found := strings.Cut(v, "/")
	if !found {
		namespace, prefix = "", v
	}
	conds := []string{fmt.Sprintf("(%[1]snamespace != '' OR %[1]spod != '')", side)}
	if namespace != "" {
		conds = append(conds, side+"namespace = "+w.params.str(namespace))
	}
	if prefix != "" {
		conds = append(conds, fmt.Sprintf("startsWith(%spod, %s)", side, w.params.str(prefix)))
	}
	return and(conds)
}

// workload compares kinds with the column kind.
func (w *where) workload(side, kind, v string) string {
	qualifier, name, found := strings.Cut(v, "/")
	if !found {
		return side + "name = " + w.params.str(v)
	}
	cond := side + "name = " + w.params.str(name)
	if qualifier == "" {
		return cond
	}
	q := w.params.str(qualifier)
	return and([]string{cond, fmt.Sprintf("(%[1]sgroup = %[2]s OR lowerUTF8(%[1]s%[3]s) = lowerUTF8(%[2]s))", side, q, kind)})
}

func (w *where) port(side, v string) string {
	low, high, err := filter.ParsePorts(v)
	if err != nil {
		return none
	}
	return fmt.Sprintf("(proto IN (6, 17, 132) AND %sport BETWEEN %s AND %s)", side, w.params.num(int64(low)), w.params.num(int64(high)))
}

// record is the conditions that do not depend on the direction.
func (w *where) record(f *filter.Filter) []string {
	var conds []string
	add := func(cond string) { conds = append(conds, cond) }
	if len(f.Verdict) > 0 {
		add("toUInt8(verdict) IN " + nums(w.params, f.Verdict))
	}
	if len(f.Kind) > 0 {
		add("kind IN " + w.params.strs(each(f.Kind, flow.Kind.String)))
	}
	if len(f.DropReason) > 0 {
		add("(verdict = 'dropped' AND upper(drop_reason) IN " + w.params.strs(each(f.DropReason, rollup.Reason)) + ")")
	}
	if len(f.Policy) > 0 {
		add(w.policy("policy", f.Policy))
	}
	if len(f.Protocol) > 0 {
		add(w.protocol(f.Protocol))
	}
	if len(f.HTTPStatus) > 0 {
		add(and([]string{"l7_protocol = 'http' AND l7_answered", or(each(f.HTTPStatus, w.status))}))
	}
	if len(f.HTTPMethod) > 0 {
		add("(l7_protocol = 'http' AND upper(l7_operation) IN " + w.params.strs(each(f.HTTPMethod, strings.ToUpper)) + ")")
	}
	if len(f.HTTPPath) > 0 || len(f.HTTPURL) > 0 { // Go's and ClickHouse's regular expressions are both RE2 and yet differ
		w.exact = false
		add("l7_protocol = 'http'")
	}
	if len(f.DNSQuery) > 0 {
		w.exact = false
		add("l7_protocol = 'dns'")
	}
	if len(f.IPVersion) > 0 {
		w.exact = false
		if !slices.Contains(f.IPVersion, 6) {
			add("startsWith(toString(src_addr), '::ffff:')")
		}
	}
	if len(f.Direction) > 0 {
		add("direction IN " + w.params.strs(each(f.Direction, flow.Direction.String)))
	}
	if len(f.Edge) > 0 {
		add("if(swapped, concat(dst_group, '/', dst_name, '>', src_group, '/', src_name), " +
			"concat(src_group, '/', src_name, '>', dst_group, '/', dst_name)) IN " + w.params.strs(f.Edge))
	}
	if len(f.Interface) > 0 {
		add("ifindex IN " + nums(w.params, f.Interface))
	}
	if len(f.UUID) > 0 {
		add(or(each(f.UUID, w.uuid)))
	}
	if len(f.TraceID) > 0 {
		add("lower(substring(l7_traceparent, 4, 32)) IN " + w.params.strs(each(f.TraceID, strings.ToLower)))
		w.exact = false
	}
	if f.L7 != nil {
		add(isTrue("kind = 'l7'", *f.L7))
	}
	if f.Error != nil {
		add(isTrue("l7_error", *f.Error))
	}
	if len(f.Node) > 0 || len(f.TCPFlags) > 0 {
		w.exact = false
	}
	if len(f.Text) > 0 {
		w.exact = false
		add(or(each(f.Text, w.text)))
	}
	return conds
}

// policy is the condition that one of the policies in column, "Kind namespace/name" one a line, is one of values.
func (w *where) policy(column string, values []string) string {
	is := or(each(values, func(v string) string {
		r := flow.ParsePolicyRef(v)
		conds := []string{"substring(x, greatest(position(x, '/'), position(x, ' ')) + 1) = " + w.params.str(r.Name)}
		if r.Namespace != "" {
			conds = append(conds, "substring(x, position(x, ' ') + 1) = "+w.params.str(r.Path()))
		}
		if r.Kind != "" {
			conds = append(conds, fmt.Sprintf("startsWith(x, %s)", w.params.str(r.Kind+" ")))
		}
		return and(conds)
	}))
	return fmt.Sprintf("(%[1]s != '' AND arrayExists(x -> %[2]s, splitByChar('\n', CAST(%[1]s, 'String'))))", column, is)
}

func (w *where) protocol(values []string) string {
	var l4 []flow.Proto
	var l7 []string
	for _, v := range values {
		v = strings.ToLower(v)
		if protos, ok := rollup.L4(v); ok {
			l4 = append(l4, protos...)
		} else {
			l7 = append(l7, v)
		}
	}
	return fmt.Sprintf("(proto IN %s OR l7_protocol IN %s)", nums(w.params, l4), w.params.strs(l7))
}

func (w *where) status(v string) string {
	low, high, err := filter.ParseStatus(v)
	if err != nil {
		return none
	}
	return fmt.Sprintf("l7_status BETWEEN %s AND %s", w.params.num(int64(low)), w.params.num(int64(high)))
}

func (w *where) uuid(v string) string {
	boot, seq, err := flow.ParseUUID(v)
	if err != nil {
		return none
	}
	return fmt.Sprintf("(node_boot IN %s AND seq IN %s)", nums(w.params, []uint64{boot}), nums(w.params, []uint64{seq}))
}

func (w *where) text(v string) string {
	p := w.params.str(v)
	return or(each([]string{"src_namespace", "src_pod", "src_workload", "src_host", "dst_namespace", "dst_pod", "dst_workload", "dst_host",
		"l7_resource", "l7_host", "drop_reason", "drop_symbol", "policy", "toString(src_addr)", "toString(dst_addr)"},
		func(column string) string { return fmt.Sprintf("positionCaseInsensitive(%s, %s) > 0", column, p) }))
}

func isTrue(cond string, want bool) string {
	if want {
		return "(" + cond + ")"
	}
	return "NOT (" + cond + ")"
}

func bits(v []bool) []uint8 {
	return each(v, func(b bool) uint8 {
		if b {
			return 1
		}
		return 0
	})
}

func each[T, R any](values []T, f func(T) R) []R {
	out := make([]R, len(values))
	for i, v := range values {
		out[i] = f(v)
	}
	return out
}

func and(conds []string) string { return join(conds, " AND ", all) }

func or(conds []string) string { return join(conds, " OR ", none) }

func join(conds []string, op, empty string) string {
	switch len(conds) {
	case 0:
		return empty
	case 1:
		return "(" + conds[0] + ")"
	}
	return "(" + strings.Join(conds, op) + ")"
}
