package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/collector/probe"
	"github.com/parallax-flow/parallax/deploy/lab"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/internal/lifecycle"
	"github.com/parallax-flow/parallax/policy/load"
)

// upOptions are the flags of `parallax up`.
type upOptions struct {
	demo     bool
	demoKube bool
	demoRate float64
	demoDir  string
	duration time.Duration
	check    bool
	logLevel string
	node     nodeOptions
	relay    relayOptions
	page     pageOptions
}

func newUp() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run collector, relay, storage and page in one process",
		Long: `Run everything on this machine: observe its traffic, keep it, and show it at http://127.0.0.1:12000.
Ctrl-C stops it and removes all that it made; what was stored stays under --data.`,
		Example: "  parallax up --demo            with a small cluster of network namespaces beside this machine's own traffic\n  parallax up --for 60s --storage memory:",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runUp(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.demo, "demo", false, "run the demo cluster, too")
	f.BoolVar(&o.demoKube, "demo-kubernetes", false, "run a real Kubernetes API server for the demo cluster, and take its names from there")
	f.Float64Var(&o.demoRate, "demo-rate", 8, "requests per second at the edge of the demo cluster")
	f.StringVar(&o.demoDir, "demo-dir", lab.DefaultDir, "folder for the demo cluster's lock and temporary files; one cluster at a time for each")
	f.DurationVar(&o.duration, "for", 0, "stop after this time; 0 runs until Ctrl-C")
	f.BoolVar(&o.check, "check", false, "validate the configuration and exit")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	o.node.register(f)
	o.relay.register(f)
	seriesFlag(f, &o.relay.series)
	o.page.register(f)
	return cmd
}

func (o *upOptions) validate() error {
	if o.duration < 0 {
		return fmt.Errorf("--for %v: a time cannot be negative", o.duration)
	}
	if o.demoKube && !o.demo {
		return usageError{errors.New("--demo-kubernetes is of use only with --demo")}
	}
	return cmp.Or(lab.Config{Rate: o.demoRate, Kubernetes: o.demoKube}.Validate(), o.node.validate(), o.relay.validate())
}

func runUp(ctx context.Context, o *upOptions) error {
	log, err := newLogger(o.logLevel)
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil || o.check {
		return err
	}
	if err := probe.Preflight(); err != nil {
		return err
	}
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	if o.demoKube {
		o.relay.cluster = lab.ClusterName
	}
	r, err := newRelay(ctx, &o.relay, log)
	if err != nil {
		return err
	}
	page, err := newPage(&o.page, r.live, r.store, r.status, log)
	if err != nil {
		r.close()
		return err
	}
	stack := lifecycle.New(log)
	page.start(stack)
	r.start(stack)
	if err := o.startNodes(ctx, stack, r, log); err != nil {
		return storeClosed(r.store, stack.Stop(err))
	}
	if ctx.Err() == nil {
		banner(page.address, o.demo)
	}
	err = storeClosed(r.store, stack.Wait(ctx))
	if err == nil {
		fmt.Fprintln(os.Stderr, r.farewell())
	}
	return err
}

// startNodes starts this host's collector, and with --demo the lab and a collector on each of its nodes.
func (o *upOptions) startNodes(ctx context.Context, stack *lifecycle.Stack, r *relayProcess, log *slog.Logger) error {
	o.node.series, o.node.allPods = o.relay.series, true
	nodes := []nodeOptions{o.node}
	var sources []meta.Source
	if o.demo {
		cluster, err := o.startLab(ctx, stack, log)
		if err != nil || cluster == nil {
			return err
		}
		nodes[0].confined = true // each of the demo's nodes tells of its own drops
		policies, err := o.demoPolicies()
		if err != nil {
			return err
		}
		for _, n := range cluster.Nodes() {
			node := o.node.onNode(n.Name, lab.ClusterName, n.NetNS)
			node.policy = policies
			nodes = append(nodes, node)
		}
		if o.demoKube {
			watchLab(ctx, stack, cluster, nodes[1:], r, log)
		} else {
			sources = append(sources, cluster)
		}
	}
	var started []*collectorProcess
	for i := range nodes {
		c, err := newCollector(&nodes[i], r.ingest.Addr().String(), sources, log)
		if err != nil {
			return err
		}
		c.start(stack)
		started = append(started, c)
	}
	for _, c := range started {
		if err := c.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// demoPolicies makes the demo's nodes enforce the lab's policies, which with Kubernetes come from the API server.
func (o *upOptions) demoPolicies() (enforcement, error) {
	e := enforcement{mode: enforce.Enforce.String()}
	if o.demoKube {
		return e, nil
	}
	r, err := load.Reader("policies of the demo", bytes.NewReader(lab.Policies()), load.Options{})
	e.fixed = r.Policies
	return e, err
}

// startLab runs the demo cluster and waits until it is ready. It gives nil if ctx ended first.
func (o *upOptions) startLab(ctx context.Context, stack *lifecycle.Stack, log *slog.Logger) (*lab.Lab, error) {
	cluster := lab.New(lab.Config{Rate: o.demoRate, Dir: o.demoDir, Logger: log, Pod: labPodCommand(), Kubernetes: o.demoKube})
	ended := make(chan error, 1)
	stack.Go("demo cluster", func(ctx context.Context) error {
		err := cluster.Run(ctx)
		ended <- err
		return err
	})
	select {
	case <-cluster.Ready():
		return cluster, nil
	case err := <-ended:
		if err == nil {
			err = errors.New("the demo cluster ended before it was ready")
		}
		return nil, err
	case <-ctx.Done():
		return nil, nil
	}
}

// banner tells where to look.
func banner(page string, demo bool) {
	host, port, _ := net.SplitHostPort(page)
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n  Parallax is up.  Page:  http://%s\n", net.JoinHostPort(host, port))
	b.WriteString("                   Flows: parallax observe -f\n")
	if demo {
		b.WriteString("                   Drops: parallax observe --verdict dropped\n")
	}
	b.WriteString("                   Ctrl-C stops it and removes what it made.\n\n")
	fmt.Fprint(os.Stderr, b.String())
}
