package enforce_test

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/parallax-flow/parallax/collector/decode"
	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/collector/probe"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

// rig is a cluster whose node is observed and policed.
type rig struct {
	*cluster
	t        testing.TB
	probe    *probe.Probe
	enforcer *enforce.Enforcer
	policies *set
	log      *lines
	labels   []*meta.Object // of the last draw

	release func() // ends the Enforcer
	unload  func() // ends the Probe
	over    chan error

	mu        sync.Mutex
	decisions map[tuple][]flow.Flow // verdicts and drops by policy
	count     int
}

// tuple is a connection as its initiator sees it.
type tuple struct {
	src, dst netip.AddrPort
	proto    flow.Proto
}

func tupleOf(f *flow.Flow) tuple {
	return tuple{netip.AddrPortFrom(f.SrcAddr.Netip(), f.SrcPort), netip.AddrPortFrom(f.DstAddr.Netip(), f.DstPort), f.Proto}
}

// newRig polices c as change makes the configuration.
func newRig(t testing.TB, c *cluster, change func(*enforce.Config)) *rig {
	t.Helper()
	return newRigBy(t, c, probe.MechanismAuto, change)
}

// newRigBy attaches by the given mechanism.
func newRigBy(t testing.TB, c *cluster, by probe.Mechanism, change func(*enforce.Config)) *rig {
	t.Helper()
	r := &rig{cluster: c, t: t, policies: &set{}, log: &lines{}, over: make(chan error, 1), decisions: make(map[tuple][]flow.Flow)}
	cfg := enforce.Config{Node: "n1", NetNS: c.node.path, Mode: enforce.Enforce, Settle: 1e6, Logger: slog.New(slog.NewTextHandler(r.log, nil))}
	if change != nil {
		change(&cfg)
	}
	r.probe = probe.New(probe.Config{NetNS: c.node.path, Mechanism: by, Poll: 2e6, WakeBytes: 64, DropScope: []uint32{}, Logger: slog.New(slog.DiscardHandler)})
	r.enforcer = enforce.New(cfg, r.probe, r.policies)
	d, err := decode.New(decode.Config{Node: &flow.Node{Name: "n1"}, Policy: r.enforcer.Decision})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	observed := make(chan error, 1)
	go func() { observed <- r.probe.Run(ctx, func(rec []byte) { r.record(d, rec) }, func() {}) }()
	r.unload = func() {
		cancel()
		must(t, <-observed)
		observed <- nil
	}
	t.Cleanup(r.unload)
	select {
	case <-r.probe.Ready():
	case err := <-observed:
		observed <- nil
		t.Fatal(err)
	}
	enforced, release := context.WithCancel(context.Background())
	go func() { r.over <- r.enforcer.Run(enforced) }()
	r.release = func() {
		release()
		must(t, <-r.over)
		r.over <- nil
	}
	t.Cleanup(r.release)
	r.told(c.objects(nil))
	<-r.enforcer.Ready()
	return r
}

// newProbe runs a probe that nobody listens to.
func newProbe(t testing.TB, path string) *probe.Probe {
	t.Helper()
	return newProbeBy(t, path, probe.MechanismAuto)
}

func newProbeBy(t testing.TB, path string, by probe.Mechanism) *probe.Probe {
	t.Helper()
	p := probe.New(probe.Config{NetNS: path, Mechanism: by, DropScope: []uint32{}, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, func([]byte) {}, func() {}) }()
	t.Cleanup(func() { cancel(); must(t, <-done) })
	<-p.Ready()
	return p
}

func (r *rig) record(d *decode.Decoder, rec []byte) {
	var b flow.Batch
	if err := d.Decode(rec, &b, nil); err != nil {
		r.t.Errorf("record of %d bytes: %v", len(rec), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range b.Flows {
		if f := &b.Flows[i]; f.Policy != nil {
			r.decisions[tupleOf(f)] = append(r.decisions[tupleOf(f)], *f)
			r.count++
		}
	}
}

// decided returns what policy said of a connection so far.
func (r *rig) decided(at tuple) []flow.Flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.decisions[at]
}

func (r *rig) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.decisions)
}

func (r *rig) told(objects []*meta.Object) {
	for _, o := range objects {
		r.enforcer.Update(meta.Update{Object: o})
	}
}

// bind makes these the policies, and waits until they are in force at all pods.
func (r *rig) bind(policies []policy.Policy) {
	r.t.Helper()
	r.policies.change(policies)
	r.settled()
}

func (r *rig) settled() {
	r.t.Helper()
	eventually(r.t, "policies are in force", func() bool {
		s := r.enforcer.Stats()
		return !s.Pending && s.Searched == 0 && s.Contested == 0
	})
	if s := r.enforcer.Stats(); s.Failure != "" {
		r.t.Fatalf("%+v", s)
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func readText(text string) ([]policy.Policy, error) {
	r, err := load.Reader("test.yaml", strings.NewReader(text), load.Options{})
	return r.Policies, err
}
