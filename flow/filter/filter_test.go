package filter

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/parallax-flow/parallax/flow"
)

func addr(s string) flow.Addr { return flow.AddrFrom(netip.MustParseAddr(s)) }

var (
	frontend = &flow.Endpoint{Kind: flow.EndpointPod, Identity: 4001, Namespace: "shop", Pod: "frontend-7c9f", Workload: "frontend",
		WorkloadKind: "Deployment", NodeName: "n1", Labels: []string{"app=frontend", "tier=web"}}
	cart = &flow.Endpoint{Kind: flow.EndpointPod, Identity: 4002, Namespace: "shop", Pod: "cart-0", Workload: "cart",
		WorkloadKind: "StatefulSet", NodeName: "n2", Labels: []string{"app=cart", "generation=7", "kubernetes.io/name=cart"}}
	world = &flow.Endpoint{Kind: flow.EndpointWorld, Identity: 2, Name: "api.example.com"}
	sshd  = &flow.Endpoint{Kind: flow.EndpointProcess, Identity: 1, Workload: "sshd", WorkloadKind: "Process", NodeName: "n1"}
	node  = &flow.Node{Name: "n1", Boot: 77}
)

// request is an HTTP exchange from frontend to cart.
func request() *flow.Flow {
	return &flow.Flow{
		Src: frontend, Dst: cart, Node: node, Seq: 5, Kind: flow.KindL7, Verdict: flow.VerdictForwarded, Proto: flow.ProtoTCP,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.2.0.9"), SrcPort: 41234, DstPort: 8080, Ifindex: 12,
		Direction: flow.DirectionEgress, Point: flow.PointFromEndpoint,
		L7: &flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Resource: "/cart/7?q=*", Host: "cart.shop:8080", Status: 503, Answered: true, Error: true,
			TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	}
}

// syn is one direction only.
func syn() *flow.Flow {
	return &flow.Flow{
		Src: sshd, Dst: world, Node: &flow.Node{Name: "n2", Cluster: "blue", Boot: 78}, Seq: 6, Kind: flow.KindNew, Verdict: flow.VerdictAudit,
		Proto: flow.ProtoTCP, SrcAddr: addr("fd00::1"), DstAddr: addr("fd00:1::2"), SrcPort: 50000, DstPort: 443, TCPFlags: flow.TCPSyn, Packets: 1,
		Direction: flow.DirectionIngress, Point: flow.PointToNetwork,
	}
}

// reset is a dropped reply.
func reset() *flow.Flow {
	return &flow.Flow{
		Src: cart, Dst: frontend, Node: node, Seq: 7, Kind: flow.KindDrop, Verdict: flow.VerdictDropped, Proto: flow.ProtoTCP, Reply: true,
		SrcAddr: addr("10.2.0.9"), DstAddr: addr("10.1.0.7"), SrcPort: 8080, DstPort: 41234, TCPFlags: flow.TCPRst | flow.TCPAck,
		Drop: &flow.Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv"},
	}
}

// lookup is a DNS exchange.
func lookup() *flow.Flow {
	return &flow.Flow{
		Src: frontend, Dst: world, Node: node, Seq: 8, Kind: flow.KindL7, Verdict: flow.VerdictForwarded, Proto: flow.ProtoUDP,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.9.0.1"), SrcPort: 5353, DstPort: 53,
		L7: &flow.L7{Protocol: flow.L7DNS, Operation: "A", Resource: "redis.data.svc", Answered: true},
	}
}

// denied is a verdict on a connection that two policies deny.
func denied() *flow.Flow {
	return &flow.Flow{
		Src: frontend, Dst: cart, Node: node, Seq: 9, Kind: flow.KindVerdict, Verdict: flow.VerdictDropped, Proto: flow.ProtoTCP,
		SrcAddr: addr("10.1.0.7"), DstAddr: addr("10.2.0.9"), SrcPort: 41235, DstPort: 6379, Direction: flow.DirectionIngress,
		Drop: &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode},
		Policy: &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{
			{Kind: "NetworkPolicy", Namespace: "shop", Name: "default-deny"}, {Kind: "NetworkPolicy", Namespace: "shop", Name: "cart"},
		}},
	}
}

func ptr[T any](v T) *T { return &v }

// fields has for each field of Filter what it selects of [request, syn, reset, lookup], and of denied where that matters.
var fields = map[string][]struct {
	filter Filter
	want   string // "1" selected, "0" not
}{
	"SrcIP": {{Filter{SrcIP: []string{"10.1.0.7"}}, "1001"}, {Filter{SrcIP: []string{"10.2.0.0/16"}}, "1010"}, {Filter{SrcIP: []string{"fd00::/16", "10.9.0.1"}}, "0101"},
		{Filter{SrcIP: []string{"::ffff:10.2.0.0/112"}}, "1010"}},
	"DstIP":        {{Filter{DstIP: []string{"10.2.0.9"}}, "1000"}, {Filter{DstIP: []string{"0.0.0.0/0"}}, "1011"}},
	"SrcPod":       {{Filter{SrcPod: []string{"front"}}, "1001"}, {Filter{SrcPod: []string{"shop/cart-0"}}, "1010"}, {Filter{SrcPod: []string{"shop/"}}, "1011"}, {Filter{SrcPod: []string{"/"}}, "1011"}, {Filter{SrcPod: []string{"other/cart-0"}}, "0000"}},
	"DstPod":       {{Filter{DstPod: []string{"shop/front"}}, "1011"}, {Filter{DstPod: []string{"cart"}}, "1000"}},
	"SrcNamespace": {{Filter{SrcNamespace: []string{"shop"}}, "1011"}, {Filter{SrcNamespace: []string{"host n1"}}, "0100"}, {Filter{SrcNamespace: []string{"world"}}, "0001"}},
	"DstNamespace": {{Filter{DstNamespace: []string{"world"}}, "0101"}, {Filter{DstNamespace: []string{"sho"}}, "0000"}},
	"SrcWorkload":  {{Filter{SrcWorkload: []string{"cart"}}, "1010"}, {Filter{SrcWorkload: []string{"deployment/frontend"}}, "1001"}, {Filter{SrcWorkload: []string{"shop/frontend", "host n1/sshd"}}, "1101"}},
	"DstWorkload":  {{Filter{DstWorkload: []string{"StatefulSet/cart"}}, "1000"}, {Filter{DstWorkload: []string{"world/api.example.com"}}, "0101"}, {Filter{DstWorkload: []string{"Job/cart"}}, "0000"}},
	"Edge":         {{Filter{Edge: []string{"shop/frontend>shop/cart"}}, "1010"}, {Filter{Edge: []string{"shop/cart>shop/frontend", "host n1/sshd>world/api.example.com"}}, "0100"}},
	"SrcLabel":     {{Filter{SrcLabel: []string{"app=frontend,tier"}}, "1001"}, {Filter{SrcLabel: []string{"reserved:host"}}, "0100"}, {Filter{SrcLabel: []string{"!app"}}, "0101"}},
	"DstLabel":     {{Filter{DstLabel: []string{"k8s:app in (cart, x), generation>6"}}, "1000"}, {Filter{DstLabel: []string{"any:kubernetes.io/name=cart"}}, "1000"}},
	"SrcFQDN":      {{Filter{SrcFQDN: []string{"*.example.com."}}, "0001"}},
	"DstFQDN":      {{Filter{DstFQDN: []string{"API.*.com"}}, "0101"}, {Filter{DstFQDN: []string{"example.com"}}, "0000"}},
	"SrcPort":      {{Filter{SrcPort: []string{"8080"}}, "1010"}, {Filter{SrcPort: []string{"5000-5999", "50000"}}, "0101"}},
	"DstPort":      {{Filter{DstPort: []string{"443", "53"}}, "0101"}, {Filter{DstPort: []string{"8000-8999"}}, "1000"}},
	"SrcIdentity":  {{Filter{SrcIdentity: []uint32{1, 4002}}, "1110"}},
	"DstIdentity":  {{Filter{DstIdentity: []uint32{4002}}, "1000"}},
	"Node":         {{Filter{Node: []string{"N1"}}, "1011"}, {Filter{Node: []string{"blue/"}}, "0100"}, {Filter{Node: []string{"def*/n*"}}, "1011"}},
	"Verdict":      {{Filter{Verdict: []flow.Verdict{flow.VerdictDropped, flow.VerdictAudit}}, "0110"}},
	"DropReason":   {{Filter{DropReason: []string{"no_socket"}}, "0010"}, {Filter{DropReason: []string{"SKB_DROP_REASON_NO_SOCKET"}}, "0010"}, {Filter{DropReason: []string{"policy_denied"}}, "00001"}, {Filter{DropReason: []string{"NO"}}, "0000"}},
	"Policy": {{Filter{Policy: []string{"cart"}}, "00001"}, {Filter{Policy: []string{"x", "shop/default-deny"}}, "00001"}, {Filter{Policy: []string{"NetworkPolicy shop/cart"}}, "00001"},
		{Filter{Policy: []string{"data/cart"}}, "00000"}, {Filter{Policy: []string{"car"}}, "00000"}, {Filter{Policy: []string{"CiliumNetworkPolicy shop/cart"}}, "00000"}},
	"Kind":       {{Filter{Kind: []flow.Kind{flow.KindNew}}, "0100"}},
	"Protocol":   {{Filter{Protocol: []string{"TCP"}}, "1110"}, {Filter{Protocol: []string{"dns", "http"}}, "1001"}, {Filter{Protocol: []string{"icmp"}}, "0000"}},
	"HTTPStatus": {{Filter{HTTPStatus: []string{"503"}}, "1000"}, {Filter{HTTPStatus: []string{"5+"}}, "1000"}, {Filter{HTTPStatus: []string{"51+"}}, "0000"}},
	"HTTPMethod": {{Filter{HTTPMethod: []string{"get"}}, "1000"}, {Filter{HTTPMethod: []string{"A"}}, "0000"}},
	"HTTPPath":   {{Filter{HTTPPath: []string{`^/cart/\d+$`}}, "1000"}, {Filter{HTTPPath: []string{"q="}}, "0000"}},
	"HTTPURL":    {{Filter{HTTPURL: []string{`^http://cart\.shop:8080/cart`}}, "1000"}, {Filter{HTTPURL: []string{"https"}}, "0000"}},
	"DNSQuery":   {{Filter{DNSQuery: []string{`svc\.$`}}, "0001"}, {Filter{DNSQuery: []string{`^redis\.data\.svc$`}}, "0001"}},
	"TCPFlags":   {{Filter{TCPFlags: []string{"syn"}}, "0100"}, {Filter{TCPFlags: []string{"RST, ack"}}, "0010"}, {Filter{TCPFlags: []string{"SYN,ACK"}}, "0000"}},
	"IPVersion":  {{Filter{IPVersion: []uint8{6}}, "0100"}, {Filter{IPVersion: []uint8{4, 6}}, "1111"}},
	"Direction":  {{Filter{Direction: []flow.Direction{flow.DirectionIngress}}, "0100"}},
	"Point":      {{Filter{Point: []flow.Point{flow.PointToNetwork}}, "0100"}, {Filter{Point: []flow.Point{flow.PointToEndpoint}}, "1000"}},
	"Reply":      {{Filter{Reply: []bool{true}}, "1011"}, {Filter{Reply: []bool{false}}, "1101"}, {Filter{Reply: []bool{true, false}}, "1111"}},
	"Interface":  {{Filter{Interface: []uint32{12}}, "1000"}},
	"TraceID":    {{Filter{TraceID: []string{"4BF92F3577B34DA6A3CE929D0E0E4736"}}, "1000"}},
	"UUID":       {{Filter{UUID: []string{syn().UUID()}}, "0100"}},
	"L7":         {{Filter{L7: ptr(true)}, "1001"}, {Filter{L7: ptr(false)}, "0110"}},
	"Error":      {{Filter{Error: ptr(true)}, "1000"}, {Filter{Error: ptr(false)}, "0111"}},
	"Text": {{Filter{Text: []string{"CART"}}, "1010"}, {Filter{Text: []string{"tcp_v4"}}, "0010"}, {Filter{Text: []string{"fd00:1:"}}, "0100"}, {Filter{Text: []string{"redis"}}, "0001"},
		{Filter{Text: []string{"10.1.0.7"}}, "1011"}, {Filter{Text: []string{"policy shop/DEFAULT"}}, "00001"}},
}

func TestEveryFieldIsHonoured(t *testing.T) {
	flows := []*flow.Flow{request(), syn(), reset(), lookup(), denied()}
	for f := range reflect.TypeFor[Filter]().Fields() {
		tests := fields[f.Name]
		if len(tests) == 0 {
			t.Errorf("%s has no test", f.Name)
		}
		for _, tt := range tests {
			if reflect.ValueOf(tt.filter).FieldByName(f.Name).IsZero() {
				t.Errorf("a test of %s does not set it", f.Name)
			}
			selects, err := Compile(Set{Allow: []Filter{tt.filter}})
			if err != nil {
				t.Errorf("%s: %v", f.Name, err)
				continue
			}
			var got strings.Builder
			for _, fl := range flows[:len(tt.want)] {
				if selects(fl) {
					got.WriteByte('1')
				} else {
					got.WriteByte('0')
				}
			}
			if got.String() != tt.want {
				t.Errorf("%s %v selects %s, want %s", f.Name, reflect.ValueOf(tt.filter).FieldByName(f.Name), got.String(), tt.want)
			}
			for _, fl := range flows {
				if n := testing.AllocsPerRun(20, func() { selects(fl) }); n != 0 && !raced {
					t.Errorf("%s: %v allocations", f.Name, n)
				}
			}
		}
	}
}

func TestDirectionsAreNotMixed(t *testing.T) {
	tests := []struct {
		name   string
		filter Filter
		flow   *flow.Flow
		want   bool
	}{
		{"request", Filter{SrcPod: []string{"front"}, DstPort: []string{"8080"}}, request(), true},
		{"response", Filter{SrcPod: []string{"cart"}, SrcPort: []string{"8080"}, Reply: []bool{true}}, request(), true},
		{"response asked for as a request", Filter{SrcPod: []string{"cart"}, Reply: []bool{false}}, request(), false},
		{"source of one direction, port of the other", Filter{SrcPod: []string{"front"}, SrcPort: []string{"8080"}}, request(), false},
		{"no reply was seen", Filter{SrcNamespace: []string{"world"}}, syn(), false},
		{"the drop is one packet", Filter{SrcPod: []string{"front"}}, reset(), false},
		{"a denial is of a connection", Filter{SrcPod: []string{"front"}, DstPod: []string{"cart"}, Edge: []string{"shop/frontend>shop/cart"}}, deniedReply(), true},
		{"of which replies were dropped", Filter{SrcPod: []string{"cart"}, Reply: []bool{true}}, deniedReply(), true},
		{"a denial without replies", Filter{SrcPod: []string{"cart"}}, denied(), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			selects, err := Compile(Set{Allow: []Filter{tt.filter}})
			if err != nil {
				t.Fatal(err)
			}
			if got := selects(tt.flow); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// deniedReply is a drop by policy of what both sides sent.
func deniedReply() *flow.Flow {
	f := denied()
	f.Kind, f.Packets, f.ReplyPackets, f.Reply = flow.KindDrop, 1, 2, true
	return f
}

func TestSet(t *testing.T) {
	http, tcp, drops := Filter{Protocol: []string{"http"}}, Filter{Protocol: []string{"tcp"}}, Filter{Verdict: []flow.Verdict{flow.VerdictDropped}}
	secondary := request()
	secondary.Secondary = true
	tests := []struct {
		name string
		set  Set
		flow *flow.Flow
		want bool
	}{
		{"empty", Set{}, syn(), true},
		{"one of two", Set{Allow: []Filter{http, drops}}, reset(), true},
		{"none of two", Set{Allow: []Filter{http, drops}}, syn(), false},
		{"denied", Set{Allow: []Filter{tcp}, Deny: []Filter{drops}}, reset(), false},
		{"allowed", Set{Allow: []Filter{tcp}, Deny: []Filter{drops}}, syn(), true},
		{"an empty filter denies everything", Set{Deny: []Filter{{}}}, syn(), false},
		{"secondary", Set{}, secondary, false},
		{"secondary wanted", Set{Secondary: true}, secondary, true},
		{"no endpoints", Set{Allow: []Filter{{SrcPod: []string{"x"}}}}, &flow.Flow{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			selects, err := Compile(tt.set)
			if err != nil {
				t.Fatal(err)
			}
			if got := selects(tt.flow); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestErrorsNameTheField(t *testing.T) {
	for want, f := range map[string]Filter{
		`source_ip: "10.1" is neither an address (10.1.2.3, fd00::1) nor a CIDR (10.1.0.0/16)`:                 {SrcIP: []string{"10.1"}},
		`destination_pod: "a/b/c" is not [namespace/]name-prefix`:                                              {DstPod: []string{"a/b/c"}},
		`source_pod: "" is not [namespace/]name-prefix`:                                                        {SrcPod: []string{""}},
		`source_namespace: a namespace has no empty name`:                                                      {SrcNamespace: []string{""}},
		`source_workload: "x/" is not [kind/]name or namespace/name`:                                           {SrcWorkload: []string{"x/"}},
		`source_fqdn: "a b" is not a domain name; * stands for any part of it (*.example.com)`:                 {SrcFQDN: []string{"a b"}},
		`destination_port: "80-79" is not a port from 0 to 65535 or a range (8000-8999)`:                       {DstPort: []string{"80-79"}},
		`source_port: "65536" is not a port from 0 to 65535 or a range (8000-8999)`:                            {SrcPort: []string{"65536"}},
		`protocol: "foo" is not one of tcp, udp, icmp, icmpv4, icmpv6, sctp, http, dns`:                        {Protocol: []string{"foo"}},
		`tcp_flags: "X" is not one of FIN, SYN, RST, PSH, ACK, URG, ECE, CWR`:                                  {TCPFlags: []string{"SYN,X"}},
		`http_status_code: "6+" is not a status code from 100 to 599 (503) or the beginning of one (5+, 40+)`:  {HTTPStatus: []string{"6+"}},
		`ip_version: 5 is not 4 or 6`:                                                                          {IPVersion: []uint8{5}},
		`trace_id: "12" is not 32 hexadecimal digits`:                                                          {TraceID: []string{"12"}},
		`uuid: "12" is not a UUID`:                                                                             {UUID: []string{"12"}},
		`verdict: 99 is not a verdict: forwarded, dropped, error, audit, redirected, traced, translated`:       {Verdict: []flow.Verdict{99}},
		`policy: "shop/" is not the name of a policy: name, namespace/name or "kind namespace/name"`:           {Policy: []string{"shop/"}},
		`policy: "a/b/c" is not the name of a policy: name, namespace/name or "kind namespace/name"`:           {Policy: []string{"a/b/c"}},
		`kind: 99 is not a kind: new, state, update, close, drop, l7, verdict`:                                 {Kind: []flow.Kind{99}},
		`traffic_direction: 9 is not a direction: ingress, egress`:                                             {Direction: []flow.Direction{9}},
		`interface: 0 is not an interface index`:                                                               {Interface: []uint32{0}},
		`text: an empty text is in everything`:                                                                 {Text: []string{""}},
		`node_name: "" is not [cluster/]name; * stands for any part of it`:                                     {Node: []string{""}},
		`http_path: "(" is not a regular expression of RE2: error parsing regexp: missing closing ): ` + "`(`": {HTTPPath: []string{"("}},
	} {
		_, err := Compile(Set{Deny: []Filter{f}})
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"*", "", true}, {"a*", "", false}, {"*.com", "A.B.COM", true}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false}, {"**", "x", true},
		{"ab", "abc", false}, {"abc", "ab", false}, {"*a*a*a*b", strings.Repeat("a", 200), false},
	} {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("glob(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

func FuzzPorts(f *testing.F) {
	for _, s := range []string{"443", "8000-8999", "-1", "1-", "1-2-3", "65536"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		low, high, err := ParsePorts(s)
		if err == nil && (low > high || strings.Trim(s, "0123456789-") != "") {
			t.Errorf("%q gives %d-%d", s, low, high)
		}
	})
}

func FuzzTCPFlags(f *testing.F) {
	for _, s := range []string{"SYN", "syn,ACK", "", ",", "NS"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		flags, err := ParseTCPFlags(s)
		if err != nil {
			return
		}
		again, err := ParseTCPFlags(strings.ReplaceAll(flow.TCPFlagNames(flags), " ", ""))
		if err != nil || again != flags {
			t.Errorf("%q gives %08b, its names give %08b, %v", s, flags, again, err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	flows := []*flow.Flow{request(), syn(), reset(), lookup()}
	for _, name := range []string{"SrcIP", "SrcPod", "SrcLabel", "HTTPPath", "HTTPURL", "Text"} {
		b.Run(name, func(b *testing.B) {
			selects, err := Compile(Set{Allow: []Filter{fields[name][0].filter}})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				selects(flows[i&3])
			}
		})
	}
}
