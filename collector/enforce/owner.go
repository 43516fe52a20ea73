package enforce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/collector/netns"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
)

// owners finds the interface of the host behind which each pod of the node sits, whatever CNI made it: it enters the pod's
// network namespace and looks which of its links has the pod's address, and which interface of the host is the link's
// other end. An interface stays the pod's until one of the two goes. Pods without a veth (ipvlan, macvlan, a NIC of
// their own) have none, and are looked for again and again, at most each Config.Retry.
type owners struct {
	cfg     *Config
	wake    func()
	pods    chan struct{} // pods came or went; holds one
	search  search        // of the goroutine of run
	refused bool          // and was said to be so; likewise

	mu        sync.Mutex
	wanted    map[policy.EndpointKey]wanted
	owned     map[uint32]claim // by ifindex
	contested map[flow.Addr]bool
	revision  uint64
	asked     uint64 // news of pods
	answered  uint64 // of these: those that were known at the last look
}

// wanted is a pod that is to be bound.
type wanted struct {
	addrs []flow.Addr
	netns string // path, "" if unknown
}

// claim is a pod's hold of an interface.
type claim struct {
	pod     policy.EndpointKey
	addr    flow.Addr
	inode   uint32 // of the pod's network namespace
	foreign bool   // Config.Own leaves it to others
}

func newOwners(cfg *Config, wake func()) *owners {
	return &owners{
		cfg: cfg, wake: wake, pods: make(chan struct{}, 1), search: search{proc: cfg.Proc},
		wanted: make(map[policy.EndpointKey]wanted), owned: make(map[uint32]claim), contested: make(map[flow.Addr]bool),
	}
}

// update takes news of a pod.
func (o *owners) update(u meta.Update) {
	key := policy.EndpointKey{Namespace: u.Object.Namespace, Name: u.Object.Name}
	o.mu.Lock()
	defer o.mu.Unlock()
	if u.Deleted || u.Object.Node != o.cfg.Node || u.Object.HostNetwork {
		delete(o.wanted, key)
	} else {
		w := wanted{netns: u.Object.NetNS}
		for _, a := range u.Object.Addrs {
			w.addrs = append(w.addrs, flow.AddrFrom(a))
		}
		o.wanted[key] = w
	}
	o.prune()
	o.asked++
	notify(o.pods)
}

// behind reports whether there are pods of which it is not known yet whether they have an interface.
func (o *owners) behind() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.answered != o.asked
}

// answer notes that a look has taken account of so much news. It is called with the lock.
func (o *owners) answer(asked uint64) {
	if o.answered != asked {
		o.answered = asked
		o.wake()
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// prune drops the claims of pods that went or have another address. It is called with the lock.
func (o *owners) prune() {
	for ifindex, c := range o.owned {
		if w, there := o.wanted[c.pod]; !there || !slices.Contains(w.addrs, c.addr) {
			o.drop(ifindex)
		}
	}
}

func (o *owners) drop(ifindex uint32) {
	delete(o.owned, ifindex)
	o.revision++
	o.wake()
}

// current returns the pods behind the interfaces that are ours.
func (o *owners) current() (map[uint32]policy.EndpointKey, uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := make(map[uint32]policy.EndpointKey, len(o.owned))
	for ifindex, c := range o.owned {
		if !c.foreign {
			m[ifindex] = c.pod
		}
	}
	return m, o.revision
}

func (o *owners) at() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.revision
}

// count tells the pods without an interface, those of others, and those whose address is contested.
func (o *owners) count() (searched, foreign, contested int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := make(map[policy.EndpointKey]bool)
	for _, c := range o.owned {
		if !held[c.pod] && c.foreign {
			foreign++
		}
		held[c.pod] = true
	}
	for key, w := range o.wanted {
		switch {
		case held[key] || len(w.addrs) == 0:
		case slices.ContainsFunc(w.addrs, func(a flow.Addr) bool { return o.contested[a] }):
			contested++
		default:
			searched++
		}
	}
	return searched, foreign, contested
}

// run finds interfaces until ctx ends.
func (o *owners) run(ctx context.Context) error {
	var (
		w      *netns.Watcher
		handle *netlink.Handle
	)
	err := netns.Do(o.cfg.NetNS, func() (err error) {
		if w, err = netns.NewWatcher(); err != nil {
			return err
		}
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return fmt.Errorf("look for the interfaces of pods: %w", err)
	}
	defer handle.Close()
	links := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer w.Close()
	wg.Go(func() {
		for w.Wait() == nil {
			notify(links)
		}
	})
	return o.follow(ctx, handle, links)
}

const firstRetry = 20 * time.Millisecond

// follow looks when there is a reason to. Looking costs a tenth of a core, no more.
func (o *owners) follow(ctx context.Context, handle *netlink.Handle, links <-chan struct{}) error {
	again := firstRetry
	for {
		began := time.Now()
		missing, err := o.look(handle)
		rest := 9 * time.Since(began)
		if err != nil {
			return fmt.Errorf("look for the interfaces of pods: %w", err)
		}
		var retry <-chan time.Time
		if missing {
			retry = time.After(again)
			again = min(2*again, o.cfg.Retry)
		}
		select {
		case <-o.pods:
			again = firstRetry
		case <-links:
			again = firstRetry
		case <-retry:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return nil
		}
	}
}

// look makes one attempt. It reports whether there are pods without an interface.
func (o *owners) look(handle *netlink.Handle) (missing bool, err error) {
	names, err := hostLinks(handle)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	pods, taken, asked := o.open(names)
	if len(pods) == 0 {
		return false, nil
	}
	host, err := netns.Open(o.cfg.NetNS)
	if err != nil {
		return false, err
	}
	defer host.Close()
	inode, err := netns.Inode(o.cfg.NetNS)
	if err != nil {
		return false, err
	}
	found := o.search.find(space{host, inode}, pods, taken)
	if found.refused != nil && !o.refused {
		o.refused = true
		o.cfg.Logger.Error("policy cannot bind pods: their network namespaces may not be entered; give CAP_SYS_ADMIN and CAP_SYS_PTRACE, and the host's processes",
			"error", found.refused)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range slices.SortedFunc(maps.Keys(pods), comparePods) {
		if !o.take(key, found, names) {
			missing = true
		}
	}
	o.answer(asked)
	return missing, nil
}

// open drops the claims on interfaces that went, and returns the pods without one, the namespaces that are taken, and how
// much news that takes account of.
func (o *owners) open(names map[uint32]string) (pods map[policy.EndpointKey]wanted, taken map[uint32]bool, asked uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := make(map[policy.EndpointKey]bool)
	pods, taken = make(map[policy.EndpointKey]wanted), make(map[uint32]bool)
	for ifindex, c := range o.owned {
		if _, there := names[ifindex]; !there {
			o.drop(ifindex)
			continue
		}
		held[c.pod], taken[c.inode] = true, true
	}
	for key, w := range o.wanted {
		if !held[key] && len(w.addrs) > 0 {
			pods[key] = w
		}
	}
	if len(pods) == 0 {
		o.answer(o.asked)
	}
	return pods, taken, o.asked
}

// take gives the pod the interfaces that were found for it. It is called with the lock.
func (o *owners) take(key policy.EndpointKey, found sightings, names map[uint32]string) (done bool) {
	w, there := o.wanted[key]
	if !there {
		return true // it went while we looked
	}
	for _, a := range w.addrs {
		seen := found.of(key, a)
		if len(seen) > 1 {
			o.contest(key, a)
			continue
		}
		delete(o.contested, a)
		for _, s := range seen {
			name, there := names[s.ifindex]
			if c, held := o.owned[s.ifindex]; !there || held && c.pod != key {
				continue
			}
			done = true
			o.owned[s.ifindex] = claim{pod: key, addr: a, inode: s.inode, foreign: !o.cfg.owns(name)}
			o.revision++
			o.wake()
			o.cfg.Logger.Debug("interface of a pod", "pod", key.Namespace+"/"+key.Name, "interface", name)
		}
	}
	return done
}

func (o *owners) contest(key policy.EndpointKey, a flow.Addr) {
	if !o.contested[a] {
		o.contested[a] = true
		o.cfg.Logger.Warn("policy does not bind a pod: several network namespaces have its address",
			"pod", key.Namespace+"/"+key.Name, "address", a.String())
	}
}

func comparePods(a, b policy.EndpointKey) int {
	return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
}

// hostLinks returns the names of all interfaces.
func hostLinks(handle *netlink.Handle) (map[uint32]string, error) {
	list, err := netns.Whole(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make(map[uint32]string, len(list))
	for _, l := range list {
		names[uint32(l.Attrs().Index)] = l.Attrs().Name
	}
	return names, nil
}
