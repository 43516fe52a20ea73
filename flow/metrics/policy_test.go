package metrics

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/flow"
)

var policies = []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "shop", Name: "a"}, {Kind: "NetworkPolicy", Namespace: "shop", Name: "b"}}

func decided(v flow.Verdict, d *flow.Decision) func(*flow.Flow) {
	return func(f *flow.Flow) {
		f.Verdict, f.Policy = v, d
		if v == flow.VerdictDropped {
			f.Drop = &flow.Drop{Reason: flow.DropPolicyDenied, Code: flow.DropPolicyDeniedCode}
		}
	}
}

func TestPolicyFamilies(t *testing.T) {
	for name, tc := range map[string]familyTest{
		"policy verdicts": {
			flows: []flow.Flow{
				tcp(flow.KindVerdict, flow.TCPSyn, decided(flow.VerdictForwarded, &flow.Decision{Match: flow.PolicyMatchL3L4, Policies: policies[:1]})),
				tcp(flow.KindVerdict, flow.TCPSyn, decided(flow.VerdictForwarded, &flow.Decision{Match: flow.PolicyMatchL4Proto, Policies: policies[:1]})),
				tcp(flow.KindVerdict, flow.TCPSyn, decided(flow.VerdictForwarded, &flow.Decision{Match: flow.PolicyMatchAll, Rule: -1})),
				tcp(flow.KindVerdict, flow.TCPSyn, decided(flow.VerdictAudit, &flow.Decision{Rule: -1, Policies: policies[:1]})),
				tcp(flow.KindVerdict, flow.TCPSyn, decided(flow.VerdictDropped, &flow.Decision{Rule: -1, Policies: policies})),
				tcp(flow.KindVerdict, flow.TCPSyn, decided(flow.VerdictDropped, &flow.Decision{Rule: -1, Policies: policies[1:]})),
				tcp(flow.KindVerdict, flow.TCPSyn, decided(flow.VerdictForwarded, &flow.Decision{Match: flow.PolicyMatchAll, Rule: -1}), func(f *flow.Flow) {
					f.Src = &flow.Endpoint{Kind: flow.EndpointHost, Identity: 1}
				}),
			},
			want: map[string]string{
				"hubble_policy_verdicts_total": strings.Join([]string{
					"hubble_policy_verdicts_total{" + sorted(`action="audit"`, `direction="egress"`, `match="none"`) + "} 1",
					"hubble_policy_verdicts_total{" + sorted(`action="dropped"`, `direction="egress"`, `match="none"`) + "} 2",
					"hubble_policy_verdicts_total{" + sorted(`action="forwarded"`, `direction="egress"`, `match="all"`) + "} 1",
					"hubble_policy_verdicts_total{" + sorted(`action="forwarded"`, `direction="egress"`, `match="l3-l4"`) + "} 1",
					"hubble_policy_verdicts_total{" + sorted(`action="forwarded"`, `direction="egress"`, `match="proto-only"`) + "} 1",
				}, "\n"),
				"parallax_policy_decisions_total": strings.Join([]string{
					"parallax_policy_decisions_total{" + sorted(`action="audit"`, `direction="egress"`, `policy="NetworkPolicy shop/a"`) + "} 1",
					"parallax_policy_decisions_total{" + sorted(`action="dropped"`, `direction="egress"`, `policy="NetworkPolicy shop/a"`) + "} 1",
					"parallax_policy_decisions_total{" + sorted(`action="dropped"`, `direction="egress"`, `policy="NetworkPolicy shop/b"`) + "} 2",
					"parallax_policy_decisions_total{" + sorted(`action="forwarded"`, `direction="egress"`, `policy="NetworkPolicy shop/a"`) + "} 2",
				}, "\n"),
				"hubble_drop_total":                    "",
				"parallax_policy_denied_packets_total": "",
				"parallax_flow_packets_total":          "",
				"hubble_tcp_flags_total":               "",
				"hubble_port_distribution_total":       "",
			},
		},
		"drops by policy": {
			flows: []flow.Flow{
				tcp(flow.KindDrop, flow.TCPSyn, counted(3, 180, 0, 0), decided(flow.VerdictDropped, &flow.Decision{Rule: -1, Policies: policies})),
				tcp(flow.KindDrop, flow.TCPAck, counted(1, 60, 2, 120), reply, decided(flow.VerdictDropped, &flow.Decision{Rule: -1, Policies: policies[:1]})),
			},
			want: map[string]string{
				"hubble_drop_total": "hubble_drop_total{" + sorted(`protocol="TCP"`, `reason="POLICY_DENIED"`) + "} 4\n" +
					"hubble_drop_total{" + swapped(sorted(`protocol="TCP"`, `reason="POLICY_DENIED"`)) + "} 2",
				"parallax_policy_denied_packets_total": "parallax_policy_denied_packets_total{" + sorted(`direction="egress"`, `policy="NetworkPolicy shop/a"`, `protocol="TCP"`) + "} 6\n" +
					"parallax_policy_denied_packets_total{" + sorted(`direction="egress"`, `policy="NetworkPolicy shop/b"`, `protocol="TCP"`) + "} 3",
				"hubble_flows_processed_total":    "hubble_flows_processed_total{" + sorted(`protocol="TCP"`, `subtype=""`, `type="Drop"`, `verdict="DROPPED"`) + "} 2",
				"hubble_policy_verdicts_total":    "",
				"parallax_policy_decisions_total": "",
				"parallax_flow_packets_total":     "",
			},
		},
	} {
		t.Run(name, tc.run)
	}
}

// Policies that come and go, as tests of a cluster make them, are bounded like all labels. A decision that is decoded anew is the same series.
func TestPoliciesAreBounded(t *testing.T) {
	m := New(Config{MaxSeries: 20}, prometheus.NewPedanticRegistry())
	for i := range 200 {
		d := &flow.Decision{Rule: -1, Policies: []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "shop", Name: fmt.Sprint(i % 50)}}}
		m.Observe([]flow.Flow{
			tcp(flow.KindVerdict, 0, decided(flow.VerdictDropped, d)), tcp(flow.KindDrop, 0, counted(2, 120, 0, 0), decided(flow.VerdictDropped, d)),
		})
	}
	for _, f := range []*family[prometheus.Counter]{m.own.decisions, m.own.denied} {
		if len(f.known) != 20 || len(f.cache) > 4*20 {
			t.Errorf("%s: %d series, %d in the cache", f.name, len(f.known), len(f.cache))
		}
	}
	if n := value(t, m.own.denied.rest.metric); n != 4*30*2 {
		t.Errorf("%v packets in the overflow, want 240", n)
	}
}
