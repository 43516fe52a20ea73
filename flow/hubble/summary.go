package hubble

import (
	"strconv"

	"github.com/parallax-flow/parallax/flow"
)

// Summary says in words what happened in f, with its figures: "GET /cart/7 -> 200 3.1 ms", "TCP closed after 2.1 s 1.2
// kB / 34 kB", "NO_SOCKET in tcp_v4_rcv", "POLICY_DENIED by NetworkPolicy data/default-deny, 3 packets".
func Summary(f *flow.Flow) string {
	s := flow.Describe(f)
	switch {
	case f.L7 != nil:
		if f.L7.Answered && f.L7.Latency >= 0 {
			s += " " + flow.Duration(f.L7.Latency)
		}
	case f.Dropped() > 1:
		s += ", " + strconv.FormatUint(f.Dropped(), 10) + " packets"
	case f.Kind == flow.KindClose || f.Kind == flow.KindUpdate:
		s += " " + Bytes(f.Bytes) + " / " + Bytes(f.ReplyBytes)
	}
	return s
}

// Bytes formats n in the decimal unit (IEC 80000-13) that a person would choose: "0 B", "1.2 kB", "34 MB".
func Bytes(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + " B"
	}
	v := float64(n)
	for _, unit := range []string{" kB", " MB", " GB", " TB"} {
		v /= 1000
		if v < 9.95 {
			return strconv.FormatFloat(v, 'f', 1, 64) + unit
		}
		if v < 999.5 {
			return strconv.FormatFloat(v, 'f', 0, 64) + unit
		}
	}
	return strconv.FormatFloat(v/1000, 'f', 0, 64) + " PB"
}
