package hubble

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/parallax-flow/parallax/flow"
)

// LedgerService is a gRPC service of one method beside the Observer: Get(google.protobuf.Empty) returns
// (google.protobuf.Struct), which LedgerToStruct makes: {"exact": true, "nodes": [{"name", "boot", "connected",
// "since", "produced", "delivered", "in_flight", "lost": {stage: count}}]}.
const LedgerService = "parallax.v1.Ledger"

// GetLedger asks the server behind c.
func GetLedger(ctx context.Context, c grpc.ClientConnInterface) ([]flow.NodeLedger, error) {
	var s structpb.Struct
	if err := c.Invoke(ctx, "/"+LedgerService+"/Get", &emptypb.Empty{}, &s); err != nil {
		return nil, err
	}
	return LedgerFromStruct(&s)
}

// Missing is what l does not account for: Produced less everything else. It is 0 in an exact ledger, and negative if
// more was delivered than produced.
func Missing(l *flow.NodeLedger) int64 {
	n := int64(l.Produced) - int64(l.Delivered) - int64(l.InFlight)
	for _, lost := range l.Lost {
		n -= int64(lost)
	}
	return n
}

// LedgerToStruct packs ledgers.
func LedgerToStruct(ledgers []flow.NodeLedger) *structpb.Struct {
	exact := true
	nodes := make([]*structpb.Value, len(ledgers))
	for i := range ledgers {
		l := &ledgers[i]
		exact = exact && Missing(l) == 0
		lost := make(map[string]*structpb.Value, len(l.Lost))
		for stage, n := range l.Lost {
			lost[stage] = structpb.NewNumberValue(float64(n))
		}
		var boot string
		if l.Node != nil {
			boot = strconv.FormatUint(l.Node.Boot, 16) // a number of JSON holds 53 bits
		}
		nodes[i] = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"name":      structpb.NewStringValue(NodeName(l.Node)),
			"boot":      structpb.NewStringValue(boot),
			"connected": structpb.NewBoolValue(l.Connected),
			"since":     structpb.NewStringValue(strconv.FormatInt(l.Since, 10)),
			"produced":  structpb.NewNumberValue(float64(l.Produced)),
			"delivered": structpb.NewNumberValue(float64(l.Delivered)),
			"in_flight": structpb.NewNumberValue(float64(l.InFlight)),
			"lost":      structpb.NewStructValue(&structpb.Struct{Fields: lost}),
		}})
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"exact": structpb.NewBoolValue(exact),
		"nodes": structpb.NewListValue(&structpb.ListValue{Values: nodes}),
	}}
}

// LedgerFromStruct unpacks what LedgerToStruct packed.
func LedgerFromStruct(s *structpb.Struct) ([]flow.NodeLedger, error) {
	var out []flow.NodeLedger
	for _, v := range s.GetFields()["nodes"].GetListValue().GetValues() {
		m := v.GetStructValue().GetFields()
		cluster, name := splitNodeName(m["name"].GetStringValue())
		boot, err := strconv.ParseUint(m["boot"].GetStringValue(), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("ledger of %s: boot: %w", name, err)
		}
		since, err := strconv.ParseInt(m["since"].GetStringValue(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("ledger of %s: since: %w", name, err)
		}
		l := flow.NodeLedger{
			Node: &flow.Node{Name: name, Cluster: cluster, Boot: boot}, Connected: m["connected"].GetBoolValue(), Since: since,
			Produced: number(m["produced"]), Delivered: number(m["delivered"]), InFlight: number(m["in_flight"]), Lost: map[string]uint64{},
		}
		for stage, n := range m["lost"].GetStructValue().GetFields() {
			l.Lost[stage] = number(n)
		}
		out = append(out, l)
	}
	return out, nil
}
