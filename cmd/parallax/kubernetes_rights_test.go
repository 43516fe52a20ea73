package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/parallax-flow/parallax/internal/kubetest/apiserver"
)

// chartAccounts gives the service accounts of the chart's manifests, with exactly the rights that these bind to them, to the
// API server that the kubeconfig is for. It returns a kubeconfig of each, by name.
func chartAccounts(ctx context.Context, t *testing.T, api *apiserver.Client, kubeconfig string) map[string]string {
	t.Helper()
	manifests, err := os.ReadFile("../../deploy/manifests/parallax.yaml")
	if err != nil {
		t.Fatal(err)
	}
	collections := map[string]string{
		"Namespace": "/api/v1/namespaces", "ServiceAccount": "/api/v1/namespaces/parallax/serviceaccounts",
		"ClusterRole":        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
		"ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	}
	accounts := map[string]string{}
	for docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096); ; {
		var object map[string]any
		if err := docs.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		kind, _ := object["kind"].(string)
		if collections[kind] == "" {
			continue
		}
		if _, err := api.Create(ctx, collections[kind], object); err != nil {
			t.Fatal(err)
		}
		if kind == "ServiceAccount" {
			name, _ := object["metadata"].(map[string]any)["name"].(string)
			accounts[name] = withToken(t, kubeconfig, requestToken(ctx, t, api, collections[kind]+"/"+name+"/token"))
		}
	}
	return accounts
}

func requestToken(ctx context.Context, t *testing.T, api *apiserver.Client, path string) string {
	t.Helper()
	code, answer, err := api.Do(ctx, http.MethodPost, path, "application/json",
		[]byte(`{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}`))
	var got struct{ Status struct{ Token string } }
	if err == nil {
		err = json.Unmarshal(answer, &got)
	}
	if err != nil || got.Status.Token == "" {
		t.Fatalf("POST %s: %d %s, %v", path, code, answer, err)
	}
	return got.Status.Token
}

// withToken writes the kubeconfig anew, for another user.
func withToken(t *testing.T, kubeconfig, token string) string {
	t.Helper()
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Users []struct{ User struct{ Token string } }
	}
	if err := yaml.Unmarshal(text, &config); err != nil || len(config.Users) != 1 || config.Users[0].User.Token == "" {
		t.Fatalf("%s: %v, %d users", kubeconfig, err, len(config.Users))
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), config.Users[0].User.Token, token)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
