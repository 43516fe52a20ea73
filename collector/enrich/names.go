package enrich

import (
	"net/netip"
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// names remembers for which DNS name an address was given, so that a world endpoint bears the name that a program
// asked for. A name is good for connections that start while it is valid, however long they live.
type names struct {
	minTTL int64
	byAddr generations[flow.Addr, nameHistory]
	byName generations[string, *flow.Endpoint]
}

// nameHistory is the name of an address and the one before: addresses of a CDN change names often.
type nameHistory struct {
	now, before validName
}

type validName struct {
	endpoint    *flow.Endpoint
	from, until int64 // Unix ns
}

func newNames(size int, minTTL time.Duration) names {
	return names{
		minTTL: int64(minTTL),
		byAddr: newGenerations[flow.Addr, nameHistory](size),
		byName: newGenerations[string, *flow.Endpoint](size),
	}
}

// learn takes the addresses of a DNS answer that was seen at that time (Unix ns).
func (n *names) learn(l *flow.L7, at int64) {
	if l.Operation != "A" && l.Operation != "AAAA" || l.Resource == "" {
		return
	}
	ttl := max(n.minTTL, int64(l.MinTTL)*int64(time.Second))
	for _, text := range l.Answers {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			continue // an alias
		}
		a := flow.AddrFrom(ip)
		h, known := n.byAddr.get(a)
		if !known || h.now.endpoint.Name != l.Resource {
			h = nameHistory{now: validName{n.named(l.Resource), at, at}, before: h.now}
		}
		h.now.until = max(h.now.until, at+ttl)
		n.byAddr.put(a, h)
	}
}

func (n *names) named(name string) *flow.Endpoint {
	e, ok := n.byName.get(name)
	if !ok {
		e = worldEndpoint(name)
		n.byName.put(name, e)
	}
	return e
}

// lookup returns the endpoint of a for a connection that began at start, nil if no name is known.
func (n *names) lookup(a flow.Addr, start int64) *flow.Endpoint {
	h, ok := n.byAddr.get(a)
	if !ok {
		return nil
	}
	switch {
	case start >= h.now.from && start <= h.now.until:
		return h.now.endpoint
	case h.before.endpoint != nil && start >= h.before.from && start <= h.before.until:
		return h.before.endpoint
	}
	return nil
}
