package server

import (
	"cmp"
	"slices"

	relaypb "github.com/cilium/cilium/api/v1/relay"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
)

// byName leaves one ledger for each node, by name: the connected one of its boots, or else the last one.
func byName(ledgers []flow.NodeLedger) []flow.NodeLedger {
	newest := map[string]flow.NodeLedger{}
	for _, l := range ledgers {
		name := hubble.NodeName(l.Node)
		if was, found := newest[name]; !found || l.Connected && !was.Connected || l.Connected == was.Connected && l.Since > was.Since {
			newest[name] = l
		}
	}
	out := make([]flow.NodeLedger, 0, len(newest))
	for _, l := range newest {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b flow.NodeLedger) int { return cmp.Compare(hubble.NodeName(a.Node), hubble.NodeName(b.Node)) })
	return out
}

func state(connected bool) relaypb.NodeState {
	if connected {
		return relaypb.NodeState_NODE_CONNECTED
	}
	return relaypb.NodeState_NODE_UNAVAILABLE
}

// states groups the names of nodes by state, leaving out those that were in it before.
func states(ledgers, before []flow.NodeLedger) map[relaypb.NodeState][]string {
	was := map[string]relaypb.NodeState{}
	for _, l := range byName(before) {
		was[hubble.NodeName(l.Node)] = state(l.Connected)
	}
	out := map[relaypb.NodeState][]string{}
	for _, l := range byName(ledgers) {
		name, s := hubble.NodeName(l.Node), state(l.Connected)
		if was[name] != s {
			out[s] = append(out[s], name)
		}
	}
	return out
}
