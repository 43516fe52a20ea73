package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/collector/enrich/kube"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

// enforcement says what becomes of NetworkPolicies on a node.
type enforcement struct {
	mode  string // empty: observe
	own   []string
	files []string
	fixed []policy.Policy // those of the files, once validate has read them
}

func (e *enforcement) register(f *pflag.FlagSet) {
	f.StringVar(&e.mode, "policy-mode", enforce.Observe.String(), "what becomes of NetworkPolicies: observe (nothing), audit (say what they would deny) or enforce (deny it)")
	f.StringSliceVar(&e.own, "policy-own", nil, "patterns of the host's interfaces that Parallax decides for, as lxc*; default: all behind which a pod of this node sits")
	f.StringSliceVar(&e.files, "policies", nil, "files or folders with NetworkPolicies in YAML or JSON, beside those of --kubernetes")
}

// parsed is the mode as the enforcer has it; validate has found it to be one.
func (e *enforcement) parsed() enforce.Mode {
	if e.mode == "" {
		return enforce.Observe
	}
	mode, _ := enforce.ParseMode(e.mode)
	return mode
}

// validate reads the files, once: one may be stdin. cluster: there is an API server that tells policies and pods; pods:
// there is another source of pods.
func (e *enforcement) validate(cluster, pods bool) error {
	if e.mode != "" {
		if _, err := enforce.ParseMode(e.mode); err != nil {
			return fmt.Errorf("--policy-mode: %w", err)
		}
	}
	if e.parsed() == enforce.Observe {
		switch {
		case len(e.files) > 0:
			return usageError{errors.New("--policies: of no use with --policy-mode observe; choose audit or enforce, or ask parallax policy explain")}
		case len(e.own) > 0:
			return usageError{errors.New("--policy-own: of no use with --policy-mode observe; choose audit or enforce")}
		}
		return nil
	}
	if len(e.files) == 0 && len(e.fixed) == 0 && !cluster {
		return usageError{fmt.Errorf("--policy-mode %s: no policies; give --kubernetes KUBECONFIG, or --policies FILE and --inventory FILE", e.mode)}
	}
	if err := (enforce.Config{Mode: e.parsed(), Node: "any", Own: e.own}).Validate(); err != nil {
		return usageError{fmt.Errorf("--policy-own: %w", err)}
	}
	if err := e.read(); err != nil {
		return err
	}
	if !cluster && !pods {
		return usageError{fmt.Errorf("--policy-mode %s: policies bind pods, and nothing tells of pods; give --inventory FILE or --kubernetes KUBECONFIG", e.mode)}
	}
	return nil
}

func (e *enforcement) read() error {
	if len(e.files) == 0 || e.fixed != nil {
		return nil
	}
	r, err := load.Paths(e.files, os.Stdin, load.Options{SkipOthers: true})
	if err != nil {
		return refused("--policies", err)
	}
	if len(r.Policies) == 0 {
		return fmt.Errorf("--policies %s: no NetworkPolicy in it", strings.Join(e.files, ","))
	}
	e.fixed = r.Policies
	return nil
}

// sources are what the enforcer asks for policies: files, and the API server where there is one.
func (e *enforcement) sources(api kube.Config, cluster bool, log *slog.Logger) []enforce.PolicySource {
	if e.parsed() == enforce.Observe {
		return nil
	}
	var list []enforce.PolicySource
	if len(e.fixed) > 0 || !cluster {
		list = append(list, enforce.Static(e.fixed))
	}
	if cluster {
		api.Logger = log
		list = append(list, kube.Policies(api))
	}
	return list
}

// registerRefused counts the policies that cannot be understood, of those sources that can tell.
func registerRefused(reg prometheus.Registerer, sources []enforce.PolicySource) {
	sum := func(of func(kube.PolicyStats) float64) func() float64 {
		return func() (total float64) {
			for _, s := range sources {
				if s, ok := s.(*kube.PolicySource); ok {
					total += of(s.Stats())
				}
			}
			return total
		}
	}
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parallax_policy_refused",
			Help: "Policies of the API server that are not understood as they are now: what they said before stays in force, else they are left out.",
		}, sum(func(s kube.PolicyStats) float64 { return float64(s.Refused) })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "parallax_policy_refusals_total", Help: "Versions of policies of the API server that were not understood.",
		}, sum(func(s kube.PolicyStats) float64 { return float64(s.Refusals) })),
	)
}
