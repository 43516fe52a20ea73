package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/deploy/lab/netspace"
)

// Addresses of the switch and the gateway that pods see. The link-local gateway is the same for all pods, as with Calico.
var (
	switchAddr6 = netip.MustParseAddr("fd70:6c78::1")
	podGateway6 = netip.MustParseAddr("fe80::1")
	anywhere4   = netip.MustParsePrefix("0.0.0.0/0")
	anywhere6   = netip.MustParsePrefix("::/0")
)

const (
	bridgeName = "br0"
	uplinkName = "eth0"
	deadHop    = 250 // host part of an underlay address that nobody has
)

func (l *Layout) switchAddr() netip.Addr {
	return hostAddr(netip.PrefixFrom(l.Block.Addr(), 24), 1)
}

// space is an open network namespace with a netlink socket in it.
type space struct {
	*netlink.Handle
	path string
	fd   netns.NsHandle
}

func openSpace(path string) (*space, error) {
	fd, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	h, err := netlink.NewHandleAt(fd, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink in %s: %w", path, err), fd.Close())
	}
	return &space{h, path, fd}, nil
}

func (s *space) Close() error {
	s.Handle.Close()
	return s.fd.Close()
}

// buildNetwork makes the namespaces and links of l. What it made stays where it fails: the caller sweeps.
func buildNetwork(ctx context.Context, l *Layout) error {
	paths := []string{l.Switch, l.World}
	for _, n := range l.Nodes {
		paths = append(paths, n.NetNS)
	}
	for _, p := range l.Pods {
		paths = append(paths, p.NetNS)
	}
	spaces := make(map[string]*space, len(paths))
	defer func() {
		for _, s := range spaces {
			s.Close()
		}
	}()
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := netspace.Create(filepath.Base(path)); err != nil {
			return err
		}
		s, err := openSpace(path)
		if err != nil {
			return err
		}
		spaces[path] = s
		if err := s.prepare(path == l.Switch || l.isNode(path)); err != nil {
			return err
		}
	}
	if err := l.buildUnderlay(spaces); err != nil {
		return err
	}
	for i := range l.Pods {
		p := &l.Pods[i]
		if err := l.buildPod(spaces[l.node(p.Node).NetNS], spaces[p.NetNS], p); err != nil {
			return fmt.Errorf("link pod %s: %w", p.Name, err)
		}
	}
	return nil
}

func (l *Layout) isNode(path string) bool {
	for _, n := range l.Nodes {
		if n.NetNS == path {
			return true
		}
	}
	return false
}

// prepare sets what must hold before the first link appears: no waiting for duplicate addresses, no router solicitations.
func (s *space) prepare(forward bool) error {
	settings := map[string]string{
		"ipv6/conf/default/accept_dad":   "0",
		"ipv6/conf/all/accept_dad":       "0",
		"ipv6/conf/default/accept_ra":    "0",
		"ipv6/conf/all/disable_ipv6":     "0",
		"ipv6/conf/default/disable_ipv6": "0",
	}
	if forward {
		settings["ipv4/ip_forward"] = "1"
		settings["ipv6/conf/all/forwarding"] = "1"
	}
	err := netspace.Do(s.path, func() error {
		for name, value := range settings {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set up %s: %w", s.path, err)
	}
	return s.up("lo")
}

// buildUnderlay joins nodes by a bridge in the switch, and the world by a routed link.
func (l *Layout) buildUnderlay(spaces map[string]*space) error {
	sw := spaces[l.Switch]
	if err := sw.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}); err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	if err := cmp.Or(sw.up(bridgeName), sw.addr(bridgeName, l.switchAddr(), 24), sw.addr(bridgeName, switchAddr6, 64)); err != nil {
		return err
	}
	bridge, err := sw.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	for i := range l.Nodes {
		n := &l.Nodes[i]
		if err := sw.veth(n.Name, spaces[n.NetNS], uplinkName, bridge.Attrs().Index); err != nil {
			return fmt.Errorf("link %s: %w", n.Name, err)
		}
		if err := l.routeNode(sw, spaces[n.NetNS], n); err != nil {
			return fmt.Errorf("route %s: %w", n.Name, err)
		}
	}
	return l.buildWorld(sw, spaces[l.World])
}

// routeNode gives a node its addresses and routes, and the switch its way to the node's pods.
func (l *Layout) routeNode(sw, node *space, n *Node) error {
	errs := []error{
		node.addr(uplinkName, n.Addr, 24), node.addr(uplinkName, n.Addr6, 64),
		node.route(uplinkName, anywhere4, l.switchAddr()), node.route(uplinkName, anywhere6, switchAddr6),
		node.blackhole(netip.PrefixFrom(PartnerAddr, 32)),
		node.route(uplinkName, netip.PrefixFrom(BackupAddr, 32), hostAddr(netip.PrefixFrom(n.Addr, 24), deadHop)),
		sw.route(bridgeName, n.PodNet, n.Addr), sw.route(bridgeName, n.PodNet6, n.Addr6),
	}
	for _, peer := range l.Nodes {
		if peer.Name != n.Name {
			errs = append(errs, node.route(uplinkName, peer.PodNet, peer.Addr), node.route(uplinkName, peer.PodNet6, peer.Addr6))
		}
	}
	return cmp.Or(errs...)
}

func (l *Layout) buildWorld(sw, world *space) error {
	gateway4, gateway6 := hostAddr(worldNet4, 1), hostAddr(worldNet6, 1)
	if err := sw.veth("world", world, uplinkName, 0); err != nil {
		return fmt.Errorf("link world: %w", err)
	}
	errs := []error{sw.addr("world", gateway4, 24), sw.addr("world", gateway6, 64)}
	for _, h := range l.Hosts {
		errs = append(errs, world.addr(uplinkName, h.Addr, 24), world.addr(uplinkName, h.Addr6, 64))
	}
	errs = append(errs, world.route(uplinkName, anywhere4, gateway4), world.route(uplinkName, anywhere6, gateway6))
	return cmp.Or(errs...)
}

// buildPod links a pod to its node by a veth pair and host routes, without a bridge: all that it says and hears, also to a
// pod beside it, passes its own veth in the node and is routed there.
func (l *Layout) buildPod(node, pod *space, p *Endpoint) error {
	veth, gateway4 := p.Link, hostAddr(l.node(p.Node).PodNet, 1)
	if err := node.veth(veth, pod, uplinkName, 0); err != nil {
		return err
	}
	return cmp.Or(
		node.addr(veth, gateway4, 32), node.addr(veth, podGateway6, 64),
		node.route(veth, netip.PrefixFrom(p.Addr, 32), netip.Addr{}), node.route(veth, netip.PrefixFrom(p.Addr6, 128), netip.Addr{}),
		pod.addr(uplinkName, p.Addr, 32), pod.addr(uplinkName, p.Addr6, 128),
		pod.route(uplinkName, netip.PrefixFrom(gateway4, 32), netip.Addr{}),
		pod.route(uplinkName, anywhere4, gateway4), pod.route(uplinkName, anywhere6, podGateway6),
	)
}

// veth makes a link between s and peer and brings both ends up; master is the index of a bridge in s, or 0.
func (s *space) veth(name string, peer *space, peerName string, master int) error {
	link := netlink.NewVeth(netlink.LinkAttrs{Name: name, MasterIndex: master, TxQLen: -1})
	link.PeerName, link.PeerNamespace = peerName, netlink.NsFd(peer.fd)
	if err := s.LinkAdd(link); err != nil {
		return fmt.Errorf("make link %s: %w", name, err)
	}
	return cmp.Or(s.up(name), peer.up(peerName))
}

func (s *space) up(name string) error {
	link, err := s.LinkByName(name)
	if err == nil {
		err = s.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}

func (s *space) addr(dev string, a netip.Addr, bits int) error {
	link, err := s.LinkByName(dev)
	if err == nil {
		err = s.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, bits)), Flags: nodad(a)})
	}
	if err != nil {
		return fmt.Errorf("address %s on %s: %w", a, dev, err)
	}
	return nil
}

// nodad makes an IPv6 address usable at once.
func nodad(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return unix.IFA_F_NODAD
}

// route adds a route by dev; via may be the zero Addr.
func (s *space) route(dev string, to netip.Prefix, via netip.Addr) error {
	link, err := s.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("route %s: %w", to, err)
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Scope: netlink.SCOPE_LINK}
	if via.IsValid() {
		r.Gw, r.Scope = via.AsSlice(), netlink.SCOPE_UNIVERSE
	}
	if err := s.RouteAdd(r); err != nil {
		return fmt.Errorf("route %s by %s: %w", to, dev, err)
	}
	return nil
}

func (s *space) blackhole(to netip.Prefix) error {
	if err := s.RouteAdd(&netlink.Route{Dst: ipNet(to), Type: unix.RTN_BLACKHOLE}); err != nil {
		return fmt.Errorf("blackhole %s: %w", to, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// takenPrefixes returns the IPv4 blocks that the host has addresses in or routes to.
func takenPrefixes() ([]netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var nets []*net.IPNet
	for _, r := range routes {
		nets = append(nets, r.Dst)
	}
	for _, a := range addrs {
		nets = append(nets, a.IPNet)
	}
	var taken []netip.Prefix
	for _, n := range nets {
		if n == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(n.IP.To4())
		if ones, _ := n.Mask.Size(); ok && ones > 0 { // the default route takes nothing
			taken = append(taken, netip.PrefixFrom(a, ones))
		}
	}
	return taken, nil
}
