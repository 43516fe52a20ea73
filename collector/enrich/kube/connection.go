package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// connection reads from an API server, and tells of it when it cannot.
type connection struct {
	cfg      Config
	http     *http.Client
	core     rest.Interface // these two alone: the whole clientset would double the binary for five kinds
	slices   rest.Interface
	metadata metadata.Interface
	dynamic  dynamic.Interface
	log      *slog.Logger

	mu      sync.Mutex
	away    bool // the server does not answer
	refused map[resource]*refusal
}

func connect(cfg Config) (*connection, error) {
	rc, err := cfg.rest()
	if err != nil {
		return nil, err
	}
	rc.UserAgent = "parallax"
	c := &connection{cfg: cfg, log: cfg.Logger.With("api", rc.Host), refused: map[resource]*refusal{}}
	if c.http, err = rest.HTTPClientFor(rc); err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", rc.Host, err)
	}
	if err := c.open(rc); err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", rc.Host, err)
	}
	return c, nil
}

// open makes the clients of each way of reading: typed, metadata alone, and trees.
func (c *connection) open(rc *rest.Config) (err error) {
	scheme := runtime.NewScheme()
	if err := cmp.Or(corev1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme)); err != nil {
		return err
	}
	typed := rest.CopyConfig(rc)
	typed.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	typed.ContentType = runtime.ContentTypeProtobuf
	typed.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	typed.APIPath, typed.GroupVersion = "/api", &corev1.SchemeGroupVersion
	if c.core, err = rest.RESTClientForConfigAndClient(typed, c.http); err != nil {
		return err
	}
	typed = rest.CopyConfig(typed)
	typed.APIPath, typed.GroupVersion = "/apis", &discoveryv1.SchemeGroupVersion
	if c.slices, err = rest.RESTClientForConfigAndClient(typed, c.http); err != nil {
		return err
	}
	if c.metadata, err = metadata.NewForConfigAndClient(rc, c.http); err != nil {
		return err
	}
	c.dynamic, err = dynamic.NewForConfigAndClient(rc, c.http)
	return err
}

func (c *connection) close() { c.http.CloseIdleConnections() }

// listWatch reads r as r.example says: typed, as a tree, or its metadata alone.
func (c *connection) listWatch(r resource) cache.ListerWatcher {
	var list cache.ListWithContextFunc
	var watch cache.WatchFuncWithContext
	switch r.example().(type) {
	case *metav1.PartialObjectMetadata:
		list, watch = c.readMetadata(r)
	case *unstructured.Unstructured:
		list, watch = c.readTrees(r)
	case *discoveryv1.EndpointSlice:
		list, watch = readTyped(c.slices, r)
	default:
		list, watch = readTyped(c.core, r)
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = c.selector(r)
			got, err := list(ctx, o)
			c.note(ctx, r, err)
			return got, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.FieldSelector = c.selector(r)
			got, err := watch(ctx, o)
			c.note(ctx, r, err)
			return got, err
		},
	}
	return cache.ToListWatcherWithWatchListSemantics(lw, c.core)
}

// selector leaves finished pods out, whose addresses may be another's by now: one that finishes is told as deleted.
func (c *connection) selector(r resource) string {
	if r != pods {
		return ""
	}
	const running = "status.phase!=Succeeded,status.phase!=Failed"
	if c.cfg.AllPods {
		return running
	}
	return running + ",spec.nodeName=" + c.cfg.Node
}

func readTyped(from rest.Interface, r resource) (cache.ListWithContextFunc, cache.WatchFuncWithContext) {
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return from.Get().Resource(string(r)).VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Get()
	}
	watch := func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
		o.Watch = true
		return from.Get().Resource(string(r)).VersionedParams(&o, metav1.ParameterCodec).Watch(ctx)
	}
	return list, watch
}

func (c *connection) readMetadata(r resource) (cache.ListWithContextFunc, cache.WatchFuncWithContext) {
	client := c.metadata.Resource(r.version())
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) }
	watch := func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
		return client.Watch(ctx, o)
	}
	return list, watch
}

func (c *connection) readTrees(r resource) (cache.ListWithContextFunc, cache.WatchFuncWithContext) {
	client := c.dynamic.Resource(r.version())
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) }
	watch := func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
		return client.Watch(ctx, o)
	}
	return list, watch
}

// patience is how long a resource must be refused to be worth a line: a server that starts refuses everything until it has
// read its roles.
const patience = 3 * time.Second

// refusal is a resource that the server answers with an error.
type refusal struct {
	since time.Time
	told  bool
}

// note tells of the begin and the end of an outage, once each, and of a resource that is refused.
func (c *connection) note(ctx context.Context, r resource, err error) {
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return // the end, or a change that is too old to go on from: the informer lists again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var status apierrors.APIStatus
	answered := err == nil || errors.As(err, &status)
	if answered == c.away {
		c.away = !answered
		if c.away {
			c.log.Warn("Kubernetes API server is away: what is known stays as it is", "error", err)
		} else {
			c.log.Info("Kubernetes API server is back")
		}
	}
	switch at := c.refused[r]; {
	case !answered:
	case err == nil:
		delete(c.refused, r)
	case at == nil:
		c.refused[r] = &refusal{since: time.Now()}
	case !at.told && time.Since(at.since) >= patience:
		at.told = true
		c.log.Warn("Kubernetes API server refuses to tell: something will be missing", "resource", string(r), "error", err)
	}
}
