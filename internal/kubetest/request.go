package kubetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Create posts an object, a Go value with JSON tags, to a collection ("/api/v1/namespaces").
func (s *Server) Create(collection string, object any) {
	s.t.Helper()
	s.must(http.MethodPost, collection, "application/json", object)
}

// AllowDocumented gives User the rights that docs/install.md asks for, and only these.
func (s *Server) AllowDocumented() {
	s.t.Helper()
	const begin = "apiVersion: rbac.authorization.k8s.io/v1\n"
	_, role, found := strings.Cut(string(repositoryFile(s.t, "docs/install.md")), "```yaml\n"+begin)
	role, _, closed := strings.Cut(role, "```")
	if !found || !closed {
		s.t.Fatal("docs/install.md has no ClusterRole")
	}
	const group = "/apis/rbac.authorization.k8s.io/v1/"
	s.must(http.MethodPost, group+"clusterroles", "application/yaml", json.RawMessage(begin+role))
	s.Create(group+"clusterrolebindings", map[string]any{
		"metadata": map[string]any{"name": "parallax"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "parallax"},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User}},
	})
}

// Patch merges change into the object at path ("/api/v1/namespaces/a/pods/b/status").
func (s *Server) Patch(path string, change any) {
	s.t.Helper()
	s.must(http.MethodPatch, path, "application/merge-patch+json", change)
}

// Delete removes the object at path at once.
func (s *Server) Delete(path string) {
	s.t.Helper()
	s.must(http.MethodDelete, path, "application/json", map[string]any{"gracePeriodSeconds": 0})
}

func (s *Server) must(method, path, kind string, body any) {
	s.t.Helper()
	text, raw := body.(json.RawMessage)
	if !raw {
		var err error
		if text, err = json.Marshal(body); err != nil {
			s.t.Fatal(err)
		}
	}
	code, answer, err := s.request(s.t.Context(), method, path, kind, text)
	if err != nil || code >= http.StatusBadRequest {
		s.t.Fatalf("%s %s: %d %s %v", method, path, code, answer, err)
	}
}

// request speaks for one who may do everything.
func (s *Server) request(ctx context.Context, method, path, kind string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+s.addr+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	return res.StatusCode, answer, nil
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
	res, err := s.http.Post(s.etcd+"/v3/kv/put", "application/json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("etcd: %s %s %v", res.Status, answer, err)
	}
}
