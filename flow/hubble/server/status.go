package server

import (
	"cmp"
	"context"
	"slices"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/parallax-flow/parallax/flow/hubble"
)

// GetAgentEvents is not implemented: there is no Cilium agent.
func (s *Server) GetAgentEvents(*observerpb.GetAgentEventsRequest, observerpb.Observer_GetAgentEventsServer) error {
	return status.Error(codes.Unimplemented, "agent events are those of a Cilium agent: Parallax has none")
}

// GetDebugEvents is not implemented: the datapath sends none.
func (s *Server) GetDebugEvents(*observerpb.GetDebugEventsRequest, observerpb.Observer_GetDebugEventsServer) error {
	return status.Error(codes.Unimplemented, "debug events are those of Cilium's datapath: Parallax has none")
}

// ServerStatus tells of the ring and of the nodes behind it.
func (s *Server) ServerStatus(context.Context, *observerpb.ServerStatusRequest) (*observerpb.ServerStatusResponse, error) {
	oldest, next := s.config.Live.Bounds()
	response := &observerpb.ServerStatusResponse{
		NumFlows: next - oldest, MaxFlows: uint64(s.config.Live.Cap()), SeenFlows: next,
		UptimeNs: uint64(time.Since(s.start)), Version: s.config.Version, FlowsRate: s.sampler.rate(),
	}
	var connected uint32
	for _, n := range byName(s.config.Ledger()) {
		if n.Connected {
			connected++
		} else {
			response.UnavailableNodes = append(response.UnavailableNodes, hubble.NodeName(n.Node))
		}
	}
	response.NumConnectedNodes = wrapperspb.UInt32(connected)
	response.NumUnavailableNodes = wrapperspb.UInt32(uint32(len(response.UnavailableNodes)))
	return response, nil
}

// GetNodes lists the nodes that are or were connected, by name.
func (s *Server) GetNodes(context.Context, *observerpb.GetNodesRequest) (*observerpb.GetNodesResponse, error) {
	response := &observerpb.GetNodesResponse{}
	for _, n := range byName(s.config.Ledger()) {
		node := &observerpb.Node{
			Name: hubble.NodeName(n.Node), Version: s.config.Version, State: state(n.Connected), SeenFlows: n.Produced, Tls: &observerpb.TLS{},
		}
		if n.Connected && n.Since > 0 {
			node.UptimeNs = uint64(max(time.Since(time.Unix(0, n.Since)), 0))
		}
		response.Nodes = append(response.Nodes, node)
	}
	return response, nil
}

// GetNamespaces lists the namespaces that had flows within the last hour.
func (s *Server) GetNamespaces(context.Context, *observerpb.GetNamespacesRequest) (*observerpb.GetNamespacesResponse, error) {
	response := &observerpb.GetNamespacesResponse{}
	for _, n := range s.sampler.active(time.Now()) {
		response.Namespaces = append(response.Namespaces, &observerpb.Namespace{Cluster: n.cluster, Namespace: n.name})
	}
	slices.SortFunc(response.Namespaces, func(a, b *observerpb.Namespace) int {
		return cmp.Or(cmp.Compare(a.GetCluster(), b.GetCluster()), cmp.Compare(a.GetNamespace(), b.GetNamespace()))
	})
	return response, nil
}

// ledgerDesc is what protoc would generate for hubble.LedgerService.
var ledgerDesc = grpc.ServiceDesc{
	ServiceName: hubble.LedgerService,
	HandlerType: (*ledgerServer)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Get", Handler: getLedger}},
}

type ledgerServer interface {
	getLedger(context.Context, *emptypb.Empty) (*structpb.Struct, error)
}

func getLedger(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := &emptypb.Empty{}
	if err := decode(in); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, in any) (any, error) {
		return srv.(ledgerServer).getLedger(ctx, in.(*emptypb.Empty))
	}
	if intercept == nil {
		return handle(ctx, in)
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + hubble.LedgerService + "/Get"}, handle)
}

func (s *Server) getLedger(context.Context, *emptypb.Empty) (*structpb.Struct, error) {
	return hubble.LedgerToStruct(s.config.Ledger()), nil
}
