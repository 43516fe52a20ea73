// Package enforce keeps the policy in the datapath of one node what the policies and the pods of the cluster make of it.
//
// It owns four things: what the sources of policies and of metadata told (inputs), behind which interface of the host each
// pod of the node sits (owners), what the kernel holds (Enforcer), and what the numbers of rules in the kernel's records
// mean (decisions).
//
// # When it begins
//
// A cluster that is half known would deny what the other half allows. So nothing is written before each source of
// policies has told its set, each source of metadata has told everything, the interfaces of its pods were looked for, and it
// is quiet for Config.Settle. A meta.Syncer says when it has told everything, however long that takes. Another source is
// taken to have told everything when it has told something, or Config.FirstMax after the beginning.
//
// # Changes
//
// News are collected until it is quiet for Config.Settle, at most for Config.SettleMax, then compiled and written in the
// order of policy.Changes, by way of policy.Path. A write that fails is taken back: the last good state stays in
// force, and the next change tries again. A pod whose interface is not found yet is not bound: Stats counts it. The address of
// a pod that ended keeps its identity as long as a service leads there.
//
// # The end
//
// Run takes the records of all interfaces away before it returns, so that nothing is denied by a policy that nobody keeps.
package enforce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
)

// Enforcer keeps the policy of one node.
type Enforcer struct {
	cfg       Config
	path      Datapath
	sources   []PolicySource
	inputs    *inputs
	owners    *owners
	decisions decisions
	changed   chan struct{} // something is new; holds one
	ready     chan struct{}

	// Owned by the goroutine of keep.
	input     policy.Input     // that inForce was compiled of
	inForce   *policy.Compiled // nil: nothing was written yet
	records   map[uint32]Record
	done      revisions // what was last tried
	compiled  uint64    // revision of the inputs that inForce has
	attempted bool

	mu    sync.Mutex
	stats Stats
}

// New returns an Enforcer that does nothing yet.
func New(cfg Config, path Datapath, sources ...PolicySource) *Enforcer {
	cfg.setDefaults()
	e := &Enforcer{
		cfg: cfg, path: path, sources: sources, changed: make(chan struct{}, 1), ready: make(chan struct{}),
		stats: Stats{Mode: cfg.Mode},
	}
	e.inputs = newInputs(sources, e.wake)
	e.owners = newOwners(&e.cfg, e.wake)
	return e
}

// Ready is closed when the policies were first put into force, or could not be: Stats says which. With Observe it is
// closed when Run begins.
func (e *Enforcer) Ready() <-chan struct{} { return e.ready }

// Update takes one change of the cluster's metadata. It may be called at any time from any goroutine.
func (e *Enforcer) Update(u meta.Update) {
	if e.cfg.Mode == Observe || u.Object == nil {
		return
	}
	if e.inputs.update(u) && u.Object.Kind == meta.Pod {
		e.owners.update(u)
	}
}

// Decision returns what a rule number in a record means, nil if that was forgotten. The value is immutable and the same
// for every record. It takes no lock and does not allocate.
func (e *Enforcer) Decision(rule uint32) *flow.Decision { return e.decisions.lookup(rule) }

func (e *Enforcer) wake() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Run enforces until ctx ends, then lets all traffic pass and returns nil. It returns the first failure of a source, or
// what is wrong with the configuration. An Enforcer runs once.
func (e *Enforcer) Run(ctx context.Context) error {
	if err := e.cfg.Validate(); err != nil {
		return err
	}
	if e.cfg.Mode == Observe {
		close(e.ready)
		<-ctx.Done()
		return nil
	}
	g, gctx := errgroup.WithContext(ctx)
	for i, s := range e.sources {
		g.Go(func() error {
			err := s.WatchPolicies(gctx, func(set []policy.Policy) { e.inputs.setPolicies(i, set) })
			if err != nil && gctx.Err() == nil {
				return fmt.Errorf("%s: %w", e.inputs.policies[i].name, err)
			}
			return nil
		})
	}
	g.Go(func() error { return e.owners.run(gctx) })
	g.Go(func() error { return e.keep(gctx) })
	return g.Wait()
}

// keep writes what is new until ctx ends.
func (e *Enforcer) keep(ctx context.Context) error {
	select {
	case <-e.path.Loaded():
	case <-ctx.Done():
		return nil
	}
	defer e.release()
	if !e.begin(ctx) {
		return nil
	}
	for {
		if err := e.apply(); errors.Is(err, ErrUnloaded) {
			<-ctx.Done() // the datapath ends, and its owner with it
			return nil
		}
		select {
		case <-e.changed:
		case <-ctx.Done():
			return nil
		}
		if !e.settle(ctx, e.cfg.SettleMax) {
			return nil
		}
	}
}

// begin waits until what there is to know is known.
func (e *Enforcer) begin(ctx context.Context) bool {
	patience := time.NewTimer(e.cfg.FirstMax)
	defer patience.Stop()
	late := false
	for {
		if !e.settle(ctx, e.cfg.FirstMax) {
			return false
		}
		missing := e.missing(late)
		e.mu.Lock()
		e.stats.WaitingFor = missing
		e.mu.Unlock()
		if missing == "" {
			return true
		}
		select {
		case <-e.changed:
		case <-patience.C:
			late = true
			if missing = e.missing(late); missing != "" {
				e.cfg.Logger.Warn("policy is not enforced yet", "mode", e.cfg.Mode.String(), "waiting for", missing)
			}
		case <-ctx.Done():
			return false
		}
	}
}

// missing names what is still waited for, "" if there is nothing.
func (e *Enforcer) missing(late bool) string {
	if m := e.inputs.missing(late); m != "" {
		return m
	}
	if e.owners.behind() {
		return "the interfaces of pods"
	}
	return ""
}

// settle returns when nothing was new for Config.Settle, or after most; false if ctx ended.
func (e *Enforcer) settle(ctx context.Context, most time.Duration) bool {
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	quiet := time.NewTimer(e.cfg.Settle)
	defer quiet.Stop()
	for {
		select {
		case <-e.changed:
			quiet.Reset(e.cfg.Settle)
		case <-quiet.C:
			return true
		case <-deadline.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}
