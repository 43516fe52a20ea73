package enforce

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/parallax-flow/parallax/flow/meta"
)

// behind keeps the pods that are gone and still behind a service. The API server tells of the end of a pod and of its
// service's backends apart, the latter often later. Meanwhile the address would be a stranger's, which hardly a rule
// allows, and with it the whole service would be denied to all whose rules select its pods.
type behind struct {
	uses map[netip.Addr]int          // backends of services
	gone map[netip.Addr]*meta.Object // by the first address its last pod, until no service has it any more
}

func newBehind() behind {
	return behind{uses: make(map[netip.Addr]int), gone: make(map[netip.Addr]*meta.Object)}
}

// update takes what an object was and is; nil is no object.
func (b *behind) update(old, now *meta.Object) {
	switch cmp.Or(now, old).Kind {
	case meta.Service:
		b.count(old, -1)
		b.count(now, 1)
		for a, pod := range b.gone {
			if !b.used(pod) {
				delete(b.gone, a)
			}
		}
	case meta.Pod:
		if now == nil && !old.HostNetwork && b.used(old) {
			pod := *old
			pod.Node = ""                              // no policy binds it any more
			pod.Name += " at " + pod.Addrs[0].String() // its successor may have its name
			b.gone[pod.Addrs[0]] = &pod
		}
	}
}

func (b *behind) count(service *meta.Object, n int) {
	if service == nil {
		return
	}
	for _, f := range service.Forwards {
		for _, to := range f.To {
			a := to.Addr().Unmap()
			if b.uses[a] += n; b.uses[a] == 0 {
				delete(b.uses, a)
			}
		}
	}
}

func (b *behind) used(pod *meta.Object) bool {
	return slices.ContainsFunc(pod.Addrs, func(a netip.Addr) bool { return b.uses[a.Unmap()] > 0 })
}

// with returns objects and the pods that are gone. Whoever has an address now has it alone.
func (b *behind) with(objects []*meta.Object) []*meta.Object {
	if len(b.gone) == 0 {
		return objects
	}
	taken := make(map[netip.Addr]bool)
	for _, o := range objects {
		if o.Kind == meta.Pod {
			for _, a := range o.Addrs {
				taken[a] = true
			}
		}
	}
	for _, pod := range b.gone {
		if !slices.ContainsFunc(pod.Addrs, func(a netip.Addr) bool { return taken[a] }) {
			objects = append(objects, pod)
		}
	}
	return objects
}
