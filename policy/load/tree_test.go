package load

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/policy"
)

// TestTree takes objects as a server sends them, with numbers as the client's decoder leaves them.
func TestTree(t *testing.T) {
	object := func(port map[string]any) map[string]any {
		return map[string]any{
			"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
			"metadata": map[string]any{"namespace": "shop", "name": "a", "notYetInvented": 1, "resourceVersion": "7"},
			"spec":     map[string]any{"podSelector": map[string]any{}, "ingress": []any{map[string]any{"ports": []any{port}}}},
		}
	}
	p, err := Tree("kubernetes", object(map[string]any{"port": int64(8000), "endPort": int64(8080)}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "a"}, p.Ref); diff != "" || p.Origin != "kubernetes" {
		t.Errorf("origin %q %s", p.Origin, diff)
	}
	if got := p.Sections[policy.Ingress].Rules[0].Ports[0]; got.First != 8000 || got.Last != 8080 {
		t.Errorf("port %+v", got)
	}
	for name, tt := range map[string]struct {
		port map[string]any
		want string
	}{
		"a field of tomorrow": {map[string]any{"port": int64(80), "onlyOnMondays": true}, "spec.ingress[0].ports[0].onlyOnMondays is not a field of NetworkPolicyPort"},
		"a word of tomorrow":  {map[string]any{"port": int64(80), "protocol": "QUIC"}, `spec.ingress[0].ports[0].protocol "QUIC" is not one of TCP, UDP, SCTP`},
		"a fraction":          {map[string]any{"port": int64(80), "endPort": 80.5}, "spec.ingress[0].ports[0].endPort is not a whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Tree("kubernetes", object(tt.port))
			if err == nil || !strings.HasPrefix(err.Error(), "kubernetes: NetworkPolicy shop/a: "+tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Tree("kubernetes", map[string]any{"kind": "NetworkPolicy"}); err == nil {
		t.Error("nothing was taken for a policy")
	}
}
