package otel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/parallax-flow/parallax/flow"
)

// TestMessages compares what a real server got with testdata/NAME.txtpb; UPDATE_GOLDEN=1 writes it anew.
func TestMessages(t *testing.T) {
	for name, f := range map[string]flow.Flow{
		"request": get(1),
		"error": get(2, func(f *flow.Flow) {
			f.L7 = &flow.L7{Protocol: flow.L7HTTP, Operation: "BREW", Resource: "/pot/12", Host: "[fd00::1]:80", Version: "HTTP/1.0", Status: 503, Answered: true, Error: true}
		}),
		"client-error": get(3, func(f *flow.Flow) { f.L7.Status, f.L7.UserAgent, f.L7.Host = 404, "", "" }),
		"no-response": get(4, func(f *flow.Flow) {
			f.L7.Status, f.L7.Answered, f.L7.Error, f.L7.Latency, f.Reply, f.Path = 0, false, true, -1, false, nil
		}),
		"process-to-world": get(5, func(f *flow.Flow) {
			f.Src, f.Dst, f.Point, f.Path, f.DstPort = curl, world, flow.PointToNetwork, nil, 80
			f.L7.Host, f.L7.TraceParent, f.L7.Resource = "api.example.com", "", "*"
			f.L7.Operation = "OPTIONS"
		}),
		"from-world": get(6, func(f *flow.Flow) {
			f.Src, f.Node, f.Point, f.Path = world, nodeB, flow.PointToEndpoint, nil
		}),
		"dns": get(7, func(f *flow.Flow) {
			f.Dst, f.DstAddr, f.DstPort, f.Proto = coredns, addr("10.1.0.53"), 53, flow.ProtoUDP
			f.Path = []flow.Hop{{Node: nodeA, Time: at + 900_000, Start: at + 100_000, Point: flow.PointToEndpoint}}
			f.L7 = &flow.L7{Protocol: flow.L7DNS, Operation: "A", Resource: "cart.shop.svc", Answers: []string{"10.1.2.3", "10.1.2.4"}, Answered: true, Latency: 1e6, MinTTL: 30}
		}),
		"dns-nxdomain": get(8, func(f *flow.Flow) {
			f.Dst, f.DstAddr, f.DstPort, f.Proto, f.Path = coredns, addr("fd00::53"), 53, flow.ProtoUDP, nil
			f.SrcAddr = addr("fd00::7")
			f.L7 = &flow.L7{Protocol: flow.L7DNS, Operation: "AAAA", Resource: "nothing.shop.svc", Status: 3, Answered: true, Error: true, Latency: 1e6}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			var s endpointServer
			e, stop := run(t, Config{Endpoint: s.start(t), Ratio: 1})
			e.Add([]flow.Flow{f})
			stop()
			golden := filepath.Join("testdata", name+".txtpb")
			got := &tracepb.TracesData{ResourceSpans: s.first(t)}
			if os.Getenv("UPDATE_GOLDEN") != "" {
				text, err := prototext.MarshalOptions{Multiline: true}.Marshal(got)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			want := &tracepb.TracesData{}
			if err := prototext.Unmarshal(text, want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
