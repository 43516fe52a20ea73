package kubetest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Create posts an object, a Go value with JSON tags, to a collection ("/api/v1/namespaces").
func (s *Server) Create(collection string, object any) {
	s.t.Helper()
	if _, err := s.server.Create(s.t.Context(), collection, object); err != nil {
		s.t.Fatal(err)
	}
}

// Get returns the object at path, or the list that a collection is, in JSON.
func (s *Server) Get(path string) []byte {
	s.t.Helper()
	code, answer, err := s.server.Do(s.t.Context(), http.MethodGet, path, "", nil)
	if err != nil || code != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s %v", path, code, answer, err)
	}
	return answer
}

// Patch merges change into the object at path ("/api/v1/namespaces/a/pods/b/status").
func (s *Server) Patch(path string, change any) {
	s.t.Helper()
	if err := s.server.Patch(s.t.Context(), path, change); err != nil {
		s.t.Fatal(err)
	}
}

// Delete removes the object at path at once.
func (s *Server) Delete(path string) {
	s.t.Helper()
	if err := s.server.Delete(s.t.Context(), path); err != nil {
		s.t.Fatal(err)
	}
}

// AllowDocumented gives User the rights that docs/install.md asks for, and only these.
func (s *Server) AllowDocumented() {
	s.t.Helper()
	const (
		begin = "apiVersion: rbac.authorization.k8s.io/v1\n"
		group = "/apis/rbac.authorization.k8s.io/v1/"
	)
	_, role, found := strings.Cut(string(repositoryFile(s.t, "docs/install.md")), "```yaml\n"+begin)
	role, _, closed := strings.Cut(role, "```")
	if !found || !closed {
		s.t.Fatal("docs/install.md has no ClusterRole")
	}
	code, answer, err := s.server.Do(s.t.Context(), http.MethodPost, group+"clusterroles", "application/yaml", []byte(begin+role))
	if err != nil || code != http.StatusCreated {
		s.t.Fatalf("create the ClusterRole: %d %s %v", code, answer, err)
	}
	s.Create(group+"clusterrolebindings", map[string]any{
		"metadata": map[string]any{"name": "parallax"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "parallax"},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User}},
	})
}

// Store writes an object to etcd behind the API server's back ("networkpolicies/shop/a"), so that it may be one that the
// server would refuse: what a newer server took is that for us.
func (s *Server) Store(key string, object any) {
	s.t.Helper()
	value, err := json.Marshal(object)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"key": []byte("/registry/" + key), "value": value}) // bytes in base64, as etcd's gateway wants them
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.server.EtcdURL()+"/v3/kv/put", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Close = true // leaves no connection behind
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("etcd: %s %s %v", res.Status, answer, err)
	}
}
