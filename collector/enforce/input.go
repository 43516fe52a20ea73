package enforce

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
)

// PolicySource tells which policies there are: the whole set at first and at each change, until ctx ends. What was emitted
// must not change any more. WatchPolicies returns nil on cancel, or earlier if nothing will ever change.
type PolicySource interface {
	WatchPolicies(ctx context.Context, emit func([]policy.Policy)) error
}

// Static is a source of policies that do not change, those of files.
func Static(policies []policy.Policy) PolicySource { return static(policies) }

type static []policy.Policy

func (s static) WatchPolicies(_ context.Context, emit func([]policy.Policy)) error {
	emit(s)
	return nil
}

// Tap returns s, with what it tells seen by e as well. All sources of metadata are to be tapped before Run.
func (e *Enforcer) Tap(s meta.Source) meta.Source {
	if e.cfg.Mode == Observe {
		return s
	}
	return &tap{Source: s, enforcer: e, index: e.inputs.add(s)}
}

type tap struct {
	meta.Source
	enforcer *Enforcer
	index    int
}

// Watch implements meta.Source.
func (t *tap) Watch(ctx context.Context, emit func(meta.Update)) error {
	if s, ok := t.Source.(meta.Syncer); ok {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			select {
			case <-s.Synced():
				t.enforcer.inputs.whole(t.index)
			case <-ctx.Done():
			}
		})
	}
	return t.Source.Watch(ctx, func(u meta.Update) {
		t.enforcer.Update(u)
		t.enforcer.inputs.heard(t.index)
		emit(u)
	})
}

// inputs is what the sources told.
type inputs struct {
	wake func()

	mu       sync.Mutex
	objects  map[meta.Key]*meta.Object
	behind   behind
	policies []policies
	metadata []metadata
	revision uint64
}

// policies is what is known of a source of policies.
type policies struct {
	name string
	told bool
	set  []policy.Policy
}

// metadata is what is known of a source of metadata.
type metadata struct {
	name   string
	syncs  bool // it says when it is whole
	enough bool // it has, or else has told something
}

func newInputs(sources []PolicySource, wake func()) *inputs {
	in := &inputs{wake: wake, objects: make(map[meta.Key]*meta.Object), behind: newBehind()}
	for i, s := range sources {
		in.policies = append(in.policies, policies{name: fmt.Sprintf("policy source %d (%T)", i, s)})
	}
	return in
}

func (in *inputs) add(s meta.Source) int {
	_, syncs := s.(meta.Syncer)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.metadata = append(in.metadata, metadata{name: fmt.Sprintf("metadata source %d (%T)", len(in.metadata), s), syncs: syncs})
	return len(in.metadata) - 1
}

func (in *inputs) heard(i int) {
	in.mu.Lock()
	if m := &in.metadata[i]; !m.syncs && !m.enough {
		m.enough = true
		in.wake()
	}
	in.mu.Unlock()
}

func (in *inputs) whole(i int) {
	in.mu.Lock()
	in.metadata[i].enough = true
	in.mu.Unlock()
	in.wake()
}

// missing names a source that is still waited for, "" if there is none. late: those that cannot say whether they have
// told everything are not waited for any more.
func (in *inputs) missing(late bool) string {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, m := range in.metadata {
		if !m.enough && (m.syncs || !late) {
			return m.name
		}
	}
	for _, p := range in.policies {
		if !p.told {
			return p.name
		}
	}
	return ""
}

func (in *inputs) setPolicies(source int, set []policy.Policy) {
	in.mu.Lock()
	in.policies[source].set, in.policies[source].told = set, true
	in.revision++
	in.mu.Unlock()
	in.wake()
}

// update reports whether u says anything new that policy can see.
func (in *inputs) update(u meta.Update) bool {
	key := u.Object.Key()
	if key.Kind == meta.Service && len(u.Object.Forwards) == 0 {
		u.Deleted = true // without a virtual address it is nothing to policy
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	old := in.objects[key]
	switch {
	case u.Deleted && old == nil || !u.Deleted && old != nil && same(old, u.Object):
		return false
	case u.Deleted:
		delete(in.objects, key)
		in.behind.update(old, nil)
	default:
		in.objects[key] = u.Object
		in.behind.update(old, u.Object)
	}
	in.revision++
	in.wake()
	return true
}

// same reports whether policy and its interfaces cannot tell a from b.
func same(a, b *meta.Object) bool {
	return a.Node == b.Node && a.HostNetwork == b.HostNetwork && a.NetNS == b.NetNS && maps.Equal(a.Labels, b.Labels) &&
		slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Ports, b.Ports) && slices.EqualFunc(a.Forwards, b.Forwards, sameForward)
}

func sameForward(a, b meta.Forward) bool {
	return a.Addr == b.Addr && a.Port == b.Port && a.Proto == b.Proto && slices.Equal(a.To, b.To)
}

// current returns all policies and objects. Where several sources have a policy of one name, that of the first counts.
func (in *inputs) current() (list []policy.Policy, objects []*meta.Object, revision uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	known := make(map[policy.Ref]int)
	for i, source := range in.policies {
		for _, p := range source.set {
			if first, there := known[p.Ref]; there && first != i {
				continue
			}
			known[p.Ref] = i
			list = append(list, p)
		}
	}
	for _, o := range in.objects {
		objects = append(objects, o)
	}
	return list, in.behind.with(objects), in.revision
}

func (in *inputs) at() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.revision
}
