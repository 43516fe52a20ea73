package load

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/parallax-flow/parallax/policy"
)

// FuzzReader holds that nothing is taken in silence: what is read without an error is what the strict decoder of the API
// reads, in the same number of policies, and can be compiled.
func FuzzReader(f *testing.F) {
	f.Add(np("  podSelector: {}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80, endPort: 90}]}]"))
	f.Add(np("  podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}\n  egress: [{to: [{namespaceSelector: {}}]}]"))
	f.Add("apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: a}\n")
	f.Add(np("  podSelector: {}") + "---\n" + np("  policyTypes: [Egress]") + "...\n# end\n")
	f.Add("a: &a [*a]\nb: *a")
	f.Add(`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"c","creationTimestamp":null,"managedFields":[{"fieldsV1":{}}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Reader("f", strings.NewReader(text), Options{})
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || strings.Contains(problems[0].Error(), "\n") {
				t.Fatalf("not a problem of one line: %v", err)
			}
			return
		}
		policy.Compile(policy.Input{Policies: r.Policies, Inventory: policy.Inventory{Endpoints: []policy.Endpoint{{Namespace: "shop", Name: "p", Node: "n"}}}, Node: "n"})
		policy.Check(r.Policies, nil)
		if len(r.Policies) != 1 {
			return
		}
		var object networkingv1.NetworkPolicy
		if docs := split([]byte(text)); len(docs) != 1 || yaml.UnmarshalStrict(docs[0], &object) != nil || object.Kind != policyKind {
			return // a list, or what the decoder is stricter about
		}
		if object.Namespace == "" {
			object.Namespace = "default"
		}
		p, err := Convert(&object)
		p.Origin = "f"
		if diff := cmp.Diff(r.Policies[0], p, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" {
			t.Fatalf("%v: %s", err, diff)
		}
	})
}
