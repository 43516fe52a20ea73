package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/parallax-flow/parallax/flow"
)

// unknown stands for an endpoint that was not set.
var unknown flow.Endpoint

// source returns the sender of the direction.
func source(f *flow.Flow, reverse bool) *flow.Endpoint {
	e := f.Src
	if reverse {
		e = f.Dst
	}
	if e == nil {
		return &unknown
	}
	return e
}

// ParsePrefix reads an address or a CIDR. An address gives the prefix that holds only it; IPv4-mapped IPv6 addresses become IPv4.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address (10.1.2.3, fd00::1) nor a CIDR (10.1.0.0/16)", s)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func matchIP(values []string) (match, error) {
	prefixes := make([]netip.Prefix, len(values))
	for i, v := range values {
		p, err := ParsePrefix(v)
		if err != nil {
			return nil, err
		}
		prefixes[i] = p
	}
	return func(f *flow.Flow, reverse bool) bool {
		addr := f.SrcAddr
		if reverse {
			addr = f.DstAddr
		}
		a := addr.Netip()
		for _, p := range prefixes {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}, nil
}

func matchPod(values []string) (match, error) {
	type name struct{ namespace, prefix string }
	names := make([]name, len(values))
	for i, v := range values {
		namespace, prefix, found := strings.Cut(v, "/")
		if !found {
			namespace, prefix = "", v
		}
		if v == "" || strings.Contains(prefix, "/") {
			return nil, fmt.Errorf("%q is not [namespace/]name-prefix", v)
		}
		names[i] = name{namespace, prefix}
	}
	return func(f *flow.Flow, reverse bool) bool {
		e := source(f, reverse)
		if e.Namespace == "" && e.Pod == "" {
			return false
		}
		for _, n := range names {
			if (n.namespace == "" || n.namespace == e.Namespace) && strings.HasPrefix(e.Pod, n.prefix) {
				return true
			}
		}
		return false
	}, nil
}

func matchNamespace(values []string) (match, error) {
	if slices.Contains(values, "") {
		return nil, errors.New("a namespace has no empty name")
	}
	values = slices.Clone(values)
	return func(f *flow.Flow, reverse bool) bool {
		e := source(f, reverse)
		for _, v := range values {
			if inGroup(e, v) {
				return true
			}
		}
		return false
	}, nil
}

// inGroup reports whether group is e's namespace or what e.Key gives as group, without building that string.
func inGroup(e *flow.Endpoint, group string) bool {
	switch e.Kind {
	case flow.EndpointPod, flow.EndpointService:
		return e.Namespace == group
	case flow.EndpointProcess, flow.EndpointHost:
		host, found := strings.CutPrefix(group, "host ")
		return found && host == e.NodeName
	}
	return e.Kind.String() == group
}

func matchWorkload(values []string) (match, error) {
	type name struct{ qualifier, name string }
	names := make([]name, len(values))
	for i, v := range values {
		qualifier, n, found := strings.Cut(v, "/")
		if !found {
			qualifier, n = "", v
		}
		if n == "" {
			return nil, fmt.Errorf("%q is not [kind/]name or namespace/name", v)
		}
		names[i] = name{qualifier, n}
	}
	return func(f *flow.Flow, reverse bool) bool {
		e := source(f, reverse)
		for _, n := range names {
			if keyName(e) == n.name && (n.qualifier == "" || strings.EqualFold(n.qualifier, e.WorkloadKind) || inGroup(e, n.qualifier)) {
				return true
			}
		}
		return false
	}, nil
}

// keyName is the name that e.Key gives.
func keyName(e *flow.Endpoint) string {
	switch {
	case e.Workload != "":
		return e.Workload
	case e.Name != "":
		return e.Name
	case e.Pod != "":
		return e.Pod
	}
	return e.Kind.String()
}

func matchLabel(values []string) (match, error) {
	selectors := make([]Selector, len(values))
	for i, v := range values {
		s, err := ParseSelector(v)
		if err != nil {
			return nil, err
		}
		selectors[i] = s
	}
	return func(f *flow.Flow, reverse bool) bool {
		e := source(f, reverse)
		for _, s := range selectors {
			if s.Matches(e) {
				return true
			}
		}
		return false
	}, nil
}

func matchFQDN(values []string) (match, error) {
	patterns := make([]string, len(values))
	for i, v := range values {
		p := lower(strings.TrimSuffix(strings.TrimSpace(v), "."))
		if p == "" || strings.HasSuffix(p, ".") || strings.ContainsFunc(p, func(r rune) bool {
			return !(r == '.' || r == '*' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z')
		}) {
			return nil, fmt.Errorf("%q is not a domain name; * stands for any part of it (*.example.com)", v)
		}
		patterns[i] = p
	}
	return func(f *flow.Flow, reverse bool) bool {
		name := strings.TrimSuffix(source(f, reverse).Name, ".")
		if name == "" {
			return false
		}
		for _, p := range patterns {
			if glob(p, name) {
				return true
			}
		}
		return false
	}, nil
}

// ParsePorts reads "443" or "8000-8999".
func ParsePorts(s string) (low, high uint16, err error) {
	first, last, ranged := strings.Cut(s, "-")
	lo, err1 := strconv.ParseUint(first, 10, 16)
	hi := lo
	var err2 error
	if ranged {
		hi, err2 = strconv.ParseUint(last, 10, 16)
	}
	if err1 != nil || err2 != nil || lo > hi {
		return 0, 0, fmt.Errorf("%q is not a port from 0 to 65535 or a range (8000-8999)", s)
	}
	return uint16(lo), uint16(hi), nil
}

func matchPort(values []string) (match, error) {
	type ports struct{ low, high uint16 }
	ranges := make([]ports, len(values))
	for i, v := range values {
		low, high, err := ParsePorts(v)
		if err != nil {
			return nil, err
		}
		ranges[i] = ports{low, high}
	}
	return func(f *flow.Flow, reverse bool) bool {
		if f.Proto != flow.ProtoTCP && f.Proto != flow.ProtoUDP && f.Proto != flow.ProtoSCTP {
			return false
		}
		port := f.SrcPort
		if reverse {
			port = f.DstPort
		}
		for _, r := range ranges {
			if port >= r.low && port <= r.high {
				return true
			}
		}
		return false
	}, nil
}

func matchIdentity(values []uint32) (match, error) {
	values = slices.Clone(values)
	return func(f *flow.Flow, reverse bool) bool {
		return slices.Contains(values, source(f, reverse).Identity)
	}, nil
}
