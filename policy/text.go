package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/parallax-flow/parallax/flow"
)

// String names who it is for a person.
func (s side) String() string {
	switch {
	case s.pod != nil:
		return s.pod.String()
	case s.node != "":
		return "node " + s.node
	case s.addr.IsValid():
		return s.addr.String()
	}
	return "an unknown address"
}

// String returns "NetworkPolicy shop/allow-web ingress[0]".
func (r RuleRef) String() string { return fmt.Sprintf("%s %s[%d]", r.Policy, r.Direction, r.Index) }

// String returns the side's verdict as one line: "denied: default deny because of NetworkPolicy shop/a and NetworkPolicy shop/b".
func (s Side) String() string {
	verdict := "denied"
	if s.Allowed {
		verdict = "allowed"
	}
	switch s.Reason {
	case ByRule:
		return verdict + " by " + and(texts(s.Rules))
	case DefaultDeny:
		return verdict + ": " + denyText(s.Policies)
	}
	return verdict + ": " + s.Reason.String()
}

func denyText(because []Ref) string {
	return DefaultDeny.String() + " because of " + and(texts(because))
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

// and joins a list as in a sentence.
func and(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}

// Text describes r: "from pods app=web of this namespace; to ports 80/TCP, 8000-8100/TCP".
func (r *Rule) Text(d Direction) string {
	peers := make([]string, len(r.Peers))
	for i := range r.Peers {
		peers[i] = r.Peers[i].String()
	}
	if len(peers) == 0 {
		peers = []string{"anywhere"}
	}
	text := d.peers() + " " + strings.Join(peers, " or ")
	if len(r.Ports) == 0 {
		return text + ", any port"
	}
	return text + ", ports " + portList(r.Ports, nil)
}

// String describes p: "pods app=web of namespaces team=a".
func (p *Peer) String() string {
	if p.Block != nil {
		return p.Block.String()
	}
	text := "any pod"
	if p.Pods != nil && len(p.Pods.Terms) > 0 {
		text = "pods " + p.Pods.String()
	}
	switch {
	case p.Namespaces == nil:
		return text + " of this namespace"
	case len(p.Namespaces.Terms) == 0:
		return text + " of any namespace"
	}
	return text + " of namespaces " + p.Namespaces.String()
}

// String describes b: "10.0.0.0/8 except 10.1.0.0/16".
func (b *Block) String() string {
	text := b.Prefix.String()
	if len(b.Except) > 0 {
		text += " except " + and(texts(b.Except))
	}
	return text
}

// portList names ports, and where of is known what the named ones are there.
func portList(ports []Port, of *Endpoint) string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = p.String()
		if p.Name != "" && of != nil {
			list[i] += namedText(p, of)
		}
	}
	return strings.Join(list, ", ")
}

func namedText(p Port, of *Endpoint) string {
	numbers := of.numbers(p.Name, p.Proto)
	if len(numbers) == 0 {
		return fmt.Sprintf(" (%s has no such port)", of)
	}
	list := make([]string, len(numbers))
	for i, n := range numbers {
		list[i] = strconv.Itoa(int(n))
	}
	return fmt.Sprintf(" (%s of %s)", strings.Join(list, ","), of)
}

// String returns "443/TCP", "8000-8100/TCP", "http/TCP" or "any/TCP".
func (p Port) String() string {
	switch {
	case p.Name != "":
		return p.Name + "/" + p.Proto.String()
	case p.any():
		return "any/" + p.Proto.String()
	case p.First == p.Last:
		return portText(p.First, p.Proto)
	}
	return fmt.Sprintf("%d-%d/%s", p.First, p.Last, p.Proto)
}

func portText(port uint16, proto flow.Proto) string {
	if port == 0 {
		return proto.String()
	}
	return fmt.Sprintf("%d/%s", port, proto)
}
