package metrics

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	frontend = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "frontend-1", Workload: "frontend"}
	cart     = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "shop", Pod: "cart-1", Workload: "cart"}
	dns      = &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "platform", Workload: "dns"}
	example  = &flow.Endpoint{Kind: flow.EndpointWorld, Name: "api.example.com"}
	v4       = flow.Addr{10: 0xff, 11: 0xff, 12: 10}
)

func tcp(kind flow.Kind, flags uint8, change ...func(*flow.Flow)) flow.Flow {
	f := flow.Flow{
		Kind: kind, TCPFlags: flags, Src: frontend, Dst: cart, SrcAddr: v4, DstAddr: v4, Proto: flow.ProtoTCP, DstPort: 8080,
		Verdict: flow.VerdictForwarded, Point: flow.PointFromEndpoint, Direction: flow.DirectionEgress,
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func counted(packets, bytes, replyPackets, replyBytes uint64) func(*flow.Flow) {
	return func(f *flow.Flow) {
		f.Packets, f.Bytes, f.ReplyPackets, f.ReplyBytes = packets, bytes, replyPackets, replyBytes
	}
}

func reply(f *flow.Flow) { f.Reply = true }

func exchange(l7 flow.L7) flow.Flow {
	return tcp(flow.KindL7, 0, func(f *flow.Flow) {
		f.L7, f.Reply, f.Bytes, f.Packets = &l7, l7.Answered, 1000, 1
		if l7.Protocol == flow.L7DNS {
			f.Proto, f.Dst = flow.ProtoUDP, dns
		}
	})
}

const shop = `destination="shop/cart",destination_namespace="shop",destination_workload="cart",%s,source="shop/frontend",source_namespace="shop",source_workload="frontend"`

// familyTest are flows and what becomes of some families, by name: their samples, without HELP and TYPE.
type familyTest struct {
	flows []flow.Flow
	want  map[string]string
}

func (tc familyTest) run(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	New(Config{}, reg).Observe(tc.flows)
	got := samples(t, reg)
	for family, want := range tc.want {
		if diff := cmp.Diff(split(want), got[family]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", family, diff)
		}
	}
	lint(t, reg)
}

func TestFamilies(t *testing.T) {
	for name, tc := range map[string]familyTest{
		"a TCP connection": {
			flows: []flow.Flow{
				tcp(flow.KindNew, flow.TCPSyn, counted(1, 60, 0, 0)),
				tcp(flow.KindState, flow.TCPAck, counted(1, 52, 1, 60), func(f *flow.Flow) { f.HandshakeRTT = 300 }),
				tcp(flow.KindUpdate, flow.TCPAck|flow.TCPPsh, counted(10, 1000, 20, 30000), func(f *flow.Flow) { f.HandshakeRTT = 300 }),
				tcp(flow.KindState, flow.TCPFin|flow.TCPAck, reply, func(f *flow.Flow) { f.HandshakeRTT = 300 }),
				tcp(flow.KindClose, flow.TCPFin|flow.TCPRst|flow.TCPAck, counted(1, 52, 2, 104)),
			},
			want: map[string]string{
				"hubble_flows_processed_total": "hubble_flows_processed_total{" + sorted(`protocol="TCP"`, `subtype="from-endpoint"`, `type="Trace"`, `verdict="FORWARDED"`) + "} 5",
				"hubble_tcp_flags_total": strings.Join([]string{
					"hubble_tcp_flags_total{" + sorted(`family="IPv4"`, `flag="RST"`) + "} 1",
					"hubble_tcp_flags_total{" + sorted(`family="IPv4"`, `flag="SYN"`) + "} 1",
					"hubble_tcp_flags_total{" + swapped(sorted(`family="IPv4"`, `flag="FIN"`)) + "} 1",
					"hubble_tcp_flags_total{" + swapped(sorted(`family="IPv4"`, `flag="SYN-ACK"`)) + "} 1",
				}, "\n"),
				"hubble_port_distribution_total": "hubble_port_distribution_total{" + sorted(`port="8080"`, `protocol="TCP"`) + "} 4",
				"parallax_flow_bytes_total": "parallax_flow_bytes_total{" + sorted(`protocol="TCP"`, `sender="destination"`) + "} 30164\n" +
					"parallax_flow_bytes_total{" + sorted(`protocol="TCP"`, `sender="source"`) + "} 1164",
				"parallax_flow_packets_total": "parallax_flow_packets_total{" + sorted(`protocol="TCP"`, `sender="destination"`) + "} 23\n" +
					"parallax_flow_packets_total{" + sorted(`protocol="TCP"`, `sender="source"`) + "} 13",
			},
		},
		"a drop": {
			flows: []flow.Flow{tcp(flow.KindDrop, flow.TCPSyn, func(f *flow.Flow) {
				f.Verdict, f.Drop, f.Packets, f.Bytes = flow.VerdictDropped, &flow.Drop{Reason: "NO_SOCKET"}, 1, 60
			})},
			want: map[string]string{
				"hubble_drop_total":              "hubble_drop_total{" + sorted(`protocol="TCP"`, `reason="NO_SOCKET"`) + "} 1",
				"hubble_flows_processed_total":   "hubble_flows_processed_total{" + sorted(`protocol="TCP"`, `subtype=""`, `type="Drop"`, `verdict="DROPPED"`) + "} 1",
				"hubble_tcp_flags_total":         "",
				"hubble_port_distribution_total": "",
				"parallax_flow_bytes_total":      "",
			},
		},
		"secondary": {
			flows: []flow.Flow{tcp(flow.KindNew, flow.TCPSyn, func(f *flow.Flow) { f.Secondary = true })},
			want:  map[string]string{"hubble_flows_processed_total": "", "hubble_tcp_flags_total": ""},
		},
		"HTTP": {
			flows: []flow.Flow{
				exchange(flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Version: "HTTP/1.1", Status: 503, Answered: true, Error: true, Latency: 40e6}),
				exchange(flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Version: "HTTP/1.1", Latency: -1, Error: true}),
			},
			want: map[string]string{
				"hubble_http_requests_total": "hubble_http_requests_total{" + sorted(`method="GET"`, `protocol="HTTP/1.1"`, `reporter="client"`, `status="503"`) + "} 1",
				"parallax_l7_requests_total": "parallax_l7_requests_total{" + sorted(`outcome="error"`, `protocol="http"`) + "} 1\n" +
					"parallax_l7_requests_total{" + sorted(`outcome="unanswered"`, `protocol="http"`) + "} 1",
				"parallax_flow_bytes_total": "",
				"hubble_flows_processed_total": "hubble_flows_processed_total{" +
					sorted(`protocol="HTTP"`, `subtype="HTTP"`, `type="L7"`, `verdict="FORWARDED"`) + "} 2",
			},
		},
		"ICMP echo": {
			flows: []flow.Flow{tcp(flow.KindUpdate, 0, counted(3, 252, 2, 168), func(f *flow.Flow) { f.Proto, f.ICMPType, f.DstPort = flow.ProtoICMP, 8, 0 })},
			want: map[string]string{
				"hubble_icmp_total": "hubble_icmp_total{" + sorted(`family="IPv4"`, `type="EchoRequest"`) + "} 3\n" +
					"hubble_icmp_total{" + swapped(sorted(`family="IPv4"`, `type="EchoReply"`)) + "} 2",
			},
		},
	} {
		t.Run(name, tc.run)
	}
}

// A response goes from the server to the client; the labels of Hubble's DNS families follow it.
func TestDNS(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := New(Config{}, reg)
	m.Observe([]flow.Flow{
		exchange(flow.L7{Protocol: flow.L7DNS, Operation: "AAAA", Answered: true, Answers: []string{"alias.example.com", "2001:db8::1", "2001:db8::2"}}),
		exchange(flow.L7{Protocol: flow.L7DNS, Operation: "A", Answered: true, Status: 3, Error: true}),
		exchange(flow.L7{Protocol: flow.L7DNS, Operation: "A", Latency: -1, Error: true}),
	})
	got := samples(t, reg)
	from := func(labels string) string {
		return `destination="shop/frontend",destination_namespace="shop",destination_workload="frontend",` + labels +
			`,source="platform/dns",source_namespace="platform",source_workload="dns"`
	}
	to := `destination="platform/dns",destination_namespace="platform",destination_workload="dns",ips_returned="0",qtypes=%q,rcode="",source="shop/frontend",source_namespace="shop",source_workload="frontend"`
	for family, want := range map[string][]string{
		"hubble_dns_queries_total": {
			"hubble_dns_queries_total{" + fmt.Sprintf(to, "A") + "} 2",
			"hubble_dns_queries_total{" + fmt.Sprintf(to, "AAAA") + "} 1",
		},
		"hubble_dns_responses_total": {
			"hubble_dns_responses_total{" + from(`ips_returned="0",qtypes="A",rcode="Non-Existent Domain"`) + "} 1",
			"hubble_dns_responses_total{" + from(`ips_returned="2",qtypes="AAAA",rcode="No Error"`) + "} 1",
		},
		"hubble_dns_response_types_total": {
			"hubble_dns_response_types_total{" + from(`qtypes="AAAA"`) + `,type="AAAA"} 2`,
			"hubble_dns_response_types_total{" + from(`qtypes="AAAA"`) + `,type="CNAME"} 1`,
		},
	} {
		if diff := cmp.Diff(want, got[family]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", family, diff)
		}
	}
}

func TestOverflow(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := New(Config{MaxSeries: 20}, reg)
	port := func(p int) []flow.Flow {
		return []flow.Flow{tcp(flow.KindNew, 0, func(f *flow.Flow) { f.DstPort = uint16(p) })}
	}
	for i := range 50 {
		m.Observe(port(i))
	}
	m.Observe(port(49))
	m.Observe(port(3))
	ports := samples(t, reg)["hubble_port_distribution_total"]
	if len(ports) != 21 {
		t.Errorf("%d series, want 20 and the one of the overflow", len(ports))
	}
	const rest = `hubble_port_distribution_total{destination="overflow",destination_namespace="overflow",destination_workload="overflow",port="overflow",protocol="overflow",source="overflow",source_namespace="overflow",source_workload="overflow"} 31`
	if !strings.Contains(strings.Join(ports, "\n"), rest) {
		t.Errorf("no %s in\n%s", rest, strings.Join(ports, "\n"))
	}
	if n := value(t, m.hubble.ports.overflows); n != 31 {
		t.Errorf("overflow counter is %v, want 31", n)
	}
	if len(m.hubble.ports.cache) > 80 {
		t.Errorf("the cache has %d entries, want at most 80", len(m.hubble.ports.cache))
	}

	// An hour later only the ports still in use keep their series; new ones get those of the others.
	for range 3 {
		m.clock.now += int64(40 * time.Minute)
		m.hubble.observe(&port(3)[0])
	}
	m.hubble.observe(&port(49)[0])
	want := sorted(`port="49"`, `protocol="TCP"`)
	if ports = samples(t, reg)["hubble_port_distribution_total"]; len(ports) != 3 || !strings.Contains(ports[2], want) {
		t.Errorf("after an hour: %s", strings.Join(ports, "\n"))
	}
}

// A histogram costs a series for each bucket.
func TestHistogramsAreBounded(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := New(Config{MaxSeries: 100}, reg)
	for i := range 50 {
		src := &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "n", Workload: fmt.Sprint(i)}
		m.Observe([]flow.Flow{tcp(flow.KindState, flow.TCPAck, func(f *flow.Flow) { f.Src, f.HandshakeRTT = src, 100 })})
	}
	per := len(handshakeBuckets) + 3
	if n := len(m.own.handshake.known); n != 100/per {
		t.Errorf("%d histograms, want %d", n, 100/per)
	}
}

func TestHostileLabels(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := New(Config{}, reg)
	odd := &flow.Endpoint{Kind: flow.EndpointProcess, Workload: "\xff\xfe" + strings.Repeat("é", 500)}
	m.Observe([]flow.Flow{
		tcp(flow.KindNew, 0, func(f *flow.Flow) { f.Src, f.Dst = odd, nil }),
		exchange(flow.L7{Protocol: flow.L7HTTP, Operation: "\x80GET", Version: "\x00", Answered: true}),
	})
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	m := New(Config{}, prometheus.NewRegistry())
	flows := steady()
	m.Observe(flows)
	if n := testing.AllocsPerRun(100, func() { m.Observe(flows) }); n > 0 {
		t.Errorf("%v allocations for %d flows, want 0", n, len(flows))
	}
}

func steady() []flow.Flow {
	all := []flow.Flow{
		tcp(flow.KindNew, flow.TCPSyn, counted(1, 60, 0, 0)),
		tcp(flow.KindState, flow.TCPAck, counted(1, 52, 1, 60), func(f *flow.Flow) { f.HandshakeRTT = 300 }),
		tcp(flow.KindUpdate, flow.TCPAck, counted(10, 1000, 20, 30000)),
		tcp(flow.KindClose, flow.TCPRst, counted(1, 52, 2, 104)),
		tcp(flow.KindDrop, 0, func(f *flow.Flow) { f.Verdict, f.Drop = flow.VerdictDropped, &flow.Drop{Reason: "NO_SOCKET"} }),
		tcp(flow.KindDrop, 0, counted(2, 120, 1, 60), decided(flow.VerdictDropped, &flow.Decision{Rule: -1, Policies: policies})),
		tcp(flow.KindVerdict, 0, decided(flow.VerdictForwarded, &flow.Decision{Match: flow.PolicyMatchL3L4, Policies: policies[:1]})),
		exchange(flow.L7{Protocol: flow.L7HTTP, Operation: "GET", Version: "HTTP/1.1", Status: 200, Answered: true, Latency: 1e6}),
		exchange(flow.L7{Protocol: flow.L7DNS, Operation: "A", Answered: true, Answers: []string{"10.0.0.1"}, Latency: 1e6}),
		tcp(flow.KindUpdate, 0, counted(3, 252, 2, 168), func(f *flow.Flow) { f.Proto, f.ICMPType = flow.ProtoICMP, 8 }),
	}
	return all
}

func TestFollow(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := New(Config{Primary: func(*flow.Flow) bool { return true }}, reg)
	r := ring.New(4)
	r.Add([]flow.Flow{tcp(flow.KindNew, 0)}) // before: not counted
	ctx, cancel := context.WithCancel(t.Context())
	ticked := make(chan struct{}, 1)
	done := make(chan error)
	go func() {
		done <- m.Follow(ctx, r, func() {
			select {
			case ticked <- struct{}{}:
			default:
			}
		})
	}()
	for added := false; !added; {
		r.Add(make([]flow.Flow, 64)) // more than the ring holds
		select {
		case <-ticked:
			added = true
		default:
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if value(t, m.missed) == 0 || value(t, m.lost.WithLabelValues(lostObserver)) != value(t, m.missed) {
		t.Error("what was overwritten is not counted as lost")
	}
}

func TestLost(t *testing.T) {
	m := New(Config{}, prometheus.NewRegistry())
	m.Lost([]flow.Lost{{Stage: flow.StageKernelRing, Count: 2}, {Stage: flow.StagePublish, Count: 3}, {Stage: "relay.fanout", Count: 4}}, "relay.fanout")
	for source, want := range map[string]float64{lostKernel: 2, lostQueue: 3, lostObserver: 4} {
		if got := value(t, m.lost.WithLabelValues(source)); got != want {
			t.Errorf("%s: %v, want %v", source, got, want)
		}
	}
	if got := value(t, m.missed); got != 4 {
		t.Errorf("missed: %v, want 4", got)
	}
}

// Hubble takes the names of ICMP types from gopacket.
func TestICMPNames(t *testing.T) {
	for kind, known := range icmp4Types {
		for code := range max(1, len(known.codes)) {
			if got, want := icmpName(icmp4Types, kind, uint8(code)), layers.CreateICMPv4TypeCode(kind, uint8(code)).String(); got != want {
				t.Errorf("ICMPv4 %d/%d: %q, want %q", kind, code, got, want)
			}
		}
	}
	for kind, known := range icmp6Types {
		for code := range max(1, len(known.codes)) {
			if got, want := icmpName(icmp6Types, kind, uint8(code)), layers.CreateICMPv6TypeCode(kind, uint8(code)).String(); got != want {
				t.Errorf("ICMPv6 %d/%d: %q, want %q", kind, code, got, want)
			}
		}
	}
	for _, odd := range [][2]uint8{{8, 7}, {99, 1}, {3, 200}} {
		if got, want := icmpName(icmp4Types, odd[0], odd[1]), layers.CreateICMPv4TypeCode(odd[0], odd[1]).String(); got != want {
			t.Errorf("ICMPv4 %v: %q, want %q", odd, got, want)
		}
	}
}

func TestParty(t *testing.T) {
	for want, e := range map[string]*flow.Endpoint{
		"shop/cart": cart, "api.example.com": example, "reserved:unknown": nil, "reserved:world": {Kind: flow.EndpointWorld, Name: "2001:db8::1"},
		"sshd": {Kind: flow.EndpointProcess, Workload: "sshd", NodeName: "n"}, "data/bare": {Kind: flow.EndpointPod, Namespace: "data", Pod: "bare"},
		"shop/web": {Kind: flow.EndpointService, Namespace: "shop", Name: "web"}, "node-a": {Kind: flow.EndpointHost, Name: "node-a"},
	} {
		if got, _, _ := party(e); got != want {
			t.Errorf("%+v is %q, want %q", e, got, want)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m := New(Config{}, prometheus.NewRegistry())
	flows := steady()
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(flows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(flows)), "ns/flow")
}

// sorted joins labels of a flow from frontend to cart as Prometheus writes them: by name.
func sorted(own ...string) string {
	between := strings.Join(own, ",")
	if strings.HasPrefix(own[0], "action") {
		return own[0] + "," + fmt.Sprintf(shop, strings.Join(own[1:], ","))
	}
	var before, after []string
	for _, l := range own {
		if l > "source" && l < "source_workload=" || l < "source" {
			before = append(before, l)
		} else {
			after = append(after, l)
		}
	}
	between = strings.Join(before, ",")
	s := fmt.Sprintf(shop, between)
	if between == "" {
		s = strings.Replace(s, ",,", ",", 1)
	}
	return strings.Join(append([]string{s}, after...), ",")
}

func swapped(labels string) string {
	return strings.NewReplacer("cart", "frontend", "frontend", "cart").Replace(labels)
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// samples are the lines of the text format by family.
func samples(t *testing.T, reg prometheus.Gatherer) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			all[f.GetName()] = append(all[f.GetName()], fmt.Sprintf("%s{%s} %v", f.GetName(), strings.Join(labels, ","), m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	return all
}

func lint(t *testing.T, reg prometheus.Gatherer) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// value is what the only metric of c counts.
func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("%v, %v", families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}
