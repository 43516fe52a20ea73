package flow

import "testing"

func TestRoleOf(t *testing.T) {
	nodeA, nodeB := &Node{Name: "a", Boot: 1}, &Node{Name: "b", Boot: 2}
	podA := &Endpoint{Kind: EndpointPod, NodeName: "a", Pod: "pod-a"}
	podB := &Endpoint{Kind: EndpointPod, NodeName: "b", Pod: "pod-b"}
	podC := &Endpoint{Kind: EndpointPod, NodeName: "c", Pod: "on a node without a collector"}
	hostA := &Endpoint{Kind: EndpointHost, NodeName: "a"}
	procA := &Endpoint{Kind: EndpointProcess, NodeName: "a"}
	procB := &Endpoint{Kind: EndpointProcess, NodeName: "b"}
	world := &Endpoint{Kind: EndpointWorld}
	vip := &Endpoint{Kind: EndpointService}
	owned := func(node string) bool { return node == "a" || node == "b" }
	for _, tc := range []struct {
		src, dst *Endpoint
		node     *Node
		point    Point
		want     Role
	}{
		{podA, podB, nodeA, PointFromEndpoint, RolePrimary},
		{podA, podB, nodeA, PointToNetwork, RoleSecondary},
		{podA, podB, nodeB, PointFromNetwork, RoleSecondary},
		{podA, podB, nodeB, PointToEndpoint, RoleSecondary},
		{podA, podA, nodeA, PointFromEndpoint, RolePrimary},
		{podA, podA, nodeA, PointToEndpoint, RoleSecondary},
		{podA, world, nodeA, PointFromEndpoint, RolePrimary},
		{podA, world, nodeA, PointToNetwork, RoleSecondary},
		{podA, vip, nodeA, PointFromEndpoint, RolePrimary},
		{procA, podA, nodeA, PointToEndpoint, RolePrimary},
		{procA, podB, nodeA, PointToNetwork, RolePrimary},
		{procA, podB, nodeB, PointToEndpoint, RoleSecondary},
		{procA, hostA, nodeA, PointToHost, RolePrimary},
		{hostA, procB, nodeB, PointFromNetwork, RoleSecondary},

		{world, podA, nodeA, PointToEndpoint, RolePrimary},
		{world, podA, nodeA, PointFromNetwork, RoleSecondary},
		{world, podA, nodeB, PointFromNetwork, RoleSecondary},
		{world, procA, nodeA, PointFromNetwork, RolePrimary},
		{world, procA, nodeA, PointToHost, RolePrimary},
		{world, procA, nodeA, PointFromEndpoint, RoleCandidate}, // a container of which nothing is known
		{nil, hostA, nodeA, PointFromEndpoint, RoleCandidate},
		{world, procA, nodeB, PointFromEndpoint, RoleSecondary},
		{world, podA, nodeA, PointFromEndpoint, RoleSecondary},
		{podC, procA, nodeA, PointFromEndpoint, RoleSecondary},
		{podC, podA, nodeA, PointToEndpoint, RolePrimary},
		{podC, podA, nodeA, PointFromNetwork, RoleSecondary},

		{world, world, nodeA, PointFromNetwork, RolePrimary},
		{podC, world, nodeA, PointFromNetwork, RolePrimary},
		{world, world, nodeA, PointToNetwork, RoleSecondary},
		{world, world, nodeA, PointToEndpoint, RoleSecondary},
		{world, world, nodeA, PointFromEndpoint, RoleCandidate},
		{nil, nil, nodeA, PointFromEndpoint, RoleCandidate},
	} {
		f := &Flow{Src: tc.src, Dst: tc.dst, Node: tc.node, Point: tc.point, Kind: KindNew}
		if got := RoleOf(f, owned); got != tc.want {
			t.Errorf("%+v to %+v at %s of node %s: %d, want %d", tc.src, tc.dst, tc.point, tc.node.Name, got, tc.want)
		}
		for _, always := range []Flow{
			{Kind: KindDrop, Verdict: VerdictDropped}, {Kind: KindVerdict, Verdict: VerdictDropped},
			{Kind: KindVerdict, Verdict: VerdictForwarded}, {Kind: KindVerdict, Verdict: VerdictAudit},
		} {
			f.Kind, f.Verdict = always.Kind, always.Verdict
			if got := RoleOf(f, owned); got != RolePrimary {
				t.Errorf("a %s (%s) at %s is %d, want primary", f.Kind, f.Verdict, tc.point, got)
			}
		}
	}
}
