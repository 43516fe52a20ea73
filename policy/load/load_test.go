package load

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// np returns a policy shop/web with this spec.
func np(spec string) string {
	return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n" + spec + "\n"
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown field", np("  podSelecter: {}"), "f: NetworkPolicy shop/web: spec.podSelecter is not a field of NetworkPolicySpec"},
		{"unknown field deep inside", np("  ingress: [{}, {from: [{podSelector: {matchlabels: {}}}]}]"), "f: NetworkPolicy shop/web: spec.ingress[1].from[0].podSelector.matchlabels is not a field of LabelSelector"},
		{"field of the wrong case", np("  podselector: {}"), "f: NetworkPolicy shop/web: spec.podselector is not a field of NetworkPolicySpec"},
		{"not a list", np("  ingress: {}"), "f: NetworkPolicy shop/web: spec.ingress is not a list, but an object"},
		{"not an object", np("  ingress: [true]"), "f: NetworkPolicy shop/web: spec.ingress[0] is not an object, but true"},
		{"null in a list", np("  ingress: [null]"), "f: NetworkPolicy shop/web: spec.ingress[0] is not an object, but null"},
		{"number for a text", np("  podSelector: {matchLabels: {app: 1}}"), `f: NetworkPolicy shop/web: spec.podSelector.matchLabels["app"] is not a text (put it in quotes), but 1`},
		{"port", np("  ingress: [{ports: [{port: 1.5}]}]"), "f: NetworkPolicy shop/web: spec.ingress[0].ports[0].port is not a whole number of 32 bits, but 1.5"},
		{"port yes", np("  ingress: [{ports: [{port: yes}]}]"), "f: NetworkPolicy shop/web: spec.ingress[0].ports[0].port is not a whole number, but true"},
		{"port 0", np("  ingress: [{ports: [{port: 0}]}]"), "f: NetworkPolicy shop/web: spec.ingress[0].ports[0].port 0 is not a port from 1 to 65535"},
		{"port 65536", np("  ingress: [{ports: [{port: 65536}]}]"), "f: NetworkPolicy shop/web: spec.ingress[0].ports[0].port 65536 is not a port from 1 to 65535"},
		{"port as a text", np("  ingress: [{ports: [{port: '80'}]}]"), `f: NetworkPolicy shop/web: spec.ingress[0].ports[0].port the text "80" is refused: must contain at least one letter (a-z)`},
		{"endPort below", np("  ingress: [{ports: [{port: 1}, {port: 443, endPort: 80}]}]"), "f: NetworkPolicy shop/web: spec.ingress[0].ports[1].endPort 80 is below port 443"},
		{"endPort alone", np("  egress: [{ports: [{endPort: 80}]}]"), "f: NetworkPolicy shop/web: spec.egress[0].ports[0].endPort 80 has no port where the range begins"},
		{"endPort of a name", np("  egress: [{ports: [{port: http, endPort: 80}]}]"), "f: NetworkPolicy shop/web: spec.egress[0].ports[0].endPort 80 cannot follow the named port http"},
		{"protocol", np("  egress: [{ports: [{protocol: ICMP}]}]"), `f: NetworkPolicy shop/web: spec.egress[0].ports[0].protocol "ICMP" is not one of TCP, UDP, SCTP`},
		{"policyTypes", np("  policyTypes: [ingress]"), `f: NetworkPolicy shop/web: spec.policyTypes[0] "ingress" is not one of Ingress, Egress`},
		{"policyTypes too long", np("  policyTypes: [Ingress, Egress, Egress]"), `f: NetworkPolicy shop/web: spec.policyTypes has 3 entries: there are only Ingress and Egress`},
		{"empty peer", np("  ingress: [{from: [{}]}]"), "f: NetworkPolicy shop/web: spec.ingress[0].from[0] names nobody: it needs podSelector, namespaceSelector or ipBlock"},
		{"block and selector", np("  ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]"), "f: NetworkPolicy shop/web: spec.ingress[0].from[0].ipBlock cannot be together with podSelector or namespaceSelector"},
		{"no cidr", np("  ingress: [{from: [{ipBlock: {}}]}]"), "f: NetworkPolicy shop/web: spec.ingress[0].from[0].ipBlock.cidr is missing"},
		{"address for cidr", np("  egress: [{to: [{ipBlock: {cidr: 10.0.0.1}}]}]"), `f: NetworkPolicy shop/web: spec.egress[0].to[0].ipBlock.cidr "10.0.0.1" is not a range of addresses such as 192.168.1.0/24 or 2001:db8::/64`},
		{"mapped", np("  egress: [{to: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]"), `f: NetworkPolicy shop/web: spec.egress[0].to[0].ipBlock.cidr "::ffff:10.0.0.0/104" is an IPv4 range in IPv6 form: write it as IPv4`},
		{"except outside", np("  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 11.0.0.0/16]}}]}]"), "f: NetworkPolicy shop/web: spec.egress[0].to[0].ipBlock.except[1] 11.0.0.0/16 is not a part of cidr 10.0.0.0/8"},
		{"except is all", np("  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]"), "f: NetworkPolicy shop/web: spec.egress[0].to[0].ipBlock.except[0] 10.0.0.0/8 is not a part of cidr 10.0.0.0/8"},
		{"operator", np("  podSelector: {matchExpressions: [{key: a, operator: Is}]}"), `f: NetworkPolicy shop/web: spec.podSelector.matchExpressions[0].operator is refused: Invalid value: "Is": not a valid selector operator`},
		{"values missing", np("  podSelector: {matchExpressions: [{key: a, operator: In}]}"), "f: NetworkPolicy shop/web: spec.podSelector.matchExpressions[0].values is refused: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
		{"other version", "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: web}\n", "f: NetworkPolicy web: NetworkPolicy of extensions/v1beta1 is not supported: only NetworkPolicy of networking.k8s.io/v1 is"},
		{"other kind", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n", "f: Deployment shop/web: Deployment of apps/v1 is not supported: only NetworkPolicy of networking.k8s.io/v1 is"},
		{"no kind", "apiVersion: v1\n", "f: apiVersion or kind is missing"},
		{"no name", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n", "f: NetworkPolicy default/without a name: metadata.name is missing"},
		{"bad namespace", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: a.b}\n", "f: NetworkPolicy a.b/a: metadata.namespace the text \"a.b\" is refused: must not contain dots"},
		{"double key", np("  podSelector: {}\n  podSelector: {}"), `f: yaml: unmarshal errors: line 6: key "podSelector" already set in map`},
		{"not YAML", "a: [", "f: yaml: line 1: did not find expected node content"},
		{"a text", "hello", `f: is not an object with apiVersion and kind, but the text "hello"`},
		{"second document", np("  podSelector: {}") + "---\n" + np("  x: 1"), "f document 2: NetworkPolicy shop/web: spec.x is not a field of NetworkPolicySpec"},
		{"item of a list", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod}]", "f: Pod without a name: items[0] Pod of v1 is not supported: only NetworkPolicy of networking.k8s.io/v1 is"},
		{"items of a list", "apiVersion: v1\nkind: List\nitems: 1\nspec: {}", "f: spec is not a field of a list\nf: items is not a list, but 1"},
		{"twice", np("  podSelector: {}") + "---\n" + np("  podSelector: {}"), "f document 2: NetworkPolicy shop/web: is there already, in f document 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Reader("f", strings.NewReader(c.text), Options{})
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v", err)
			}
			if got := err.Error(); got != c.want && !strings.HasPrefix(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestModel(t *testing.T) {
	r, err := Reader("f", strings.NewReader(np(`  podSelector: {matchLabels: {b: "2", a: "1"}, matchExpressions: [{key: c, operator: In, values: [w, v]}]}
  policyTypes: [Egress]
  ingress: [{}]
  egress:
  - to:
    - ipBlock: {cidr: 10.1.2.3/8, except: [10.1.2.3/16]}
    - {podSelector: {}, namespaceSelector: {matchExpressions: [{key: d, operator: DoesNotExist}]}}
    ports: [{}, {port: http, protocol: UDP}, {port: 80}, {port: 80, endPort: 90, protocol: SCTP}]`)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Policy{
		Ref: policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "web"}, Origin: "f",
		Subject: policy.Selector{Terms: []policy.Term{
			{Key: "a", Op: policy.In, Values: []string{"1"}}, {Key: "b", Op: policy.In, Values: []string{"2"}}, {Key: "c", Op: policy.In, Values: []string{"v", "w"}},
		}},
		Sections: [2]policy.Section{policy.Ingress: {Rules: []policy.Rule{{}}}, policy.Egress: {Isolates: true, Rules: []policy.Rule{{
			Peers: []policy.Peer{
				{Block: &policy.Block{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}},
				{Pods: &policy.Selector{}, Namespaces: &policy.Selector{Terms: []policy.Term{{Key: "d", Op: policy.Absent}}}},
			},
			Ports: []policy.Port{{Proto: flow.ProtoTCP}, {Proto: flow.ProtoUDP, Name: "http"}, {Proto: flow.ProtoTCP, First: 80, Last: 80}, {Proto: flow.ProtoSCTP, First: 80, Last: 90}},
		}}}},
	}
	if diff := cmp.Diff([]policy.Policy{want}, r.Policies, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	named := func(name string) string {
		return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s}\n", name)
	}
	write("b.yaml", "# a comment alone\n---\n"+named("b1")+"--- # another\r\n"+named("b2")+"...\n"+named("b3")+"---\n\n---\nkind: Pod\napiVersion: v1\nmetadata: {name: x}\n")
	write("sub/a.yml", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nmetadata: {}\nitems:\n- metadata: {name: l1}\n- metadata: {name: l2, namespace: other}\n")
	write("c.json", `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"c"}}`)
	write("d.txt", "no policy")
	r, err := Paths([]string{dir, "-"}, strings.NewReader(named("stdin")), Options{SkipOthers: true, Namespace: "ns"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range r.Policies {
		got = append(got, strings.TrimPrefix(p.Origin, dir+"/")+": "+p.Ref.String())
	}
	want := []string{
		"b.yaml document 1: NetworkPolicy ns/b1", "b.yaml document 2: NetworkPolicy ns/b2", "b.yaml document 3: NetworkPolicy ns/b3", "c.json: NetworkPolicy ns/c",
		"sub/a.yml: NetworkPolicy ns/l1", "sub/a.yml: NetworkPolicy other/l2", "stdin: NetworkPolicy ns/stdin",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{filepath.Join(dir, "b.yaml") + " document 4: Pod x"}, r.Skipped); diff != "" {
		t.Error(diff)
	}
	if _, err := Paths([]string{filepath.Join(dir, "none.yaml")}, nil, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestHiddenDocument: a document that begins behind a line break of YAML 1.1 alone must not be dropped in silence.
func TestHiddenDocument(t *testing.T) {
	for _, lineBreak := range []string{"\n", "\r", "\r\n", "\u0085", "\u2028", "\u2029"} {
		text := strings.ReplaceAll(np("  podSelector: {}")+"---\n"+strings.Replace(np("  podSelector: {}"), "web", "other", 1), "\n", lineBreak)
		r, err := Reader("f", strings.NewReader(text), Options{})
		if err == nil && len(r.Policies) != 2 {
			t.Errorf("%q: %d policies and no error", lineBreak, len(r.Policies))
		}
	}
}

// TestAliasesDoNotGrow reads nested aliases that stand for ten billion values.
func TestAliasesDoNotGrow(t *testing.T) {
	text := "a0: &a0 [x]\n"
	for i := range 10 {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	if _, err := Reader("f", strings.NewReader(text), Options{}); err == nil || !strings.Contains(err.Error(), "aliasing") {
		t.Errorf("got %.200v", err)
	}
}

func TestConvert(t *testing.T) {
	object := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	p, err := Convert(object)
	if err != nil || p.String() != "NetworkPolicy shop/web" || !p.Sections[policy.Ingress].Isolates || p.Sections[policy.Egress].Isolates {
		t.Errorf("%+v, %v", p, err)
	}
	object.Spec.PolicyTypes = []networkingv1.PolicyType{"No"}
	if _, err := Convert(object); err == nil || err.Error() != `NetworkPolicy shop/web: spec.policyTypes[0] "No" is not one of Ingress, Egress` {
		t.Errorf("got %v", err)
	}
}
