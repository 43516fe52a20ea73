package server

import (
	"maps"
	"slices"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	relaypb "github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/hubble"
)

// noticeEvery is how often a follower learns of nodes that came or went and of records that were lost before they got here.
const noticeEvery = time.Second

// sender writes one stream.
type sender struct {
	stream observerpb.Observer_GetFlowsServer
	mask   hubble.Mask
	limit  uint64 // 0: none
	sent   uint64

	ledger  func() []flow.NodeLedger
	noticed time.Time
	known   []flow.NodeLedger
}

// full reports whether the limit was reached.
func (o *sender) full() bool { return o.limit > 0 && o.sent >= o.limit }

func (o *sender) flow(f *flow.Flow) error {
	p := hubble.ToProto(f)
	response := &observerpb.GetFlowsResponse{ResponseTypes: &observerpb.GetFlowsResponse_Flow{Flow: p}, NodeName: p.GetNodeName(), Time: p.GetTime()}
	o.mask.Apply(p)
	o.sent++
	return o.stream.Send(response)
}

// flows sends those that r selects and that are not older than cursor.
func (o *sender) flows(r *request, flows []flow.Flow, cursor int64) error {
	for i := range flows {
		if flows[i].Time < cursor || !r.selects(&flows[i]) {
			continue
		}
		if err := o.flow(&flows[i]); err != nil || o.full() {
			return err
		}
	}
	return nil
}

// lost says that the ring overtook this client.
func (o *sender) lost(n uint64) error {
	if n == 0 {
		return nil
	}
	return o.lostEvent("", flowpb.LostEventSource_HUBBLE_RING_BUFFER, n)
}

func (o *sender) lostEvent(node string, source flowpb.LostEventSource, n uint64) error {
	now := timestamppb.Now()
	return o.stream.Send(&observerpb.GetFlowsResponse{
		ResponseTypes: &observerpb.GetFlowsResponse_LostEvents{LostEvents: &flowpb.LostEvent{Source: source, NumEventsLost: n, Last: now}},
		NodeName:      node,
		Time:          now,
	})
}

// nodeStatus says which nodes this stream hears of.
func (o *sender) nodeStatus() error { return o.sendStates(states(o.ledger(), nil)) }

func (o *sender) sendStates(states map[relaypb.NodeState][]string) error {
	for _, s := range slices.Sorted(maps.Keys(states)) {
		event := &observerpb.GetFlowsResponse_NodeStatus{NodeStatus: &relaypb.NodeStatusEvent{StateChange: s, NodeNames: states[s]}}
		if err := o.stream.Send(&observerpb.GetFlowsResponse{ResponseTypes: event, Time: timestamppb.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// watch remembers how things are, so that notices tells what changed since.
func (o *sender) watch() {
	o.noticed, o.known = time.Now(), slices.Clone(o.ledger())
	for i := range o.known {
		o.known[i].Lost = maps.Clone(o.known[i].Lost)
	}
}

// notices tells what changed since the last time, if that is noticeEvery ago.
func (o *sender) notices() error {
	if time.Since(o.noticed) < noticeEvery {
		return nil
	}
	before := o.known
	o.watch()
	for _, l := range o.known {
		was := slices.IndexFunc(before, func(b flow.NodeLedger) bool { return *b.Node == *l.Node })
		for _, stage := range slices.Sorted(maps.Keys(l.Lost)) {
			n := l.Lost[stage]
			if was >= 0 {
				n -= min(n, before[was].Lost[stage])
			}
			if n == 0 {
				continue
			}
			if err := o.lostEvent(hubble.NodeName(l.Node), lostSource(stage), n); err != nil {
				return err
			}
		}
	}
	return o.sendStates(states(o.known, before))
}

func lostSource(stage string) flowpb.LostEventSource {
	if stage == flow.StageKernelRing {
		return flowpb.LostEventSource_PERF_EVENT_RING_BUFFER
	}
	return flowpb.LostEventSource_OBSERVER_EVENTS_QUEUE
}
