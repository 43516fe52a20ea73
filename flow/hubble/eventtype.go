package hubble

import (
	flowpb "github.com/cilium/cilium/api/v1/flow"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
)

// convertEventType splits each filter into one for whole types and one for each sub-type, because types are alternatives and a
// filter.Filter is a conjunction. Types of events that Parallax does not make select nothing.
func convertEventType(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
	var kinds []flow.Kind
	var alternatives []filter.Filter // only Kind, Point and L7 are set
	for _, t := range ff.GetEventType() {
		switch t.GetType() {
		case eventTrace:
			traces := []flow.Kind{flow.KindNew, flow.KindState, flow.KindUpdate, flow.KindClose}
			if !t.GetMatchSubType() {
				kinds = append(kinds, traces...)
				continue
			}
			point := flow.Point(min(uint32(t.GetSubType()), 255))
			if point == 0 {
				point = flow.PointToEndpoint
			}
			alternatives = append(alternatives, filter.Filter{Kind: traces, Point: []flow.Point{point}})
		case eventDrop:
			if t.GetMatchSubType() {
				return nil, refuse("event_type.sub_type", "is not supported for drops: filter by drop_reason_desc")
			}
			kinds = append(kinds, flow.KindDrop)
		case eventL7, eventPolicyVerdict:
			if t.GetMatchSubType() {
				return nil, refuse("event_type.sub_type", "is supported for trace events only")
			}
			kinds = append(kinds, map[int32]flow.Kind{eventL7: flow.KindL7, eventPolicyVerdict: flow.KindVerdict}[t.GetType()])
		case eventDebug, eventCapture, eventTraceSock:
		default:
			return nil, invalid("event_type", "is not drop (1), debug (2), capture (3), trace (4), policy-verdict (5), trace-sock (7) or l7 (129)")
		}
	}
	if len(kinds) > 0 {
		alternatives = append(alternatives, filter.Filter{Kind: kinds})
	}
	if len(alternatives) == 0 {
		alternatives = append(alternatives, nothing())
	}
	return product(filters, alternatives), nil
}

// nothing selects no flow: no new connection is an L7 exchange.
func nothing() filter.Filter {
	l7 := true
	return filter.Filter{Kind: []flow.Kind{flow.KindNew}, L7: &l7}
}

func product(filters, alternatives []filter.Filter) []filter.Filter {
	out := make([]filter.Filter, 0, len(filters)*len(alternatives))
	for _, f := range filters {
		for _, a := range alternatives {
			f.Kind, f.Point, f.L7 = a.Kind, a.Point, a.L7
			out = append(out, f)
		}
	}
	return out
}
