package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parallax-flow/parallax/flow"
)

// ownFamilies are those that Hubble has not.
type ownFamilies struct {
	bytes, packets     *family[prometheus.Counter]
	exchanges          *family[prometheus.Counter]
	decisions, denied  *family[prometheus.Counter]
	latency, handshake *family[prometheus.Observer]
}

// Buckets, seconds. A handshake is a round trip of the network, an exchange the work of a program.
var (
	latencyBuckets   = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	handshakeBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 3}
)

func newOwnFamilies(b *builder) ownFamilies {
	return ownFamilies{
		bytes:     b.counter("parallax_flow_bytes_total", "Bytes of layer 3 of connections, by the side that sent them.", trafficLabels, "protocol", "sender"),
		packets:   b.counter("parallax_flow_packets_total", "Packets of connections, by the side that sent them.", trafficLabels, "protocol", "sender"),
		exchanges: b.counter("parallax_l7_requests_total", "Application requests by what became of them.", exchangeLabels, "protocol", "outcome"),
		decisions: b.counter("parallax_policy_decisions_total", "Connections by the policy that decided on them; what several policies denied counts for each of them.",
			decisionLabels, "policy", "direction", "action"),
		denied: b.counter("parallax_policy_denied_packets_total", "Packets that a policy denied; what several policies denied counts for each of them.",
			deniedLabels, "policy", "direction", "protocol"),
		latency: b.histogram("parallax_l7_latency_seconds", "Time from an application request to its response, where it was observed.",
			latencyBuckets, latencyLabels, "protocol"),
		handshake: b.histogram("parallax_tcp_handshake_seconds", "Time from a TCP connection's SYN to the ACK that ends the handshake.",
			handshakeBuckets, pairLabels),
	}
}

func (o *ownFamilies) observe(f *flow.Flow) {
	if f.L7 != nil {
		o.exchange(f)
		return
	}
	if f.Policy != nil {
		o.decision(f)
	}
	if f.Kind == flow.KindDrop { // it was counted by the flow that it belongs to, or was denied
		return
	}
	k := key{src: f.Src, dst: f.Dst, n: uint64(f.Proto)}
	if f.Packets > 0 {
		o.bytes.get(k).Add(float64(f.Bytes))
		o.packets.get(k).Add(float64(f.Packets))
	}
	if f.ReplyPackets > 0 {
		k.n |= senderDestination
		o.bytes.get(k).Add(float64(f.ReplyBytes))
		o.packets.get(k).Add(float64(f.ReplyPackets))
	}
	// Later records of the connection repeat it.
	if f.Kind == flow.KindState && f.HandshakeRTT > 0 && f.TCPFlags&flow.TCPFin == 0 {
		o.handshake.get(key{src: f.Src, dst: f.Dst}).Observe(float64(f.HandshakeRTT) / 1e6)
	}
}

// decision counts for each policy: a series for each set of them would not say which ones deny most.
func (o *ownFamilies) decision(f *flow.Flow) {
	for i := range f.Policy.Policies {
		k := key{src: f.Src, dst: f.Dst, policy: &f.Policy.Policies[i], n: uint64(f.Direction)}
		switch f.Kind {
		case flow.KindVerdict:
			k.n |= uint64(f.Verdict) << 8
			o.decisions.get(k).Inc()
		case flow.KindDrop:
			k.n |= uint64(f.Proto) << 8
			o.denied.get(k).Add(float64(f.Dropped()))
		}
	}
}

func (o *ownFamilies) exchange(f *flow.Flow) {
	k := key{src: f.Src, dst: f.Dst, n: uint64(f.L7.Protocol)}
	if f.L7.Answered && f.L7.Latency >= 0 {
		o.latency.get(k).Observe(float64(f.L7.Latency) / 1e9)
	}
	switch {
	case !f.L7.Answered:
		k.n |= outcomeUnanswered
	case f.L7.Error:
		k.n |= outcomeError
	}
	o.exchanges.get(k).Inc()
}

// Numbers in keys.
const (
	senderDestination = 1 << 8
	outcomeError      = 1 << 8
	outcomeUnanswered = 2 << 8
)

func trafficLabels(k *key) values {
	sender := "source"
	if k.n&senderDestination != 0 {
		sender = "destination"
	}
	return between(k, layer4(flow.Proto(k.n)), sender)
}

func exchangeLabels(k *key) values {
	outcomes := [...]string{"ok", "error", "unanswered"}
	return between(k, flow.L7Protocol(k.n).String(), outcomes[k.n>>8])
}

func decisionLabels(k *key) values {
	return between(k, k.policy.String(), flow.Direction(k.n).String(), flow.Verdict(k.n>>8).String())
}

func deniedLabels(k *key) values {
	return between(k, k.policy.String(), flow.Direction(k.n).String(), layer4(flow.Proto(k.n>>8)))
}

func latencyLabels(k *key) values { return between(k, flow.L7Protocol(k.n).String()) }

func pairLabels(k *key) values { return between(k) }
