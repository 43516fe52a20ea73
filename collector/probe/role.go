package probe

import (
	"fmt"
	"net"
	"path"

	"github.com/vishvananda/netlink"
)

// Role is what an interface is to the observed node. Values are those of enum plx_role.
type Role uint8

const (
	RoleNone     Role = 0 // not observed
	RoleEndpoint Role = 1 // the host's side of a pod's veth
	RoleNetwork  Role = 2 // NIC or uplink
	RoleHost     Role = 3 // loopback
	RoleOverlay  Role = 4 // tunnel
)

var roleNames = [...]string{"none", "endpoint", "network", "host", "overlay"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return roleNames[0]
}

// Interfaces chooses interfaces by their names. Patterns are those of path.Match.
type Interfaces struct {
	Include []string        // observe only these; empty: all
	Exclude []string        // never these, even if included
	Roles   map[string]Role // pattern -> role, where the guess is wrong; of several that match, the longest pattern
}

func (s *Interfaces) validate() error {
	patterns := append(append([]string(nil), s.Include...), s.Exclude...)
	for p, r := range s.Roles {
		if int(r) >= len(roleNames) {
			return fmt.Errorf("interface pattern %q: unknown role %d", p, r)
		}
		patterns = append(patterns, p)
	}
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("interface pattern %q: %w", p, err)
		}
	}
	return nil
}

func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// forced is the role that the configuration gives to name.
func (s *Interfaces) forced(name string) (role Role, ok bool) {
	best := ""
	for p, r := range s.Roles {
		if m, _ := path.Match(p, name); m && (!ok || len(p) > len(best) || len(p) == len(best) && p < best) {
			best, role, ok = p, r, true
		}
	}
	return role, ok
}

// roles gives each link its role. uplinks holds the interfaces that carry a default route.
func (s *Interfaces) roles(links []netlink.Link, uplinks map[int]bool) map[int]Role {
	kinds := make(map[int]string, len(links))
	for _, l := range links {
		kinds[l.Attrs().Index] = l.Type()
	}
	out := make(map[int]Role, len(links))
	for _, l := range links {
		a := l.Attrs()
		if len(s.Include) > 0 && !matchAny(s.Include, a.Name) || matchAny(s.Exclude, a.Name) {
			continue
		}
		role, ok := s.forced(a.Name)
		if !ok {
			role = guessRole(l, kinds[a.MasterIndex], uplinks[a.Index])
		}
		if role != RoleNone {
			out[a.Index] = role
		}
	}
	return out
}

// guessRole tells l's role by its kind. master is the kind of the device that it is enslaved to, "" for none.
func guessRole(l netlink.Link, master string, uplink bool) Role {
	switch l.Type() {
	case "bridge", "dummy", "ifb", "nlmon", "vrf":
		return RoleNone // a bridge's traffic is seen at its ports
	case "vxlan", "geneve", "ipip", "ip6tnl", "sit", "gre", "gretap", "ip6gre", "ip6gretap", "vti", "vti6", "wireguard", "tuntap":
		return RoleOverlay
	}
	a := l.Attrs()
	switch {
	case a.Flags&net.FlagLoopback != 0:
		return RoleHost
	case master == "bond" || master == "team":
		return RoleNone // seen at the master
	case uplink:
		return RoleNetwork
	case l.Type() == "veth":
		if a.NetNsID >= 0 { // IFLA_LINK_NETNSID: the peer lives in another namespace
			return RoleEndpoint
		}
		return RoleNone
	case l.Type() == "device" || l.Type() == "bond" || l.Type() == "team":
		return RoleNetwork // a NIC has no kind
	}
	return RoleNone // VLAN, macvlan, ipvlan and others without a default route: seen at the device beneath
}
