// Package kube tells what a Kubernetes API server knows: the names of pods with their workloads and services, of services,
// nodes and namespaces, as a meta.Source, and network policies, as a PolicySource. Both stand on client-go's informers.
//
// Objects are trimmed to what is told of them before they are kept. Changes of one object are told in their order, under
// one lock; nothing is dropped. An API server that is away costs a line in the log: what was known stays known, and the
// informers reconnect with their own backoff (0.8 s to 30 s).
package kube

import (
	"context"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/parallax-flow/parallax/flow/meta"
)

// Source tells what an API server knows.
type Source struct {
	cfg    Config
	synced chan struct{}
}

// New returns a Source; nothing is read before Watch.
func New(cfg Config) *Source {
	cfg.setDefaults()
	return &Source{cfg: cfg, synced: make(chan struct{})}
}

// Synced implements meta.Syncer.
func (s *Source) Synced() <-chan struct{} { return s.synced }

// Watch implements meta.Source. It fails where the configuration cannot be used; an API server that does not answer is
// waited for. A Source is watched once.
func (s *Source) Watch(ctx context.Context, emit func(meta.Update)) error {
	c, err := connect(s.cfg)
	if err != nil {
		return err
	}
	defer c.close()
	w := &watch{cfg: s.cfg, emit: emit, informers: map[resource]cache.SharedIndexInformer{}, told: map[meta.Key]*meta.Object{}}
	var told []cache.InformerSynced
	for _, r := range resources {
		informer := cache.NewSharedIndexInformer(c.listWatch(r), r.example(), 0, r.indexers())
		w.informers[r] = informer
		synced, err := w.follow(r, informer)
		if err != nil {
			return err
		}
		told = append(told, synced)
	}
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(s.cfg.Logger.Handler()))
	var wg sync.WaitGroup
	for _, informer := range w.informers {
		wg.Go(func() { informer.RunWithContext(ctx) }) // ends after its last handler
	}
	if cache.WaitForCacheSync(ctx.Done(), told...) {
		close(s.synced)
	}
	wg.Wait()
	return nil
}

// watch is one call of Watch.
type watch struct {
	cfg       Config
	informers map[resource]cache.SharedIndexInformer

	mu   sync.Mutex // orders what is emitted
	emit func(meta.Update)
	told map[meta.Key]*meta.Object // services as they were told last
}

// follow makes w see the changes of r, and returns whether it has seen what there was at first.
func (w *watch) follow(r resource, informer cache.SharedIndexInformer) (cache.InformerSynced, error) {
	if err := quietly(informer, w.cfg.trim); err != nil {
		return nil, err
	}
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.changed(r, nil, o) },
		UpdateFunc: func(old, o any) { w.changed(r, old, o) },
		DeleteFunc: w.deleted,
	})
	if err != nil {
		return nil, err
	}
	return registration.HasSynced, nil
}

// quietly makes an informer keep little and say nothing.
func quietly(informer cache.SharedIndexInformer, trim cache.TransformFunc) error {
	if err := informer.SetTransform(trim); err != nil {
		return err
	}
	// Failures are told where the requests are made: see connection.note.
	return informer.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {})
}

// changed tells of an object that came or changed.
func (w *watch) changed(r resource, old, o any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch o := o.(type) {
	case *corev1.Pod:
		w.emit(meta.Update{Object: w.pod(o)})
	case *corev1.Service:
		w.tellService(o)
	case *corev1.Node:
		w.emit(meta.Update{Object: w.node(o)})
	case *discoveryv1.EndpointSlice:
		before, _ := old.(*discoveryv1.EndpointSlice)
		w.sliced(before, o)
	case *metav1.PartialObjectMetadata:
		if r == namespaces {
			w.emit(meta.Update{Object: w.namespace(o)})
			return
		}
		if old, ok := old.(*metav1.PartialObjectMetadata); ok && ownerOf(old) == ownerOf(o) {
			return
		}
		w.renamed(r, o)
	}
}

// renamed tells of the pods of an owner that became known, or has another owner now.
func (w *watch) renamed(r resource, o *metav1.PartialObjectMetadata) {
	list, err := w.informers[pods].GetIndexer().ByIndex(byOwner, owner{r.kind(), o.Name}.in(o.Namespace))
	if err != nil {
		return // the index is there since resources names it
	}
	for _, p := range list {
		if p, ok := p.(*corev1.Pod); ok {
			w.emit(meta.Update{Object: w.pod(p)})
		}
	}
}

// deleted tells of an object that is gone. That of a ReplicaSet or Job says nothing: its pods go with it.
func (w *watch) deleted(o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var key meta.Object
	switch o := o.(type) {
	case *corev1.Pod:
		key = meta.Object{Kind: meta.Pod, Namespace: o.Namespace, Name: o.Name}
	case *corev1.Service:
		key = meta.Object{Kind: meta.Service, Namespace: o.Namespace, Name: o.Name}
		delete(w.told, key.Key())
	case *corev1.Node:
		key = meta.Object{Kind: meta.Node, Name: o.Name}
	case *discoveryv1.EndpointSlice:
		w.sliced(o, nil)
		return
	case *metav1.PartialObjectMetadata:
		if o.Namespace != "" {
			return
		}
		key = meta.Object{Kind: meta.Namespace, Name: o.Name}
	default:
		return
	}
	w.emit(meta.Update{Object: &key, Deleted: true})
}
