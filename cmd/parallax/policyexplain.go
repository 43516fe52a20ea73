package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
	"github.com/parallax-flow/parallax/internal/config"
	"github.com/parallax-flow/parallax/policy"
	"github.com/parallax-flow/parallax/policy/load"
)

// explainOptions are the flags of policy explain.
type explainOptions struct {
	from, to, port      string
	policies, inventory []string
	output              string
	load                load.Options
}

func newPolicyExplain() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain --from WHO --to WHO --port PORT --policies FILE... --inventory FILE",
		Short: "Say whether a connection is allowed, by which rule, or why not",
		Long: `Say what NetworkPolicies decide about a new connection, and why: the verdict, the policies and rules behind it, and for
each rule that does not match the first condition that fails. It asks files, not a cluster.

WHO is NAMESPACE/POD, NAMESPACE/WORKLOAD (its first pod) or an address, that of a service too. PORT is the destination's: 443,
443/TCP, 53/UDP, or the name of a port of the destination pod. Traffic must be allowed at both sides.`,
		Example: `  kubectl get networkpolicies -A -o yaml > policies.yaml
  kubectl get pods,namespaces,nodes,services,endpointslices -A -o yaml > cluster.yaml
  parallax policy explain --from shop/web --to data/postgres-0 --port 5432 --policies policies.yaml --inventory cluster.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && len(o.policies) == 0 {
				return usageError{fmt.Errorf("%q: name it with --policies", args[0])}
			}
			return nil // --policies *.yaml leaves all but the first here
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.policies = append(o.policies, args...)
			if err := o.check(); err != nil {
				return usageError{err}
			}
			return o.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", "", "who connects: NAMESPACE/POD, NAMESPACE/WORKLOAD or an address")
	flags.StringVar(&o.to, "to", "", "to whom: NAMESPACE/POD, NAMESPACE/WORKLOAD or an address")
	flags.StringVar(&o.port, "port", "", "port of the destination: 443, 443/TCP, 53/UDP or http")
	flags.StringArrayVar(&o.policies, "policies", nil, "file or folder of NetworkPolicy objects, - for stdin; repeat it for more")
	flags.StringArrayVar(&o.inventory, "inventory", nil, inventoryHelp)
	flags.BoolVar(&o.load.SkipOthers, "skip-others", false, "leave out objects of other kinds in --policies; without it they are refused")
	flags.StringVarP(&o.load.Namespace, "namespace", "n", "default", "namespace of policies that name none")
	flags.StringVarP(&o.output, "output", "o", "text", "text or json")
	return cmd
}

func (o *explainOptions) check() error {
	for _, f := range []struct {
		set  bool
		name string
		hint string
	}{
		{o.from != "", "--from", "who connects, as NAMESPACE/POD or an address"},
		{o.to != "", "--to", "to whom, as NAMESPACE/POD or an address"},
		{o.port != "", "--port", "the destination's port, as 443/TCP or http"},
		{len(o.policies) > 0, "--policies", "a file or folder of NetworkPolicy objects"},
		{len(o.inventory) > 0, "--inventory", "a file made by kubectl get pods,namespaces,nodes,services,endpointslices -A -o yaml"},
	} {
		if !f.set {
			return fmt.Errorf("%s is missing: %s", f.name, f.hint)
		}
	}
	if _, _, _, err := parsePort(o.port); err != nil {
		return err
	}
	for _, who := range [][2]string{{"--from", o.from}, {"--to", o.to}} {
		namespace, name, found := strings.Cut(who[1], "/")
		if _, err := netip.ParseAddr(who[1]); err != nil && (!found || namespace == "" || name == "" || strings.Contains(name, "/")) {
			return fmt.Errorf("%s %q: give NAMESPACE/POD, NAMESPACE/WORKLOAD or an address", who[0], who[1])
		}
	}
	if err := checkOutput(o.output); err != nil {
		return err
	}
	return onceStdin(slices.Concat(o.policies, o.inventory))
}

func (o *explainOptions) run(cmd *cobra.Command) error {
	result, err := load.Paths(o.policies, cmd.InOrStdin(), o.load)
	if err != nil {
		return refused("--policies", err)
	}
	objects, err := readInventory(cmd, o.inventory)
	if err != nil {
		return err
	}
	a := asker{engine: policy.New(result.Policies, policy.FromMeta(objects), policy.Options{}), objects: objects, stderr: cmd.ErrOrStderr()}
	q, err := a.query(o)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	answer := newAnswer(a.engine.Explain(q), result.Policies)
	if o.output == "json" {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return e.Encode(answer.json())
	}
	return answer.write(out, isTerminal(out) && os.Getenv("NO_COLOR") == "")
}

// asker turns what a person writes into a query.
type asker struct {
	engine  *policy.Engine
	objects []*meta.Object
	stderr  io.Writer
}

func (a *asker) query(o *explainOptions) (q policy.Query, err error) {
	if q.Src, err = a.party("--from", o.from); err != nil {
		return q, err
	}
	if q.Dst, err = a.party("--to", o.to); err != nil {
		return q, err
	}
	name, number, proto, err := parsePort(o.port)
	if err != nil {
		return q, err
	}
	q.Port, q.Proto = number, proto
	if name != "" {
		q.Port, q.Proto, err = a.namedPort(name, proto, q.Dst)
	}
	return q, err
}

func (a *asker) party(flag, who string) (policy.Party, error) {
	if addr, err := netip.ParseAddr(who); err == nil {
		return policy.Party{Addr: addr}, nil
	}
	namespace, name, _ := strings.Cut(who, "/")
	if e := a.engine.Find(namespace, name); e != nil {
		return policy.Party{Endpoint: e}, nil
	}
	var pods, replicas []string
	for _, o := range a.objects {
		if o.Kind != meta.Pod {
			continue
		}
		pods = append(pods, o.Namespace+"/"+o.Name)
		if o.Namespace == namespace && o.Workload == name {
			replicas = append(replicas, o.Name)
		}
	}
	if len(replicas) == 0 {
		slices.Sort(pods)
		return policy.Party{}, fmt.Errorf("%s %s: the inventory has no such pod or workload: did you mean %s?", flag, who, config.Nearest(who, pods))
	}
	first := slices.Min(replicas)
	if len(replicas) > 1 {
		fmt.Fprintf(a.stderr, "parallax: %s has %d pods: asking for %s\n", who, len(replicas), first)
	}
	return policy.Party{Endpoint: a.engine.Find(namespace, first)}, nil
}

// namedPort returns the number of a port of the destination; proto 0 is any.
func (a *asker) namedPort(name string, proto flow.Proto, to policy.Party) (uint16, flow.Proto, error) {
	pod := to.Endpoint
	if pod == nil {
		for _, o := range a.objects {
			if o.Kind == meta.Pod && !o.HostNetwork && slices.Contains(o.Addrs, to.Addr.Unmap()) {
				pod = a.engine.Find(o.Namespace, o.Name)
			}
		}
	}
	if pod == nil {
		return 0, 0, fmt.Errorf("--port %s: only a pod has named ports, and --to %s is none: give a number", name, to.Addr)
	}
	var have, found []string
	var port meta.Port
	for _, p := range pod.Ports {
		text := fmt.Sprintf("%s (%d/%s)", p.Name, p.Number, p.Proto)
		have = append(have, text)
		if p.Name == name && (proto == 0 || p.Proto == proto) && !slices.Contains(found, text) {
			found, port = append(found, text), p
		}
	}
	switch len(found) {
	case 1:
		return port.Number, port.Proto, nil
	case 0:
		return 0, 0, fmt.Errorf("--port %s: %s has no port of that name; it has %s", name, pod, cmp.Or(strings.Join(have, ", "), "none with a name"))
	}
	return 0, 0, fmt.Errorf("--port %s: %s has several: %s; give a number", name, pod, strings.Join(found, ", "))
}

// parsePort reads 443, 443/TCP, http or http/TCP. The protocol of a number is TCP where none is given, that of a name 0.
func parsePort(s string) (name string, number uint16, proto flow.Proto, err error) {
	port, protocol, given := strings.Cut(s, "/")
	if given {
		proto = map[string]flow.Proto{"TCP": flow.ProtoTCP, "UDP": flow.ProtoUDP, "SCTP": flow.ProtoSCTP}[strings.ToUpper(protocol)]
		if proto == 0 {
			return "", 0, 0, fmt.Errorf("--port %q: the protocol is TCP, UDP or SCTP, as in 443/TCP", s)
		}
	}
	if strings.ContainsAny(strings.ToLower(port), "abcdefghijklmnopqrstuvwxyz") {
		return port, 0, proto, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, 0, errors.New("--port " + strconv.Quote(s) + ": give a number from 1 to 65535, as in 443/TCP, or the name of a port")
	}
	return "", uint16(n), cmp.Or(proto, flow.ProtoTCP), nil
}
