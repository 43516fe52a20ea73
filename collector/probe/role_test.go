package probe

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

func TestRoles(t *testing.T) {
	attrs := func(index int, name string, peerNS, master int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Index: index, Name: name, NetNsID: peerNS, MasterIndex: master}
	}
	lo := attrs(1, "lo", -1, 0)
	lo.Flags = net.FlagLoopback
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: lo},
		&netlink.Device{LinkAttrs: attrs(2, "ens3", -1, 0)},
		&netlink.Veth{LinkAttrs: attrs(3, "eth0", 0, 0)},
		&netlink.Veth{LinkAttrs: attrs(4, "lxc1", 1, 0)},
		&netlink.Veth{LinkAttrs: attrs(5, "lxc2", 2, 6)},
		&netlink.Bridge{LinkAttrs: attrs(6, "cni0", -1, 0)},
		&netlink.Vxlan{LinkAttrs: attrs(7, "flannel.1", -1, 0)},
		&netlink.Wireguard{LinkAttrs: attrs(8, "wg0", -1, 0)},
		&netlink.Dummy{LinkAttrs: attrs(9, "dummy0", -1, 0)},
		&netlink.Veth{LinkAttrs: attrs(10, "pair", -1, 0)},
		netlink.NewLinkBond(attrs(11, "bond0", -1, 0)),
		&netlink.Device{LinkAttrs: attrs(12, "ens4", -1, 11)},
		&netlink.Vlan{LinkAttrs: attrs(13, "ens3.7", -1, 0)},
		&netlink.Vlan{LinkAttrs: attrs(14, "ens3.8", -1, 0)},
	}
	uplinks := map[int]bool{3: true, 13: true}
	all := map[int]Role{
		1: RoleHost, 2: RoleNetwork, 3: RoleNetwork, 4: RoleEndpoint, 5: RoleEndpoint, 7: RoleOverlay, 8: RoleOverlay,
		11: RoleNetwork, 13: RoleNetwork,
	}
	for _, c := range []struct {
		name string
		cfg  Interfaces
		want map[int]Role
	}{
		{"guess", Interfaces{}, all},
		{"include", Interfaces{Include: []string{"lxc*"}}, map[int]Role{4: RoleEndpoint, 5: RoleEndpoint}},
		{"exclude", Interfaces{Include: []string{"lxc*"}, Exclude: []string{"lxc1"}}, map[int]Role{5: RoleEndpoint}},
		{"forced", Interfaces{
			Include: []string{"l*", "dummy0"},
			Roles:   map[string]Role{"l*": RoleNone, "lxc*": RoleNetwork, "dummy0": RoleHost},
		}, map[int]Role{4: RoleNetwork, 5: RoleNetwork, 9: RoleHost}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.cfg.validate(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, c.cfg.roles(links, uplinks)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInterfacesRefuses(t *testing.T) {
	for _, c := range []Interfaces{
		{Include: []string{"["}}, {Exclude: []string{"a[]"}}, {Roles: map[string]Role{"[": RoleHost}}, {Roles: map[string]Role{"eth0": 9}},
	} {
		if err := c.validate(); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
