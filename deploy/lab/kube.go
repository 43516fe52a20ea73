package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/internal/kubetest/apiserver"
)

// kubeDir is the part of a lab's folder with the files of its Kubernetes API server.
const kubeDir = "kubernetes"

// kube is the lab's Kubernetes API server: a real one with its etcd, kept running as the pods are.
type kube struct {
	*apiserver.Server
	runner *runner
}

// newKube writes the server's files; nothing runs yet. It gives nil where no server is wanted, of which nothing comes.
func (l *Lab) newKube(r *runner) (*kube, error) {
	if !l.config.Kubernetes {
		return nil, nil
	}
	dir := r.path(kubeDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := apiserver.New(dir, r.tools.kubernetes)
	if err != nil {
		return nil, err
	}
	return &kube{s, r}, nil
}

// start runs etcd and the API server until ctx ends. One that dies comes back with all its objects.
func (k *kube) start(ctx context.Context, group *errgroup.Group) {
	if k == nil {
		return
	}
	for name, command := range map[string]func() *exec.Cmd{etcdName: k.Etcd, apiName: k.API} {
		as := &Endpoint{Name: name, Workload: name} // of no network namespace: on the host, as in a cluster
		group.Go(func() error { return k.runner.spawn.supervise(ctx, k.runner.log, k.runner.state, as, command) })
	}
}

// Names of the processes of Kubernetes in the lab's state.
const (
	etcdName = "etcd"
	apiName  = "kube-apiserver"
)

// fill waits until the API server is ready and creates the lab's objects in it.
func (k *kube) fill(ctx context.Context) error {
	if k == nil {
		return nil
	}
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, kubeTimeout, fmt.Errorf("not done after %v", kubeTimeout))
	defer cancel()
	defer k.Close()
	err := k.WaitReady(ctx, nil)
	if err == nil {
		err = k.create(ctx, k.runner.layout)
	}
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	k.runner.log.Info("lab: Kubernetes API server has the lab's objects", "admin", k.AdminKubeconfig(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// kubeTimeout is generous: the server needs 3 s alone on two cores, and starts beside all else.
const kubeTimeout = time.Minute

// Kubeconfig is the path of a kubeconfig for the lab's API server, with the rights that docs/install.md asks for and no
// others; empty without Config.Kubernetes, and before Ready.
func (l *Lab) Kubeconfig() string {
	select {
	case <-l.ready:
	default:
		return ""
	}
	if !l.config.Kubernetes {
		return ""
	}
	return filepath.Join(workDir(l.config.Dir, l.id), kubeDir, apiserver.KubeconfigFile)
}

// NetNS returns the path of a pod's network namespace, which Kubernetes does not tell; empty if there is no such pod.
func (l *Layout) NetNS(namespace, pod string) string {
	for i := range l.Pods {
		if p := &l.Pods[i]; p.Namespace == namespace && p.Name == pod {
			return p.NetNS
		}
	}
	return ""
}

// WithNetNS gives the pods that source tells the network namespaces that they have in the lab.
func (l *Layout) WithNetNS(source meta.Syncer) meta.Syncer { return netnsSource{source, l} }

type netnsSource struct {
	meta.Syncer
	layout *Layout
}

// Watch implements meta.Source.
func (s netnsSource) Watch(ctx context.Context, emit func(meta.Update)) error {
	return s.Syncer.Watch(ctx, func(u meta.Update) {
		if o := u.Object; o != nil && o.Kind == meta.Pod && !u.Deleted {
			if path := s.layout.NetNS(o.Namespace, o.Name); path != "" {
				placed := *o
				placed.NetNS = path
				u.Object = &placed
			}
		}
		emit(u)
	})
}

// errNoKubernetes is what a client of a lab without an API server is told.
var errNoKubernetes = errors.New("lab: it runs without Kubernetes")

// Kubernetes returns a client of the lab's API server, to which everything is allowed.
func (c *Client) Kubernetes() (*apiserver.Client, error) {
	if c.dir == "" {
		return nil, errNoKubernetes
	}
	client, err := apiserver.Attach(filepath.Join(workDir(c.dir, c.layout.ID), kubeDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoKubernetes
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return client, nil
}

// KillKubernetes kills the lab's API server, as a crash would: the lab starts it again after 0.2 s or more.
func (c *Client) KillKubernetes() error {
	s, err := readState(c.dir)
	if err != nil {
		return err
	}
	for _, p := range s.Processes {
		if p.Name == apiName {
			return p.kill()
		}
	}
	return errNoKubernetes
}
