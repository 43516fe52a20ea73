package span

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

// call is an exchange of two pods that run on one node, seen at both ends.
func call(seq uint64, src, dst string, start, end int64) flow.Flow {
	pod := func(name string) *flow.Endpoint {
		return &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "a", Pod: name, Workload: name}
	}
	f := exchange(pod(src), pod(dst), nodeA, flow.PointFromEndpoint, hop(nodeA, flow.PointToEndpoint, start+1, end-1))
	f.Seq, f.Start, f.Time = seq, start, end
	f.L7.TraceParent = fmt.Sprintf("00-%s-%016x-01", trace, 0xabc000+seq) // of a span that nobody reports
	return *f
}

func outline(rows []Row) []string {
	var out []string
	for _, r := range rows {
		service := r.Flow.Src.Workload
		if r.Side == Server {
			service = r.Flow.Dst.Workload
		}
		out = append(out, fmt.Sprintf("%s%s %s %d-%d", strings.Repeat("  ", r.Depth), service, r.Side, r.Start, r.End))
	}
	return out
}

func TestArrange(t *testing.T) {
	chain := []flow.Flow{ // in the order in which they end
		call(1, "web", "cart", 110, 140), call(2, "cart", "db", 115, 130), call(3, "web", "ads", 150, 180), call(4, "edge", "web", 100, 200),
	}
	want := []string{
		"edge client 100-200", "  web server 101-199",
		"    web client 110-140", "      cart server 111-139", "        cart client 115-130", "          db server 116-129",
		"    web client 150-180", "      ads server 151-179",
	}
	for _, tc := range []struct {
		name  string
		flows []flow.Flow
		want  []string
	}{
		{"nothing", nil, nil},
		{"calls of a request", chain, want},
		{"delivered twice", append(chain[:4:4], chain...), want},
		{"no one knows for which of two", []flow.Flow{call(1, "edge", "web", 100, 200), call(2, "edge", "web", 105, 190), call(3, "web", "cart", 120, 130)}, []string{
			"edge client 100-200", "  web server 101-199", "edge client 105-190", "  web server 106-189", "web client 120-130", "  cart server 121-129",
		}},
		{"a call that outlives the request", []flow.Flow{call(1, "edge", "web", 100, 200), call(2, "web", "cart", 120, 230)}, []string{
			"edge client 100-200", "  web server 101-199", "web client 120-230", "  cart server 121-229",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, outline(Arrange(tc.flows))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Ids are no secret: a client can name any of them as its parent, its own offspring's too.
func TestArrangeSurvivesACircle(t *testing.T) {
	a, b := call(1, "x", "y", 100, 200), call(2, "y", "z", 110, 190)
	for f, of := range map[*flow.Flow]*flow.Flow{&a: &b, &b: &a} {
		server := Append(nil, of)[1]
		f.L7.TraceParent = fmt.Sprintf("00-%s-%s-01", trace, server.ID)
	}
	if rows := Arrange([]flow.Flow{a, b}); len(rows) != 4 {
		t.Errorf("%d rows, want 4: %v", len(rows), outline(rows))
	}
}
