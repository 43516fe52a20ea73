package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// connection reads from an API server, and tells of it when it cannot.
type connection struct {
	cfg      Config
	http     *http.Client
	core     rest.Interface // core/v1 alone: the whole clientset would double the binary for four kinds
	metadata metadata.Interface
	log      *slog.Logger

	mu      sync.Mutex
	away    bool              // the server does not answer
	refused map[resource]bool // it answers, with an error
}

func connect(cfg Config) (*connection, error) {
	rc, err := cfg.rest()
	if err != nil {
		return nil, err
	}
	rc.UserAgent = "parallax"
	c := &connection{cfg: cfg, log: cfg.Logger.With("api", rc.Host), refused: map[resource]bool{}}
	if c.http, err = rest.HTTPClientFor(rc); err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", rc.Host, err)
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	core := rest.CopyConfig(rc)
	core.APIPath, core.GroupVersion = "/api", &corev1.SchemeGroupVersion
	core.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	core.ContentType = runtime.ContentTypeProtobuf
	core.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if c.core, err = rest.RESTClientForConfigAndClient(core, c.http); err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", rc.Host, err)
	}
	if c.metadata, err = metadata.NewForConfigAndClient(rc, c.http); err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", rc.Host, err)
	}
	return c, nil
}

func (c *connection) close() { c.http.CloseIdleConnections() }

// listWatch reads r, in full or its metadata alone, as r.example says.
func (c *connection) listWatch(r resource) cache.ListerWatcher {
	list, watch := c.readMetadata(r)
	if _, partial := r.example().(*metav1.PartialObjectMetadata); !partial {
		list, watch = c.readCore(r)
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

func (c *connection) readCore(r resource) (cache.ListWithContextFunc, cache.WatchFuncWithContext) {
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return c.core.Get().Resource(string(r)).VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Get()
	}
	watch := func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
		o.Watch = true
		return c.core.Get().Resource(string(r)).VersionedParams(&o, metav1.ParameterCodec).Watch(ctx)
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
			c.log.Warn("Kubernetes API server is away: names stay as they are", "error", err)
		} else {
			c.log.Info("Kubernetes API server is back")
		}
	}
	if !answered {
		return
	}
	if err != nil && !c.refused[r] {
		c.log.Warn("Kubernetes API server refuses to tell: names may be missing", "resource", string(r), "error", err)
	}
	c.refused[r] = err != nil
}
