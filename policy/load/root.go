// Package load reads NetworkPolicy objects (networking.k8s.io/v1) from YAML or JSON into the model of policy, and pods,
// namespaces, nodes (v1) and services with their EndpointSlices (discovery.k8s.io/v1) for them to act on. It is strict: what
// is unknown, malformed or not supported is refused with the place where it is, since a rule that is half understood lets
// somebody in or keeps somebody out.
package load

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/policy"
)

// Options tune loading. The zero value refuses objects of other kinds.
type Options struct {
	SkipOthers bool   // objects of other kinds are listed in Result.Skipped, not refused
	Namespace  string // of objects that name none; empty: "default", as kubectl has it
}

// Result is what was read.
type Result struct {
	Policies []policy.Policy
	Skipped  []string // "web.yaml document 2: Deployment shop/web", in the order of the input
}

// Problem is one reason why an object is refused.
type Problem struct {
	Where  string // "web.yaml" or "web.yaml document 2"; empty for an object that is not from a file
	Object string // "NetworkPolicy shop/allow-web"; empty if it is not known
	Path   string // "spec.ingress[0].ports[1].endPort"; empty for the object as a whole
	Text   string // "80 is below port 443"
}

// Error returns all on one line: "web.yaml: NetworkPolicy shop/allow-web: spec.ingress[0].ports[1].endPort 80 is below port 443".
func (p Problem) Error() string {
	text := p.Text
	if p.Path != "" {
		text = p.Path + " " + text
	}
	for _, s := range []string{p.Object, p.Where} {
		if s != "" {
			text = s + ": " + text
		}
	}
	return text
}

// Problems is the error of this package for bad content: everything that is wrong, in the order of the input.
type Problems []Problem

// Error returns one problem on each line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// maxBytes bounds what is read from one file.
const maxBytes = 64 << 20

// Paths reads files, and of folders and their subfolders all files named *.yaml, *.yml or *.json, in the order of their
// names; "-" is stdin. Where something is refused the error is Problems and the result holds the rest; a file that
// cannot be read ends it with that error.
func Paths(paths []string, stdin io.Reader, opts Options) (Result, error) {
	l := newLoader(opts)
	if err := l.paths(paths, stdin); err != nil {
		return Result{}, err
	}
	return l.finish()
}

// Reader reads one stream of documents. name is what problems call it. Errors are those of Paths.
func Reader(name string, r io.Reader, opts Options) (Result, error) {
	l := newLoader(opts)
	if err := l.read(name, r); err != nil {
		return Result{}, err
	}
	return l.finish()
}

type loader struct {
	Options
	take     func(where string, tree any) // one document
	result   Result
	problems Problems
}

func newLoader(opts Options) *loader {
	l := &loader{Options: opts}
	l.take = func(where string, tree any) { l.object(where, "", "", tree) }
	return l
}

func (l *loader) paths(paths []string, stdin io.Reader) error {
	for _, path := range paths {
		read := func() error { return l.path(path) }
		if path == "-" {
			read = func() error { return l.read("stdin", stdin) }
		}
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) finish() (Result, error) {
	first := make(map[policy.Ref]string)
	l.result.Policies = slices.DeleteFunc(l.result.Policies, func(p policy.Policy) bool {
		at, known := first[p.Ref]
		if known {
			l.problems = append(l.problems, Problem{Where: p.Origin, Object: p.Ref.String(), Text: "is there already, in " + at})
		}
		first[p.Ref] = cmp.Or(at, p.Origin)
		return known
	})
	if len(l.problems) > 0 {
		return l.result, l.problems
	}
	return l.result, nil
}

func (l *loader) path(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return l.file(path)
	}
	return filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			return err
		}
		return l.file(name)
	})
}

func (l *loader) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.read(path, f)
}

func (l *loader) read(name string, r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxBytes {
		return fmt.Errorf("read %s: more than %d MiB", name, maxBytes>>20)
	}
	docs := split(data)
	for i, doc := range docs {
		where := name
		if len(docs) > 1 {
			where = fmt.Sprintf("%s document %d", name, i+1)
		}
		l.document(where, doc)
	}
	return nil
}

func (l *loader) refuse(p Problem) { l.problems = append(l.problems, p) }

func (l *loader) document(where string, doc []byte) {
	raw, err := toJSON(doc)
	if err != nil {
		l.refuse(Problem{Where: where, Text: oneLine(err)})
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil && !errors.Is(err, io.EOF) {
		l.refuse(Problem{Where: where, Text: oneLine(err)})
		return
	}
	if tree != nil { // an empty document is none
		l.take(where, tree)
	}
}

// object takes one object of a document; path is its place in a list, kind what the list says its items are.
func (l *loader) object(where, path, kind string, tree any) {
	m, ok := tree.(map[string]any)
	if !ok {
		l.refuse(Problem{Where: where, Path: path, Text: "is not an object with apiVersion and kind, but " + describe(tree)})
		return
	}
	h := headOf(m)
	if kind != "" && h.kind == "" && h.version == "" { // items of a typed list need not repeat it
		h.version, h.kind = policyVersion, kind
	}
	switch {
	case h.kind == "List" && h.version == "v1":
		l.list(where, path, "", m)
	case h.kind == policyKind+"List" && h.version == policyVersion:
		l.list(where, path, policyKind, m)
	case h.kind == policyKind && h.version == policyVersion:
		l.policy(where, path, h, m)
	case h.kind == "" || h.version == "":
		l.refuse(Problem{Where: where, Path: path, Text: "apiVersion or kind is missing"})
	case l.SkipOthers && h.kind != policyKind:
		l.result.Skipped = append(l.result.Skipped, where+": "+h.name())
	default:
		l.refuse(Problem{Where: where, Object: h.name(), Path: path,
			Text: fmt.Sprintf("%s of %s is not supported: only NetworkPolicy of %s is", h.kind, h.version, policyVersion)})
	}
}

func (l *loader) list(where, path, kind string, m map[string]any) {
	for _, key := range sortedKeys(m) {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata", "items"}, key) {
			l.refuse(Problem{Where: where, Path: join(path, key), Text: "is not a field of a list"})
		}
	}
	items, ok := m["items"].([]any)
	if !ok && m["items"] != nil {
		l.refuse(Problem{Where: where, Path: join(path, "items"), Text: "is not a list, but " + describe(m["items"])})
	}
	for i, item := range items {
		l.object(where, fmt.Sprintf("%s[%d]", join(path, "items"), i), kind, item)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
