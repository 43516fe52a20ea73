// Package lab is a small Kubernetes-like cluster on one machine, made of network namespaces: nodes, pods with real
// programs in them, a world outside, and failures that really happen.
//
// Everything that a lab makes has the prefix "plx-" and its instance's ID in its name and lives in network namespaces of its
// own, which have no way to the host's network. It is removed when Run returns; what a killed lab left is removed by the next
// start, or by Clean. Programs die with the process that runs the lab, whatever ends it.
package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parallax-flow/parallax/deploy/lab/netspace"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/internal/kubetest/apiserver"
)

// Lab is one lab. Run it at most once.
type Lab struct {
	config Config
	id     string

	planned chan struct{} // closed when layout is set
	ready   chan struct{}
	layout  *Layout
}

// New returns a lab that does nothing yet.
func New(config Config) *Lab {
	var id [3]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	return &Lab{
		config:  config.withDefaults(),
		id:      hex.EncodeToString(id[:]),
		planned: make(chan struct{}), ready: make(chan struct{}),
	}
}

// Ready is closed when all of the lab's servers answer and its clients have begun.
func (l *Lab) Ready() <-chan struct{} { return l.ready }

// Layout waits until the lab is planned and returns what it consists of, or nil if ctx ends first.
func (l *Lab) Layout(ctx context.Context) *Layout {
	select {
	case <-l.planned:
		return l.layout
	case <-ctx.Done():
		return nil
	}
}

// Nodes returns the lab's nodes: nil before Run has planned them. Their namespaces exist once Ready is closed.
func (l *Lab) Nodes() []Node {
	select {
	case <-l.planned:
		return l.layout.Nodes
	default:
		return nil
	}
}

// Watch implements meta.Source: pods, services, nodes and namespaces, as a Kubernetes API server would tell them.
func (l *Lab) Watch(ctx context.Context, emit func(meta.Update)) error {
	layout := l.Layout(ctx)
	if layout == nil {
		return nil
	}
	return layout.Watch(ctx, emit)
}

// Client returns a client that makes single, known exchanges from inside the lab's pods, or nil if ctx ends before the lab
// is ready.
func (l *Lab) Client(ctx context.Context) *Client {
	select {
	case <-l.ready:
		return &Client{l.layout, l.config.Dir}
	case <-ctx.Done():
		return nil
	}
}

// Run builds the lab, runs it until ctx ends and removes it. It returns nil on cancel; ErrBusy is wrapped if there is
// another one in the same directory. Run it once.
func (l *Lab) Run(ctx context.Context) error {
	if err := l.config.Validate(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return errNoIPv6
	}
	tools, err := findTools()
	if err != nil {
		return err
	}
	if l.config.Kubernetes {
		if tools.kubernetes, err = apiserver.Find(); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	command, err := l.config.podCommand()
	if err != nil {
		return err
	}
	lock, err := acquire(l.config.Dir)
	if err != nil {
		return err
	}
	defer release(l.config.Dir, lock)
	if err := sweep(l.config.Dir); err != nil {
		return err
	}
	err = l.run(ctx, tools, command)
	if ctx.Err() != nil {
		err = nil // whatever a cancelled step said
	}
	if left := sweep(l.config.Dir); left != nil {
		return cmp.Or(err, left) // one line; the next start tries again
	}
	l.config.Logger.Info("lab: removed")
	return err
}

// run does the work between lock and sweep.
func (l *Lab) run(ctx context.Context, tools *tools, command []string) error {
	began := time.Now()
	log := l.config.Logger
	taken, err := takenPrefixes()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	layout := newLayout(l.id, l.config.Nodes, pickBlock(taken))
	st := &stateFile{dir: l.config.Dir, s: state{ID: l.id, PID: os.Getpid(), Layout: layout}}
	if err := st.update(func(*state) {}); err != nil {
		return err
	}
	made, err := netspace.Prepare()
	if err := cmp.Or(err, st.update(func(s *state) { s.MadeMount = made })); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	l.layout = layout
	close(l.planned)

	spawn, err := newSpawner()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer spawn.close()
	r := &runner{layout: layout, state: st, spawn: spawn, tools: tools, pod: command, rate: l.config.Rate,
		dir: workDir(l.config.Dir, l.id), log: log}
	if err := r.prepare(ctx); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	kube, err := l.newKube(r)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	log.Info("lab: network ready", "nodes", len(layout.Nodes), "pods", len(layout.Pods), "block", layout.Block.String(),
		"took", time.Since(began).Round(time.Millisecond))

	group, ctx := errgroup.WithContext(ctx)
	kube.start(ctx, group)
	r.start(ctx, group, func(p *Endpoint) bool { return !p.driver() })
	group.Go(func() error {
		err := r.waitReady(ctx)
		if err == nil {
			err = kube.fill(ctx)
		}
		if err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		r.start(ctx, group, (*Endpoint).driver)
		if err := st.update(func(s *state) { s.Ready = true }); err != nil {
			return err
		}
		log.Info(fmt.Sprintf("lab: %d pods ready in %.1f s", len(layout.Pods), time.Since(began).Seconds()))
		close(l.ready)
		return nil
	})
	return group.Wait()
}
