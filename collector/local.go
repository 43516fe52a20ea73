package collector

import (
	"context"
	"fmt"
	"sync"

	"github.com/parallax-flow/parallax/collector/netns"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// datapath is what is told which pods are local.
type datapath interface {
	SetLocalEndpoints([]flow.Addr) error
	SetScope([]uint32) error
}

// locals follows which pods run on this node: the datapath leaves L7 of their traffic to their own interfaces, and a
// confined collector reports drops only in their network namespaces and the node's.
type locals struct {
	node     string
	netns    string
	confined bool
	path     datapath

	mu   sync.Mutex
	pods map[meta.Key]*meta.Object
}

func newLocals(node, netns string, confined bool, path datapath) *locals {
	return &locals{node: node, netns: netns, confined: confined, path: path, pods: map[meta.Key]*meta.Object{}}
}

// begin sets the scope before the first update.
func (l *locals) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.apply()
}

func (l *locals) update(u meta.Update) error {
	key := u.Object.Key()
	if key.Kind != meta.Pod {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, had := l.pods[key]
	switch {
	case !u.Deleted && u.Object.Node == l.node && !u.Object.HostNetwork:
		l.pods[key] = u.Object
	case had:
		delete(l.pods, key)
	default:
		return nil
	}
	return l.apply()
}

func (l *locals) apply() error {
	var addrs []flow.Addr
	for _, p := range l.pods {
		for _, a := range p.Addrs {
			addrs = append(addrs, flow.AddrFrom(a))
		}
	}
	if err := l.path.SetLocalEndpoints(addrs); err != nil {
		return fmt.Errorf("tell the datapath of local pods: %w", err)
	}
	if !l.confined {
		return nil
	}
	ino, err := netns.Inode(l.netns)
	if err != nil {
		return err
	}
	scope := []uint32{ino}
	for _, p := range l.pods {
		if p.NetNS == "" {
			continue
		}
		if ino, err := netns.Inode(p.NetNS); err == nil { // else the pod is just going or coming: the next update says so
			scope = append(scope, ino)
		}
	}
	if err := l.path.SetScope(scope); err != nil {
		return fmt.Errorf("tell the datapath of network namespaces: %w", err)
	}
	return nil
}

// tap lets another reader see the updates of a source.
type tap struct {
	meta.Source
	see func(meta.Update) error
}

// Watch implements meta.Source.
func (t tap) Watch(ctx context.Context, emit func(meta.Update)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := t.Source.Watch(ctx, func(u meta.Update) {
		if err := t.see(u); err != nil {
			cancel(err)
		}
		emit(u)
	})
	if cause := context.Cause(ctx); err == nil && cause != nil && cause != context.Canceled {
		return cause
	}
	return err
}
