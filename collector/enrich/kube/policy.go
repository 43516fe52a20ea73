package kube

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

// origin is that of the policies of an API server.
const origin = "kubernetes"

// settle is how long changes are let come together: "kubectl apply" makes several.
const settle = 100 * time.Millisecond

// PolicySource tells the NetworkPolicies of the cluster.
//
// A policy that cannot be understood in full (a newer server may know fields that this version does not) is refused by
// name in the log, once for each version of it. What the server said of it before, if that was understood, stays in force:
// neither does a half-read rule let somebody in, nor does a whole policy vanish and let everybody in. A policy that was
// never understood is left out: the pods that it selects are isolated by the other policies alone. Refused and Stats tell.
type PolicySource struct {
	cfg Config

	mu      sync.Mutex
	refused map[policy.Ref]string // what cannot be understood now, and why

	refusals atomic.Uint64
	told     atomic.Int64
}

// PolicyStats are counts of a PolicySource.
type PolicyStats struct {
	Policies int    // in the set that was told last
	Refused  int    // that cannot be understood as they are now
	Refusals uint64 // cumulative: versions of policies that were refused
}

// Policies returns a PolicySource; nothing is read before WatchPolicies. Of cfg it needs no node: policies are the
// whole cluster's.
func Policies(cfg Config) *PolicySource {
	cfg.setDefaults()
	cfg.AllPods = true
	cfg.Logger = cfg.Logger.With("for", "policies")
	return &PolicySource{cfg: cfg, refused: map[policy.Ref]string{}}
}

// Stats returns what was counted so far.
func (s *PolicySource) Stats() PolicyStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return PolicyStats{Policies: int(s.told.Load()), Refused: len(s.refused), Refusals: s.refusals.Load()}
}

// Refused returns which policies cannot be understood as they are now, and why, each on one line.
func (s *PolicySource) Refused() map[policy.Ref]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make(map[policy.Ref]string, len(s.refused))
	for ref, why := range s.refused {
		list[ref] = why
	}
	return list
}

// WatchPolicies calls emit with all policies, sorted by namespace and name, at first and after each change that changes
// what they say, until ctx ends; then it returns nil. The first call comes when the list is complete, so while the API
// server does not answer, or refuses, there is none, and what was told before stays. emit is never called at the same time
// twice, nor after WatchPolicies returned; it must not change the policies. WatchPolicies fails where the configuration
// cannot be used.
func (s *PolicySource) WatchPolicies(ctx context.Context, emit func([]policy.Policy)) error {
	c, err := connect(s.cfg)
	if err != nil {
		return err
	}
	defer c.close()
	w := &policyWatch{source: s, log: c.log, known: map[string]policyState{}, changed: make(chan struct{}, 1)}
	informer := cache.NewSharedIndexInformer(c.listWatch(networkPolicies), networkPolicies.example(), 0, cache.Indexers{})
	if err := quietly(informer, s.cfg.trim); err != nil {
		return err
	}
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    w.take,
		UpdateFunc: func(_, o any) { w.take(o) },
		DeleteFunc: w.drop,
	})
	if err != nil {
		return err
	}
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(s.cfg.Logger.Handler()))
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { informer.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return nil // ctx ended
	}
	w.tell(ctx, emit)
	return nil
}

// policyWatch is one call of WatchPolicies.
type policyWatch struct {
	source  *PolicySource
	log     *slog.Logger
	changed chan struct{}

	mu    sync.Mutex
	known map[string]policyState // by "namespace/name"
}

// policyState is what is known of one policy.
type policyState struct {
	good    policy.Policy
	version string // resourceVersion of what was looked at last
	none    bool   // nothing of it was ever understood: good is empty
}

// take looks at a policy that came or changed.
func (w *policyWatch) take(o any) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return
	}
	key := u.GetNamespace() + "/" + u.GetName()
	w.mu.Lock()
	defer w.mu.Unlock()
	was, had := w.known[key]
	if had && was.version == u.GetResourceVersion() {
		return // told again, as after a reconnect
	}
	p, err := load.Tree(origin, u.Object)
	ref := policy.Ref{Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName()}
	switch {
	case err == nil:
		w.known[key] = policyState{good: p, version: u.GetResourceVersion()}
	default:
		w.known[key] = policyState{good: was.good, none: !had || was.none, version: u.GetResourceVersion()}
	}
	w.source.note(w.log, ref, err, had && !was.none)
	w.touch()
}

// drop forgets a policy that is gone.
func (w *policyWatch) drop(o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.known, u.GetNamespace()+"/"+u.GetName())
	w.source.note(w.log, policy.Ref{Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName()}, nil, false)
	w.touch()
}

func (w *policyWatch) touch() {
	select {
	case w.changed <- struct{}{}:
	default: // it is known already
	}
}

// note remembers whether a policy is refused, and tells of it.
func (s *PolicySource) note(log *slog.Logger, ref policy.Ref, err error, stays bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.refused, ref)
		return
	}
	why := strings.ReplaceAll(err.Error(), "\n", "; ")
	s.refused[ref] = why
	s.refusals.Add(1)
	effect := "it is left out"
	if stays {
		effect = "what it said before stays in force"
	}
	log.Warn("network policy refused", "policy", ref.String(), "effect", effect, "error", why)
}

// tell emits the set, and again when it has changed, until ctx ends.
func (w *policyWatch) tell(ctx context.Context, emit func([]policy.Policy)) {
	last := w.all()
	w.source.told.Store(int64(len(last)))
	emit(slices.Clone(last))
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		if next := w.all(); !reflect.DeepEqual(last, next) {
			last = next
			w.source.told.Store(int64(len(last)))
			emit(slices.Clone(last))
		}
	}
}

// all returns what is in force, sorted.
func (w *policyWatch) all() []policy.Policy {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]policy.Policy, 0, len(w.known))
	for _, k := range w.known {
		if !k.none {
			list = append(list, k.good)
		}
	}
	slices.SortFunc(list, func(a, b policy.Policy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return list
}

// trimPolicy keeps what a policy says, as the server said it: what it has beyond what we know must be seen.
func trimPolicy(u *unstructured.Unstructured) *unstructured.Unstructured {
	t := &unstructured.Unstructured{Object: map[string]any{}}
	for _, field := range []string{"apiVersion", "kind", "spec"} {
		if v, ok := u.Object[field]; ok {
			t.Object[field] = v
		}
	}
	t.SetNamespace(u.GetNamespace())
	t.SetName(u.GetName())
	t.SetUID(u.GetUID())
	t.SetResourceVersion(u.GetResourceVersion())
	return t
}
