package main

import (
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/collector/enrich/kube"
	"github.com/parallax-flow/parallax/flow/meta"
)

// kubernetes says where a collector's names of pods come from.
type kubernetes struct {
	api     string // auto, off, or the path of a kubeconfig; empty: off
	allPods bool   // of the whole cluster, not of this node alone
}

func (k *kubernetes) register(f *pflag.FlagSet) {
	f.StringVar(&k.api, "kubernetes", "auto", "names from a Kubernetes API server: the path of a kubeconfig, auto (this pod's service account, if it has one) or off")
}

// config returns how to watch for a node, and whether to.
func (k *kubernetes) config(node, cluster string, log *slog.Logger) (kube.Config, bool) {
	c := kube.Config{Kubeconfig: k.api, Node: node, AllPods: k.allPods, Cluster: cluster, Logger: log}
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
	if c, on := k.config(node, cluster, log); on {
		return []meta.Source{kube.New(c)}
	}
	return nil
}
