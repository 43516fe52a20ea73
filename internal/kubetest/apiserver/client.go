package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Client speaks with an API server. It is safe for concurrent use.
type Client struct {
	base, token string
	http        *http.Client
}

func newClient(base, token string, roots *x509.CertPool) *Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	return &Client{base: base, token: token, http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// Close gives connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Create posts an object, a Go value with JSON tags, to a collection ("/api/v1/namespaces") and returns its UID.
func (c *Client) Create(ctx context.Context, collection string, object any) (uid string, err error) {
	answer, err := c.change(ctx, http.MethodPost, collection, "application/json", object)
	if err != nil {
		return "", err
	}
	var made struct {
		Metadata struct{ UID string }
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return "", fmt.Errorf("POST %s: %w", collection, err)
	}
	return made.Metadata.UID, nil
}

// Patch merges change into the object at path ("/api/v1/namespaces/a/pods/b/status").
func (c *Client) Patch(ctx context.Context, path string, change any) error {
	_, err := c.change(ctx, http.MethodPatch, path, "application/merge-patch+json", change)
	return err
}

// Delete removes the object at path at once.
func (c *Client) Delete(ctx context.Context, path string) error {
	_, err := c.change(ctx, http.MethodDelete, path, "application/json", map[string]any{"gracePeriodSeconds": 0})
	return err
}

func (c *Client) change(ctx context.Context, method, path, kind string, object any) ([]byte, error) {
	body, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	code, answer, err := c.Do(ctx, method, path, kind, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if code >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %d %s", method, path, code, answer)
	}
	return answer, nil
}

// Do makes one request and returns status and body of the answer.
func (c *Client) Do(ctx context.Context, method, path, kind string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := c.http.Do(req)
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

// WaitReady waits until the API server is ready to serve, ctx ends, or ended is closed, which may be nil.
func (c *Client) WaitReady(ctx context.Context, ended <-chan struct{}) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		code, _, err := c.Do(ctx, http.MethodGet, "/readyz", "", nil)
		if err == nil && code == http.StatusOK {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("kube-apiserver ended")
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver is not ready: %w", cmp.Or(err, ctx.Err()))
		}
	}
}

// serverOf returns the URL in a kubeconfig that New wrote.
func serverOf(kubeconfig []byte) (string, error) {
	var c struct {
		Clusters []struct {
			Cluster struct{ Server string }
		}
	}
	if err := json.Unmarshal(kubeconfig, &c); err != nil {
		return "", fmt.Errorf("kubeconfig: %w", err)
	}
	if len(c.Clusters) == 0 {
		return "", errors.New("kubeconfig: no cluster in it")
	}
	return c.Clusters[0].Cluster.Server, nil
}
