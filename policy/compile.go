package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// Input is what a node's datapath is compiled from. It must not change any more.
type Input struct {
	Policies  []Policy
	Inventory Inventory // of the whole cluster
	Node      string    // whose pods are bound; its own addresses are the host of FromOwnNode
	Options   Options

	// Apart are policies that decide nothing, but whose labels and ports keep identities apart as those of Policies do.
	// It is for the way from one input to another: see Path.
	Apart []Policy
}

// compiler holds what all tables of one Compiled share.
type compiler struct {
	Input
	out     *Compiled
	index   *index
	groups  []*group
	of      map[*Endpoint]*group
	rules   map[*Rule]uint32
	numbers map[uint32]string   // what took a rule number
	matched map[string][]*group // by selectors of a peer
	addrs   []netip.Addr        // of all pods, sorted
	tables  map[uint64]bool     // that are filled

	targets  []target
	backends [][]backend
	classes  int // of backends
}

// Compile returns what the datapath of in.Node needs. Equal input gives equal output, whatever its order.
func Compile(in Input) *Compiled {
	in.Policies = sorted(in.Policies)
	c := &compiler{
		Input: in, index: newIndex(in.Inventory), rules: make(map[*Rule]uint32), numbers: make(map[uint32]string),
		matched: make(map[string][]*group), tables: make(map[uint64]bool), out: newCompiled(),
	}
	c.out.SkipPods = in.Options.BlocksSkipPods
	c.groups, c.of = groups(c.index.pods, watch(in.Policies, in.Apart))
	c.number()
	c.peers()
	c.services()
	for _, pod := range c.index.pods {
		if pod.Node != in.Node || pod.HostNetwork {
			continue
		}
		record := Record{Identity: c.of[pod].id}
		for _, d := range Directions {
			if bound := c.bound(d, pod); len(bound) > 0 {
				record.Tables[d], record.Deny[d] = c.table(d, bound, pod), c.deny(d, bound)
			}
		}
		c.out.Endpoints[EndpointKey{pod.Namespace, pod.Name}] = record
	}
	return c.out
}

func newCompiled() *Compiled {
	return &Compiled{
		Endpoints: make(map[EndpointKey]Record), Peers: make(map[flow.Addr]uint32), CIDRs: make(map[Prefix]uint32),
		Services: make(map[ServiceKey]uint32), Entries: make(map[Entry]uint32), Rules: make(map[uint32]RuleInfo),
	}
}

// number gives each rule its number: a hash of its place and content, so that a record keeps its meaning when other
// rules come and go.
func (c *compiler) number() {
	for _, x := range [...]struct {
		id     uint32
		reason Reason
		match  flow.PolicyMatch
	}{
		{RuleNone, NotPod, flow.PolicyMatchAll}, {RuleItself, ToItself, flow.PolicyMatchL3Only},
		{RuleUnisolated, NotIsolated, flow.PolicyMatchAll}, {RuleOwnNode, FromOwnNode, flow.PolicyMatchL3Only},
	} {
		c.out.Rules[x.id] = RuleInfo{ID: x.id, Allows: true, Match: x.match, Index: -1, Text: x.reason.String()}
	}
	for i := range c.Policies {
		p := &c.Policies[i]
		for _, d := range Directions {
			for r := range p.Sections[d].Rules {
				rule := &p.Sections[d].Rules[r]
				ref := RuleRef{p.Ref, d, r}
				c.rules[rule] = c.rule(rule.canonical(), RuleInfo{
					Allows: true, Direction: d, Match: rule.Match(), Index: r, Policies: []Ref{p.Ref}, Text: ref.String() + ": " + rule.Text(d),
				})
			}
		}
	}
}

// rule registers info under a number of its own.
func (c *compiler) rule(content string, info RuleInfo) uint32 {
	key := fmt.Sprintf("%v %d %d %q %s", info.Allows, info.Direction, info.Index, info.Policies, content)
	sum := sha256.Sum256([]byte(key))
	id := firstRule + binary.BigEndian.Uint32(sum[:])%(1<<32-1-firstRule)
	for c.numbers[id] != "" && c.numbers[id] != key {
		id = max(id+1, firstRule)
	}
	c.numbers[id] = key
	info.ID = id
	c.out.Rules[id] = info
	return id
}

// canonical returns r as text that is different for different rules.
func (r *Rule) canonical() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // a Rule holds nothing but text and numbers
	}
	return string(b)
}

// deny returns the number of the denial that bound stands for.
func (c *compiler) deny(d Direction, bound []*Policy) uint32 {
	refs := make([]Ref, len(bound))
	for i, p := range bound {
		refs[i] = p.Ref
	}
	return c.rule("", RuleInfo{Direction: d, Index: -1, Policies: refs, Text: d.String() + " " + denyText(refs)})
}

// peers fills in the identity of every known address.
func (c *compiler) peers() {
	for a, node := range c.index.hosts {
		id := meta.IdentityRemoteNode
		if node == c.Node {
			id = meta.IdentityHost
		}
		c.out.Peers[flow.AddrFrom(a)] = id
	}
	for a, pod := range c.index.owner {
		c.out.Peers[flow.AddrFrom(a)] = c.of[pod].id
		c.addrs = append(c.addrs, a)
	}
	slices.SortFunc(c.addrs, netip.Addr.Compare)
}

// bound returns the policies that isolate pod.
func (c *compiler) bound(d Direction, pod *Endpoint) []*Policy {
	var list []*Policy
	for i := range c.Policies {
		if c.Policies[i].selects(d, pod) {
			list = append(list, &c.Policies[i])
		}
	}
	return list
}

// table returns the number of the table for these policies, and fills it if it is new.
func (c *compiler) table(d Direction, bound []*Policy, pod *Endpoint) uint64 {
	t := tableBuilder{compiler: c, d: d, peers: make(map[peerKey][]grant)}
	for _, p := range bound {
		for r := range p.Sections[d].Rules {
			t.collect(p, &p.Sections[d].Rules[r], pod)
		}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %v\n", d, c.Options.BlocksSkipPods)
	for _, s := range t.structure {
		fmt.Fprintf(h, "%q\n", s)
	}
	t.id = max(binary.BigEndian.Uint64(h.Sum(nil)), 1)
	if !c.tables[t.id] {
		c.tables[t.id] = true
		t.emit()
	}
	return t.id
}

// matching returns the groups that p selects.
func (c *compiler) matching(namespace string, p *Peer) []*group {
	key := fmt.Sprintf("%q %s", namespace, (&Rule{Peers: []Peer{*p}}).canonical())
	list, known := c.matched[key]
	if !known {
		var e Engine
		for _, g := range c.groups {
			if e.matchesPeer(namespace, p, side{pod: g.any()}, nil) {
				list = append(list, g)
			}
		}
		c.matched[key] = list
	}
	return list
}
