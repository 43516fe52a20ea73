package enforce_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy/policytest"
)

// addServices gives the cluster services, and its node the address translation that kube-proxy would set up for them: pods
// here and elsewhere, nodes and strangers stand behind them, one or several, of one namespace or two, or nobody.
func (c *cluster) addServices() {
	c.t.Helper()
	for i, a := range []string{"10.96.0.%d", "fd00:96::%d"} { // IPv4, IPv6
		virtual := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(a, n)) }
		to := func(list ...netip.AddrPort) []netip.AddrPort { return list }
		pod := func(n int, port uint16) netip.AddrPort { return netip.AddrPortFrom(podAddrs(n)[i], port) }
		stranger := netip.MustParseAddr([]string{"192.0.2.1", "2001:db8::1"}[i])
		c.services = append(c.services, service("b", fmt.Sprint("s", i),
			meta.Forward{Addr: virtual(1), Port: 80, Proto: flow.ProtoTCP, To: to(pod(1, 8080), pod(4, 80))},
			meta.Forward{Addr: virtual(1), Port: 53, Proto: flow.ProtoUDP, To: to(pod(4, 53))},
			meta.Forward{Addr: virtual(1), Port: 53, Proto: flow.ProtoTCP, To: to(pod(4, 8080))},
			meta.Forward{Addr: virtual(1), Port: 443, Proto: flow.ProtoTCP, To: to(netip.AddrPortFrom(c.nodes[1].Addrs[i], 8080))},
			meta.Forward{Addr: virtual(1), Port: 443, Proto: flow.ProtoUDP, To: to(pod(7, 8081))},
			meta.Forward{Addr: virtual(1), Port: 8080, Proto: flow.ProtoTCP},
		), service("c", fmt.Sprint("s", i),
			meta.Forward{Addr: virtual(2), Port: 80, Proto: flow.ProtoTCP, To: to(netip.AddrPortFrom(stranger, 80))},
			meta.Forward{Addr: virtual(2), Port: 8080, Proto: flow.ProtoTCP, To: to(pod(2, 8080), pod(3, 80), pod(8, 8080))},
			meta.Forward{Addr: virtual(2), Port: 80, Proto: flow.ProtoUDP, To: to(pod(5, 80), pod(6, 8081))},
			meta.Forward{Addr: virtual(2), Port: 8081, Proto: flow.ProtoUDP},
		))
	}
	c.translate()
}

// translate writes the node's address translation. What a virtual address does not have is refused.
func (c *cluster) translate() {
	c.t.Helper()
	var b strings.Builder
	b.WriteString("table inet services {\nchain forward {\ntype filter hook forward priority 0\n")
	for _, net := range []string{"ip daddr 10.96.0.0/16", "ip6 daddr fd00:96::/64"} {
		fmt.Fprintf(&b, "%s meta l4proto tcp reject with tcp reset\n%[1]s reject\n", net)
	}
	b.WriteString("}\nchain prerouting {\ntype nat hook prerouting priority -100\n")
	for _, s := range c.services {
		for _, f := range s.Forwards {
			family := map[bool]string{true: "ip", false: "ip6"}[f.Addr.Is4()]
			var backends []string
			for i, to := range f.To {
				backends = append(backends, fmt.Sprintf("%d : %s . %d", i, to.Addr(), to.Port()))
			}
			if len(backends) > 0 {
				fmt.Fprintf(&b, "%s daddr %s %s dport %d dnat %s to numgen inc mod %d map { %s }\n",
					family, f.Addr, strings.ToLower(f.Proto.String()), f.Port, family, len(backends), strings.Join(backends, ", "))
			}
		}
	}
	b.WriteString("}\n}\n")
	run(c.t, b.String(), "ip", "netns", "exec", c.node.name, "nft", "-f", "-")
}

// toService redirects p to a service, if its source is a pod of the node and not behind the service itself: the node sends
// what a pod gets back from itself under an address of its own.
func (r *rig) toService(dice policytest.Dice, w *policytest.World, p policytest.Probe) policytest.Probe {
	f := policytest.One(dice, policytest.One(dice, r.services...).Forwards...)
	if !isLocal(p.Src) || f.Addr.Is4() != p.Src.Addr.Is4() {
		return p
	}
	to := policytest.Probe{Src: p.Src, Dst: policytest.Actor{Addr: f.Addr}, Proto: f.Proto, Port: f.Port}
	if dice.Chance(15) {
		to.Port = 1 // is none of a service
	}
	backends, _ := w.Backends(to)
	for _, b := range backends {
		if b.Dst.Pod == p.Src.Pod {
			return p
		}
	}
	return to
}

// behind returns a as the backends of its service see it.
func (a *attempt) behind(backends []policytest.Probe) (list []tuple) {
	for _, b := range backends {
		list = append(list, tuple{a.src, netip.AddrPortFrom(b.Dst.Addr, b.Port), a.proto})
	}
	return list
}

// differsBehind compares what became of a connection to a service that egress allows with the oracle: one of its backends,
// which the node took, had to allow it too.
func (r *rig) differsBehind(w *policytest.World, a *attempt, backends []policytest.Probe) string {
	possible := len(backends) == 0 && a.passed // the node refuses
	if a.passed && a.refused != possible {
		return fmt.Sprintf("refused %t, with backends %v", a.refused, backends)
	}
	for i, at := range a.behind(backends) {
		ingress := policytest.JudgeIngress(w.Policies, backends[i].Src, backends[i].Dst, backends[i].Proto, backends[i].Port)
		allowed := ingress.Allowed || !isLocal(backends[i].Dst)
		possible = possible || allowed == a.passed
		for _, f := range r.decided(at) {
			if f.Direction != flow.DirectionIngress || f.Kind != flow.KindVerdict {
				continue
			}
			if bad := explains(&f, ingress); bad != "" {
				return fmt.Sprintf("backend %v: %s", at.dst, bad)
			}
			if a.passed != allowed {
				return fmt.Sprintf("passed %t, backend %v allows: %t", a.passed, at.dst, allowed)
			}
		}
	}
	if !possible || a.passed == a.dropped {
		return fmt.Sprintf("passed %t, dropped %t, which no backend of %v explains", a.passed, a.dropped, backends)
	}
	return ""
}
