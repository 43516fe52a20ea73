// Package observe turns the flags of `parallax observe`, which are those of `hubble observe` and some more, into a request of the
// Observer API, and prints what comes back.
package observe

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/parallax-flow/parallax/flow/hubble"
)

// Filters collects filter flags. Values of one flag are alternatives, different flags must all match. --not puts the
// next flag among those that must not all match.
type Filters struct {
	allow, deny selection
	negate      bool
}

// selection is one side of --not.
type selection struct {
	set    bool
	common flowpb.FlowFilter
	extra  hubble.ExtraFilter
	sides  map[string]*sideValues // by name of the family
}

// sideValues are the values of --NAME, --from-NAME and --to-NAME.
type sideValues struct{ either, from, to []string }

// filterValue is a flag.
type filterValue struct {
	filters *Filters
	flag    filterFlag
	name    string
	where   where
}

type where uint8

const (
	either where = iota
	from
	to
)

func (v *filterValue) String() string { return "" }
func (v *filterValue) Type() string   { return v.flag.kind }

// Set checks the value alone, so that the error names the flag, and keeps it.
func (v *filterValue) Set(s string) error {
	var alone selection
	if err := v.into(&alone, s); err != nil {
		return err
	}
	filters, err := alone.proto()
	if err == nil {
		_, err = hubble.FiltersFromProto(filters)
	}
	if err != nil {
		message := status.Convert(err).Message()
		if field, rest, found := strings.Cut(message, ": "); found && !strings.Contains(field, " ") {
			message = rest // the flag says which one it is
		}
		return errors.New(message)
	}
	target := &v.filters.allow
	if v.filters.negate {
		target, v.filters.negate = &v.filters.deny, false
	}
	return v.into(target, s)
}

func (v *filterValue) into(sel *selection, s string) error {
	sel.set = true
	if v.flag.side != nil {
		if v.flag.check != nil {
			if err := v.flag.check(s); err != nil {
				return err
			}
		}
		if sel.sides == nil {
			sel.sides = map[string]*sideValues{}
		}
		values := sel.sides[v.flag.name]
		if values == nil {
			values = &sideValues{}
			sel.sides[v.flag.name] = values
		}
		list := map[where]*[]string{either: &values.either, from: &values.from, to: &values.to}[v.where]
		*list = append(*list, s)
		return nil
	}
	return v.flag.common(sel, s)
}

// Register adds all filter flags to flags.
func (f *Filters) Register(flags *pflag.FlagSet) {
	not := flags.VarPF(&notValue{f}, "not", "", "reverse the next filter: --not --verdict forwarded")
	not.NoOptDefVal = "true"
	for _, flag := range filterFlags {
		if flag.side == nil {
			p := flags.VarPF(&filterValue{f, flag, flag.name, either}, flag.name, flag.short, flag.usage)
			if flag.kind == "bool" {
				p.NoOptDefVal = "true"
			}
			continue
		}
		flags.VarP(&filterValue{f, flag, flag.name, either}, flag.name, flag.short, "either side: "+flag.usage)
		flags.Var(&filterValue{f, flag, "from-" + flag.name, from}, "from-"+flag.name, "source: "+flag.usage)
		flags.Var(&filterValue{f, flag, "to-" + flag.name, to}, "to-"+flag.name, "destination: "+flag.usage)
	}
}

// notValue is --not.
type notValue struct{ f *Filters }

func (v *notValue) String() string   { return "" }
func (v *notValue) Type() string     { return "bool" }
func (v *notValue) IsBoolFlag() bool { return true }
func (v *notValue) Set(string) error {
	if v.f.negate {
		return errors.New("it stands twice: one --not reverses one filter")
	}
	v.f.negate = true
	return nil
}

// Build returns the whitelist, the blacklist and what goes beyond Hubble's filters.
func (f *Filters) Build() (allow, deny []*flowpb.FlowFilter, extra hubble.Extra, err error) {
	if f.negate {
		return nil, nil, extra, errors.New("--not must stand before the filter that it reverses")
	}
	if allow, err = f.allow.proto(); err != nil {
		return nil, nil, extra, err
	}
	if deny, err = f.deny.proto(); err != nil {
		return nil, nil, extra, err
	}
	return allow, deny, hubble.Extra{Allow: f.allow.extra, Deny: f.deny.extra}, nil
}

// proto returns filters that together select what s does: one for each combination of sides that the flags for either
// side leave open.
func (s *selection) proto() ([]*flowpb.FlowFilter, error) {
	if !s.set {
		return nil, nil
	}
	sides, err := s.merged()
	if err != nil {
		return nil, err
	}
	filters := []*flowpb.FlowFilter{&s.common}
	for _, flag := range filterFlags {
		v := sides[flag.name]
		if v == nil {
			continue
		}
		if len(v.either) > 0 && len(v.from)+len(v.to) > 0 {
			return nil, fmt.Errorf("--%s cannot be combined with --from-%s or --to-%s", flag.name, flag.name, flag.name)
		}
		var next []*flowpb.FlowFilter
		for _, f := range filters {
			if len(v.either) > 0 {
				src, dst := proto.CloneOf(f), proto.CloneOf(f)
				flag.side(src, v.either, true)
				flag.side(dst, v.either, false)
				next = append(next, src, dst)
				continue
			}
			f = proto.CloneOf(f)
			flag.side(f, v.from, true)
			flag.side(f, v.to, false)
			next = append(next, f)
		}
		filters = next
	}
	if len(filters) == 1 && proto.Equal(filters[0], &flowpb.FlowFilter{}) {
		return nil, nil // only what goes beyond Hubble's filters
	}
	return filters, nil
}

// merged joins namespaces with pods, because Hubble's filters have one field for both: "namespace/pod".
func (s *selection) merged() (map[string]*sideValues, error) {
	ns, pods := s.sides["namespace"], s.sides["pod"]
	if pods == nil && ns == nil {
		return s.sides, nil
	}
	if pods == nil {
		pods = &sideValues{}
	}
	if ns == nil {
		ns = &sideValues{}
	}
	var out sideValues
	for _, w := range []struct {
		ns, pods []string
		to       *[]string
	}{{ns.either, pods.either, &out.either}, {ns.from, pods.from, &out.from}, {ns.to, pods.to, &out.to}} {
		var err error
		if *w.to, err = podNames(w.ns, w.pods); err != nil {
			return nil, err
		}
	}
	if len(out.either) > 0 && len(out.from)+len(out.to) > 0 {
		return nil, errors.New("--namespace and --pod cannot be combined with the same flags for one side: use --from-namespace, --to-namespace, --from-pod, --to-pod")
	}
	sides := map[string]*sideValues{"pod": &out}
	for name, v := range s.sides {
		if name != "namespace" && name != "pod" {
			sides[name] = v
		}
	}
	return sides, nil
}

func podNames(namespaces, pods []string) ([]string, error) {
	if len(pods) == 0 {
		var out []string
		for _, ns := range namespaces {
			out = append(out, ns+"/")
		}
		return out, nil
	}
	var out []string
	for _, pod := range pods {
		ns, _, qualified := strings.Cut(pod, "/")
		switch {
		case qualified && len(namespaces) > 0 && !slices.Contains(namespaces, ns):
			return nil, fmt.Errorf("pod %q is not in namespace %s", pod, strings.Join(namespaces, " or "))
		case qualified:
			out = append(out, pod)
		case len(namespaces) == 0:
			out = append(out, "/"+pod) // in any namespace
		default:
			for _, ns := range namespaces {
				out = append(out, ns+"/"+pod)
			}
		}
	}
	return out, nil
}

// parseIdentity reads a number or the name of one of Cilium's reserved identities (pkg/identity/numericidentity.go).
func parseIdentity(s string) (uint32, error) {
	if i := slices.Index(reservedIdentities, s); i > 0 {
		return uint32(i), nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a number nor one of %s", s, strings.Join(reservedIdentities[1:], ", "))
	}
	return uint32(n), nil
}

func checkIdentity(s string) error {
	_, err := parseIdentity(s)
	return err
}

var reservedIdentities = []string{"", "host", "world", "unmanaged", "health", "init", "remote-node", "kube-apiserver", "ingress", "world-ipv4", "world-ipv6"}
