package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Config of a Source.
type Config struct {
	Kubeconfig string // path; empty: the service account of the pod that this process runs in
	Node       string // pods of this node only; required without AllPods
	AllPods    bool   // pods of the whole cluster
	Forwards   bool   // services with where their addresses lead (meta.Object.Forwards): policies need it, names do not
	Cluster    string // set on what is told; may be empty
	Logger     *slog.Logger
}

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// tokenFile is where Kubernetes puts the token of a pod's service account (client-go/rest.InClusterConfig).
const tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// InCluster reports whether this process runs in a pod that has a service account.
func InCluster() bool {
	_, err := os.Stat(tokenFile)
	return err == nil && os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// Validate reads the files that c names; it does not speak with the API server.
func (c Config) Validate() error {
	_, err := c.rest()
	return err
}

// rest returns how to reach the API server.
func (c Config) rest() (*rest.Config, error) {
	if !c.AllPods && c.Node == "" {
		return nil, errors.New("kubernetes: whose pods? give the name of a node, or ask for all pods")
	}
	if c.Kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("kubernetes service account: %w: choose a kubeconfig with --kubernetes PATH", err)
		}
		return cfg, nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w: choose another with --kubernetes PATH", c.Kubeconfig, err)
	}
	return cfg, nil
}
