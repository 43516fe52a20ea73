package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/flow/meta"
)

// group is all pods that no selector and no named port of these policies can tell apart.
type group struct {
	id   uint32
	pods []*Endpoint
}

func (g *group) any() *Endpoint { return g.pods[0] }

// watched is what tells pods apart beyond the labels of meta.Identity.
type watched struct {
	labels []string        // that Identity leaves out, but a selector names
	ports  map[string]bool // names of ports in egress rules: their number is the peer's
}

func watch(lists ...[]Policy) watched {
	policies := slices.Concat(lists...)
	w := watched{ports: make(map[string]bool)}
	note := func(s *Selector) {
		for i := range s.Terms {
			if k := s.Terms[i].Key; !meta.IdentityLabel(k) && !slices.Contains(w.labels, k) {
				w.labels = append(w.labels, k)
			}
		}
	}
	for i := range policies {
		note(&policies[i].Subject)
		for _, d := range Directions {
			for _, r := range policies[i].Sections[d].Rules {
				for _, p := range r.Peers {
					if p.Pods != nil {
						note(p.Pods)
					}
				}
				for _, p := range r.Ports {
					if p.Name != "" && d == Egress {
						w.ports[p.Name] = true
					}
				}
			}
		}
	}
	slices.Sort(w.labels)
	return w
}

func (w watched) equal(o watched) bool {
	return slices.Equal(w.labels, o.labels) && maps.Equal(w.ports, o.ports)
}

// groups puts the pods with addresses of their own together, sorted by key. The number of a group is that of
// meta.Identity for its labels: it does not hang on policies, but for labels and ports that watched adds. Where two
// groups would share a number the later one takes another, so that no hash can let anybody in.
func groups(pods []*Endpoint, w watched) ([]*group, map[*Endpoint]*group) {
	type keyed struct {
		*group
		labels map[string]string
	}
	byKey := make(map[string]keyed)
	of := make(map[*Endpoint]*group)
	for _, p := range pods {
		if p.HostNetwork {
			continue
		}
		labels := w.identityLabels(p)
		key := fmt.Sprintf("%q %q %q", p.Namespace, pairs(labels), pairs(p.NamespaceLabels))
		g, known := byKey[key]
		if !known {
			g = keyed{new(group), labels}
			byKey[key] = g
		}
		g.pods = append(g.pods, p)
		of[p] = g.group
	}
	var list []*group
	taken := make(map[uint32]bool)
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		g := byKey[key]
		g.id = meta.Identity(g.any().Namespace, g.labels)
		for i := 1; taken[g.id]; i++ {
			g.labels["#"] = fmt.Sprint(i) // no label can have this key
			g.id = meta.Identity(g.any().Namespace, g.labels)
		}
		taken[g.id] = true
		list = append(list, g.group)
	}
	return list, of
}

// identityLabels returns the labels of p that count, with what is watched under keys that no label can have.
func (w watched) identityLabels(p *Endpoint) map[string]string {
	labels := make(map[string]string, len(p.Labels))
	for k, v := range p.Labels {
		if meta.IdentityLabel(k) {
			labels[k] = v
		}
	}
	for _, k := range w.labels {
		if v, there := p.Labels[k]; there {
			labels["#label:"+k] = v
		}
	}
	var ports []string
	for _, port := range p.Ports {
		if w.ports[port.Name] {
			ports = append(ports, fmt.Sprintf("%s=%s/%d", port.Name, port.Proto, port.Number))
		}
	}
	if len(ports) > 0 {
		slices.Sort(ports)
		labels["#ports"] = strings.Join(slices.Compact(ports), ",")
	}
	return labels
}

// pairs returns labels as sorted "key=value": a key has no "=".
func pairs(labels map[string]string) []string {
	list := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return list
}
