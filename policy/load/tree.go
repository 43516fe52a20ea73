package load

import (
	"bytes"
	"encoding/json"

	"github.com/parallax-flow/parallax/policy"
)

// Tree takes a NetworkPolicy as an API server sends it in JSON, decoded to maps and lists. Of its metadata only the name
// counts; its spec is read as strictly as that of a file, since a server that is newer than this program may have fields
// there of which nothing is known here. An error is Problems.
func Tree(origin string, object map[string]any) (policy.Policy, error) {
	h := headOf(object)
	known := map[string]any{"metadata": map[string]any{"namespace": h.namespace, "name": h.objectName}}
	if spec, ok := object["spec"]; ok {
		known["spec"] = spec
	}
	l := newLoader(Options{})
	refuse := func(err error) (policy.Policy, error) {
		return policy.Policy{}, Problems{{Where: origin, Object: h.name(), Text: oneLine(err)}}
	}
	raw, err := json.Marshal(known)
	if err != nil {
		return refuse(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // as the rest of this package has it
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return refuse(err)
	}
	l.policy(origin, "", h, tree)
	if len(l.problems) > 0 {
		return policy.Policy{}, l.problems
	}
	return l.result.Policies[0], nil
}
