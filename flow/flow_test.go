package flow

import (
	"net/netip"
	"testing"
	"time"
)

func TestAddr(t *testing.T) {
	for _, s := range []string{"10.1.2.3", "0.0.0.0", "fd00::1", "::1"} {
		a := AddrFrom(netip.MustParseAddr(s))
		if a.String() != s || a.Is4() != netip.MustParseAddr(s).Is4() || a.IsZero() {
			t.Errorf("%s: got %s, Is4 %v, IsZero %v", s, a, a.Is4(), a.IsZero())
		}
	}
	if !AddrFrom(netip.Addr{}).IsZero() {
		t.Error("invalid address is not zero")
	}
}

func TestEndpointKey(t *testing.T) {
	tests := []struct {
		e           *Endpoint
		group, name string
	}{
		{nil, "unknown", "unknown"},
		{&Endpoint{Kind: EndpointPod, Namespace: "shop", Pod: "cart-1", Workload: "cart"}, "shop", "cart"},
		{&Endpoint{Kind: EndpointPod, Namespace: "shop", Pod: "cart-1"}, "shop", "cart-1"},
		{&Endpoint{Kind: EndpointProcess, NodeName: "n1", Workload: "sshd"}, "host n1", "sshd"},
		{&Endpoint{Kind: EndpointWorld}, "world", "world"},
		{&Endpoint{Kind: EndpointWorld, Name: "api.example.com"}, "world", "api.example.com"},
	}
	for _, tt := range tests {
		if g, n := tt.e.Key(); g != tt.group || n != tt.name {
			t.Errorf("%+v: got %s/%s, want %s/%s", tt.e, g, n, tt.group, tt.name)
		}
	}
}

func TestDescribe(t *testing.T) {
	http := func(status uint16, answered bool) *L7 {
		return &L7{Protocol: L7HTTP, Operation: "GET", Resource: "/cart", Status: status, Answered: answered}
	}
	denied := &Drop{Reason: DropPolicyDenied, Code: DropPolicyDeniedCode}
	refs := []PolicyRef{{"NetworkPolicy", "data", "a"}, {"NetworkPolicy", "data", "b"}, {"ClusterNetworkPolicy", "", "c"}}
	tests := []struct {
		want string
		f    Flow
	}{
		{"GET /cart -> 200", Flow{Kind: KindL7, L7: http(200, true)}},
		{"GET /cart -> no response", Flow{Kind: KindL7, L7: http(0, false)}},
		{"A db.svc -> NXDOMAIN", Flow{Kind: KindL7, L7: &L7{Protocol: L7DNS, Operation: "A", Resource: "db.svc", Status: 3, Answered: true}}},
		{"A db.svc -> 10.0.0.1 and 1 more", Flow{Kind: KindL7, L7: &L7{Protocol: L7DNS, Operation: "A", Resource: "db.svc", Answers: []string{"10.0.0.1", "10.0.0.2"}, Answered: true}}},
		{"NO_SOCKET in tcp_v4_rcv", Flow{Kind: KindDrop, Drop: &Drop{Reason: "NO_SOCKET", Symbol: "tcp_v4_rcv"}}},
		{"POLICY_DENIED", Flow{Kind: KindDrop, Drop: denied}},
		{"POLICY_DENIED by NetworkPolicy data/a", Flow{Kind: KindDrop, Drop: denied, Policy: &Decision{Policies: refs[:1]}}},
		{"POLICY_DENIED by NetworkPolicy data/a and data/b", Flow{Kind: KindDrop, Drop: denied, Policy: &Decision{Policies: refs[:2]}}},
		{"POLICY_DENIED by NetworkPolicy data/a and 2 more", Flow{Kind: KindDrop, Drop: denied, Policy: &Decision{Policies: refs}}},
		{"POLICY_DENIED by NetworkPolicy data/b and ClusterNetworkPolicy c", Flow{Kind: KindDrop, Drop: denied, Policy: &Decision{Policies: refs[1:]}}},
		{"denied: ingress default deny", Flow{Kind: KindVerdict, Proto: ProtoTCP, Verdict: VerdictDropped, Drop: denied, Policy: &Decision{Text: "ingress default deny", Policies: refs}}},
		{"allowed: NetworkPolicy data/a ingress[0]", Flow{Kind: KindVerdict, Verdict: VerdictForwarded, Policy: &Decision{Text: "NetworkPolicy data/a ingress[0]"}}},
		{"audit, would be denied: egress default deny", Flow{Kind: KindVerdict, Verdict: VerdictAudit, Policy: &Decision{Text: "egress default deny"}}},
		{"denied by NetworkPolicy data/a and 2 more", Flow{Kind: KindVerdict, Verdict: VerdictDropped, Policy: &Decision{Policies: refs}}},
		{"allowed", Flow{Kind: KindVerdict, Verdict: VerdictForwarded}},
		{"allowed", Flow{Kind: KindVerdict, Verdict: VerdictRedirected, Policy: &Decision{}}},
		{"TCP SYN", Flow{Kind: KindNew, Proto: ProtoTCP, TCPFlags: TCPSyn}},
		{"TCP established in 0.25 ms", Flow{Kind: KindState, Proto: ProtoTCP, TCPFlags: TCPAck, HandshakeRTT: 250}},
		{"TCP reset after 1.5 s", Flow{Kind: KindClose, Proto: ProtoTCP, TCPFlags: TCPRst, Time: int64(1500 * time.Millisecond)}},
		{"ICMP echo request", Flow{Kind: KindNew, Proto: ProtoICMP, ICMPType: 8}},
		{"UDP first packet", Flow{Kind: KindNew, Proto: ProtoUDP}},
	}
	for _, tt := range tests {
		if got := Describe(&tt.f); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestBatchNextReusesMemory(t *testing.T) {
	var b Batch
	fill := func() {
		b.Reset()
		for range 100 {
			if f := b.Next(); f.Packets != 0 || f.Src != nil {
				t.Fatal("Next gave a record that is not zero")
			} else {
				f.Packets, f.Src = 7, &Endpoint{}
			}
		}
	}
	fill()
	e := &Endpoint{}
	if n := testing.AllocsPerRun(10, func() {
		b.Reset()
		for range 100 {
			b.Next().Src = e
		}
	}); n != 0 {
		t.Errorf("%v allocations in steady state, want 0", n)
	}
}
