package enrich

import (
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// world names what is outside and has no name: all public addresses are one endpoint, since a map with a node for each
// is of no use; private ones, which a person may know, are told apart up to a bound.
type world struct {
	public, multicast, broadcast, unspecified, linkLocal *flow.Endpoint

	private *flow.Endpoint // those above the bound
	addrs   map[flow.Addr]*flow.Endpoint
	max     int
}

func newWorld(maxPrivate int) world {
	return world{
		public: worldEndpoint(""), multicast: worldEndpoint("multicast"), broadcast: worldEndpoint("broadcast"),
		unspecified: worldEndpoint("unspecified"), linkLocal: worldEndpoint("link-local"), private: worldEndpoint("private"),
		addrs: make(map[flow.Addr]*flow.Endpoint), max: maxPrivate,
	}
}

func worldEndpoint(name string) *flow.Endpoint {
	return &flow.Endpoint{Kind: flow.EndpointWorld, Identity: meta.IdentityWorld, Name: name}
}

func (w *world) endpoint(a flow.Addr, local *addrSet) *flow.Endpoint {
	switch {
	case isMulticast(a):
		return w.multicast
	case local.isBroadcast(a):
		return w.broadcast
	case isUnspecified(a):
		return w.unspecified
	case isLinkLocal6(a): // names an interface, and that on its link alone
		return w.linkLocal
	case !isPrivate(a):
		return w.public
	}
	if p, ok := w.addrs[a]; ok {
		return p
	}
	if len(w.addrs) >= w.max {
		return w.private
	}
	p := worldEndpoint(a.String())
	w.addrs[a] = p
	return p
}

var v4Any = flow.Addr{10: 0xff, 11: 0xff}

func isUnspecified(a flow.Addr) bool { return a.IsZero() || a == v4Any }

func isLoopback(a flow.Addr) bool {
	if a.Is4() {
		return a[12] == 127
	}
	return a == flow.Addr{15: 1}
}

// isMulticast: 224.0.0.0/4 (RFC 5771), ff00::/8 (RFC 4291 section 2.7).
func isMulticast(a flow.Addr) bool {
	if a.Is4() {
		return a[12]&0xf0 == 224
	}
	return a[0] == 0xff
}

// isLinkLocal6: fe80::/10 (RFC 4291 section 2.5.6). Of IPv4's some are well known, as 169.254.169.254.
func isLinkLocal6(a flow.Addr) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// isPrivate: RFC 1918, 100.64.0.0/10 (RFC 6598), 169.254.0.0/16 (RFC 3927), fc00::/7 (RFC 4193).
func isPrivate(a flow.Addr) bool {
	if a.Is4() {
		switch a[12] {
		case 10:
			return true
		case 100:
			return a[13]&0xc0 == 64
		case 169:
			return a[13] == 254
		case 172:
			return a[13]&0xf0 == 16
		case 192:
			return a[13] == 168
		}
		return false
	}
	return a[0]&0xfe == 0xfc
}
