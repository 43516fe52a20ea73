package flow

import (
	"strings"
	"testing"
)

func TestRoute(t *testing.T) {
	for resource, want := range map[string]string{
		"":                   "",
		"/":                  "/",
		"/cart":              "/cart",
		"/cart/17":           "/cart/{id}",
		"/cart/17/items/9?x": "/cart/{id}/items/{id}",
		"/user/3f2a9c01-77aa-4b6e-9c1d-0123456789ab/": "/user/{id}/",
		"/v1/cafe":                      "/v1/cafe",
		"/blob/deadbeefdeadbeef00":      "/blob/{id}",
		"/face/facade":                  "/face/facade",
		"*":                             "*",
		"/a/b/c/d/e/f/g/h/i/j":          "/a/b/c/d/e/f/g/h/...",
		"/" + strings.Repeat("x", 1000): "/" + strings.Repeat("x", 119),
	} {
		if got := Route(&L7{Protocol: L7HTTP, Resource: resource}); got != want {
			t.Errorf("Route(%q) = %q, want %q", resource, got, want)
		}
	}
	if got := Route(&L7{Protocol: L7DNS, Resource: "17.in-addr.arpa"}); got != "17.in-addr.arpa" {
		t.Errorf("DNS name became %q", got)
	}
	static := &L7{Protocol: L7HTTP, Resource: "/cart/items?id=7"}
	if n := testing.AllocsPerRun(100, func() { Route(static) }); n != 0 {
		t.Errorf("%v allocations for a path without variables, want 0", n)
	}
}
