package server

import (
	"slices"
	"strings"
	"testing"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	relaypb "github.com/cilium/cilium/api/v1/relay"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
	"github.com/parallax-flow/parallax/flow/ring"
)

func TestStatusNodesNamespaces(t *testing.T) {
	now := time.Now()
	live := ring.New(16)
	live.Add(records(now, 0, 20))
	old := record(now.Add(-2*time.Hour), 1)
	old.Src = &flow.Endpoint{Namespace: "gone"}
	live.Add([]flow.Flow{old})
	ledgers := []flow.NodeLedger{
		{Node: &flow.Node{Name: "n2", Boot: 1}, Since: 5, Produced: 3},
		{Node: n1, Connected: true, Since: now.UnixNano(), Produced: 21, Delivered: 20, Lost: map[string]uint64{flow.StageKernelRing: 1}},
		{Node: &flow.Node{Name: "n2", Boot: 2}, Since: 9, Produced: 4, Delivered: 4},
	}
	conn := serve(t, New(Config{Version: "parallax 1.2.3", Live: live, Ledger: func() []flow.NodeLedger { return ledgers }}))
	client := observerpb.NewObserverClient(conn)

	st, err := client.ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if st.GetNumFlows() != 16 || st.GetMaxFlows() != 16 || st.GetSeenFlows() != 21 || st.GetUptimeNs() == 0 || st.GetVersion() != "parallax 1.2.3" ||
		st.GetNumConnectedNodes().GetValue() != 1 || st.GetNumUnavailableNodes().GetValue() != 1 || !slices.Equal(st.GetUnavailableNodes(), []string{"default/n2"}) {
		t.Errorf("status %v", st)
	}
	nodes, err := client.GetNodes(t.Context(), &observerpb.GetNodesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range nodes.GetNodes() {
		got = append(got, n.GetName()+" "+n.GetState().String())
	}
	if diff := gocmp.Diff([]string{"default/n1 NODE_CONNECTED", "default/n2 NODE_UNAVAILABLE"}, got); diff != "" || nodes.GetNodes()[1].GetSeenFlows() != 4 {
		t.Errorf("nodes %v", nodes)
	}
	namespaces, err := client.GetNamespaces(t.Context(), &observerpb.GetNamespacesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := []*observerpb.Namespace{{Namespace: "shop"}, {Cluster: "blue", Namespace: "data"}}
	if diff := gocmp.Diff(want, namespaces.GetNamespaces(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	back, err := hubble.GetLedger(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	ledgers[0].Lost, ledgers[2].Lost = map[string]uint64{}, map[string]uint64{}
	if diff := gocmp.Diff(ledgers, back); diff != "" {
		t.Error(diff)
	}
	if m := hubble.Missing(&back[0]); m != 3 {
		t.Errorf("missing %d, want 3", m)
	}
	for _, service := range []string{"", "observer.Observer", "hubble.server.Observer"} {
		health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, health, err)
		}
	}
}

func TestCiliumsOwnEvents(t *testing.T) {
	client := observerpb.NewObserverClient(serve(t, New(Config{Live: ring.New(1)})))
	agent, err := client.GetAgentEvents(t.Context(), &observerpb.GetAgentEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("agent events: %v", err)
	}
	debug, err := client.GetDebugEvents(t.Context(), &observerpb.GetDebugEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := debug.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("debug events: %v", err)
	}
}

// A follower hears of a node that goes, of one that comes, and of records lost on their way here.
func TestNotices(t *testing.T) {
	ledgers := []flow.NodeLedger{{Node: n1, Connected: true, Lost: map[string]uint64{flow.StageKernelRing: 1}}}
	var sent []*observerpb.GetFlowsResponse
	o := &sender{stream: &recorder{sent: &sent}, ledger: func() []flow.NodeLedger { return ledgers }}
	o.watch()
	ledgers = []flow.NodeLedger{
		{Node: n1, Lost: map[string]uint64{flow.StageKernelRing: 4, flow.StagePublish: 2}},
		{Node: &flow.Node{Name: "n2", Boot: 3}, Connected: true},
		{Node: &flow.Node{Name: "n2", Boot: 2}}, // of a former start of its collector
	}
	if err := o.notices(); err != nil || len(sent) != 0 {
		t.Fatalf("too early: %v, %v", sent, err)
	}
	o.noticed = time.Time{}
	if err := o.notices(); err != nil {
		t.Fatal(err)
	}
	o.noticed = time.Time{}
	if err := o.notices(); err != nil { // nothing changed
		t.Fatal(err)
	}
	var got []string
	for _, r := range sent {
		switch {
		case r.GetLostEvents() != nil:
			got = append(got, r.GetNodeName()+" "+r.GetLostEvents().GetSource().String()+" "+string(rune('0'+r.GetLostEvents().GetNumEventsLost())))
		default:
			got = append(got, r.GetNodeStatus().GetStateChange().String()+" "+strings.Join(r.GetNodeStatus().GetNodeNames(), ","))
		}
	}
	want := []string{
		"default/n1 OBSERVER_EVENTS_QUEUE 2", "default/n1 PERF_EVENT_RING_BUFFER 3",
		relaypb.NodeState_NODE_CONNECTED.String() + " default/n2", relaypb.NodeState_NODE_UNAVAILABLE.String() + " default/n1",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

type recorder struct {
	observerpb.Observer_GetFlowsServer
	sent *[]*observerpb.GetFlowsResponse
}

func (r *recorder) Send(m *observerpb.GetFlowsResponse) error {
	*r.sent = append(*r.sent, m)
	return nil
}

func TestRate(t *testing.T) {
	live := ring.New(16)
	s := sampler{live: live}
	start := time.Unix(1000, 0)
	if got := s.rate(); got != 0 {
		t.Errorf("before any sample: %v", got)
	}
	for i := range 101 { // 5 flows a second for 40 seconds, then 10
		s.sample(start.Add(time.Duration(i) * time.Second))
		live.Add(records(start, 0, map[bool]int{true: 5, false: 10}[i < 40]))
	}
	if got := s.rate(); got != 10 {
		t.Errorf("rate = %v, want the last minute's 10", got)
	}
}
