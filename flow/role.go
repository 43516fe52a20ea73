package flow

// Role is what an observation is among those of the same traffic.
type Role uint8

const (
	// RoleSecondary: the traffic is counted by another observation.
	RoleSecondary Role = iota
	// RoleCandidate: nobody is known to count the traffic. It becomes the primary if no other observation does.
	RoleCandidate
	// RolePrimary: this observation counts the traffic.
	RolePrimary
)

// RoleOf decides from f alone, so that records of one connection that can't be joined still count once. owned
// says whether a collector observes that node.
//
//   - A drop is a packet's end: primary always. So is a verdict of policy, which no other observation repeats: the two ends of a
//     connection decide each for itself.
//   - Source on an observed node: primary where that node first sees the packet. A pod's packets come from its endpoint; those
//     of a process or the host itself are first seen where they leave: to the network, an endpoint or the host.
//   - Else, destination on an observed node: primary where that node sees it last. To the pod's endpoint; for a process or the host, as it
//     comes from the network or over the loopback. What a process or the host gets from an endpoint that is not known (yet) may be
//     seen there alone: a candidate.
//   - Else primary as it comes from the network. Traffic of an endpoint that is not known (yet) may never do
//     so: then the first observation of those that can be joined stands in.
func RoleOf(f *Flow, owned func(node string) bool) Role {
	if f.Kind == KindDrop || f.Kind == KindVerdict || f.Verdict == VerdictDropped {
		return RolePrimary
	}
	if home(f.Src) && owned(f.Src.NodeName) {
		return role(f.Node.Name == f.Src.NodeName && sourceSide(f))
	}
	if home(f.Dst) && owned(f.Dst.NodeName) {
		if f.Node.Name == f.Dst.NodeName && fromNobody(f) {
			return RoleCandidate
		}
		return role(f.Node.Name == f.Dst.NodeName && destinationSide(f))
	}
	switch f.Point {
	case PointFromNetwork:
		return RolePrimary
	case PointFromEndpoint, PointToHost:
		return RoleCandidate
	}
	return RoleSecondary
}

func role(primary bool) Role {
	if primary {
		return RolePrimary
	}
	return RoleSecondary
}

// home reports whether p is something that runs on a node known by name.
func home(p *Endpoint) bool {
	if p == nil || p.NodeName == "" {
		return false
	}
	return p.Kind == EndpointPod || p.Kind == EndpointProcess || p.Kind == EndpointHost
}

func sourceSide(f *Flow) bool {
	if f.Src.Kind == EndpointPod {
		return f.Point == PointFromEndpoint
	}
	return f.Point == PointToNetwork || f.Point == PointToEndpoint || f.Point == PointToHost
}

func destinationSide(f *Flow) bool {
	if f.Dst.Kind == EndpointPod {
		return f.Point == PointToEndpoint
	}
	return f.Point == PointFromNetwork || f.Point == PointToHost
}

// fromNobody reports whether f came out of an endpoint of this node that is not known, and goes no further.
func fromNobody(f *Flow) bool {
	return f.Dst.Kind != EndpointPod && f.Point == PointFromEndpoint && !home(f.Src)
}
