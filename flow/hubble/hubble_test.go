package hubble

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/parallax-flow/parallax/flow"
)

func addr(s string) flow.Addr { return flow.AddrFrom(netip.MustParseAddr(s)) }

var (
	frontend = &flow.Endpoint{Kind: flow.EndpointPod, Identity: 4001, Namespace: "shop", Pod: "frontend-7c9f", Workload: "frontend",
		WorkloadKind: "Deployment", NodeName: "n1", Cluster: "blue", Labels: []string{"app=frontend", "tier=web"}}
	cart = &flow.Endpoint{Kind: flow.EndpointPod, Identity: 4002, Namespace: "shop", Pod: "cart-0", Workload: "cart", WorkloadKind: "StatefulSet", NodeName: "n2"}
	api  = &flow.Endpoint{Kind: flow.EndpointWorld, Identity: 2, Name: "api.example.com"}
	sshd = &flow.Endpoint{Kind: flow.EndpointProcess, Identity: 1, Workload: "sshd", WorkloadKind: "Process", NodeName: "n1"}
	vip  = &flow.Endpoint{Kind: flow.EndpointService, Namespace: "shop", Name: "cart"}
	n1   = &flow.Node{Name: "n1", Cluster: "blue", Boot: 0x1234567890abcdef}
	n2   = &flow.Node{Name: "n2", Boot: 99}

	at = time.Date(2026, 11, 22, 10, 30, 0, 123456789, time.UTC).UnixNano()
)

// known are records of every kind.
var known = map[string]*flow.Flow{
	"http": {
		Time: at, Start: at - 3100000, Src: frontend, Dst: cart, Node: n1, Seq: 5, Kind: flow.KindL7, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.2.0.9"), SrcPort: 41234, DstPort: 8080, Ifindex: 12, Direction: flow.DirectionEgress,
		Point: flow.PointFromEndpoint, Reply: true, Packets: 2, Bytes: 400, ReplyPackets: 3, ReplyBytes: 5000,
		L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart/7?q=*", Host: "cart.shop:8080", Version: "HTTP/1.1", Status: 503, Answered: true,
			Error: true, Latency: 3100000, UserAgent: "curl/8", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	},
	"http without an answer": {
		Time: at, Start: at, Src: frontend, Dst: cart, Node: n1, Seq: 6, Kind: flow.KindL7, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.2.0.9"), SrcPort: 41234, DstPort: 8080, Point: flow.PointFromEndpoint,
		L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/slow", Error: true, Latency: -1},
	},
	"dns": {
		Time: at, Start: at - 400000, Src: frontend, Dst: api, Node: n1, Seq: 7, Kind: flow.KindL7, Verdict: flow.VerdictForwarded, Proto: flow.ProtoUDP, Reply: true,
		SrcAddr: addr("fd00::7"), DstAddr: addr("fd00::53"), SrcPort: 5353, DstPort: 53,
		L7: &flow.L7{Protocol: flow.L7DNS, Operation: "A", Resource: "redis.data.svc", Answers: []string{"r1.data.svc", "10.3.0.1", "10.3.0.2"}, Answered: true,
			Latency: 400000, MinTTL: 30},
	},
	"nxdomain": {
		Time: at, Src: frontend, Dst: api, Node: n1, Seq: 8, Kind: flow.KindL7, Proto: flow.ProtoUDP, Reply: true,
		L7: &flow.L7{Protocol: flow.L7DNS, Operation: "AAAA", Resource: "nope", Status: 3, Error: true, Answered: true},
	},
	"syn": {
		Time: at, Start: at, Src: sshd, Dst: api, Node: n2, Seq: 1, Kind: flow.KindNew, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP,
		SrcAddr: addr("10.0.0.1"), DstAddr: addr("93.184.216.34"), SrcPort: 50000, DstPort: 443, TCPFlags: flow.TCPSyn, Packets: 1, Bytes: 60,
		Cookie: 777, PID: 4242, Process: &flow.Process{PID: 4242, Comm: "sshd"}, Point: flow.PointToNetwork, Direction: flow.DirectionEgress, Secondary: true,
	},
	"closed by a reply": {
		Time: at, Start: at - 2e9, Src: frontend, Dst: vip, Node: n1, Seq: 9, Kind: flow.KindClose, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.96.0.9"), SrcPort: 41234, DstPort: 80, TCPFlags: flow.TCPFin | flow.TCPAck | flow.TCPPsh, Packets: 10, Bytes: 1234,
		ReplyPackets: 30, ReplyBytes: 34567, HandshakeRTT: 250, Point: flow.PointFromEndpoint, Direction: flow.DirectionEgress, Reply: true,
		PID: 9, Process: &flow.Process{PID: 9, Comm: "python3"}, Cookie: 3,
		Path: []flow.Hop{
			{Node: &flow.Node{Name: "n1", Cluster: "blue"}, Time: at + 5, Packets: 10, Bytes: 1234, Ifindex: 2, Point: flow.PointToNetwork, Direction: flow.DirectionEgress},
			{Node: &flow.Node{Name: "n2"}, Time: at + 9, Start: at + 3, Point: flow.PointToEndpoint, Direction: flow.DirectionIngress},
		},
	},
	"kernel drop of a reply": {
		Time: at, Src: cart, Dst: frontend, Node: n2, Seq: 2, Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Proto: flow.ProtoTCP, Reply: true,
		SrcAddr: addr("10.2.0.9"), DstAddr: addr("10.1.0.7"), SrcPort: 8080, DstPort: 41234, TCPFlags: flow.TCPRst | flow.TCPAck, Packets: 1, Bytes: 40,
		Drop: &flow.Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv", Code: 3},
	},
	"policy drop": {
		Time: at, Src: frontend, Dst: cart, Node: n2, Seq: 3, Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Proto: flow.ProtoICMP, ICMPType: 8, ICMPCode: 1,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.2.0.9"), Drop: policyDenied, Policy: ingressDenied, Packets: 3, Bytes: 252, Point: flow.PointToEndpoint,
	},
	"policy drop of a reply": {
		Time: at, Src: frontend, Dst: cart, Node: n2, Seq: 13, Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Proto: flow.ProtoUDP, Reply: true,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.2.0.9"), SrcPort: 9, DstPort: 10, Drop: policyDenied, ReplyPackets: 1, ReplyBytes: 84,
		Policy: &flow.Decision{Rule: -1, Text: "egress default deny"},
	},
	"icmpv6":         {Time: at, Src: frontend, Dst: cart, Node: n2, Seq: 4, Kind: flow.KindNew, Proto: flow.ProtoICMPv6, ICMPType: 128, SrcAddr: addr("fd00::1"), DstAddr: addr("fd00::2")},
	"sctp":           {Time: at, Src: frontend, Dst: cart, Node: n2, Seq: 10, Kind: flow.KindUpdate, Proto: flow.ProtoSCTP, SrcPort: 1, DstPort: 2, SrcAddr: addr("::1"), DstAddr: addr("::1")},
	"other protocol": {Time: at, Src: frontend, Dst: cart, Node: n2, Seq: 11, Kind: flow.KindNew, Proto: 47, SrcAddr: addr("10.0.0.1"), DstAddr: addr("10.0.0.2")},
	"policy verdict": {
		Time: at, Start: at, Src: frontend, Dst: cart, Node: n2, Seq: 12, Kind: flow.KindVerdict, Verdict: flow.VerdictAudit, Proto: flow.ProtoUDP, SrcPort: 9, DstPort: 10,
		Policy: &flow.Decision{Rule: -1, Text: "ingress default deny because of NetworkPolicy shop/default-deny", Policies: ingressDenied.Policies[:1]},
	},
	"policy allows": {
		Time: at, Src: frontend, Dst: cart, Node: n2, Seq: 14, Kind: flow.KindVerdict, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP, SrcPort: 9, DstPort: 8080,
		TCPFlags: flow.TCPSyn, Point: flow.PointToEndpoint, Direction: flow.DirectionIngress, Policy: ingressAllowed,
	},
	"policy denies": {
		Time: at, Src: frontend, Dst: api, Node: n1, Seq: 15, Kind: flow.KindVerdict, Verdict: flow.VerdictDropped, Proto: flow.ProtoTCP, SrcPort: 9, DstPort: 443,
		TCPFlags: flow.TCPSyn, Point: flow.PointFromEndpoint, Direction: flow.DirectionEgress, Drop: policyDenied,
		Policy: &flow.Decision{Rule: -1, Text: "egress default deny because of NetworkPolicy shop/egress", Policies: []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "shop", Name: "egress"}}},
	},
	"policy does not bind": {
		Time: at, Src: frontend, Dst: cart, Node: n2, Seq: 16, Kind: flow.KindVerdict, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP, SrcPort: 9, DstPort: 8081,
		Policy: &flow.Decision{Match: flow.PolicyMatchAll, Rule: -1, Text: "no policy selects the pod"},
	},
}

var (
	policyDenied  = &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}
	ingressDenied = &flow.Decision{Rule: -1, Text: "ingress default deny because of NetworkPolicy shop/default-deny and NetworkPolicy shop/cart", Policies: []flow.PolicyRef{
		{Kind: "NetworkPolicy", Namespace: "shop", Name: "default-deny"}, {Kind: "NetworkPolicy", Namespace: "shop", Name: "cart"},
	}}
	ingressAllowed = &flow.Decision{Match: flow.PolicyMatchL3L4, Text: "NetworkPolicy shop/cart ingress[0]: from pods app=frontend of this namespace, ports 8080/TCP",
		Policies: []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "shop", Name: "cart"}}}
)

func TestRoundTrip(t *testing.T) {
	for name, f := range known {
		t.Run(name, func(t *testing.T) {
			b, err := proto.Marshal(ToProto(f))
			if err != nil {
				t.Fatal(err)
			}
			var p flowpb.Flow
			if err := proto.Unmarshal(b, &p); err != nil {
				t.Fatal(err)
			}
			got, err := FromProto(&p)
			if err != nil {
				t.Fatal(err)
			}
			want := *f
			want.Node = &flow.Node{Name: f.Node.Name, Cluster: f.Node.Cluster, Boot: f.Node.Boot}
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Every field of Flow must be set in one of the known records, or a new field could be lost without a test that fails.
func TestRoundTripCoversEveryField(t *testing.T) {
	for field := range reflect.TypeFor[flow.Flow]().Fields() {
		set := false
		for _, f := range known {
			set = set || !reflect.ValueOf(*f).FieldByIndex(field.Index).IsZero()
		}
		if !set && field.Name != "ProcessDst" { // has its own test
			t.Errorf("no record sets %s", field.Name)
		}
	}
}

func TestProcessSide(t *testing.T) {
	for _, reply := range []bool{false, true} {
		for _, dst := range []bool{false, true} {
			f := &flow.Flow{Src: frontend, Dst: cart, Node: n1, Seq: 1, Kind: flow.KindNew, PID: 5, Reply: reply, ProcessDst: dst}
			p := ToProto(f)
			onDestination := p.GetDestination().GetPodName() == map[bool]string{false: "frontend-7c9f", true: "cart-0"}[dst]
			ext, err := unpack(p.GetExtensions())
			if err != nil {
				t.Fatal(err)
			}
			if got := ext.GetFields()["process"].GetStructValue().GetFields()["destination"].GetBoolValue(); got != onDestination {
				t.Errorf("reply %v, side %v: destination = %v", reply, dst, got)
			}
			if back, err := FromProto(p); err != nil || back.ProcessDst != dst {
				t.Errorf("reply %v, side %v: got %v, %v", reply, dst, back.ProcessDst, err)
			}
		}
	}
}

func TestWhatHubbleClientsRead(t *testing.T) {
	get := func(name string) *flowpb.Flow { return ToProto(known[name]) }
	for name, check := range map[string]struct{ got, want any }{
		"the exchange is a response":      {get("http").GetL7().GetType(), flowpb.L7FlowType_RESPONSE},
		"from the server":                 {get("http").GetSource().GetPodName(), "cart-0"},
		"and its port":                    {get("http").GetL4().GetTCP().GetSourcePort(), uint32(8080)},
		"is a reply":                      {get("http").GetIsReply().GetValue(), true},
		"seen on its way to the client":   {get("http").GetTraceObservationPoint(), flowpb.TraceObservationPoint_TO_ENDPOINT},
		"URL":                             {get("http").GetL7().GetHttp().GetUrl(), "http://cart.shop:8080/cart/7?q=*"},
		"trace":                           {get("http").GetTraceContext().GetParent().GetTraceId(), "4bf92f3577b34da6a3ce929d0e0e4736"},
		"latency":                         {get("http").GetL7().GetLatencyNs(), uint64(3100000)},
		"event type of an exchange":       {get("http").GetEventType().GetType(), int32(129)},
		"no answer: a request":            {get("http without an answer").GetL7().GetType(), flowpb.L7FlowType_REQUEST},
		"from the client":                 {get("http without an answer").GetSource().GetPodName(), "frontend-7c9f"},
		"query has the root's dot":        {get("dns").GetL7().GetDns().GetQuery(), "redis.data.svc."},
		"names apart from addresses":      {get("dns").GetL7().GetDns().GetCnames()[0], "r1.data.svc."},
		"node name":                       {get("http").GetNodeName(), "blue/n1"},
		"node name without a cluster":     {get("syn").GetNodeName(), "default/n2"},
		"world":                           {get("syn").GetDestination().GetLabels()[0], "reserved:world"},
		"its name":                        {get("syn").GetDestinationNames()[0], "api.example.com"},
		"labels":                          {get("http").GetDestination().GetLabels()[0], "k8s:app=frontend"},
		"kernel reason":                   {get("kernel drop of a reply").GetDropReasonDesc(), flowpb.DropReason_DROP_REASON_UNKNOWN},
		"in the summary":                  {get("kernel drop of a reply").GetSummary(), "NO_SOCKET in tcp_v4_rcv"},
		"the packet's sender":             {get("kernel drop of a reply").GetSource().GetPodName(), "cart-0"},
		"Cilium's reason":                 {get("policy drop").GetDropReasonDesc(), flowpb.DropReason_POLICY_DENIED},
		"its number":                      {get("policy drop").GetDropReason(), uint32(133)},
		"and so is that of its event":     {get("policy drop").GetEventType().GetSubType(), int32(133)},
		"summary of a denial":             {get("policy drop").GetSummary(), "POLICY_DENIED by NetworkPolicy shop/default-deny and shop/cart, 3 packets"},
		"sender of a denied reply":        {get("policy drop of a reply").GetSource().GetPodName(), "cart-0"},
		"verdict's event type":            {get("policy allows").GetEventType().GetType(), int32(5)},
		"and sub-type":                    {get("policy allows").GetEventType().GetSubType(), int32(0)},
		"match":                           {get("policy allows").GetPolicyMatchType(), uint32(2)},
		"no match of a denial":            {get("policy denies").GetPolicyMatchType(), uint32(0)},
		"reason of a denial":              {get("policy denies").GetDropReasonDesc(), flowpb.DropReason_POLICY_DENIED},
		"its number, too":                 {get("policy denies").GetDropReason(), uint32(133)},
		"no reason of an audit":           {get("policy verdict").GetDropReason(), uint32(0)},
		"who allowed":                     {get("policy allows").GetIngressAllowedBy()[0].GetName(), "cart"},
		"its kind":                        {get("policy allows").GetIngressAllowedBy()[0].GetKind(), "NetworkPolicy"},
		"its namespace":                   {get("policy allows").GetIngressAllowedBy()[0].GetNamespace(), "shop"},
		"who denied":                      {get("policy denies").GetEgressDeniedBy()[0].GetName(), "egress"},
		"and nobody else":                 {len(get("policy denies").GetIngressDeniedBy()) + len(get("policy denies").GetEgressAllowedBy()), 0},
		"who would have denied":           {get("policy verdict").GetIngressDeniedBy()[0].GetName(), "default-deny"},
		"who dropped":                     {get("policy drop").GetIngressDeniedBy()[1].GetName(), "cart"},
		"summary of a verdict":            {get("policy denies").GetSummary(), "denied: egress default deny because of NetworkPolicy shop/egress"},
		"event type of a drop":            {get("policy drop").GetEventType().GetSubType(), int32(133)},
		"reply closes":                    {get("closed by a reply").GetSourceService().GetName(), "cart"},
		"summary of a close":              {get("closed by a reply").GetSummary(), "TCP closed after 2.0 s 1.2 kB / 35 kB"},
		"trace sub-type of to-endpoint":   {ToProto(&flow.Flow{Kind: flow.KindNew, Point: flow.PointToEndpoint}).GetEventType().GetSubType(), int32(0)},
		"summary of an exchange":          {get("http").GetSummary(), "GET /cart/7?q=* -> 503 3.1 ms"},
		"drop without a reason":           {ToProto(&flow.Flow{Kind: flow.KindDrop}).GetEventType().GetSubType(), int32(dropSubType)},
		"drop of a record without a node": {ToProto(&flow.Flow{}).GetNodeName(), ""},
	} {
		if diff := cmp.Diff(check.want, check.got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTextThatIsNotUTF8(t *testing.T) {
	bad := "\xff\xfe"
	f := &flow.Flow{Src: &flow.Endpoint{Name: bad, Workload: bad, NodeName: bad}, Dst: &flow.Endpoint{}, Node: n1, Kind: flow.KindL7, Process: &flow.Process{Comm: bad},
		L7: &flow.L7{Protocol: flow.L7HTTP, Operation: bad, Resource: bad, Host: bad, Version: bad, UserAgent: bad, TraceParent: "00-" + bad + "0123456789012345678901234567890123"}}
	f.Policy = &flow.Decision{Text: bad, Policies: []flow.PolicyRef{{Kind: bad, Namespace: bad, Name: bad}}}
	for _, protocol := range []flow.L7Protocol{flow.L7HTTP, flow.L7DNS} {
		f.L7.Protocol, f.L7.Answers = protocol, []string{bad}
		p := ToProto(f)
		if _, err := proto.Marshal(p); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		if p.GetExtensions() == nil {
			t.Errorf("%s: extensions were left out", protocol)
		}
	}
}

func TestExtensionsAreReadable(t *testing.T) {
	b, err := protojson.Marshal(ToProto(known["kernel drop of a reply"]).GetExtensions())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"@type": "type.googleapis.com/google.protobuf.Struct", "value": map[string]any{
		"kind": "drop", "packets": 1.0, "bytes": 40.0, "drop": map[string]any{"reason": "NO_SOCKET", "symbol": "tcp_v4_rcv", "code": 3.0},
		"source": map[string]any{"kind": "pod", "node": "n2"}, "destination": map[string]any{"kind": "pod", "node": "n1"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestForeignFlow(t *testing.T) {
	f, err := FromProto(&flowpb.Flow{
		Uuid: "f47ac10b-58cc-4372-a567-0e02b2c3d479", NodeName: "kind/worker", IP: &flowpb.IP{Source: "10.0.0.1", Destination: "10.0.0.2"},
		L4:     &flowpb.Layer4{Protocol: &flowpb.Layer4_TCP{TCP: &flowpb.TCP{SourcePort: 80, DestinationPort: 5, Flags: &flowpb.TCPFlags{SYN: true, ACK: true}}}},
		Source: &flowpb.Endpoint{Identity: 1}, Destination: &flowpb.Endpoint{Identity: 2, Labels: []string{"reserved:world"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if f.Kind != flow.KindNew || f.Src.Kind != flow.EndpointHost || f.Dst.Kind != flow.EndpointWorld || f.Node.Cluster != "kind" || f.Seq != 0 {
		t.Errorf("got %+v from %+v to %+v", f, f.Src, f.Dst)
	}
	if _, err := FromProto(&flowpb.Flow{IP: &flowpb.IP{Source: "x"}}); err == nil {
		t.Error("a wrong address was accepted")
	}
}

// A verdict of a Cilium agent: no extensions, the reason is a number of its own.
func TestForeignVerdict(t *testing.T) {
	by := []*flowpb.Policy{{Name: "l3", Namespace: "shop", Kind: "CiliumNetworkPolicy", Revision: 7}}
	for _, tt := range []struct {
		name string
		p    *flowpb.Flow
		want flow.Flow
		what string
	}{
		{"denied", &flowpb.Flow{Verdict: flowpb.Verdict_DROPPED, DropReasonDesc: flowpb.DropReason_POLICY_DENIED, EventType: &flowpb.CiliumEventType{Type: 5},
			TrafficDirection: flowpb.TrafficDirection_EGRESS, EgressDeniedBy: by},
			flow.Flow{Kind: flow.KindVerdict, Verdict: flow.VerdictDropped, Direction: flow.DirectionEgress, Drop: policyDenied}, "denied by CiliumNetworkPolicy shop/l3"},
		{"allowed", &flowpb.Flow{Verdict: flowpb.Verdict_FORWARDED, PolicyMatchType: 1, EventType: &flowpb.CiliumEventType{Type: 5},
			TrafficDirection: flowpb.TrafficDirection_INGRESS, IngressAllowedBy: by},
			flow.Flow{Kind: flow.KindVerdict, Verdict: flow.VerdictForwarded, Direction: flow.DirectionIngress}, "allowed by CiliumNetworkPolicy shop/l3"},
		{"nobody named", &flowpb.Flow{Verdict: flowpb.Verdict_AUDIT, EventType: &flowpb.CiliumEventType{Type: 5}},
			flow.Flow{Kind: flow.KindVerdict, Verdict: flow.VerdictAudit}, "audit, would be denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := FromProto(tt.p)
			if err != nil {
				t.Fatal(err)
			}
			got := flow.Flow{Kind: f.Kind, Verdict: f.Verdict, Direction: f.Direction, Drop: f.Drop}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if got := Summary(f); got != tt.what {
				t.Errorf("got %q, want %q", got, tt.what)
			}
			if f.Policy == nil || f.Policy.Match != flow.PolicyMatch(tt.p.GetPolicyMatchType()) || f.Policy.Rule != -1 {
				t.Errorf("got %+v", f.Policy)
			}
		})
	}
}

// FuzzFromProto reads what another server may send: it fails with an error, or gives a flow that comes back the same.
func FuzzFromProto(f *testing.F) {
	for _, k := range known {
		b, err := proto.Marshal(ToProto(k))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p flowpb.Flow
		if proto.Unmarshal(b, &p) != nil {
			return
		}
		first, err := FromProto(&p)
		if err != nil {
			return
		}
		q := ToProto(first)
		if _, err := proto.Marshal(q); err != nil {
			t.Fatal(err)
		}
		again, err := FromProto(q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first.Policy, again.Policy); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMask(t *testing.T) {
	mask, err := NewMask(&fieldmaskpb.FieldMask{Paths: []string{"time", "source.pod_name", "source.namespace", "l4", "l4.TCP.source_port"}})
	if err != nil {
		t.Fatal(err)
	}
	p := ToProto(known["http"])
	want := &flowpb.Flow{Time: p.GetTime(), L4: p.GetL4(), Source: &flowpb.Endpoint{PodName: "cart-0", Namespace: "shop"}}
	mask.Apply(p)
	if !proto.Equal(want, p) {
		t.Errorf("got %v", p)
	}
	if _, err := NewMask(&fieldmaskpb.FieldMask{Paths: []string{"nope"}}); err == nil || err.Error() != `field_mask: a flow has no field "nope"` {
		t.Errorf("error = %v", err)
	}
	all := ToProto(known["dns"])
	Mask{}.Apply(all)
	if !proto.Equal(all, ToProto(known["dns"])) {
		t.Error("the zero mask removed something")
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9960: "10 kB", 34567: "35 kB", 999600: "1.0 MB", 1 << 62: "4612 PB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func BenchmarkToProto(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ToProto(known["http"])
	}
}
