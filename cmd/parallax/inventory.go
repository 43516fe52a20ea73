package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/policy/load"
)

// inventory names pods by files, where there is no API server to ask.
type inventory struct {
	files   []string
	objects []*meta.Object // of the files, once validate has read them
}

func (i *inventory) register(f *pflag.FlagSet) {
	f.StringSliceVar(&i.files, "inventory", nil, "names from files, in place of an API server: kubectl get "+inventoryKinds+" -A -o yaml > FILE")
}

// validate reads the files, once: one may be stdin.
func (i *inventory) validate() error {
	if len(i.files) == 0 || i.objects != nil {
		return nil
	}
	objects, err := load.Inventory(i.files, os.Stdin)
	if err != nil {
		return refused("--inventory", err)
	}
	if !slices.ContainsFunc(objects, func(o *meta.Object) bool { return o.Kind == meta.Pod }) {
		return fmt.Errorf("--inventory %s: no pod in it that runs: make it with kubectl get %s -A -o yaml", strings.Join(i.files, ","), inventoryKinds)
	}
	i.objects = objects
	return nil
}

// sources returns the source of names, none if there are no files.
func (i *inventory) sources(cluster string) []meta.Source {
	if i.objects == nil {
		return nil
	}
	s := &fixedSource{synced: make(chan struct{})}
	for _, o := range i.objects {
		named := *o
		named.Cluster = cluster
		s.objects = append(s.objects, &named)
	}
	return []meta.Source{s}
}

// fixedSource tells objects that do not change. It is watched once.
type fixedSource struct {
	objects []*meta.Object
	synced  chan struct{}
}

// Watch implements meta.Source.
func (s *fixedSource) Watch(ctx context.Context, emit func(meta.Update)) error {
	for _, o := range s.objects {
		emit(meta.Update{Object: o})
	}
	close(s.synced)
	<-ctx.Done()
	return nil
}

// Synced implements meta.Syncer.
func (s *fixedSource) Synced() <-chan struct{} { return s.synced }
