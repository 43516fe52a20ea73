package enforce_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
)

// begin runs an Enforcer of node n1 on d until the test ends.
func begin(t *testing.T, d *tables, change func(*enforce.Config), sources ...enforce.PolicySource) *enforce.Enforcer {
	t.Helper()
	cfg := enforce.Config{Node: "n1", Mode: enforce.Enforce, Settle: time.Millisecond, Proc: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	e := enforce.New(cfg, d, sources...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

// simplePods are three pods, and the service of one of them.
func simplePods() []*meta.Object {
	var list []*meta.Object
	for i, name := range []string{"x", "y", "z"} {
		list = append(list, &meta.Object{
			Kind: meta.Pod, Namespace: "c", Name: name, Node: "n1", Labels: map[string]string{"app": name}, Addrs: addrs(fmt.Sprintf("10.0.0.%d", i+1)),
		})
	}
	return append(list, service("c", "s", meta.Forward{
		Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Proto: flow.ProtoTCP, To: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.3:8080")},
	}))
}

func service(namespace, name string, forwards ...meta.Forward) *meta.Object {
	return &meta.Object{Kind: meta.Service, Namespace: namespace, Name: name, Labels: map[string]string{}, Forwards: forwards}
}

func compiled(policies []policy.Policy, objects []*meta.Object) *policy.Compiled {
	return policy.Compile(policy.Input{Policies: policies, Inventory: policy.FromMeta(objects), Node: "n1"})
}

func settled(t *testing.T, e *enforce.Enforcer) enforce.Stats {
	t.Helper()
	eventually(t, "nothing is pending", func() bool { return !e.Stats().Pending })
	return e.Stats()
}

// source tells objects when it is let, and that it is whole if it can.
type source struct {
	objects []*meta.Object
	tell    chan struct{}
}

func (s *source) Watch(ctx context.Context, emit func(meta.Update)) error {
	select {
	case <-s.tell:
	case <-ctx.Done():
		return nil
	}
	for _, o := range s.objects {
		emit(meta.Update{Object: o})
	}
	<-ctx.Done()
	return nil
}

type syncedSource struct {
	source
	synced chan struct{}
}

func (s *syncedSource) Synced() <-chan struct{} { return s.synced }

// watch runs sources of metadata until the test ends.
func watch(t *testing.T, sources ...meta.Source) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, s := range sources {
		wg.Go(func() {
			if err := s.Watch(ctx, func(meta.Update) {}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// TestBeginsWhenAllIsKnown lets one source after the other speak.
func TestBeginsWhenAllIsKnown(t *testing.T) {
	d := newTables()
	policies := &set{}
	said := &source{objects: simplePods()[:1], tell: make(chan struct{})}
	whole := &syncedSource{source{objects: simplePods()[1:], tell: make(chan struct{})}, make(chan struct{})}
	cfg := enforce.Config{Node: "n1", Mode: enforce.Enforce, Settle: time.Millisecond, FirstMax: time.Hour, Logger: slog.New(slog.DiscardHandler)}
	held := &heldSource{release: make(chan struct{}), set: policies}
	e := enforce.New(cfg, d, held)
	watch(t, e.Tap(said), e.Tap(whole))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	defer func() { cancel(); must(t, <-done) }()
	waits := func(part string) {
		t.Helper()
		eventuallyOr(t, func() bool { return strings.Contains(e.Stats().WaitingFor, part) }, func() string { return part + ", but " + e.Stats().WaitingFor })
		select {
		case <-e.Ready():
			t.Fatal("ready")
		default:
		}
	}
	waits("metadata source 0 (*enforce_test.source)")
	close(said.tell)
	waits("metadata source 1")
	close(whole.tell)
	close(held.release)
	waits("metadata source 1") // it told something, but not that this is all
	if d.writes > 0 {
		t.Error("written before all was known")
	}
	close(whole.synced)
	<-e.Ready()
	d.holds(t, compiled(nil, simplePods()))
	if s := e.Stats(); s.WaitingFor != "" || !s.InForce {
		t.Errorf("%+v", s)
	}
}

// heldSource is a set that speaks when it is let.
type heldSource struct {
	*set
	release chan struct{}
}

func (s *heldSource) WatchPolicies(ctx context.Context, emit func([]policy.Policy)) error {
	select {
	case <-s.release:
		return s.set.WatchPolicies(ctx, emit)
	case <-ctx.Done():
		return nil
	}
}

func TestSilentMetadataIsNotAwaitedForever(t *testing.T) {
	d := newTables()
	e := enforce.New(enforce.Config{Node: "n1", Mode: enforce.Audit, Settle: time.Millisecond, FirstMax: 10 * time.Millisecond}, d, enforce.Static(nil))
	watch(t, e.Tap(&source{}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Ready()
	cancel()
	must(t, <-done)
}

func TestFirstSourceOfAPolicyCounts(t *testing.T) {
	d := newTables()
	a := read(t, doc("c", "p", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"))
	b := read(t, doc("c", "p", "{podSelector: {}, ingress: [{}]}"), doc("c", "q", "{podSelector: {matchLabels: {app: x}}, policyTypes: [Egress]}"))
	second := &set{now: b}
	e := begin(t, d, nil, enforce.Static(a), second)
	for _, o := range simplePods() {
		e.Update(meta.Update{Object: o})
	}
	if s := settled(t, e); s.Policies != 2 {
		t.Errorf("%d policies, want 2", s.Policies)
	}
	d.holds(t, compiled([]policy.Policy{a[0], b[1]}, simplePods()))
	second.change(nil)
	settled(t, e)
	d.holds(t, compiled(a, simplePods()))
}

func TestFailureOfASourceEndsRun(t *testing.T) {
	e := enforce.New(enforce.Config{Node: "n1", Mode: enforce.Enforce}, newTables(), failing{})
	if err := e.Run(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "policy source 0 (enforce_test.failing)") {
		t.Error(err)
	}
}

type failing struct{}

func (failing) WatchPolicies(context.Context, func([]policy.Policy)) error {
	return io.ErrUnexpectedEOF
}

// TestRefusedWritesAreTakenBack refuses a change in all the ways there are.
func TestRefusedWritesAreTakenBack(t *testing.T) {
	old := read(t, doc("c", "old", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: x}}}], ports: [{port: 80}]}], egress: [{}]}"))
	next := read(t, doc("c", "next", "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 81, endPort: 90}]}], egress: [{to: [{podSelector: {}}]}]}"))
	for name, spoil := range map[string]func(*tables){
		"full":                         func(d *tables) { d.room = len(d.entries) + 2 },
		"full, of an old kernel":       func(d *tables) { d.room, d.old = len(d.entries)+2, true },
		"the way back refused once":    func(d *tables) { d.refuse = 2 },
		"the way back refused forever": func(d *tables) { d.room, d.refuse = len(d.entries)+2, 3 },
	} {
		t.Run(name, func(t *testing.T) {
			d := newTables()
			policies := &set{now: old}
			e := begin(t, d, nil, policies)
			for _, o := range simplePods() {
				e.Update(meta.Update{Object: o})
			}
			settled(t, e)
			d.mu.Lock()
			spoil(d)
			d.mu.Unlock()
			policies.change(next)
			if s := settled(t, e); s.Failure == "" || s.Failures != 1 || s.FailingSince.IsZero() || !s.InForce {
				t.Errorf("%+v", s)
			}
			if !strings.HasSuffix(name, "forever") {
				d.holds(t, compiled(old, simplePods()))
			}
			d.mu.Lock()
			d.room, d.refuse = 0, 0
			d.mu.Unlock()
			e.Update(meta.Update{Object: simplePods()[0], Deleted: true})
			if s := settled(t, e); s.Failure != "" || !s.FailingSince.IsZero() {
				t.Errorf("%+v", s)
			}
			d.holds(t, compiled(next, simplePods()[1:]))
		})
	}
}

// TestWayThatEndsHalfway refuses the second of the three writes of a change that renumbers identities: the old policies stay,
// under the identities of both.
func TestWayThatEndsHalfway(t *testing.T) {
	d := newTables()
	old := read(t, doc("c", "p", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: x}}}]}]}"))
	next := read(t, doc("c", "p", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod-template-hash: x}}}]}]}"))
	objects := simplePods()
	for _, o := range objects {
		o.Labels["pod-template-hash"] = o.Name
	}
	policies := &set{now: old}
	e := begin(t, d, nil, policies)
	for _, o := range objects {
		e.Update(meta.Update{Object: o})
	}
	settled(t, e)
	in := policy.Input{Policies: old, Inventory: policy.FromMeta(objects), Node: "n1"}
	to := in
	to.Policies = next
	way := policy.Path(in, to)
	if len(way) != 3 {
		t.Fatalf("a way of %d steps", len(way))
	}
	d.mu.Lock()
	d.spare, d.refuse = 1, 1
	d.mu.Unlock()
	policies.change(next)
	if s := settled(t, e); s.Failures != 1 {
		t.Errorf("%+v", s)
	}
	d.holds(t, policy.Compile(way[0]))
	policies.change(next)
	if s := settled(t, e); s.Failure != "" {
		t.Errorf("%+v", s)
	}
	d.holds(t, policy.Compile(to))
}

func TestUpdatesThatPolicyCannotSeeAreNoNews(t *testing.T) {
	e := begin(t, newTables(), nil, enforce.Static(nil))
	pods := simplePods()
	for _, o := range pods {
		e.Update(meta.Update{Object: o})
	}
	before := settled(t, e)
	again := *pods[0]
	again.Labels, again.Workload = maps.Clone(again.Labels), "another"
	for _, u := range []meta.Update{
		{Object: &again}, {Object: service("c", "without addresses")}, {Object: simplePods()[3]}, {},
		{Object: &meta.Object{Kind: meta.Pod, Namespace: "c", Name: "never was"}, Deleted: true},
	} {
		e.Update(u)
		if e.Stats().Pending {
			t.Errorf("%+v is news", u)
		}
	}
	if s := e.Stats(); s.Compiles != before.Compiles {
		t.Errorf("%d compiles, %d before", s.Compiles, before.Compiles)
	}
}

func TestDecisionsOutliveTheirPolicies(t *testing.T) {
	policies := &set{now: read(t, doc("c", "old", denyIngress))}
	e := begin(t, newTables(), nil, policies)
	for _, o := range simplePods() {
		e.Update(meta.Update{Object: o})
	}
	settled(t, e)
	deny := compiled(policies.now, simplePods()).Endpoints[policy.EndpointKey{Namespace: "c", Name: "x"}].Deny[policy.Ingress]
	d := e.Decision(deny)
	if d == nil || d.Text != "ingress default deny because of NetworkPolicy c/old" {
		t.Fatalf("%+v", d)
	}
	for i := range 3 {
		policies.change(read(t, doc("c", fmt.Sprint("new", i), denyIngress)))
		settled(t, e)
	}
	if e.Decision(deny) != d {
		t.Error("the decision changed")
	}
	if e.Decision(policy.RuleOwnNode) == nil || e.Decision(12345) != nil {
		t.Error("what is known of exceptions and of nothing")
	}
	if n := testing.AllocsPerRun(100, func() { e.Decision(deny) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestObserveDoesNothing(t *testing.T) {
	d := newTables()
	e := begin(t, d, func(c *enforce.Config) { c.Mode = enforce.Observe }, failing{})
	<-e.Ready()
	s := &source{}
	if e.Tap(s) != meta.Source(s) {
		t.Error("the source is tapped")
	}
	e.Update(meta.Update{Object: simplePods()[0]})
	if d.writes != 0 || e.Decision(0) != nil || e.Stats() != (enforce.Stats{}) {
		t.Errorf("%d writes, %+v", d.writes, e.Stats())
	}
}

func TestConfig(t *testing.T) {
	for text, want := range map[string]string{
		"observe": "", "audit": "", "enforce": "",
		"": `policy mode "": choose observe, audit or enforce`, "Enforce": `policy mode "Enforce": choose observe, audit or enforce`,
	} {
		m, err := enforce.ParseMode(text)
		if err == nil && m.String() != text || fmt.Sprint(err) != want && !(err == nil && want == "") {
			t.Errorf("%q: %v, %v", text, m, err)
		}
	}
	for want, c := range map[string]enforce.Config{
		"unknown policy mode 7":             {Mode: 7},
		"say which node this is":            {Mode: enforce.Audit},
		`pattern "[" of owned interfaces: `: {Own: []string{"["}},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err := enforce.New(c, newTables()).Run(t.Context()); err == nil {
			t.Errorf("it runs with %+v", c)
		}
	}
}
