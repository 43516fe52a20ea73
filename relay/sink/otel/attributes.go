package otel

import (
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/span"
)

// Attributes of ours.
const (
	attrFlow  attribute.Key = "parallax.flow.uuid"         // the record: parallax observe --uuid
	attrPoint attribute.Key = "parallax.observation.point" // where the span was timed: "from-endpoint"
	attrNode  attribute.Key = "parallax.observation.node"
)

type list []*commonpb.KeyValue

func (l *list) str(k attribute.Key, v string) {
	if v != "" {
		*l = append(*l, &commonpb.KeyValue{Key: string(k), Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: clean(v)}}})
	}
}

func (l *list) num(k attribute.Key, v int64) {
	if v != 0 {
		*l = append(*l, &commonpb.KeyValue{Key: string(k), Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: v}}})
	}
}

func (l *list) strs(k attribute.Key, v []string) {
	if len(v) == 0 {
		return
	}
	values := make([]*commonpb.AnyValue, len(v))
	for i, s := range v {
		values[i] = &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: clean(s)}}
	}
	*l = append(*l, &commonpb.KeyValue{Key: string(k), Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{
		ArrayValue: &commonpb.ArrayValue{Values: values},
	}}})
}

// clean makes s what a protobuf string must be: one message with a bad byte would be refused with all the others.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// workloadKeys name a workload by its kind in Kubernetes.
var workloadKeys = map[string]attribute.Key{
	"Deployment": semconv.K8SDeploymentNameKey, "StatefulSet": semconv.K8SStatefulSetNameKey, "DaemonSet": semconv.K8SDaemonSetNameKey,
	"ReplicaSet": semconv.K8SReplicaSetNameKey, "Job": semconv.K8SJobNameKey, "CronJob": semconv.K8SCronJobNameKey,
	"ReplicationController": semconv.K8SReplicationControllerNameKey,
}

// resource describes the service e.
func resource(e *flow.Endpoint) []*commonpb.KeyValue {
	var l list
	namespace, name := span.ServiceName(e)
	l.str(semconv.ServiceNameKey, name)
	l.str(semconv.ServiceNamespaceKey, namespace)
	if e == nil {
		return l
	}
	l.str(semconv.K8SClusterNameKey, e.Cluster)
	switch e.Kind {
	case flow.EndpointPod:
		l.str(semconv.K8SNamespaceNameKey, e.Namespace)
		l.str(semconv.K8SPodNameKey, e.Pod)
		if k, ok := workloadKeys[e.WorkloadKind]; ok {
			l.str(k, e.Workload)
		}
		l.str(semconv.K8SNodeNameKey, e.NodeName)
	case flow.EndpointProcess, flow.EndpointHost:
		l.str(semconv.HostNameKey, e.NodeName)
		if e.WorkloadKind == "Process" {
			l.str(semconv.ProcessExecutableNameKey, e.Workload)
		}
	}
	return l
}

// attributes describes one side of f.
func attributes(f *flow.Flow, s *span.Span) []*commonpb.KeyValue {
	l := make(list, 0, 20)
	if f.L7.Protocol == flow.L7HTTP {
		l.http(f, s.Side)
	} else {
		l.dns(f, s.Side)
	}
	if s.Failed {
		l.str(semconv.ErrorTypeKey, span.ErrorType(f.L7))
	}
	l.network(f, s.Side)
	l.str(attrFlow, f.UUID())
	l.str(attrPoint, s.Point.String())
	l.str(attrNode, s.Node.Name)
	return l
}

// http follows "Semantic conventions for HTTP spans". http.route is left out: only the server's framework knows it, a route that is
// taken from the path must not stand in.
func (l *list) http(f *flow.Flow, side span.Side) {
	x := f.L7
	method := span.Method(x)
	l.str(semconv.HTTPRequestMethodKey, method)
	if method != x.Operation {
		l.str(semconv.HTTPRequestMethodOriginalKey, x.Operation)
	}
	host, port := hostPort(x.Host)
	if host == "" {
		host, port = destination(f), f.DstPort
	}
	l.str(semconv.ServerAddressKey, host)
	l.num(semconv.ServerPortKey, int64(port))
	path, query, _ := strings.Cut(x.Resource, "?")
	if side == span.Client {
		l.str(semconv.URLFullKey, full(x, host, port))
		if x.Operation != "CONNECT" {
			l.str(semconv.URLTemplateKey, flow.Route(x))
		}
	} else {
		l.str(semconv.URLSchemeKey, "http")
		l.str(semconv.URLPathKey, path)
		l.str(semconv.URLQueryKey, query)
		l.str(semconv.UserAgentOriginalKey, x.UserAgent)
	}
	if x.Answered {
		l.num(semconv.HTTPResponseStatusCodeKey, int64(x.Status))
	}
	l.str(semconv.NetworkProtocolNameKey, "http")
	l.str(semconv.NetworkProtocolVersionKey, strings.TrimPrefix(x.Version, "HTTP/"))
}

// full is the URL of a request, whose target is a path, a whole URL (to a proxy), an authority (CONNECT) or "*" (RFC 9112
// section 3.2).
func full(x *flow.L7, host string, port uint16) string {
	switch {
	case strings.Contains(x.Resource, "://"), x.Operation == "CONNECT":
		return x.Resource
	case port != defaultPort:
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	if x.Resource == "*" {
		return "http://" + host
	}
	return "http://" + host + x.Resource
}

// defaultPort is that of http (RFC 9110 section 4.2.1).
const defaultPort = 80

// hostPort reads a Host header (RFC 9110 section 7.2): what the client asked for, not where address translation took it.
func hostPort(s string) (string, uint16) {
	if host, p, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(p, 10, 16); err == nil {
			return host, uint16(n)
		}
		return host, defaultPort
	}
	return strings.Trim(s, "[]"), defaultPort
}

// destination names the server of f as its client knows it.
func destination(f *flow.Flow) string {
	if f.Dst != nil && f.Dst.Name != "" {
		return f.Dst.Name
	}
	return f.DstAddr.String()
}

// dns follows the registry of DNS attributes: there are no conventions for its spans yet.
func (l *list) dns(f *flow.Flow, side span.Side) {
	l.str(semconv.DNSQuestionNameKey, f.L7.Resource)
	l.strs(semconv.DNSAnswersKey, f.L7.Answers)
	l.str(semconv.ServerAddressKey, destination(f))
	l.num(semconv.ServerPortKey, int64(f.DstPort))
	l.str(semconv.NetworkProtocolNameKey, f.L7.Protocol.String())
}

// network says whom the side of f spoke to.
func (l *list) network(f *flow.Flow, side span.Side) {
	peer, port := f.DstAddr, f.DstPort
	if side == span.Server {
		peer, port = f.SrcAddr, f.SrcPort
		l.str(semconv.ClientAddressKey, peer.String())
		l.num(semconv.ClientPortKey, int64(port))
	}
	l.str(semconv.NetworkPeerAddressKey, peer.String())
	l.num(semconv.NetworkPeerPortKey, int64(port))
	l.str(semconv.NetworkTransportKey, strings.ToLower(f.Proto.String()))
	kind := "ipv6"
	if f.SrcAddr.Is4() {
		kind = "ipv4"
	}
	l.str(semconv.NetworkTypeKey, kind)
}
