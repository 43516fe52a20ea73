package main

import (
	"context"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/collector/enrich/kube"
	"github.com/parallax-flow/parallax/deploy/lab"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/internal/lifecycle"
)

// kubernetes says where names of pods come from.
type kubernetes struct {
	api     string                        // auto, off, or the path of a kubeconfig; empty: off
	allPods bool                          // of the whole cluster, not of this node alone
	decides bool                          // policy needs to know where services lead, too
	place   func(meta.Syncer) meta.Syncer // adds what an API server does not tell; nil: nothing
}

func (k *kubernetes) register(f *pflag.FlagSet) {
	f.StringVar(&k.api, "kubernetes", "auto", "names from a Kubernetes API server: the path of a kubeconfig, auto (this pod's service account, if it has one) or off")
}

// config returns how to watch for a node, and whether to.
func (k *kubernetes) config(node, cluster string, log *slog.Logger) (kube.Config, bool) {
	c := kube.Config{Kubeconfig: k.api, Node: node, AllPods: k.allPods, Forwards: k.decides, Cluster: cluster, Logger: log}
	switch k.api {
	case "", "off":
		return c, false
	case "auto":
		c.Kubeconfig = ""
		return c, kube.InCluster()
	}
	return c, true
}

func (k *kubernetes) validate() error {
	if c, on := k.config("any", "", nil); on {
		return c.Validate()
	}
	return nil
}

// sources returns the source of names for a node, none if that is off.
func (k *kubernetes) sources(node, cluster string, log *slog.Logger) []meta.Source {
	c, on := k.config(node, cluster, log)
	if !on {
		return nil
	}
	var s meta.Syncer = kube.New(c)
	if k.place != nil {
		s = k.place(s)
	}
	return []meta.Source{s}
}

// watchLab takes the names of the demo cluster from its API server, as in a real one: each collector those of its own
// node's pods, the relay all.
func watchLab(ctx context.Context, stack *lifecycle.Stack, cluster *lab.Lab, nodes []nodeOptions, r *relayProcess, log *slog.Logger) {
	layout := cluster.Layout(ctx)
	if layout == nil {
		return // ctx ended
	}
	api := kubernetes{api: cluster.Kubeconfig(), place: layout.WithNetNS}
	for i := range nodes {
		nodes[i].kubernetes = api
	}
	api.allPods = true
	r.learn(stack, api.sources("", lab.ClusterName, log)...)
}
