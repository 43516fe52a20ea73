package main

import (
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/ui/api"
)

// pageStatus tells the page about Parallax itself.
func pageStatus(ledgers []flow.NodeLedger, storeAt string, rate float64) api.Status {
	s := api.Status{Version: version, Storage: storeAt, Nodes: []api.NodeStatus{}}
	total := api.Ledger{Lost: map[string]uint64{}, Exact: true}
	for _, n := range ledgers {
		ns := api.NodeStatus{Name: n.Node.Name, State: "gone", Since: n.Since / 1e6, Flows: n.Produced, Delivered: n.Delivered}
		if n.Connected {
			ns.State = "connected"
			total.Nodes++
		}
		sum := n.Delivered + n.InFlight
		for stage, lost := range n.Lost {
			ns.Lost += lost
			total.Lost[stage] += lost
			sum += lost
		}
		total.Produced += n.Produced
		total.Delivered += n.Delivered
		total.Exact = total.Exact && sum == n.Produced
		s.Nodes = append(s.Nodes, ns)
	}
	total.FlowsRate = rate
	s.Ledger = total
	return s
}

// delivered sums what reached the end of the line on all nodes.
func delivered(ledgers []flow.NodeLedger) (n uint64) {
	for _, l := range ledgers {
		n += l.Delivered
	}
	return n
}
