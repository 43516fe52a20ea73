package enrich

import (
	"net/netip"
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// names remembers for which DNS name an address was given, so that a world endpoint bears the name that a program
// asked for. A name is good for connections that start while it is valid, however long they live, and their traffic
// keeps it valid.
type names struct {
	minTTL int64
	byAddr generations[flow.Addr, *nameHistory]
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
		byAddr: newGenerations[flow.Addr, *nameHistory](size),
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
		if !known {
			h = new(nameHistory)
			n.byAddr.put(a, h)
		}
		if !known || h.now.endpoint.Name != l.Resource {
			h.before, h.now = h.now, validName{n.named(l.Resource), at, at}
		}
		h.now.until = max(h.now.until, at+ttl)
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

// lookup returns the endpoint of a for a flow of a connection that began at start, nil if no name is known.
func (n *names) lookup(a flow.Addr, start, at int64) *flow.Endpoint {
	h, ok := n.byAddr.get(a)
	if !ok {
		return nil
	}
	for _, v := range [...]*validName{&h.now, &h.before} {
		if v.endpoint != nil && start >= v.from && start <= v.until {
			v.until = max(v.until, at+n.minTTL)
			return v.endpoint
		}
	}
	return nil
}
