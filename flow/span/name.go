package span

import (
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/flow"
)

// methods are those of RFC 9110 section 9.3 and PATCH (RFC 5789): the conventions ask for a name of a bounded set.
var methods = []string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"}

// Method returns the HTTP method of l as the semantic conventions want it: "_OTHER" for one that is not known.
func Method(l *flow.L7) string {
	if slices.Contains(methods, l.Operation) {
		return l.Operation
	}
	return "_OTHER"
}

// Name returns the name of the spans of l, of which there are few: "GET /cart/{id}", "DNS AAAA".
func Name(l *flow.L7) string {
	if l.Protocol != flow.L7HTTP {
		return strings.ToUpper(l.Protocol.String()) + " " + l.Operation
	}
	method := Method(l)
	if method == "_OTHER" {
		method = "HTTP"
	}
	if route := flow.Route(l); route != "" {
		return method + " " + route
	}
	return method
}

// ServiceName returns service.name and service.namespace of e. The name is never empty.
func ServiceName(e *flow.Endpoint) (namespace, name string) {
	_, name = e.Key()
	if e != nil {
		namespace = e.Namespace
	}
	return namespace, name
}

// ErrorType returns error.type of a failed exchange: the status, the name of a DNS RCODE, or "no_response".
func ErrorType(l *flow.L7) string {
	if !l.Answered {
		return "no_response"
	}
	return flow.StatusName(l.Protocol, l.Status)
}
