// Package config layers configuration: what stands on the command line comes before the environment, that before a YAML
// file, that before a flag's default. A key of the file is a flag's name; its environment variable is PARALLAX_ and
// that name in capitals with underscores. A list in the file sets a flag several times.
package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// Prefix begins the name of every environment variable that is read.
const Prefix = "PARALLAX_"

// Variable is the environment variable of a flag.
func Variable(flag string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Layer sets those of flags that the command line did not set, from the environment (lookup is os.LookupEnv) and then
// from the YAML file; no file if it is empty. known are all keys that the file may have, which are more than flags
// where several commands share a file: an unknown one is an error that names the nearest known one. Flags without an
// effect of their own, such as help, are never in known.
func Layer(flags *pflag.FlagSet, known []string, file string, lookup func(string) (string, bool)) error {
	values, err := read(file, known)
	if err != nil {
		return err
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if err != nil || f.Changed || !slices.Contains(known, f.Name) {
			return
		}
		if v, found := lookup(Variable(f.Name)); found && !injected(Variable(f.Name), v, lookup) {
			if serr := flags.Set(f.Name, v); serr != nil {
				err = fmt.Errorf("environment variable %s: %w", Variable(f.Name), serr)
			}
			return
		}
		for _, v := range values[f.Name] {
			if serr := flags.Set(f.Name, v.text); serr != nil {
				err = fmt.Errorf("%s: line %d: %w", file, v.line, serr)
				return
			}
		}
	})
	return err
}

// injected reports whether Kubernetes set a variable for a service that is called parallax or parallax-something. It sets
// NAME_SERVICE_HOST, NAME_SERVICE_PORT, NAME_PORT=tcp://ADDRESS:PORT and more for every service that is older than the pod
// (kubernetes/pkg/kubelet/envvars/envvars.go, FromServices). A NAME_PORT of another form is a person's.
func injected(variable, value string, lookup func(string) (string, bool)) bool {
	for _, part := range [...]string{"_SERVICE_", "_PORT"} {
		name, rest, found := strings.Cut(variable, part)
		if !found {
			continue
		}
		if _, service := lookup(name + "_SERVICE_HOST"); service && (part+rest != "_PORT" || strings.Contains(value, "://")) {
			return true
		}
	}
	return false
}

type value struct {
	text string
	line int
}

func read(file string, known []string) (map[string][]value, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %s", file, strings.Join(strings.Fields(err.Error()), " "))
	}
	if len(doc.Content) == 0 { // only comments
		return nil, nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: line %d: expected \"key: value\" lines", file, top.Line)
	}
	out := map[string][]value{}
	for i := 0; i < len(top.Content); i += 2 {
		key := top.Content[i]
		if !slices.Contains(known, key.Value) {
			return nil, fmt.Errorf("%s: line %d: unknown key %q: did you mean %q?", file, key.Line, key.Value, Nearest(key.Value, known))
		}
		if out[key.Value] != nil {
			return nil, fmt.Errorf("%s: line %d: %q is there twice", file, key.Line, key.Value)
		}
		if out[key.Value], err = scalars(top.Content[i+1]); err != nil {
			return nil, fmt.Errorf("%s: line %d: %s: %w", file, key.Line, key.Value, err)
		}
	}
	return out, nil
}

func scalars(n *yaml.Node) ([]value, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return []value{{n.Value, n.Line}}, nil
	case n.Kind == yaml.SequenceNode:
		out := []value{}
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("a list may hold only plain values")
			}
			out = append(out, value{item.Value, item.Line})
		}
		return out, nil
	}
	return nil, errors.New("expected a value or a list of values")
}

// Nearest returns the one of known with the smallest edit distance to s, the first in their order where several are as
// near; empty if known is.
func Nearest(s string, known []string) string {
	best, nearest := -1, ""
	for _, k := range known {
		if d := distance(s, k); best < 0 || d < best {
			best, nearest = d, k
		}
	}
	return nearest
}

// distance is Levenshtein's: the fewest bytes to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
