package hubble

import (
	"strings"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestExtraRoundTrip(t *testing.T) {
	yes := true
	for _, want := range []Extra{
		{}, {Secondary: true}, {Allow: ExtraFilter{DropReason: []string{"NO_SOCKET", "OTHERHOST"}, Policy: []string{"shop/cart"}}, Deny: ExtraFilter{Text: []string{"x"}, Error: &yes}},
	} {
		a, err := want.ToProto()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ExtraFromProto(a)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestExtraRefusesWhatItDoesNotKnow(t *testing.T) {
	for want, m := range map[string]map[string]any{
		"extensions: x: is not one of allow, deny, secondary":                 {"x": 1},
		"extensions: secondary: is not true or false":                         {"secondary": "yes"},
		"extensions: allow: is not an object":                                 {"allow": true},
		"extensions: deny: y: is not one of drop_reason, policy, text, error": {"deny": map[string]any{"y": 1}},
		"extensions: allow: text: is not a list of strings":                   {"allow": map[string]any{"text": []any{1}}},
		"extensions: allow: drop_reason: is not a list of strings":            {"allow": map[string]any{"drop_reason": "x"}},
	} {
		s, err := structpb.NewStruct(m)
		if err != nil {
			t.Fatal(err)
		}
		a, err := anypb.New(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = SetFromRequest(&observerpb.GetFlowsRequest{Extensions: a}); status.Code(err) != codes.InvalidArgument || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	a, err := anypb.New(durationpb.New(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SetFromRequest(&observerpb.GetFlowsRequest{Extensions: a}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another message: %v", err)
	}
}

func TestSetFromRequest(t *testing.T) {
	yes, no := true, false
	http := []*flowpb.FlowFilter{{Protocol: []string{"http"}}, {Protocol: []string{"dns"}}}
	drops := []*flowpb.FlowFilter{{Verdict: []flowpb.Verdict{flowpb.Verdict_DROPPED}}}
	tests := []struct {
		name  string
		allow []*flowpb.FlowFilter
		deny  []*flowpb.FlowFilter
		extra Extra
		want  string
	}{
		{"whitelist", http, nil, Extra{}, "dns,http,http without an answer,nxdomain"},
		{"narrowed", http, nil, Extra{Allow: ExtraFilter{Error: &yes}}, "http,http without an answer,nxdomain"},
		{"text alone", nil, nil, Extra{Allow: ExtraFilter{Text: []string{"tcp_v4"}}}, "kernel drop of a reply"},
		{"kernel reason", nil, nil, Extra{Allow: ExtraFilter{DropReason: []string{"no_socket"}}}, "kernel drop of a reply"},
		{"policy", nil, nil, Extra{Allow: ExtraFilter{Policy: []string{"shop/cart"}}}, "policy allows,policy drop"},
		{"reversed", drops, nil, Extra{Deny: ExtraFilter{Policy: []string{"cart", "egress"}}}, "kernel drop of a reply,policy drop of a reply"},
		{"denied", drops, nil, Extra{Deny: ExtraFilter{Text: []string{"tcp_v4"}}}, "policy denies,policy drop,policy drop of a reply"},
		{"denial narrowed", drops, drops, Extra{Deny: ExtraFilter{Error: &no, Text: []string{"policy"}}}, "kernel drop of a reply"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := tt.extra.ToProto()
			if err != nil {
				t.Fatal(err)
			}
			set, err := SetFromRequest(&observerpb.GetFlowsRequest{Whitelist: tt.allow, Blacklist: tt.deny, Extensions: a})
			if err != nil {
				t.Fatal(err)
			}
			if got := selected(t, set); got != tt.want {
				t.Errorf("selects %s, want %s", got, tt.want)
			}
		})
	}
}
