package storage

import (
	"cmp"
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
	"github.com/parallax-flow/parallax/storage/storagetest"
)

// TestConformance asks every kind of store the same questions about the same flows. The answers of memory:, which looks at
// each flow, are what the others have to give.
func TestConformance(t *testing.T) {
	start := time.Now().Add(-2 * time.Hour).Truncate(time.Hour).UnixNano()
	flows := traffic(start)
	reference := openStore(t, "memory:")
	write(t, reference, flows)
	dir := t.TempDir()

	t.Run("embedded", func(t *testing.T) {
		s := openStore(t, "embedded:"+dir)
		write(t, s, flows)
		compare(t, reference, s, start, filters())
	})
	t.Run("after a restart", func(t *testing.T) {
		compare(t, reference, openStore(t, "embedded:"+dir), start, some("all"))
	})
	t.Run("remote", func(t *testing.T) {
		address := serveNative(t, t.TempDir())
		s := openStore(t, "clickhouse://u:p@"+address+"/flows")
		write(t, s, flows)
		compare(t, reference, s, start, some("all", "namespace", "injection", "text", "label", "policy"))
		compare(t, reference, openStore(t, "clickhouse://u:p@"+address+"/flows?compress=false"), start, some("edge"))
	})
}

// traffic is 20 minutes of the shop, every ninth flow counted elsewhere.
func traffic(start int64) []flow.Flow {
	flows := storagetest.New(7, start, 5).WithPolicies().Next(nil, 6_000)
	for i := range flows {
		f := &flows[i]
		f.Secondary = i%9 == 8
		f.Reply = i%5 == 0 && f.Policy == nil
		// What a database keeps to the microsecond only.
		f.Start = f.Time - (f.Time-f.Start)/1000*1000
		if f.L7 != nil {
			l := *f.L7
			l.Latency = l.Latency / 1000 * 1000
			f.L7 = &l
		}
		for j := range f.Path {
			f.Path[j].Time = f.Time + (f.Path[j].Time-f.Time)/1000*1000
			if f.L7 != nil {
				f.Path[j].Start = f.Start + (f.Path[j].Start-f.Start)/1000*1000
			}
		}
	}
	return flows
}

func openStore(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t *testing.T, s *Store, flows []flow.Flow) {
	t.Helper()
	for part := range slices.Chunk(flows, 5000) {
		if err := s.Write(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
}

func filters() map[string]filter.Set {
	yes, no := true, false
	one := func(f filter.Filter) filter.Set { return filter.Set{Allow: []filter.Filter{f}} }
	return map[string]filter.Set{
		"all":         {},
		"secondary":   {Secondary: true},
		"namespace":   {Allow: []filter.Filter{{SrcNamespace: []string{"shop"}}, {DstNamespace: []string{"shop", "data"}}}},
		"host":        one(filter.Filter{SrcNamespace: []string{"host node-1"}}),
		"workload":    one(filter.Filter{DstWorkload: []string{"shop/cart", "deployment/redis", "coredns"}}),
		"edge":        one(filter.Filter{SrcWorkload: []string{"shop/frontend"}, DstWorkload: []string{"shop/cart"}}),
		"map edge":    one(filter.Filter{Edge: []string{"shop/cart>data/redis", "shop/frontend>shop/cart"}}),
		"dropped":     one(filter.Filter{Verdict: []flow.Verdict{flow.VerdictDropped}}),
		"policy":      one(filter.Filter{Policy: []string{"data/postgres-from-checkout", "NetworkPolicy payment/default-deny"}}),
		"policy name": one(filter.Filter{Policy: []string{"default-deny", "none"}, SrcWorkload: []string{"shop/catalog"}}),
		"not policy":  {Deny: []filter.Filter{{Policy: []string{"NetworkPolicy default-deny", "shop/default-deny"}}}},
		"policy, src": one(filter.Filter{DropReason: []string{flow.DropPolicyDenied}, SrcPort: []string{"5432", "6379"}, Reply: []bool{true}}),
		"reason":      one(filter.Filter{DropReason: []string{"skb_drop_reason_no_socket", flow.DropPolicyDenied}}),
		"protocol":    one(filter.Filter{Protocol: []string{"http", "udp"}}),
		"failed":      one(filter.Filter{Error: &yes}),
		"not failed":  one(filter.Filter{Error: &no}),
		"text":        one(filter.Filter{Text: []string{"CaRt", "nft_do", "POSTGRES-from"}}),
		"not":         {Deny: []filter.Filter{{SrcNamespace: []string{"world"}}, {Protocol: []string{"dns"}}}},
		"pod":         one(filter.Filter{SrcPod: []string{"shop/frontend-"}, DstPod: []string{"cart"}}),
		"ip":          one(filter.Filter{DstIP: []string{"10.244.0.0/24"}, SrcIP: []string{"10.0.0.0/8"}}),
		"port":        one(filter.Filter{DstPort: []string{"8000-8100", "53"}}),
		"reply":       one(filter.Filter{SrcPort: []string{"8080"}, Reply: []bool{true}}),
		"not reply":   one(filter.Filter{SrcWorkload: []string{"shop/cart"}, Reply: []bool{false}}),
		"label":       one(filter.Filter{DstLabel: []string{"app in (cart, redis)"}}),
		"status":      one(filter.Filter{HTTPStatus: []string{"5+"}, HTTPMethod: []string{"get"}}),
		"path":        one(filter.Filter{HTTPPath: []string{"^/cart/1"}}),
		"dns":         one(filter.Filter{DNSQuery: []string{"nothing"}}),
		"flags":       one(filter.Filter{TCPFlags: []string{"SYN"}, IPVersion: []uint8{4}}),
		"identity":    one(filter.Filter{SrcIdentity: []uint32{2}}),
		"node":        one(filter.Filter{Node: []string{"node-*"}, Direction: []flow.Direction{flow.DirectionIngress}}),
		"kind, point": one(filter.Filter{Kind: []flow.Kind{flow.KindNew, flow.KindClose}, Point: []flow.Point{flow.PointFromEndpoint}, L7: &no}),
		"not a label": {Deny: []filter.Filter{{DstLabel: []string{"app=cart"}}}},
		"injection":   one(filter.Filter{SrcNamespace: []string{"') OR 1=1 --", `\'; DROP TABLE flows; --`, "{p0:String}", "a\nb\tc\x00"}, Text: []string{"'\\\" %_"}}),
	}
}

// some returns the filters with these names.
func some(names ...string) map[string]filter.Set {
	out := make(map[string]filter.Set)
	for _, name := range names {
		out[name] = filters()[name]
	}
	return out
}

func compare(t *testing.T, reference, s *Store, start int64, filters map[string]filter.Set) {
	t.Helper()
	minute := int64(time.Minute)
	ranges := map[string]query.Range{
		"everything": {From: start - minute, To: start + 60*minute},
		"short":      {From: start + 3*minute + 1234567891, To: start + 11*minute + 55},
		"nothing":    {From: start - 60*minute, To: start - 30*minute},
	}
	for name, set := range filters {
		for span, r := range ranges {
			if span == "nothing" && name != "all" {
				continue
			}
			t.Run(name+"/"+span, func(t *testing.T) {
				compareFlows(t, reference, s, query.Flows{Range: r, Filter: set})
				compareFlows(t, reference, s, query.Flows{Range: r, Filter: set, Limit: 17, Newest: true})
				compareSums(t, reference, s, r, set)
			})
		}
	}
	for span, r := range ranges {
		t.Run("names/"+span, func(t *testing.T) {
			same(t, "groups", r, reference.Groups, s.Groups)
			same(t, "namespaces", r, reference.Namespaces, s.Namespaces)
		})
	}
	want, _ := reference.Oldest(t.Context())
	if got, err := s.Oldest(t.Context()); err != nil || got != want {
		t.Errorf("oldest %d, %v; want %d", got, err, want)
	}
}

func compareFlows(t *testing.T, reference, s *Store, q query.Flows) {
	t.Helper()
	collect := func(s *Store) (out []flow.Flow) {
		if err := s.Flows(t.Context(), q, func(f *flow.Flow) bool { out = append(out, *f); return true }); err != nil {
			t.Fatal(err)
		}
		// Flows of the same time have no order.
		slices.SortStableFunc(out, func(a, b flow.Flow) int { return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Seq, b.Seq)) })
		return out
	}
	if diff := gocmp.Diff(collect(reference), collect(s)); diff != "" {
		t.Errorf("flows, limit %d (-want +got):\n%.2000s", q.Limit, diff)
	}
}

// sketch compares latencies as the quantile sketch promises: to 1 %.
var sketch = gocmp.FilterPath(func(p gocmp.Path) bool {
	switch p.Last().String() {
	case ".P50", ".P95", ".P99":
		return true
	}
	return false
}, gocmp.Comparer(func(a, b int64) bool {
	return a == b || a >= 0 && b >= 0 && math.Abs(float64(a-b)) <= 0.011*float64(max(a, b))+1000
}))

func compareSums(t *testing.T, reference, s *Store, r query.Range, set filter.Set) {
	t.Helper()
	const minute = int64(time.Minute)
	frontend, cart := query.NodeKey{Group: "shop", Name: "frontend"}, query.NodeKey{Group: "shop", Name: "cart"}
	same(t, "edges", query.Edges{Range: r, Filter: set}, reference.Edges, s.Edges)
	same(t, "served", query.Edges{Range: r, Filter: set}, reference.Served, s.Served)
	same(t, "timeline", query.Timeline{Range: r, Step: minute, Filter: set}, reference.Timeline, s.Timeline)
	if set.Allow == nil {
		same(t, "fine timeline", query.Timeline{Range: r, Step: 10 * int64(time.Second), Filter: set}, reference.Timeline, s.Timeline)
		same(t, "detail of a node", query.Detail{Range: r, Step: minute, Src: &frontend, Filter: set}, reference.Detail, s.Detail)
	}
	same(t, "detail of an edge", query.Detail{Range: r, Step: minute, Src: &frontend, Dst: &cart, Filter: set}, reference.Detail, s.Detail)
	if _, err := s.Timeline(t.Context(), query.Timeline{Range: r, Step: 1}); err == nil {
		t.Error("a step of 1 ns was taken")
	}
}

func same[Q, A any](t *testing.T, what string, q Q, reference, got func(context.Context, Q) (A, error)) {
	t.Helper()
	want, err := reference(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	have, err := got(t.Context(), q)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if diff := gocmp.Diff(want, have, sketch, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%.2000s", what, diff)
	}
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ url, want string }{
		"no server":     {"clickhouse://u:secret@127.0.0.1:1/db", "127.0.0.1:1"},
		"bad directory": {"embedded:" + file, file},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), tc.url, Options{})
			if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want one line that names %s", err, tc.want)
			}
		})
	}
}
