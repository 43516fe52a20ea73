package pair

import "github.com/parallax-flow/parallax/flow"

// Role is what an observation is among those of the same traffic.
type Role uint8

const (
	// Secondary: the traffic is counted by another observation.
	Secondary Role = iota
	// Candidate: nobody is known to count the traffic. It becomes the primary if no other observation does.
	Candidate
	// Primary: this observation counts the traffic.
	Primary
)

// RoleOf decides from f alone, so that records of one connection that can't be joined still count once. owned
// says whether a collector observes that node.
//
//   - A drop is a packet's end: primary always.
//   - Source on an observed node: primary where that node first sees the packet. A pod's packets come from its endpoint; those
//     of a process or the host itself are first seen where they leave: to the network, an endpoint or the host.
//   - Else, destination on an observed node: primary where that node sees it last. To the pod's endpoint; for a process or the host, as it
//     comes from the network or over the loopback.
//   - Else primary as it comes from the network. Traffic of an endpoint that is not known (yet) may never do
//     so: then the first observation of those that can be joined stands in.
func RoleOf(f *flow.Flow, owned func(node string) bool) Role {
	if f.Kind == flow.KindDrop || f.Verdict == flow.VerdictDropped {
		return Primary
	}
	if home(f.Src) && owned(f.Src.NodeName) {
		return role(f.Node.Name == f.Src.NodeName && sourceSide(f))
	}
	if home(f.Dst) && owned(f.Dst.NodeName) {
		return role(f.Node.Name == f.Dst.NodeName && destinationSide(f))
	}
	switch f.Point {
	case flow.PointFromNetwork:
		return Primary
	case flow.PointFromEndpoint, flow.PointToHost:
		return Candidate
	}
	return Secondary
}

func role(primary bool) Role {
	if primary {
		return Primary
	}
	return Secondary
}

// home reports whether p is something that runs on a node known by name.
func home(p *flow.Endpoint) bool {
	if p == nil || p.NodeName == "" {
		return false
	}
	return p.Kind == flow.EndpointPod || p.Kind == flow.EndpointProcess || p.Kind == flow.EndpointHost
}

func sourceSide(f *flow.Flow) bool {
	if f.Src.Kind == flow.EndpointPod {
		return f.Point == flow.PointFromEndpoint
	}
	return f.Point == flow.PointToNetwork || f.Point == flow.PointToEndpoint || f.Point == flow.PointToHost
}

func destinationSide(f *flow.Flow) bool {
	if f.Dst.Kind == flow.EndpointPod {
		return f.Point == flow.PointToEndpoint
	}
	return f.Point == flow.PointFromNetwork || f.Point == flow.PointToHost
}
