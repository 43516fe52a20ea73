package enforce_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/policytest"
)

// cluster is node n1 with six pods, and everybody else: node n2 with its pods, and strangers, all in one namespace behind the
// node's uplink. Addresses are those of policytest.
type cluster struct {
	t       testing.TB
	node    *space
	outside *space
	pods    []*pod // of n1
	remote  []*meta.Object
	nodes   []*meta.Object
	spaces  map[netip.Addr]*space // who has an address

	services []*meta.Object // see addServices
}

type pod struct {
	*space
	object *meta.Object
	link   string // the host's end
}

const localPods = 6

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func podAddrs(i int) []netip.Addr {
	return addrs(fmt.Sprintf("10.%d.0.%d", 1+i%2, i), fmt.Sprintf("fd00:%d::%d", 1+i%2, i))
}

// newCluster builds it. Pods are in two of the namespaces each, and their labels and ports are drawn later.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, node: newSpace(t), outside: newSpace(t), spaces: make(map[netip.Addr]*space)}
	c.node.set("ipv4/ip_forward", "1")
	c.node.set("ipv6/conf/all/forwarding", "1")
	c.node.ip("addr add 172.16.0.1/32 dev lo", "addr add fd00:16::1/128 dev lo nodad")
	for i, name := range policytest.NodeNames {
		c.nodes = append(c.nodes, &meta.Object{Kind: meta.Node, Name: name, Addrs: addrs(fmt.Sprintf("172.16.0.%d", i+1), fmt.Sprintf("fd00:16::%d", i+1))})
	}
	c.serve(c.node, c.nodes[0].Addrs)
	for i := 1; i <= localPods; i++ {
		c.pods = append(c.pods, c.addPod(i, policytest.Namespaces[i%3]))
	}
	others := append(addrs(policytest.Strangers...), c.nodes[1].Addrs...)
	for i := localPods + 1; i <= localPods+2; i++ {
		o := &meta.Object{Kind: meta.Pod, Namespace: policytest.Namespaces[i%3], Name: fmt.Sprint("p", i), Node: "n2", Addrs: podAddrs(i)}
		c.remote, others = append(c.remote, o), append(others, o.Addrs...)
	}
	c.join("uplink", c.outside, others)
	c.node.ip("route add default dev uplink src 172.16.0.1", "route add ::/0 dev uplink src fd00:16::1")
	c.serve(c.outside, others)
	return c
}

func (c *cluster) addPod(i int, namespace string) *pod {
	p := &pod{space: newSpace(c.t), link: fmt.Sprint("plxt", i)}
	p.object = &meta.Object{Kind: meta.Pod, Namespace: namespace, Name: fmt.Sprint("p", i), Node: "n1", Addrs: podAddrs(i), NetNS: p.path}
	c.join(p.link, p.space, p.object.Addrs)
	for i, a := range p.object.Addrs {
		c.node.ip(fmt.Sprintf("route add %s dev %s src %s", netip.PrefixFrom(a, a.BitLen()), p.link, c.nodes[0].Addrs[i]))
	}
	c.serve(p.space, p.object.Addrs)
	return p
}

// join connects s to the node by a veth, whose end in s is eth0 with these addresses.
func (c *cluster) join(link string, s *space, list []netip.Addr) {
	c.node.ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %s", link, s.name), "link set "+link+" up", "addr add fe80::1/64 dev "+link+" nodad")
	lines := []string{"link set eth0 up", "addr add fe80::2/64 dev eth0 nodad"}
	for _, a := range list {
		if a.Is4() {
			lines = append(lines, fmt.Sprintf("addr add %s/32 dev eth0", a))
		} else {
			lines = append(lines, fmt.Sprintf("addr add %s/128 dev eth0 nodad", a))
		}
	}
	s.ip(append(lines, "route add 172.16.0.1 dev eth0 scope link", "route add default via 172.16.0.1 dev eth0", "route add ::/0 via fe80::1 dev eth0")...)
	for _, a := range list {
		c.spaces[a] = s
	}
}

var (
	tcpPorts = []uint16{80, 8080} // what is not among them refuses, which is an answer too
	udpPorts = []uint16{53, 80, 443, 8081}
)

// serve echoes at these addresses.
func (c *cluster) serve(s *space, list []netip.Addr) {
	for _, a := range list {
		c.spaces[a] = s
	}
	var wg sync.WaitGroup
	var open []io.Closer
	c.t.Cleanup(func() {
		for _, o := range open {
			o.Close()
		}
		wg.Wait()
	})
	s.do(func() error {
		for _, port := range tcpPorts {
			l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: int(port)})
			if err != nil {
				return err
			}
			open = append(open, l)
			wg.Go(func() { echoTCP(l) })
		}
		for _, a := range list {
			for _, port := range udpPorts {
				u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
				if err != nil {
					return err
				}
				open = append(open, u)
				wg.Go(func() { echoUDP(u) })
			}
		}
		return nil
	})
}

func echoTCP(l net.Listener) {
	var wg sync.WaitGroup
	var open sync.Map
	for {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		open.Store(conn, nil)
		wg.Go(func() {
			_, _ = io.Copy(conn, conn)
			conn.Close()
			open.Delete(conn)
		})
	}
	open.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true })
	wg.Wait()
}

func echoUDP(u *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := u.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err == nil { // else the ICMP of a client that went
			_, _ = u.WriteToUDPAddrPort(buf[:n], from)
		}
	}
}

// objects lists the whole cluster; namespaces have labels as drawn.
func (c *cluster) objects(labels map[string]map[string]string) []*meta.Object {
	list := append([]*meta.Object(nil), c.nodes...)
	for _, name := range policytest.Namespaces {
		list = append(list, &meta.Object{Kind: meta.Namespace, Name: name, Labels: labels[name]})
	}
	for _, p := range c.pods {
		list = append(list, p.object)
	}
	return append(append(list, c.remote...), c.services...)
}

// redraw gives all pods and namespaces other labels, and pods other named ports.
func (c *cluster) redraw(r policytest.Dice) []*meta.Object {
	change := func(o *meta.Object) *meta.Object {
		n := *o
		n.Labels, n.Ports = policytest.RandomLabels(r), nil
		for range r.IntN(3) {
			n.Ports = append(n.Ports, meta.Port{
				Name: policytest.One(r, policytest.PortNames...), Number: policytest.One[uint16](r, 53, 80, 443, 8080), Proto: policytest.One(r, flow.ProtoTCP, flow.ProtoUDP),
			})
		}
		return &n
	}
	for _, p := range c.pods {
		p.object = change(p.object)
	}
	for i := range c.remote {
		c.remote[i] = change(c.remote[i])
	}
	labels := map[string]map[string]string{}
	for _, name := range policytest.Namespaces {
		labels[name] = policytest.RandomLabels(r)
	}
	return c.objects(labels)
}

// set is a source of policies that the test changes.
type set struct {
	mu   sync.Mutex
	emit func([]policy.Policy)
	now  []policy.Policy
}

func (s *set) WatchPolicies(ctx context.Context, emit func([]policy.Policy)) error {
	s.mu.Lock()
	s.emit = emit
	emit(s.now)
	s.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (s *set) change(policies []policy.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now = policies; s.emit != nil {
		s.emit(policies)
	}
}

// read parses policies: a name, then the spec as YAML flow or block.
func read(t testing.TB, docs ...string) []policy.Policy {
	t.Helper()
	policies, err := readText(strings.Join(docs, "\n---\n"))
	must(t, err)
	return policies
}
