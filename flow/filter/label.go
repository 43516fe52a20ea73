package filter

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/parallax-flow/parallax/flow"
)

// Op is the operator of a Requirement.
type Op uint8

const (
	OpExists    Op = iota // key
	OpNotExists           // !key
	OpIn                  // key=a, key==a, key in (a,b)
	OpNotIn               // key!=a, key notin (a,b); also true where the key is missing
	OpGreater             // key>5: both are integers
	OpLess                // key<5
)

// Requirement is one condition on a label.
type Requirement struct {
	Key    string
	Op     Op
	Values []string // sorted; one for OpGreater and OpLess, none for OpExists and OpNotExists

	reserved bool // the key is one of Cilium's reserved: labels, a kind of endpoint
	number   int64
}

// Selector is a Kubernetes label selector: all requirements must hold.
type Selector []Requirement

// ParseSelector reads the full grammar of Kubernetes' label selectors (k8s.io/apimachinery/pkg/labels), for example
// "app=web, tier in (front, edge), !canary, generation>3". As in Cilium a key may name its source: "k8s:" and "any:"
// are the same here, "reserved:host", "reserved:world" and "reserved:unknown" select by the kind of endpoint.
func ParseSelector(s string) (Selector, error) {
	p := labelParser{rest: s}
	var out Selector
	for {
		r, err := p.requirement()
		if err != nil {
			return nil, fmt.Errorf("label selector %q: %w", s, err)
		}
		out = append(out, r)
		if p.end() {
			return out, nil
		}
		if !p.take(",") {
			return nil, fmt.Errorf("label selector %q: a comma is missing before %q", s, p.rest)
		}
	}
}

// Matches reports whether e's labels satisfy s.
func (s Selector) Matches(e *flow.Endpoint) bool {
	for i := range s {
		if !s[i].matches(e) {
			return false
		}
	}
	return true
}

func (r *Requirement) matches(e *flow.Endpoint) bool {
	value, found := labelValue(e.Labels, r.Key)
	if r.reserved {
		value, found = "", reservedLabel(e.Kind) == r.Key
	}
	switch r.Op {
	case OpExists:
		return found
	case OpNotExists:
		return !found
	case OpIn:
		return found && slices.Contains(r.Values, value)
	case OpNotIn:
		return !found || !slices.Contains(r.Values, value)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if !found || err != nil {
		return false
	}
	return r.Op == OpGreater && n > r.number || r.Op == OpLess && n < r.number
}

// reservedLabel is the name that Cilium's reserved: labels have for k.
func reservedLabel(k flow.EndpointKind) string {
	switch k {
	case flow.EndpointHost, flow.EndpointProcess:
		return "host"
	case flow.EndpointWorld:
		return "world"
	case flow.EndpointUnknown:
		return "unknown"
	}
	return ""
}

// labelValue finds key in "key=value" strings.
func labelValue(labels []string, key string) (string, bool) {
	for _, l := range labels {
		if len(l) > len(key) && l[len(key)] == '=' && l[:len(key)] == key {
			return l[len(key)+1:], true
		}
	}
	return "", false
}
