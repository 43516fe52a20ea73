package rollup

import (
	"strings"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/query"
)

// Decisions sums what policies decided. The zero value is ready to use.
type Decisions struct {
	sums map[decision]*query.Decision
}

type decision struct {
	verdict flow.Verdict
	key     string // query.PolicyKey
}

// Add counts f, if policies decided on it.
func (d *Decisions) Add(f *flow.Flow) {
	if key := query.PolicyKey(f.Policy); key != "" {
		connections := uint64(0)
		if f.Kind == flow.KindVerdict {
			connections = 1
		}
		d.Sum(f.Verdict, key, connections, f.Dropped(), f.Time)
	}
}

// Sum counts connections and denied packets that the policies of key decided on, the last of them at time last.
func (d *Decisions) Sum(v flow.Verdict, key string, connections, packets uint64, last int64) {
	if d.sums == nil {
		d.sums = make(map[decision]*query.Decision)
	}
	k := decision{v, key}
	s := d.sums[k]
	if s == nil {
		s = &query.Decision{Verdict: v, Policies: strings.Split(key, "\n")}
		d.sums[k] = s
	}
	s.Connections += connections
	s.Packets += packets
	s.LastSeen = max(s.LastSeen, last)
}

// Result returns the sums as query.SortDecisions does.
func (d *Decisions) Result() []query.Decision {
	var out []query.Decision
	for _, s := range d.sums {
		out = append(out, *s)
	}
	return query.SortDecisions(out)
}
