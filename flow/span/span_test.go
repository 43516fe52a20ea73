package span

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

var (
	nodeA, nodeB = &flow.Node{Name: "a", Boot: 0xb007}, &flow.Node{Name: "b", Boot: 0xb008}

	podA   = &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "a", Namespace: "shop", Workload: "web"}
	podB   = &flow.Endpoint{Kind: flow.EndpointPod, NodeName: "b", Namespace: "shop", Workload: "cart"}
	procA  = &flow.Endpoint{Kind: flow.EndpointProcess, NodeName: "a", Workload: "curl"}
	procA2 = &flow.Endpoint{Kind: flow.EndpointProcess, NodeName: "a", Workload: "nginx"}
	procB  = &flow.Endpoint{Kind: flow.EndpointProcess, NodeName: "b", Workload: "nginx"}
	world  = &flow.Endpoint{Kind: flow.EndpointWorld}
)

func exchange(src, dst *flow.Endpoint, node *flow.Node, point flow.Point, path ...flow.Hop) *flow.Flow {
	return &flow.Flow{
		Kind: flow.KindL7, Start: 100, Time: 200, Src: src, Dst: dst, Node: node, Seq: 7, Point: point, Path: path,
		L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart/7?x=1", Status: 200, Answered: true, TraceParent: "00-" + trace + "-" + parent + "-01"},
	}
}

func hop(node *flow.Node, point flow.Point, start, end int64) flow.Hop {
	return flow.Hop{Node: node, Point: point, Start: start, Time: end}
}

func TestAppend(t *testing.T) {
	const fromEP, toNet, fromNet, toEP, toHost = flow.PointFromEndpoint, flow.PointToNetwork, flow.PointFromNetwork, flow.PointToEndpoint, flow.PointToHost
	for _, tc := range []struct {
		name string
		f    *flow.Flow
		want []string
	}{
		{"both ends", exchange(podA, podB, nodeA, fromEP, hop(nodeA, toNet, 101, 199), hop(nodeB, fromNet, 110, 190), hop(nodeB, toEP, 111, 189)),
			[]string{"client a:from-endpoint 100-200 under traceparent", "server b:to-endpoint 111-189 under client"}},
		{"the other clock is behind", exchange(podA, podB, nodeA, fromEP, hop(nodeB, toEP, 11, 89), hop(nodeA, toNet, 101, 199)),
			[]string{"client a:from-endpoint 100-200 under traceparent", "server b:to-endpoint 11-89 under client"}},
		{"nobody at the server", exchange(podA, podB, nodeA, fromEP, hop(nodeA, toNet, 101, 199)),
			[]string{"client a:from-endpoint 100-200 under traceparent"}},
		{"a path without times", exchange(podA, podB, nodeA, fromEP, hop(nodeB, toEP, 0, 189)),
			[]string{"client a:from-endpoint 100-200 under traceparent"}},
		{"from the world", exchange(world, podB, nodeB, toEP, hop(nodeB, fromNet, 99, 201)),
			[]string{"server b:to-endpoint 100-200 under traceparent"}},
		{"to the world", exchange(podA, world, nodeA, fromEP), []string{"client a:from-endpoint 100-200 under traceparent"}},
		{"passing by", exchange(world, world, nodeA, fromNet), nil},
		{"processes of one host", exchange(procA, procA2, nodeA, toHost),
			[]string{"client a:to-host 100-200 under traceparent", "server a:to-host 100-200 under client"}},
		{"processes of two hosts", exchange(procA, procB, nodeA, toNet, hop(nodeB, fromNet, 110, 190)),
			[]string{"client a:to-network 100-200 under traceparent", "server b:from-network 110-190 under client"}},
		{"a pod to its host", exchange(podA, procA, nodeA, fromEP),
			[]string{"client a:from-endpoint 100-200 under traceparent", "server a:from-endpoint 100-200 under client"}},
		{"counted elsewhere", change(exchange(podA, podB, nodeA, fromEP), func(f *flow.Flow) { f.Secondary = true }), nil},
		{"no exchange", change(exchange(podA, podB, nodeA, fromEP), func(f *flow.Flow) { f.Kind, f.L7 = flow.KindNew, nil }), nil},
		{"without traceparent", change(exchange(podA, podB, nodeA, fromEP), func(f *flow.Flow) { f.L7.TraceParent = "" }),
			[]string{"client a:from-endpoint 100-200 root generated"}},
		{"a client error", change(exchange(podA, podB, nodeA, fromEP, hop(nodeB, toEP, 111, 189)), func(f *flow.Flow) { f.L7.Status = 404 }),
			[]string{"client a:from-endpoint 100-200 under traceparent failed", "server b:to-endpoint 111-189 under client"}},
		{"a server error", change(exchange(podA, podB, nodeA, fromEP, hop(nodeB, toEP, 111, 189)), func(f *flow.Flow) { f.L7.Status, f.L7.Error = 503, true }),
			[]string{"client a:from-endpoint 100-200 under traceparent failed", "server b:to-endpoint 111-189 under client failed"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Append(nil, tc.f)
			var words []string
			for i := range got {
				words = append(words, describe(got, i))
				if wantService := map[Side]*flow.Endpoint{Client: tc.f.Src, Server: tc.f.Dst}[got[i].Side]; got[i].Service(tc.f) != wantService {
					t.Errorf("span %d is of another service", i)
				}
			}
			if diff := cmp.Diff(tc.want, words); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(got, Append(nil, tc.f)); diff != "" {
				t.Errorf("not the same again:\n%s", diff)
			}
		})
	}
}

func change(f *flow.Flow, by func(*flow.Flow)) *flow.Flow {
	by(f)
	return f
}

func describe(all []Span, i int) string {
	s := all[i]
	words := fmt.Sprintf("%s %s:%s %d-%d", s.Side, s.Node.Name, s.Point, s.Start, s.End)
	switch {
	case s.Parent == (ID{}):
		words += " root"
	case s.Parent.String() == parent:
		words += " under traceparent"
	case i > 0 && s.Parent == all[i-1].ID:
		words += " under client"
	}
	if s.Generated {
		words += " generated"
	} else if s.Trace.String() != trace {
		words += " in another trace"
	}
	if s.Failed {
		words += " failed"
	}
	return words
}

func TestIDsAreUnique(t *testing.T) {
	seen := make(map[ID]bool)
	f := exchange(podA, podA, nodeA, flow.PointFromEndpoint, hop(nodeA, flow.PointToEndpoint, 1, 2))
	for seq := range uint64(10_000) {
		f.Seq = seq + 1
		for _, s := range Append(nil, f) {
			if seen[s.ID] || s.ID == (ID{}) {
				t.Fatalf("%v is not unique", s.ID)
			}
			seen[s.ID] = true
		}
	}
}

func TestGeneratedTraceLeadsToItsRecord(t *testing.T) {
	f := exchange(podA, podB, nodeA, flow.PointFromEndpoint)
	f.L7.TraceParent = "00-" + trace + "-0000000000000000-01" // not valid
	s := Append(nil, f)[0]
	uuid, ok := s.Trace.UUID()
	if !ok || uuid != f.UUID() {
		t.Errorf("%s gives %q, want %q", s.Trace, uuid, f.UUID())
	}
	if again, err := Parse(f.UUID()); err != nil || again != s.Trace {
		t.Errorf("Parse(%s) = %v, %v", f.UUID(), again, err)
	}
	if n := len(s.Trace.Filters()); n != 2 {
		t.Errorf("%d filters, want one by trace and one by record", n)
	}
}

func TestParseTraceParent(t *testing.T) {
	for s, want := range map[string]bool{
		"00-" + trace + "-" + parent + "-01":                         true,
		"00-" + trace + "-" + parent + "-00":                         true,
		"cc-" + trace + "-" + parent + "-01-later":                   true,
		"cc-" + trace + "-" + parent + "-01":                         true,
		"00-" + trace + "-" + parent + "-01-more":                    false,
		"cc-" + trace + "-" + parent + "-01.more":                    false,
		"ff-" + trace + "-" + parent + "-01":                         false,
		"00-" + trace + "-" + parent + "-0":                          false,
		"00-" + trace + "-" + parent + "-0x":                         false,
		"0x-" + trace + "-" + parent + "-01":                         false,
		"":                                                           false,
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-" + parent + "-01":      false,
		"00-00000000000000000000000000000000-" + parent + "-01":      false,
		"00-" + trace + "-0000000000000000-01":                       false,
		"00_" + trace + "-" + parent + "-01":                         false,
		"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01":    false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ":   false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736--0f067aa0ba902b7-01":    false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-":   false,
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-":   true,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7\x0001": false,
	} {
		tr, p, ok := ParseTraceParent(s)
		if ok != want || ok && (tr.String() != trace || p.String() != parent) || !ok && (tr != TraceID{} || p != ID{}) {
			t.Errorf("%q: %v %v %v, want %v", s, tr, p, ok, want)
		}
	}
}

func FuzzParseTraceParent(f *testing.F) {
	f.Add("00-" + trace + "-" + parent + "-01")
	f.Add("cc-" + trace + "-" + parent + "-01-later")
	f.Fuzz(func(t *testing.T, s string) {
		tr, p, ok := ParseTraceParent(s)
		if ok != (tr != TraceID{}) || ok != (p != ID{}) {
			t.Fatalf("%q: %v %v %v", s, tr, p, ok)
		}
		if ok && s[2:53] != "-"+tr.String()+"-"+p.String()+"-" {
			t.Fatalf("%q became %v %v", s, tr, p)
		}
	})
}

func TestParse(t *testing.T) {
	for s, want := range map[string]bool{
		trace: true, " 4BF92F3577B34DA6A3CE929D0E0E4736 ": true, "00-" + trace + "-" + parent + "-01": true,
		"4bf92f35-77b3-4da6-a3ce-929d0e0e4736": true, // a UUID of another maker, whose digits are a trace
		"":                                     false, "12": false, trace + "0": false, "00000000000000000000000000000000": false,
		"----4bf92f3577b34da6a3ce929d0e0e4736": false, "xyz92f3577b34da6a3ce929d0e0e4736": false,
	} {
		got, err := Parse(s)
		if (err == nil) != want || want && got.String() != trace {
			t.Errorf("Parse(%q) = %v, %v", s, got, err)
		}
	}
}

func TestSampled(t *testing.T) {
	for _, traceParent := range []string{"", "random"} {
		kept := 0
		f := exchange(podA, podB, nodeA, flow.PointFromEndpoint, hop(nodeB, flow.PointToEndpoint, 1, 2))
		for i := range 10_000 {
			f.Seq = uint64(i + 1)
			if f.L7.TraceParent = ""; traceParent != "" {
				v := mix(uint64(i))
				f.L7.TraceParent = fmt.Sprintf("00-%016x%016x-%s-01", v, mix(v), parent)
			}
			spans := Append(nil, f)
			if spans[0].Sampled(0.25) != spans[1].Sampled(0.25) {
				t.Fatal("half a trace is kept")
			}
			if spans[0].Sampled(0) || !spans[0].Sampled(1) {
				t.Fatal("0 keeps, or 1 loses, a trace")
			}
			if spans[0].Sampled(0.25) {
				kept++
			}
		}
		if kept < 2300 || kept > 2700 { // 4.6 standard deviations; the ids are the same in each run
			t.Errorf("traceparent %q: %d of 10,000 kept, want about 2500", traceParent, kept)
		}
	}
}

func TestName(t *testing.T) {
	for _, tc := range []struct {
		l    flow.L7
		want string
	}{
		{flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart/7?x=1"}, "GET /cart/{id}"},
		{flow.L7{Protocol: flow.L7HTTP, Operation: "BREW", Resource: "/pot"}, "HTTP /pot"},
		{flow.L7{Protocol: flow.L7HTTP, Operation: "POST"}, "POST"},
		{flow.L7{Protocol: flow.L7DNS, Operation: "AAAA", Resource: "redis.data.svc"}, "DNS AAAA"},
	} {
		if got := Name(&tc.l); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.l, got, tc.want)
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	f := exchange(podA, podB, nodeA, flow.PointFromEndpoint, hop(nodeB, flow.PointToEndpoint, 1, 2))
	buf := make([]Span, 0, 2)
	if n := testing.AllocsPerRun(100, func() { buf = Append(buf[:0], f) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
