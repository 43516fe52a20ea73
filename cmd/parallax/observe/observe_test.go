package observe

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
)

var now = time.Date(2026, 11, 22, 10, 30, 0, 0, time.FixedZone("CET", 3600))

func request(args ...string) (*observerpb.GetFlowsRequest, error) {
	var o Options
	flags := pflag.NewFlagSet("observe", pflag.ContinueOnError)
	o.Register(flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	return o.Request(now)
}

func TestRequest(t *testing.T) {
	for args, want := range map[string]string{
		"":                                  `{"number":"20"}`,
		"-f":                                `{"follow":true}`,
		"-f --last 5":                       `{"number":"5","follow":true}`,
		"--first 3":                         `{"number":"3","first":true}`,
		"--all":                             `{"number":"18446744073709551615"}`,
		"--since 30m --until 5m":            `{"since":"2026-11-22T09:00:00Z","until":"2026-11-22T09:25:00Z"}`,
		"--since 2026-11-22T08:00:00Z":      `{"since":"2026-11-22T08:00:00Z"}`,
		"--since 2026-11-21":                `{"since":"2026-11-20T23:00:00Z"}`,
		"--since 10:00":                     `{"since":"2026-11-22T09:00:00Z"}`,
		"--last 2 --since 1h":               `{"number":"2","since":"2026-11-22T08:30:00Z"}`,
		"-f --from-pod shop/cart":           `{"follow":true,"whitelist":[{"source_pod":["shop/cart"]}]}`,
		"-f --to-pod cart":                  `{"follow":true,"whitelist":[{"destination_pod":["/cart"]}]}`,
		"-f --pod cart":                     `{"follow":true,"whitelist":[{"source_pod":["/cart"]},{"destination_pod":["/cart"]}]}`,
		"-f -n shop":                        `{"follow":true,"whitelist":[{"source_pod":["shop/"]},{"destination_pod":["shop/"]}]}`,
		"-f -n a -n b --pod c":              `{"follow":true,"whitelist":[{"source_pod":["a/c","b/c"]},{"destination_pod":["a/c","b/c"]}]}`,
		"-f --from-namespace a --to-pod b":  `{"follow":true,"whitelist":[{"source_pod":["a/"],"destination_pod":["/b"]}]}`,
		"-f --workload Deployment/cart":     `{"follow":true,"whitelist":[{"source_workload":[{"name":"cart","kind":"Deployment"}]},{"destination_workload":[{"name":"cart","kind":"Deployment"}]}]}`,
		"-f --to-port 80 --to-port 443":     `{"follow":true,"whitelist":[{"destination_port":["80","443"]}]}`,
		"-f --from-identity world":          `{"follow":true,"whitelist":[{"source_identity":[2]}]}`,
		"-f --to-identity 4001":             `{"follow":true,"whitelist":[{"destination_identity":[4001]}]}`,
		"-f --ip 10.0.0.0/8 --protocol dns": `{"follow":true,"whitelist":[{"source_ip":["10.0.0.0/8"],"protocol":["dns"]},{"destination_ip":["10.0.0.0/8"],"protocol":["dns"]}]}`,
		"-f --verdict dropped --not --from-fqdn *.x.com": `{"follow":true,"whitelist":[{"verdict":["DROPPED"]}],"blacklist":[{"source_fqdn":["*.x.com"]}]}`,
		"-f -t drop -t trace:to-endpoint -t l7":          `{"follow":true,"whitelist":[{"event_type":[{"type":1},{"type":4,"match_sub_type":true},{"type":129}]}]}`,
		"-f --tcp-flags SYN,ack -4":                      `{"follow":true,"whitelist":[{"tcp_flags":[{"SYN":true,"ACK":true}],"ip_version":["IPv4"]}]}`,
		"-f --drop-reason policy_denied":                 `{"follow":true,"whitelist":[{"drop_reason_desc":["POLICY_DENIED"]}]}`,
		"-f --reply":                                     `{"follow":true,"whitelist":[{"reply":[true]}]}`,
		"-f --traffic-direction Egress --http-status 5+ --http-method GET --http-path ^/x --http-url y --dns-query z --node-name n*": `{"follow":true,"whitelist":[{"traffic_direction":["EGRESS"],` +
			`"http_status_code":["5+"],"dns_query":["z"],"http_method":["GET"],"http_path":["^/x"],"http_url":["y"],"node_name":["n*"]}]}`,
		// Either pod and either port: all four combinations.
		"-f --pod c --port 80": `{"follow":true,"whitelist":[{"source_pod":["/c"],"source_port":["80"]},{"source_pod":["/c"],"destination_port":["80"]},` +
			`{"source_port":["80"],"destination_pod":["/c"]},{"destination_pod":["/c"],"destination_port":["80"]}]}`,
	} {
		req, err := request(strings.Fields(args)...)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		var got, expect any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &expect); err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if diff := cmp.Diff(expect, got); diff != "" {
			t.Errorf("%s: %s", args, diff)
		}
	}
}

func TestBeyondHubble(t *testing.T) {
	yes, no := true, false
	for args, want := range map[string]hubble.Extra{
		"--error":                                       {Allow: hubble.ExtraFilter{Error: &yes}},
		"--error=false --grep CART --grep x":            {Allow: hubble.ExtraFilter{Error: &no, Text: []string{"CART", "x"}}},
		"--secondary":                                   {Secondary: true},
		"--not --grep probe":                            {Deny: hubble.ExtraFilter{Text: []string{"probe"}}},
		"--drop-reason no_socket":                       {Allow: hubble.ExtraFilter{DropReason: []string{"NO_SOCKET"}}},
		"--policy shop/web --policy x":                  {Allow: hubble.ExtraFilter{Policy: []string{"shop/web", "x"}}},
		"--not --policy default-deny":                   {Deny: hubble.ExtraFilter{Policy: []string{"default-deny"}}},
		"--drop-reason POLICY_DENIED --drop-reason FOO": {Allow: hubble.ExtraFilter{DropReason: []string{"POLICY_DENIED", "FOO"}}},
	} {
		req, err := request(strings.Fields(args)...)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		got, err := hubble.ExtraFromProto(req.GetExtensions())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", args, diff)
		}
		if len(req.GetWhitelist())+len(req.GetBlacklist()) > 0 {
			t.Errorf("%s: also %v %v", args, req.GetWhitelist(), req.GetBlacklist())
		}
	}
}

func TestWrongFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--first 1 --last 1":           "--first and --last cannot be combined",
		"--first 1 -f":                 "--first and --follow cannot be combined: use --last, or --since",
		"--all --last 1":               "--all cannot be combined with --first, --last, --since or --until",
		"-f --until 5m":                "--until and --follow cannot be combined",
		"-f -o table":                  "-o table cannot follow: its columns are as wide as what they will hold; use compact, dict or json",
		"-o xml":                       `--output "xml": choose compact, dict, table, json, jsonpb`,
		"--color blue":                 `--color "blue": choose auto, always or never`,
		"--since soon":                 `--since: "soon" is neither a duration (5m) nor a time (15:04:05, 2006-01-02, 2006-01-02T15:04:05Z)`,
		"--since -5m":                  `--since: "-5m" is in the future`,
		"--not":                        "--not must stand before the filter that it reverses",
		"--port 80 --from-port 80":     "--port cannot be combined with --from-port or --to-port",
		"-n shop --pod data/x":         `pod "data/x" is not in namespace shop`,
		"--verdict lost":               `invalid argument "lost" for "--verdict" flag: choose forwarded, dropped, error, audit, redirected, traced or translated`,
		"--to-port http":               `invalid argument "http" for "--to-port" flag: "http" is not a port from 0 to 65535 or a range (8000-8999)`,
		"--protocol arp":               `invalid argument "arp" for "--protocol" flag: "arp" is not one of tcp, udp, icmp, icmpv4, icmpv6, sctp, http, dns`,
		"--identity nobody":            `invalid argument "nobody" for "--identity" flag: "nobody" is neither a number nor one of host, world, unmanaged, health, init, remote-node, kube-apiserver, ingress, world-ipv4, world-ipv6`,
		"-t flow":                      `invalid argument "flow" for "-t, --type" flag: choose trace, trace:POINT, drop, l7 or policy-verdict`,
		"-t trace:unknown":             `invalid argument "trace:unknown" for "-t, --type" flag: "unknown" is not an observation point such as from-endpoint, to-endpoint, from-network or to-network`,
		"--tcp-flags SYN,FOO":          `invalid argument "SYN,FOO" for "--tcp-flags" flag: "FOO" is not one of FIN, SYN, RST, PSH, ACK, URG, ECE, CWR`,
		"--label a=b=c":                `invalid argument "a=b=c" for "-l, --label" flag: label selector "a=b=c": a comma is missing before "=c"`,
		"--policy shop/":               `invalid argument "shop/" for "--policy" flag: "shop/" is not the name of a policy: name, namespace/name or "kind namespace/name"`,
		"--traffic-direction sideways": `invalid argument "sideways" for "--traffic-direction" flag: choose ingress or egress`,
	} {
		_, err := request(strings.Fields(args)...)
		if err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", args, err, want)
		}
	}
}

func TestColour(t *testing.T) {
	var out, notices strings.Builder
	p := NewPrinter(PrintOptions{Output: "compact", Color: "auto", TimeFormat: "RFC3339", Translation: true}, &out, &notices, true)
	f := &flow.Flow{Verdict: flow.VerdictDropped, Kind: flow.KindDrop, Src: &flow.Endpoint{Name: "\x1b[2Jevil"}, Dst: &flow.Endpoint{Kind: flow.EndpointWorld}, Drop: &flow.Drop{Reason: "NO_SOCKET"}}
	if err := p.Write(&observerpb.GetFlowsResponse{ResponseTypes: &observerpb.GetFlowsResponse_Flow{Flow: hubble.ToProto(f)}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[1;31mDROPPED\x1b[0m") || !strings.Contains(out.String(), "\x1b[31mNO_SOCKET\x1b[0m") {
		t.Errorf("no colour in %q", out.String())
	}
	if strings.Contains(out.String(), "\x1b[2J") {
		t.Errorf("a name controls the terminal: %q", out.String())
	}
	for _, o := range []PrintOptions{{Color: "never"}, {Color: "auto", NoColor: true}} {
		if NewPrinter(o, &out, &notices, true).paint {
			t.Errorf("%+v is coloured", o)
		}
	}
}

func TestForeignFlow(t *testing.T) {
	var out strings.Builder
	p := NewPrinter(PrintOptions{Output: "compact", Color: "never", TimeFormat: "TimeMilli", Translation: true}, &out, &out, false)
	reply := hubble.ToProto(&flow.Flow{Kind: flow.KindNew, Proto: flow.ProtoTCP, Reply: true, SrcPort: 40000, DstPort: 80, Verdict: flow.VerdictForwarded,
		Src: &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "a", Pod: "x"}, Dst: &flow.Endpoint{Kind: flow.EndpointPod, Namespace: "b", Pod: "y"}})
	reply.Extensions, reply.Summary = nil, "TCP Flags: SYN, ACK" //nolint:staticcheck // as Hubble sends it
	if err := p.Write(&observerpb.GetFlowsResponse{ResponseTypes: &observerpb.GetFlowsResponse_Flow{Flow: reply}}); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(strings.Fields(out.String())[1:], " "), "a/x <- b/y:80 TCP Flags: SYN, ACK FORWARDED"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What a Cilium agent says of a decision reads as what Parallax says.
func TestForeignDecision(t *testing.T) {
	by := []*flowpb.Policy{{Name: "l4", Namespace: "shop", Kind: "CiliumNetworkPolicy"}}
	for want, f := range map[string]*flowpb.Flow{
		"a/x -> b/y:80 policy-verdict:L4-Only INGRESS ALLOWED (allowed by CiliumNetworkPolicy shop/l4)": {Verdict: flowpb.Verdict_FORWARDED, PolicyMatchType: 3,
			EventType: &flowpb.CiliumEventType{Type: 5}, TrafficDirection: flowpb.TrafficDirection_INGRESS, IngressAllowedBy: by},
		"a/x -> b/y:80 policy-verdict:none EGRESS DENIED (denied by CiliumNetworkPolicy shop/l4)": {Verdict: flowpb.Verdict_DROPPED, DropReasonDesc: flowpb.DropReason_POLICY_DENIED,
			EventType: &flowpb.CiliumEventType{Type: 5}, TrafficDirection: flowpb.TrafficDirection_EGRESS, EgressDeniedBy: by},
		"a/x -> b/y:80 policy-verdict:none INGRESS AUDITED (audit, would be denied)": {Verdict: flowpb.Verdict_AUDIT,
			EventType: &flowpb.CiliumEventType{Type: 5}, TrafficDirection: flowpb.TrafficDirection_INGRESS},
		"a/x -> b/y:80 Policy denied DROPPED (TCP Flags: SYN)": {Verdict: flowpb.Verdict_DROPPED, DropReasonDesc: flowpb.DropReason_POLICY_DENIED, EventType: &flowpb.CiliumEventType{Type: 1, SubType: 133}},
	} {
		f.L4 = &flowpb.Layer4{Protocol: &flowpb.Layer4_TCP{TCP: &flowpb.TCP{SourcePort: 40000, DestinationPort: 80}}}
		f.Source, f.Destination = &flowpb.Endpoint{Namespace: "a", PodName: "x"}, &flowpb.Endpoint{Namespace: "b", PodName: "y"}
		f.Summary = "TCP Flags: SYN" //nolint:staticcheck // as Hubble sends it
		var out strings.Builder
		p := NewPrinter(PrintOptions{Output: "compact", Color: "never", TimeFormat: "TimeMilli", Translation: true}, &out, &out, false)
		if err := p.Write(&observerpb.GetFlowsResponse{ResponseTypes: &observerpb.GetFlowsResponse_Flow{Flow: f}}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(strings.Fields(out.String())[1:], " "); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	for want, f := range map[string]*flow.Flow{
		"client -> server:80":          {Proto: flow.ProtoTCP, SrcPort: 40000, DstPort: 80},
		"client:53 -> server:53":       {Proto: flow.ProtoUDP, SrcPort: 53, DstPort: 53},
		"client -> server:50051":       {Proto: flow.ProtoTCP, SrcPort: 40000, DstPort: 50051},
		"client -> server":             {Proto: flow.ProtoICMP, SrcPort: 7, DstPort: 7},
		"client:80 -> server":          {Proto: flow.ProtoTCP, SrcPort: 80, DstPort: 40000, Drop: &flow.Drop{}},
		"client:40000 -> server:1":     nil,
		"client:40000 -> server:50051": {Proto: flow.ProtoTCP, SrcPort: 40000, DstPort: 50051, Drop: &flow.Drop{}},
	} {
		short := true
		if f == nil {
			short, f = false, &flow.Flow{Proto: flow.ProtoTCP, SrcPort: 40000, DstPort: 1}
		}
		f.Src, f.Dst = &flow.Endpoint{Name: "client"}, &flow.Endpoint{Name: "server"}
		src, dst := (&view{flow: f}).names(true, short)
		if got := src + " -> " + dst; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestEveryNoticeIsALine(t *testing.T) {
	var out, notices strings.Builder
	p := NewPrinter(PrintOptions{Output: "compact"}, &out, &notices, false)
	p.lost("", &flowpb.LostEvent{Source: flowpb.LostEventSource_HUBBLE_RING_BUFFER, NumEventsLost: 5})
	p.lost("blue/n1", &flowpb.LostEvent{Source: flowpb.LostEventSource_PERF_EVENT_RING_BUFFER, NumEventsLost: 2})
	want := "parallax: 5 flows were lost here: this client reads more slowly than flows arrive\nparallax: 2 flows of node blue/n1 were lost in the kernel: its ring buffer was full\n"
	if notices.String() != want {
		t.Errorf("got %q", notices.String())
	}
}
