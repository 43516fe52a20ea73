package clickhouse

import (
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
)

// A trace is asked for without a time: the engine must find it through the index.
func TestTraceIsFoundByIndex(t *testing.T) {
	s, _ := newStore(t)
	f := full(time.Now().UnixNano())
	f.Secondary, f.L7.TraceParent = false, "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"
	if err := s.Write(t.Context(), []flow.Flow{f}, ""); err != nil {
		t.Fatal(err)
	}
	set := filter.Set{Allow: []filter.Filter{{TraceID: []string{"4bf92f3577b34da6a3ce929d0e0e4736"}}}}
	all := query.Range{To: maxTime}
	if got := collect(t, s, query.Flows{Range: all, Filter: set}); len(got) != 1 {
		t.Errorf("%d flows, want 1", len(got))
	}
	w := where{params: params{}, exact: true}
	sql := "SELECT explain FROM (EXPLAIN indexes = 1 SELECT time FROM flows WHERE " + and([]string{w.within(all), w.set(set)}) + ")"
	var line proto.ColStr
	var plan strings.Builder
	err := s.query(t.Context(), sql, w.params, proto.Results{{Data: &line}}, func() error {
		for i := range line.Rows() {
			plan.WriteString(line.Row(i) + "\n")
		}
		return nil
	})
	if err != nil || !strings.Contains(plan.String(), "Name: trace") {
		t.Errorf("%v\n%s", err, plan.String())
	}
}
