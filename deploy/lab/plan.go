package lab

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/parallax-flow/parallax/deploy/lab/netspace"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

const (
	maxNodes = 4

	// LegacyPort is the port of shop/legacy that checkout dials and on which nobody listens.
	LegacyPort = 9999
	// ArchivePort is the port of shop/legacy that checkout dials and of which a firewall drops all.
	ArchivePort = 9998
)

// Addresses outside of the cluster, from the ranges for documentation (RFC 5737, RFC 3849).
var (
	// PartnerAddr is that of partner.example.net: every node routes it into a blackhole.
	PartnerAddr = netip.MustParseAddr("203.0.113.66")
	// BackupAddr is that of backup.example.net: every node routes it to a next hop that is not there.
	BackupAddr = netip.MustParseAddr("203.0.113.77")

	worldNet4 = netip.MustParsePrefix("198.51.100.0/24")
	worldNet6 = netip.MustParsePrefix("2001:db8:100::/64")
)

// Node is a machine of the lab's cluster: a network namespace with an uplink eth0.
type Node struct {
	Name    string       `json:"name"`
	NetNS   string       `json:"netns"` // path
	Addr    netip.Addr   `json:"addr"`  // of the uplink, IPv4
	Addr6   netip.Addr   `json:"addr6"`
	PodNet  netip.Prefix `json:"podNet"` // addresses of the pods on this node
	PodNet6 netip.Prefix `json:"podNet6"`
}

// Endpoint is one pod, or one host of the world (Namespace and Node empty).
type Endpoint struct {
	Namespace    string            `json:"namespace,omitempty"`
	Name         string            `json:"name"`
	Workload     string            `json:"workload"`
	WorkloadKind string            `json:"workloadKind,omitempty"`
	Node         string            `json:"node,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Addr         netip.Addr        `json:"addr"`
	Addr6        netip.Addr        `json:"addr6"`
	NetNS        string            `json:"netns"`          // path
	Link         string            `json:"link,omitempty"` // the host side of the pod\'s veth pair, in the node\'s namespace
	Role         string            `json:"role"`           // the program that it runs
	Ports        []Port            `json:"ports,omitempty"`
}

// Key names a pod's workload: "shop/cart", or a host of the world: "api.example.com".
func (p *Endpoint) Key() string {
	if p.Namespace == "" {
		return p.Workload
	}
	return p.Namespace + "/" + p.Workload
}

// Layout is all that a lab consists of. It is immutable once made.
type Layout struct {
	ID     string       `json:"id"`     // instance: part of each name that the lab makes
	Switch string       `json:"switch"` // path of the network namespace that joins the nodes and the world
	World  string       `json:"world"`  // path of the world's network namespace
	Block  netip.Prefix `json:"block"`  // the IPv4 block of nodes and pods
	Nodes  []Node       `json:"nodes"`
	Pods   []Endpoint   `json:"pods"`
	Hosts  []Endpoint   `json:"hosts"` // the world's
}

// Plan returns the layout of a lab with that many nodes (1 to 4) on a machine where its usual addresses are free, without
// making anything.
func Plan(nodes int) *Layout { return newLayout("plan", nodes, pickBlock(nil)) }

// newLayout plans a lab on nodes nodes with the addresses of block, a /15: the first half for nodes, the second for pods.
func newLayout(id string, nodes int, block netip.Prefix) *Layout {
	b := block.Addr().As4()
	l := &Layout{ID: id, Block: block, Switch: nsPath(id, "switch"), World: nsPath(id, "world")}
	for i := range nodes {
		name := "node-" + string(rune('a'+i))
		l.Nodes = append(l.Nodes, Node{
			Name: name, NetNS: nsPath(id, name),
			Addr:    netip.AddrFrom4([4]byte{b[0], b[1], 0, byte(11 + i)}),
			Addr6:   netip.MustParseAddr(fmt.Sprintf("fd70:6c78::%d", 11+i)),
			PodNet:  netip.PrefixFrom(netip.AddrFrom4([4]byte{b[0], b[1] + 1, byte(1 + i), 0}), 24),
			PodNet6: netip.MustParsePrefix(fmt.Sprintf("fd70:6c78:0:%d::/64", 1+i)),
		})
	}
	used := make([]int, nodes)
	for _, w := range workloads {
		for replica, n := range w.nodes {
			n %= nodes
			used[n]++
			l.Pods = append(l.Pods, newPod(id, &w, replica, &l.Nodes[n], 9+used[n]))
		}
	}
	for i, w := range outside {
		l.Hosts = append(l.Hosts, Endpoint{
			Name: w.name, Workload: w.name, Role: w.role, Ports: w.ports, NetNS: l.World,
			Addr: hostAddr(worldNet4, 10*(i+1)), Addr6: hostAddr(worldNet6, 10*(i+1)),
		})
	}
	return l
}

func newPod(id string, w *workload, replica int, node *Node, host int) Endpoint {
	name := fmt.Sprintf("%s-%d", w.name, replica)
	labels := map[string]string{"app": w.name, "tier": w.tier}
	if w.kind == "Deployment" {
		hash := suffix(w.namespace+"/"+w.name, 9)
		name = fmt.Sprintf("%s-%s-%s", w.name, hash, suffix(fmt.Sprint(w.namespace, w.name, replica), 5))
		labels["pod-template-hash"] = hash
	}
	ns, link := w.namespace+"-"+w.name, "veth"+w.name
	if len(w.nodes) > 1 {
		ns, link = fmt.Sprintf("%s-%d", ns, replica), fmt.Sprintf("%s%d", link, replica)
	}
	return Endpoint{
		Namespace: w.namespace, Name: name, Workload: w.name, WorkloadKind: w.kind, Node: node.Name, Labels: labels,
		Addr: hostAddr(node.PodNet, host), Addr6: hostAddr(node.PodNet6, host), NetNS: nsPath(id, ns), Link: link, Role: w.role, Ports: w.ports,
	}
}

func nsPrefix(id string) string     { return "plx-" + id + "-" }
func nsPath(id, name string) string { return netspace.Path(nsPrefix(id) + name) }

// hostAddr returns the nth address of p, n below 256.
func hostAddr(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// suffix makes the kind of name part that Kubernetes generates, the same for the same seed.
func suffix(seed string, n int) string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789" // k8s.io/apimachinery/pkg/util/rand: no vowels, no look-alikes
	h := fnv.New64a()
	h.Write([]byte(seed))
	v := h.Sum64()
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[v%uint64(len(alphabet))]
		v /= uint64(len(alphabet))
	}
	return string(out)
}

// pickBlock returns a /15 of 10.0.0.0/8 that overlaps none of taken. Where everything is taken (a VPN that routes all of
// 10.0.0.0/8) it returns the first: the lab has no way to the host's network, so a collision only confuses people.
func pickBlock(taken []netip.Prefix) netip.Prefix {
	block := func(n int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 0, 0}), 15) }
	for i := range 128 {
		b := block((200 + 2*i) % 256)
		if !slices.ContainsFunc(taken, b.Overlaps) {
			return b
		}
	}
	return block(200)
}

// All returns pods and the world's hosts.
func (l *Layout) All() []*Endpoint {
	all := make([]*Endpoint, 0, len(l.Pods)+len(l.Hosts))
	for i := range l.Pods {
		all = append(all, &l.Pods[i])
	}
	for i := range l.Hosts {
		all = append(all, &l.Hosts[i])
	}
	return all
}

// Find returns the pod with that pod name ("redis-0"), workload key ("shop/cart"; the first replica) or host name
// ("visitor.example.org"), or nil.
func (l *Layout) Find(name string) *Endpoint {
	for _, p := range l.All() {
		if p.Name == name || p.Key() == name {
			return p
		}
	}
	return nil
}

func (l *Layout) node(name string) *Node {
	for i := range l.Nodes {
		if l.Nodes[i].Name == name {
			return &l.Nodes[i]
		}
	}
	return nil
}

// Objects returns what a Kubernetes API server would tell of the lab. Services are headless, so they have no addresses of
// their own; their names resolve to pods. The world is not among them.
func (l *Layout) Objects() []*meta.Object {
	var out []*meta.Object
	for _, n := range l.Nodes {
		out = append(out, &meta.Object{
			Kind: meta.Node, Name: n.Name, Node: n.Name, Cluster: ClusterName, NetNS: n.NetNS,
			Addrs:  []netip.Addr{n.Addr, n.Addr6, hostAddr(n.PodNet, 1)},
			Labels: map[string]string{"kubernetes.io/hostname": n.Name},
		})
	}
	seen := map[meta.Key]bool{}
	once := func(o *meta.Object) {
		if !seen[o.Key()] {
			seen[o.Key()] = true
			out = append(out, o)
		}
	}
	for i := range l.Pods {
		p := &l.Pods[i]
		once(&meta.Object{Kind: meta.Namespace, Name: p.Namespace, Cluster: ClusterName,
			Labels: map[string]string{"kubernetes.io/metadata.name": p.Namespace}})
		if len(p.Ports) > 0 {
			once(&meta.Object{Kind: meta.Service, Namespace: p.Namespace, Name: p.Workload, Workload: p.Workload,
				WorkloadKind: p.WorkloadKind, Cluster: ClusterName, Labels: map[string]string{"app": p.Workload}})
		}
		once(&meta.Object{Kind: meta.Pod, Namespace: p.Namespace, Name: p.Name, Workload: p.Workload, WorkloadKind: p.WorkloadKind,
			Node: p.Node, Cluster: ClusterName, Labels: p.Labels, Addrs: []netip.Addr{p.Addr, p.Addr6}, Ports: p.metaPorts(), NetNS: p.NetNS})
	}
	return out
}

func (p *Endpoint) metaPorts() []meta.Port {
	var list []meta.Port
	for _, port := range p.Ports {
		proto := flow.ProtoTCP
		if port.Proto == "UDP" {
			proto = flow.ProtoUDP
		}
		list = append(list, meta.Port{Name: port.Name, Number: port.Number, Proto: proto})
	}
	return list
}

// Watch implements meta.Source.
func (l *Layout) Watch(ctx context.Context, emit func(meta.Update)) error {
	for _, o := range l.Objects() {
		emit(meta.Update{Object: o})
	}
	<-ctx.Done()
	return nil
}
