package enforce

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/collector/netns"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// search looks into network namespaces.
type search struct {
	proc string
}

// space is the host's network namespace.
type space struct {
	file  *os.File
	inode uint32
}

// sighting is an address on a link whose other end is an interface of the host.
type sighting struct {
	inode, ifindex uint32
}

// sightings are what was found: in the namespace that a pod is known to have, and in all others.
type sightings struct {
	known map[policy.EndpointKey]map[flow.Addr]sighting
	all   map[flow.Addr][]sighting // one for each namespace

	refused error // nil, or why a namespace may not be looked into
}

// note keeps err if it will not pass by itself.
func (s *sightings) note(err error) {
	if errors.Is(err, fs.ErrPermission) {
		s.refused = err
	}
}

// of returns where address a of the pod was seen.
func (s sightings) of(key policy.EndpointKey, a flow.Addr) []sighting {
	if m, known := s.known[key]; known {
		if at, seen := m[a]; seen {
			return []sighting{at}
		}
		return nil
	}
	return s.all[a]
}

// find looks for pods: into the namespace that one is known to have, else into those of all processes that are neither
// taken nor the host's, each once. What cannot be read just goes or comes, and is not found.
func (s *search) find(host space, pods map[policy.EndpointKey]wanted, taken map[uint32]bool) sightings {
	found := sightings{known: make(map[policy.EndpointKey]map[flow.Addr]sighting), all: make(map[flow.Addr][]sighting)}
	unknown := false
	for key, w := range pods {
		if w.netns == "" {
			unknown = true
			continue
		}
		seen, err := lookInto(w.netns, host)
		found.known[key] = seen
		found.note(err)
	}
	if !unknown {
		return found
	}
	spaces, err := s.spaces()
	found.note(err)
	for _, inode := range slices.Sorted(maps.Keys(spaces)) {
		if inode == host.inode || taken[inode] {
			continue
		}
		seen, err := lookInto(spaces[inode], host)
		if err != nil {
			found.note(err)
			continue
		}
		for a, at := range seen {
			found.all[a] = append(found.all[a], at)
		}
	}
	return found
}

// spaces returns the network namespaces of all processes, by inode, with a path to each, and an error that kept it from some.
func (s *search) spaces() (found map[uint32]string, refused error) {
	list, refused := os.ReadDir(s.proc)
	found = make(map[uint32]string)
	for _, e := range list {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil {
			continue
		}
		path := filepath.Join(s.proc, e.Name(), "ns", "net")
		text, err := os.Readlink(path) // "net:[4026531840]"
		if errors.Is(err, fs.ErrPermission) {
			refused = err
		}
		if err != nil {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(text, "net:["), "]"), 10, 32)
		if err != nil {
			continue
		}
		if _, known := found[uint32(inode)]; !known {
			found[uint32(inode)] = path
		}
	}
	return found, refused
}

// lookInto returns the addresses in the namespace at path that lie on a link with its other end in the namespace host.
func lookInto(path string, host space) (map[flow.Addr]sighting, error) {
	seen := make(map[flow.Addr]sighting)
	err := netns.Do(path, func() error {
		inode, err := netns.Inode("")
		if err != nil {
			return err
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		peers, err := peersIn(h, host)
		if err != nil || len(peers) == 0 {
			return err
		}
		addrs, err := netns.Whole(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
		if err != nil {
			return err
		}
		for _, a := range addrs {
			ip, valid := netip.AddrFromSlice(a.IP)
			if ifindex, there := peers[a.LinkIndex]; there && valid {
				seen[flow.AddrFrom(ip)] = sighting{inode, ifindex}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for pods' addresses: %w", err)
	}
	return seen, nil
}

// peersIn returns the links of the namespace whose other end is in host: index here -> index there (IFLA_LINK and
// IFLA_LINK_NETNSID, linux/if_link.h).
func peersIn(h *netlink.Handle, host space) (map[int]uint32, error) {
	links, err := netns.Whole(h.LinkList) // which gives host an id here, if a link leads there
	if err != nil {
		return nil, err
	}
	id, err := h.GetNetNsIdByFd(int(host.file.Fd()))
	if err != nil || id < 0 {
		return nil, err
	}
	peers := make(map[int]uint32)
	for _, l := range links {
		if a := l.Attrs(); l.Type() == "veth" && a.NetNsID == id && a.ParentIndex > 0 {
			peers[a.Index] = uint32(a.ParentIndex)
		}
	}
	return peers, nil
}
