package hubble

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parallax-flow/parallax/flow/filter"
)

// asked has for each field of FlowFilter a value and the known records that it selects; none: it is refused.
var asked = map[string]struct {
	filter  *flowpb.FlowFilter
	selects string // names of known records, sorted; "-" none
	code    codes.Code
}{
	"uuid":                 {&flowpb.FlowFilter{Uuid: []string{known["syn"].UUID()}}, "syn", 0},
	"source_ip":            {&flowpb.FlowFilter{SourceIp: []string{"fd00::53"}}, "dns", 0},
	"destination_ip":       {&flowpb.FlowFilter{DestinationIp: []string{"93.184.0.0/16"}}, "syn", 0},
	"source_pod":           {&flowpb.FlowFilter{SourcePod: []string{"front"}}, "-", 0},
	"destination_pod":      {&flowpb.FlowFilter{DestinationPod: []string{"/front"}, Protocol: []string{"dns"}}, "dns,nxdomain", 0},
	"source_fqdn":          {&flowpb.FlowFilter{SourceFqdn: []string{"*.example.com"}}, "dns,nxdomain", 0},
	"destination_fqdn":     {&flowpb.FlowFilter{DestinationFqdn: []string{"api.example.com"}}, "dns,nxdomain,policy denies,syn", 0},
	"source_label":         {&flowpb.FlowFilter{SourceLabel: []string{"reserved:host"}}, "syn", 0},
	"destination_label":    {&flowpb.FlowFilter{DestinationLabel: []string{"k8s:app=frontend"}, Verdict: []flowpb.Verdict{flowpb.Verdict_DROPPED}}, "kernel drop of a reply,policy drop of a reply", 0},
	"source_port":          {&flowpb.FlowFilter{SourcePort: []string{"50000"}}, "syn", 0},
	"destination_port":     {&flowpb.FlowFilter{DestinationPort: []string{"53"}}, "dns", 0},
	"source_identity":      {&flowpb.FlowFilter{SourceIdentity: []uint32{1}}, "syn", 0},
	"destination_identity": {&flowpb.FlowFilter{DestinationIdentity: []uint32{2}}, "dns,nxdomain,policy denies,syn", 0},
	"http_status_code":     {&flowpb.FlowFilter{HttpStatusCode: []string{"5+"}}, "http", 0},
	"http_method":          {&flowpb.FlowFilter{HttpMethod: []string{"get"}}, "http,http without an answer", 0},
	"http_path":            {&flowpb.FlowFilter{HttpPath: []string{"^/slow$"}}, "http without an answer", 0},
	"http_url":             {&flowpb.FlowFilter{HttpUrl: []string{"^http://cart"}}, "http", 0},
	"dns_query":            {&flowpb.FlowFilter{DnsQuery: []string{`^nope\.$`}}, "nxdomain", 0},
	"protocol":             {&flowpb.FlowFilter{Protocol: []string{"SCTP", "icmp"}}, "icmpv6,policy drop,sctp", 0},
	"node_name":            {&flowpb.FlowFilter{NodeName: []string{"default/n*"}, Protocol: []string{"tcp"}}, "kernel drop of a reply,policy allows,policy does not bind,syn", 0},
	"trace_id":             {&flowpb.FlowFilter{TraceId: []string{"4bf92f3577b34da6a3ce929d0e0e4736"}}, "http", 0},
	"reply":                {&flowpb.FlowFilter{Reply: []bool{true}, SourcePort: []string{"8080"}}, "http,http without an answer,kernel drop of a reply", 0},
	"verdict":              {&flowpb.FlowFilter{Verdict: []flowpb.Verdict{flowpb.Verdict_AUDIT}}, "policy verdict", 0},
	"traffic_direction":    {&flowpb.FlowFilter{TrafficDirection: []flowpb.TrafficDirection{flowpb.TrafficDirection_EGRESS}}, "closed by a reply,http,policy denies,syn", 0},
	"ip_version":           {&flowpb.FlowFilter{IpVersion: []flowpb.IPVersion{flowpb.IPVersion_IPv6}}, "dns,icmpv6,sctp", 0},
	"drop_reason_desc":     {&flowpb.FlowFilter{DropReasonDesc: []flowpb.DropReason{flowpb.DropReason_POLICY_DENIED}}, "policy denies,policy drop,policy drop of a reply", 0},
	"tcp_flags":            {&flowpb.FlowFilter{TcpFlags: []*flowpb.TCPFlags{{RST: true, ACK: true}}}, "kernel drop of a reply", 0},
	"interface":            {&flowpb.FlowFilter{Interface: []*flowpb.NetworkInterface{{Index: 12}}}, "http", 0},
	"event_type":           {&flowpb.FlowFilter{EventType: []*flowpb.EventTypeFilter{{Type: eventDrop}, {Type: eventTrace, MatchSubType: true, SubType: 11}}}, "kernel drop of a reply,policy drop,policy drop of a reply,syn", 0},
	"source_workload":      {&flowpb.FlowFilter{SourceWorkload: []*flowpb.Workload{{Name: "sshd", Kind: "Process"}}}, "syn", 0},
	"destination_workload": {&flowpb.FlowFilter{DestinationWorkload: []*flowpb.Workload{{Name: "sshd"}}}, "-", 0},

	"source_ip_xlated":         {&flowpb.FlowFilter{SourceIpXlated: []string{"1.1.1.1"}}, "", codes.Unimplemented},
	"source_service":           {&flowpb.FlowFilter{SourceService: []string{"a"}}, "", codes.Unimplemented},
	"destination_service":      {&flowpb.FlowFilter{DestinationService: []string{"a"}}, "", codes.Unimplemented},
	"source_cluster_name":      {&flowpb.FlowFilter{SourceClusterName: []string{"a"}}, "", codes.Unimplemented},
	"destination_cluster_name": {&flowpb.FlowFilter{DestinationClusterName: []string{"a"}}, "", codes.Unimplemented},
	"http_header":              {&flowpb.FlowFilter{HttpHeader: []*flowpb.HTTPHeader{{Key: "a"}}}, "", codes.Unimplemented},
	"node_labels":              {&flowpb.FlowFilter{NodeLabels: []string{"a"}}, "", codes.Unimplemented},
	"ip_trace_id":              {&flowpb.FlowFilter{IpTraceId: []uint64{1}}, "", codes.Unimplemented},
	"encrypted":                {&flowpb.FlowFilter{Encrypted: []bool{true}}, "", codes.Unimplemented},
	"experimental":             {&flowpb.FlowFilter{Experimental: &flowpb.FlowFilter_Experimental{CelExpression: []string{"true"}}}, "", codes.Unimplemented},
}

func TestEveryFilterFieldIsHonouredOrRefused(t *testing.T) {
	all := (&flowpb.FlowFilter{}).ProtoReflect().Descriptor().Fields()
	for i := range all.Len() {
		field := all.Get(i)
		name := string(field.Name())
		test, found := asked[name]
		if !found || filterFields[field.Name()] == nil {
			t.Errorf("%s: new field of FlowFilter: convert or refuse it", name)
			continue
		}
		if !test.filter.ProtoReflect().Has(field) {
			t.Errorf("the test of %s does not set it", name)
		}
		filters, err := FiltersFromProto([]*flowpb.FlowFilter{test.filter})
		if status.Code(err) != test.code {
			t.Errorf("%s: %v, want %s", name, err, test.code)
			continue
		}
		if err != nil {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%s is not named: %v", name, err)
			}
			continue
		}
		if got := selected(t, filter.Set{Allow: filters}); got != test.selects {
			t.Errorf("%s selects %s, want %s", name, got, test.selects)
		}
	}
}

func selected(t *testing.T, s filter.Set) string {
	t.Helper()
	match, err := filter.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(known)) {
		f := *known[name]
		f.Secondary = false
		if match(&f) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ",")
}

func TestEventTypes(t *testing.T) {
	tests := []struct {
		types []*flowpb.EventTypeFilter
		want  string
	}{
		{[]*flowpb.EventTypeFilter{{Type: eventL7}}, "dns,http,http without an answer,nxdomain"},
		{[]*flowpb.EventTypeFilter{{Type: eventPolicyVerdict}}, "policy allows,policy denies,policy does not bind,policy verdict"},
		{[]*flowpb.EventTypeFilter{{Type: eventCapture}}, "-"},
		{[]*flowpb.EventTypeFilter{{Type: eventCapture}, {Type: eventDrop}}, "kernel drop of a reply,policy drop,policy drop of a reply"},
		{[]*flowpb.EventTypeFilter{{Type: eventTrace, MatchSubType: true}}, "closed by a reply"},
		{[]*flowpb.EventTypeFilter{{Type: eventTrace}}, "closed by a reply,icmpv6,other protocol,sctp,syn"},
	}
	for _, tt := range tests {
		filters, err := FiltersFromProto([]*flowpb.FlowFilter{{EventType: tt.types}})
		if err != nil {
			t.Errorf("%v: %v", tt.types, err)
			continue
		}
		if got := selected(t, filter.Set{Allow: filters}); got != tt.want {
			t.Errorf("%v selects %s, want %s", tt.types, got, tt.want)
		}
	}
}

func TestWrongValues(t *testing.T) {
	for want, ff := range map[string]*flowpb.FlowFilter{
		"source_ip: ":                           {SourceIp: []string{"x"}},
		"source_pod: ":                          {SourcePod: []string{""}},
		"verdict: 255 is not":                   {Verdict: []flowpb.Verdict{300}},
		"source_workload: each needs a name":    {SourceWorkload: []*flowpb.Workload{{Kind: "Pod"}}},
		"tcp_flags: each needs at least one of": {TcpFlags: []*flowpb.TCPFlags{{NS: true}}},
		"drop_reason_desc: names no reason":     {DropReasonDesc: []flowpb.DropReason{0}},
		"event_type: is not":                    {EventType: []*flowpb.EventTypeFilter{{Type: 99}}},
		"protocol: \"vrrp\" is not one of":      {Protocol: []string{"vrrp"}},
		"traffic_direction: 255":                {TrafficDirection: []flowpb.TrafficDirection{-1}},
		"source_port: ":                         {SourcePort: []string{"http"}},
	} {
		_, err := FiltersFromProto([]*flowpb.FlowFilter{ff})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, ff := range []*flowpb.FlowFilter{
		{Interface: []*flowpb.NetworkInterface{{Name: "eth0"}}}, {IpVersion: []flowpb.IPVersion{flowpb.IPVersion_IP_NOT_USED}},
		{EventType: []*flowpb.EventTypeFilter{{Type: eventDrop, MatchSubType: true}}}, {EventType: []*flowpb.EventTypeFilter{{Type: eventL7, MatchSubType: true}}},
	} {
		if _, err := FiltersFromProto([]*flowpb.FlowFilter{ff}); status.Code(err) != codes.Unimplemented {
			t.Errorf("%v: %v", ff, err)
		}
	}
}

// Asked for exactly what a converted flow shows, a filter must select its record.
func TestFilterAgreesWithConversion(t *testing.T) {
	for name, f := range known {
		p := ToProto(f)
		var port string
		switch {
		case p.GetL4().GetTCP() != nil:
			port = fmt.Sprint(p.GetL4().GetTCP().GetSourcePort())
		case p.GetL4().GetUDP() != nil:
			port = fmt.Sprint(p.GetL4().GetUDP().GetSourcePort())
		}
		ff := &flowpb.FlowFilter{
			Verdict: []flowpb.Verdict{p.GetVerdict()}, Reply: []bool{p.GetIsReply().GetValue()}, TrafficDirection: []flowpb.TrafficDirection{p.GetTrafficDirection()},
			EventType: []*flowpb.EventTypeFilter{{Type: p.GetEventType().GetType(), MatchSubType: p.GetEventType().GetType() == eventTrace, SubType: p.GetEventType().GetSubType()}},
			NodeName:  []string{p.GetNodeName()}, SourceIdentity: []uint32{p.GetSource().GetIdentity()}, DestinationIdentity: []uint32{p.GetDestination().GetIdentity()},
		}
		if port != "" && port != "0" {
			ff.SourcePort = []string{port}
		}
		if p.GetIP() != nil {
			ff.SourceIp, ff.DestinationIp = []string{p.GetIP().GetSource()}, []string{p.GetIP().GetDestination()}
		}
		if p.GetTraceObservationPoint() == 0 { // no sub-type stands for an unknown point
			ff.EventType[0].MatchSubType = false
		}
		filters, err := FiltersFromProto([]*flowpb.FlowFilter{ff})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		match, err := filter.Compile(filter.Set{Allow: filters, Secondary: true})
		if err != nil {
			t.Fatal(err)
		}
		if !match(f) {
			t.Errorf("%s: %v does not select what it describes", name, ff)
		}
	}
}
