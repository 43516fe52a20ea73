package main

import (
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/ui/api"
)

// pageStatus tells the page about Parallax itself.
func pageStatus(ledgers []flow.NodeLedger, storeAt string, rate *rateMeter) api.Status {
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
	total.FlowsRate = rate.update(time.Now(), total.Delivered)
	s.Ledger = total
	return s
}
