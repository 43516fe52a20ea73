package hubble

import (
	"slices"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
)

// FiltersFromProto returns filters that together select what any of list selects. A field that Parallax cannot honour is never
// ignored: it is refused by its name, with codes.Unimplemented; a wrong value with codes.InvalidArgument. An empty list gives an empty one.
func FiltersFromProto(list []*flowpb.FlowFilter) ([]filter.Filter, error) {
	var out []filter.Filter
	for _, ff := range list {
		filters := []filter.Filter{{}}
		var err error
		ff.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			convert, known := filterFields[field.Name()]
			if !known {
				err = refuse(string(field.Name()), "is not known to this server")
				return false
			}
			filters, err = convert(ff, filters)
			return err == nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, filters...)
	}
	if _, err := filter.Compile(filter.Set{Allow: out}); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return out, nil
}

func refuse(field, why string) error {
	return status.Errorf(codes.Unimplemented, "filter field %s %s", field, why)
}

func invalid(field, why string) error {
	return status.Errorf(codes.InvalidArgument, "%s: %s", field, why)
}

// convertField narrows filters, whose union is what the FlowFilter selects, by one field of it.
type convertField func(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error)

// filterFields has an entry for every field of FlowFilter.
var filterFields = map[protoreflect.Name]convertField{
	"uuid":                 copyTo((*flowpb.FlowFilter).GetUuid, func(f *filter.Filter) *[]string { return &f.UUID }),
	"source_ip":            copyTo((*flowpb.FlowFilter).GetSourceIp, func(f *filter.Filter) *[]string { return &f.SrcIP }),
	"destination_ip":       copyTo((*flowpb.FlowFilter).GetDestinationIp, func(f *filter.Filter) *[]string { return &f.DstIP }),
	"source_pod":           copyTo(pods((*flowpb.FlowFilter).GetSourcePod), func(f *filter.Filter) *[]string { return &f.SrcPod }),
	"destination_pod":      copyTo(pods((*flowpb.FlowFilter).GetDestinationPod), func(f *filter.Filter) *[]string { return &f.DstPod }),
	"source_fqdn":          copyTo((*flowpb.FlowFilter).GetSourceFqdn, func(f *filter.Filter) *[]string { return &f.SrcFQDN }),
	"destination_fqdn":     copyTo((*flowpb.FlowFilter).GetDestinationFqdn, func(f *filter.Filter) *[]string { return &f.DstFQDN }),
	"source_label":         copyTo((*flowpb.FlowFilter).GetSourceLabel, func(f *filter.Filter) *[]string { return &f.SrcLabel }),
	"destination_label":    copyTo((*flowpb.FlowFilter).GetDestinationLabel, func(f *filter.Filter) *[]string { return &f.DstLabel }),
	"source_port":          copyTo((*flowpb.FlowFilter).GetSourcePort, func(f *filter.Filter) *[]string { return &f.SrcPort }),
	"destination_port":     copyTo((*flowpb.FlowFilter).GetDestinationPort, func(f *filter.Filter) *[]string { return &f.DstPort }),
	"source_identity":      copyTo((*flowpb.FlowFilter).GetSourceIdentity, func(f *filter.Filter) *[]uint32 { return &f.SrcIdentity }),
	"destination_identity": copyTo((*flowpb.FlowFilter).GetDestinationIdentity, func(f *filter.Filter) *[]uint32 { return &f.DstIdentity }),
	"http_status_code":     copyTo((*flowpb.FlowFilter).GetHttpStatusCode, func(f *filter.Filter) *[]string { return &f.HTTPStatus }),
	"http_method":          copyTo((*flowpb.FlowFilter).GetHttpMethod, func(f *filter.Filter) *[]string { return &f.HTTPMethod }),
	"http_path":            copyTo((*flowpb.FlowFilter).GetHttpPath, func(f *filter.Filter) *[]string { return &f.HTTPPath }),
	"http_url":             copyTo((*flowpb.FlowFilter).GetHttpUrl, func(f *filter.Filter) *[]string { return &f.HTTPURL }),
	"dns_query":            copyTo((*flowpb.FlowFilter).GetDnsQuery, func(f *filter.Filter) *[]string { return &f.DNSQuery }),
	"protocol":             copyTo((*flowpb.FlowFilter).GetProtocol, func(f *filter.Filter) *[]string { return &f.Protocol }),
	"node_name":            copyTo((*flowpb.FlowFilter).GetNodeName, func(f *filter.Filter) *[]string { return &f.Node }),
	"trace_id":             copyTo((*flowpb.FlowFilter).GetTraceId, func(f *filter.Filter) *[]string { return &f.TraceID }),
	"reply":                copyTo((*flowpb.FlowFilter).GetReply, func(f *filter.Filter) *[]bool { return &f.Reply }),

	"verdict":              convertVerdict,
	"traffic_direction":    convertDirection,
	"ip_version":           convertIPVersion,
	"drop_reason_desc":     convertDropReason,
	"tcp_flags":            convertTCPFlags,
	"interface":            convertInterface,
	"event_type":           convertEventType,
	"source_workload":      convertWorkload("source_workload", (*flowpb.FlowFilter).GetSourceWorkload, func(f *filter.Filter) *[]string { return &f.SrcWorkload }),
	"destination_workload": convertWorkload("destination_workload", (*flowpb.FlowFilter).GetDestinationWorkload, func(f *filter.Filter) *[]string { return &f.DstWorkload }),

	"source_ip_xlated":         unimplemented("source_ip_xlated", "is not supported: translated addresses are not recorded"),
	"source_service":           unimplemented("source_service", "is not supported: filter by source_workload or source_pod"),
	"destination_service":      unimplemented("destination_service", "is not supported: filter by destination_workload or destination_pod"),
	"source_cluster_name":      unimplemented("source_cluster_name", "is not supported: filter by node_name, \"cluster/\""),
	"destination_cluster_name": unimplemented("destination_cluster_name", "is not supported: filter by node_name, \"cluster/\""),
	"http_header":              unimplemented("http_header", "is not supported: headers are not recorded; filter by trace_id, http_url or http_path"),
	"node_labels":              unimplemented("node_labels", "is not supported: filter by node_name"),
	"ip_trace_id":              unimplemented("ip_trace_id", "is not supported: trace ids in IP options are not recorded"),
	"encrypted":                unimplemented("encrypted", "is not supported: encryption of the path is not recorded"),
	"experimental":             unimplemented("experimental.cel_expression", "is not supported: use the other fields"),
}

func unimplemented(field, why string) convertField {
	return func(*flowpb.FlowFilter, []filter.Filter) ([]filter.Filter, error) { return nil, refuse(field, why) }
}

// each sets a field of all filters.
func each(filters []filter.Filter, set func(*filter.Filter)) ([]filter.Filter, error) {
	for i := range filters {
		set(&filters[i])
	}
	return filters, nil
}

func copyTo[T any](from func(*flowpb.FlowFilter) []T, to func(*filter.Filter) *[]T) convertField {
	return func(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
		return each(filters, func(f *filter.Filter) { *to(f) = slices.Clone(from(ff)) })
	}
}

// pods gives names without a namespace the namespace "default", as Hubble does; "/name" means all namespaces.
func pods(from func(*flowpb.FlowFilter) []string) func(*flowpb.FlowFilter) []string {
	return func(ff *flowpb.FlowFilter) []string {
		names := slices.Clone(from(ff))
		for i, n := range names {
			if n != "" && !strings.Contains(n, "/") {
				names[i] = "default/" + n
			}
		}
		return names
	}
}

func convertVerdict(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
	return each(filters, func(f *filter.Filter) {
		for _, v := range ff.GetVerdict() {
			f.Verdict = append(f.Verdict, flow.Verdict(min(uint32(v), 255)))
		}
	})
}

func convertDirection(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
	return each(filters, func(f *filter.Filter) {
		for _, d := range ff.GetTrafficDirection() {
			f.Direction = append(f.Direction, flow.Direction(min(uint32(d), 255)))
		}
	})
}

func convertIPVersion(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
	var versions []uint8
	for _, v := range ff.GetIpVersion() {
		switch v {
		case flowpb.IPVersion_IPv4:
			versions = append(versions, 4)
		case flowpb.IPVersion_IPv6:
			versions = append(versions, 6)
		default:
			return nil, refuse("ip_version", "is supported for IPv4 and IPv6 only: nothing else is observed")
		}
	}
	return each(filters, func(f *filter.Filter) { f.IPVersion = versions })
}

func convertDropReason(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
	var reasons []string
	for _, r := range ff.GetDropReasonDesc() {
		name, known := flowpb.DropReason_name[int32(r)]
		if !known || r == flowpb.DropReason_DROP_REASON_UNKNOWN {
			return nil, invalid("drop_reason_desc", "names no reason; reasons of the kernel are selected by drop_reason in the request's extensions")
		}
		reasons = append(reasons, name)
	}
	return each(filters, func(f *filter.Filter) { f.DropReason = reasons })
}

func convertTCPFlags(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
	var flags []string
	for _, t := range ff.GetTcpFlags() {
		names := strings.ReplaceAll(flow.TCPFlagNames(flagBits(t)), " ", "")
		if t.GetNS() || names == "" {
			return nil, invalid("tcp_flags", "each needs at least one of FIN, SYN, RST, PSH, ACK, URG, ECE, CWR")
		}
		flags = append(flags, names)
	}
	return each(filters, func(f *filter.Filter) { f.TCPFlags = flags })
}

func convertInterface(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
	var indexes []uint32
	for _, i := range ff.GetInterface() {
		if i.GetName() != "" {
			return nil, refuse("interface.name", "is not supported: filter by interface.index")
		}
		indexes = append(indexes, i.GetIndex())
	}
	return each(filters, func(f *filter.Filter) { f.Interface = indexes })
}

func convertWorkload(field string, from func(*flowpb.FlowFilter) []*flowpb.Workload, to func(*filter.Filter) *[]string) convertField {
	return func(ff *flowpb.FlowFilter, filters []filter.Filter) ([]filter.Filter, error) {
		var names []string
		for _, w := range from(ff) {
			switch {
			case w.GetName() == "":
				return nil, invalid(field, "each needs a name")
			case w.GetKind() == "":
				names = append(names, w.GetName())
			default:
				names = append(names, w.GetKind()+"/"+w.GetName())
			}
		}
		return each(filters, func(f *filter.Filter) { *to(f) = names })
	}
}
