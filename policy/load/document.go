package load

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	yaml2 "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"
)

const (
	policyKind    = "NetworkPolicy"
	policyVersion = "networking.k8s.io/v1"
)

// split cuts a stream at the lines that begin or end a document (YAML 1.1 section 4.4). A document that has nothing but
// comments is left out.
func split(data []byte) [][]byte {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var docs [][]byte
	var doc []byte
	flush := func() {
		if !blank(doc) {
			docs = append(docs, doc)
		}
		doc = nil
	}
	for line := range bytes.Lines(data) {
		rest, begins := marker(line, "---")
		if _, ends := marker(line, "..."); ends {
			flush()
			continue
		}
		if begins {
			flush()
			line = rest
		}
		doc = append(doc, line...)
	}
	flush()
	return docs
}

// marker reports whether line is that marker, and what follows it.
func marker(line []byte, m string) (rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(line, []byte(m))
	return rest, ok && (len(rest) == 0 || bytes.ContainsRune([]byte(" \t\n"), rune(rest[0])))
}

func blank(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// toJSON converts one YAML document. Double keys are an error, and so is a second document that split did not see: the
// converter would leave it out in silence.
func toJSON(doc []byte) ([]byte, error) {
	dec := yaml2.NewDecoder(bytes.NewReader(doc))
	var first, second any
	if err := dec.Decode(&first); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("yaml: more than one document without a line --- between them")
	}
	return yaml.YAMLToJSONStrict(doc)
}

// head is what every object has.
type head struct {
	version, kind         string
	namespace, objectName string
}

func headOf(m map[string]any) head {
	var h head
	h.version, _ = m["apiVersion"].(string)
	h.kind, _ = m["kind"].(string)
	if md, ok := m["metadata"].(map[string]any); ok {
		h.namespace, _ = md["namespace"].(string)
		h.objectName, _ = md["name"].(string)
	}
	return h
}

// name returns "Deployment shop/web".
func (h head) name() string {
	name := cmp.Or(h.objectName, "without a name")
	if h.namespace != "" {
		name = h.namespace + "/" + name
	}
	return h.kind + " " + name
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// describe names a value for a person.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return fmt.Sprintf("the text %q", shorten(v))
	}
	return shorten(fmt.Sprint(v))
}

func shorten(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "..."
	}
	return s
}
