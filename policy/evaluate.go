package policy

import (
	"net/netip"

	"github.com/parallax-flow/parallax/flow"
)

// Engine decides connections by policies over an inventory. It is immutable and safe for concurrent use.
type Engine struct {
	policies []Policy
	index    *index
	opts     Options
}

// New returns an Engine. It keeps policies and inv, which must not change any more.
func New(policies []Policy, inv Inventory, opts Options) *Engine {
	return &Engine{policies: sorted(policies), index: newIndex(inv), opts: opts}
}

// Find returns the pod of that name, nil if there is none.
func (e *Engine) Find(namespace, name string) *Endpoint { return e.index.find(namespace, name) }

// Party is one side of a connection: a pod, an address, or both where a pod has several addresses. The address of a
// pod stands for the pod.
type Party struct {
	Endpoint *Endpoint
	Addr     netip.Addr // not set: the pod's first address of a family that the other side has too
}

// Query is a new connection as its initiator sends it: to a service's address and port, or behind their translation.
type Query struct {
	Src, Dst Party
	Proto    flow.Proto
	Port     uint16 // destination; 0 for protocols without ports
}

// Decision says what becomes of a connection: it needs both sides. One to a service needs those of all backends; each Side is
// that of the first backend that it denies, or else of the first.
type Decision struct {
	Allowed bool
	Egress  Side // of the source
	Ingress Side // of the destination
}

// Side is the verdict of one side.
type Side struct {
	Direction Direction
	Allowed   bool
	Reason    Reason
	Rules     []RuleRef // those that allow the connection, in the order of policies; not empty if and only if Reason is ByRule
	Policies  []Ref     // those that isolate the pod in this direction
}

// RuleRef names a rule of a policy.
type RuleRef struct {
	Policy    Ref
	Direction Direction
	Index     int // in the list of the policy's section
}

// Reason says why a side decided so.
type Reason uint8

const (
	NotPod      Reason = iota // policies bind pods only; allowed
	ToItself                  // "a Pod cannot block access to itself" (Kubernetes, Network Policies); allowed
	NotIsolated               // API: "Traffic is allowed to a pod if there are no NetworkPolicies selecting the pod"; allowed
	FromOwnNode               // API: "OR if the traffic source is the pod's local node"; ingress only; allowed
	ByRule                    // "OR if the traffic matches at least one ingress rule"; allowed
	DefaultDeny               // isolated, and no rule allows it; denied
)

var reasonTexts = [...]string{
	NotPod: "policies do not bind what is not a pod", ToItself: "traffic of a pod to itself", NotIsolated: "no policy selects the pod",
	FromOwnNode: "traffic from the pod's own node", ByRule: "allowed by a rule", DefaultDeny: "default deny",
}

func (r Reason) String() string { return reasonTexts[r] }

// side is a resolved Party.
type side struct {
	pod  *Endpoint  // nil: not a pod, or one in its host's network
	addr netip.Addr // invalid if unknown
	node string     // the host that the address belongs to, where pod is nil
}

// conn is a resolved Query.
type conn struct {
	src, dst side
	proto    flow.Proto
	port     uint16
	forward  bool // the destination is the backend of a service
}

// ends returns whom policies of d select, and whom their rules name.
func (c *conn) ends(d Direction) (subject, peer side) {
	if d == Egress {
		return c.src, c.dst
	}
	return c.dst, c.src
}

// Decide returns what becomes of q.
func (e *Engine) Decide(q Query) Decision {
	c := e.resolve(q)
	if v := e.virtual(&c); v != nil {
		return e.decideAll(&c, v)
	}
	return e.decideBoth(&c)
}

func (e *Engine) decideBoth(c *conn) Decision {
	d := Decision{Egress: e.decide(Egress, c), Ingress: e.decide(Ingress, c)}
	d.Allowed = d.Egress.Allowed && d.Ingress.Allowed
	return d
}

// virtual returns the service that c goes to, nil if it goes to none.
func (e *Engine) virtual(c *conn) *virtual {
	if !c.dst.addr.IsValid() {
		return nil
	}
	return e.index.services[ServiceKey{flow.AddrFrom(c.dst.addr), c.port, c.proto}]
}

// decideAll decides on a connection to a service.
func (e *Engine) decideAll(c *conn, v *virtual) Decision {
	if len(v.backends) == 0 {
		d := e.decideBoth(c)
		if d.Egress.Rules = nil; len(d.Egress.Policies) > 0 {
			d.Egress.Reason, d.Egress.Allowed, d.Allowed = DefaultDeny, false, false
		}
		return d
	}
	var d Decision
	for i := range v.backends {
		to := e.backend(c, v, i)
		next := e.decideBoth(&to)
		if i == 0 {
			d = next
			continue
		}
		if d.Egress.Allowed && !next.Egress.Allowed {
			d.Egress = next.Egress
		}
		if d.Ingress.Allowed && !next.Ingress.Allowed {
			d.Ingress = next.Ingress
		}
	}
	d.Allowed = d.Egress.Allowed && d.Ingress.Allowed
	return d
}

// backend returns c as the node forwards it to backend i.
func (e *Engine) backend(c *conn, v *virtual, i int) conn {
	to := *c
	to.dst, to.port, to.forward = e.side(Party{Addr: v.backends[i].Addr()}), v.backends[i].Port(), true
	return to
}

func (e *Engine) decide(d Direction, c *conn) Side {
	subject, peer := c.ends(d)
	s := Side{Direction: d, Allowed: true}
	if subject.pod == nil {
		s.Reason = NotPod
		return s
	}
	if subject.pod == peer.pod && !(c.forward && d == Egress) {
		s.Reason = ToItself
		return s
	}
	for i := range e.policies {
		p := &e.policies[i]
		if !p.selects(d, subject.pod) {
			continue
		}
		s.Policies = append(s.Policies, p.Ref)
		for r := range p.Sections[d].Rules {
			if e.matches(d, p, &p.Sections[d].Rules[r], c) {
				s.Rules = append(s.Rules, RuleRef{p.Ref, d, r})
			}
		}
	}
	switch {
	case len(s.Policies) == 0:
		s.Reason = NotIsolated
	case fromOwnNode(d, subject, peer):
		s.Reason, s.Rules = FromOwnNode, nil
	case len(s.Rules) > 0:
		s.Reason = ByRule
	default:
		s.Reason, s.Allowed = DefaultDeny, false
	}
	return s
}

// selects reports whether p isolates pod in direction d.
func (p *Policy) selects(d Direction, pod *Endpoint) bool {
	return p.Sections[d].Isolates && p.Namespace == pod.Namespace && p.Subject.Matches(pod.Labels)
}

func fromOwnNode(d Direction, subject, peer side) bool {
	return d == Ingress && peer.node != "" && peer.node == subject.pod.Node
}

// miss takes the reason why something does not match. It may be nil.
type miss func(format string, args ...any)

func (m miss) because(format string, args ...any) bool {
	if m != nil {
		m(format, args...)
	}
	return false
}

// matches reports whether r allows c. API: "The traffic must match both ports and from."
func (e *Engine) matches(d Direction, p *Policy, r *Rule, c *conn) bool {
	_, peer := c.ends(d)
	return e.matchesPeers(d, p, r, peer, nil) && matchesPorts(r, c, nil)
}

func (e *Engine) matchesPeers(d Direction, p *Policy, r *Rule, peer side, m miss) bool {
	for i := range r.Peers {
		var at miss
		if m != nil {
			at = func(format string, args ...any) { m("%s[%d]: "+format, append([]any{d.peers(), i}, args...)...) }
		}
		if e.matchesPeer(p.Namespace, &r.Peers[i], peer, at) {
			return true
		}
	}
	return len(r.Peers) == 0
}

func (e *Engine) matchesPeer(namespace string, p *Peer, peer side, m miss) bool {
	if p.Block != nil {
		return e.matchesBlock(p.Block, peer, m)
	}
	switch pod := peer.pod; {
	case pod == nil:
		return m.because("it selects pods, and %s is not one", peer)
	case p.Namespaces == nil && pod.Namespace != namespace:
		return m.because("it selects pods of namespace %s, and %s is not there", namespace, pod)
	case p.Namespaces != nil && !p.Namespaces.Matches(pod.NamespaceLabels):
		return m.because("namespace %s has not %s", pod.Namespace, p.Namespaces.failing(pod.NamespaceLabels))
	case p.Pods != nil && !p.Pods.Matches(pod.Labels):
		return m.because("pod %s has not %s", pod, p.Pods.failing(pod.Labels))
	}
	return true
}

func (e *Engine) matchesBlock(b *Block, peer side, m miss) bool {
	switch {
	case !peer.addr.IsValid():
		return m.because("the address of %s is unknown", peer)
	case peer.pod != nil && e.opts.BlocksSkipPods:
		return m.because("an ipBlock does not match pods, and %s is one", peer)
	case !b.Prefix.Contains(peer.addr):
		return m.because("%s is outside %s", peer.addr, b.Prefix)
	}
	for _, x := range b.Except {
		if x.Contains(peer.addr) {
			return m.because("%s is in %s, excepted from %s", peer.addr, x, b.Prefix)
		}
	}
	return true
}

func matchesPorts(r *Rule, c *conn, m miss) bool {
	for _, p := range r.Ports {
		if p.matches(c) {
			return true
		}
	}
	if len(r.Ports) == 0 {
		return true
	}
	return m.because("port %s is not among %s", portText(c.port, c.proto), portList(r.Ports, c.dst.pod))
}

// matches reports whether c goes to p. A named port is one of the destination, in both directions.
func (p Port) matches(c *conn) bool {
	if p.Proto != c.proto {
		return false
	}
	if p.Name == "" {
		return p.any() || p.First <= c.port && c.port <= p.Last
	}
	if c.dst.pod == nil {
		return false
	}
	for _, n := range c.dst.pod.numbers(p.Name, p.Proto) {
		if n == c.port {
			return true
		}
	}
	return false
}

func (e *Engine) resolve(q Query) conn {
	c := conn{src: e.side(q.Src), dst: e.side(q.Dst), proto: q.Proto, port: q.Port}
	for _, a := range candidates(c.src, q.Src) {
		for _, b := range candidates(c.dst, q.Dst) {
			if a.Is4() == b.Is4() {
				c.src.addr, c.dst.addr = a, b
				return c
			}
		}
	}
	return c
}

// candidates returns the addresses that s may use.
func candidates(s side, p Party) []netip.Addr {
	if s.addr.IsValid() || p.Endpoint == nil {
		return []netip.Addr{s.addr}
	}
	list := make([]netip.Addr, len(p.Endpoint.Addrs))
	for i, a := range p.Endpoint.Addrs {
		list[i] = a.Unmap()
	}
	return list
}

func (e *Engine) side(p Party) side {
	s := side{pod: p.Endpoint, addr: p.Addr.Unmap()}
	if s.pod == nil {
		s.pod = e.index.owner[s.addr]
	}
	if s.pod == nil {
		s.node = e.index.hosts[s.addr]
	} else if s.pod.HostNetwork {
		s.pod, s.node = nil, s.pod.Node
	}
	return s
}
