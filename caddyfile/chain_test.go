package caddyfile

import "testing"

func TestSpelled(t *testing.T) {
	names := map[string]string{"users": "users", "orders": "Orders"}
	for path, want := range map[string]string{
		"/api/users": "/api/users", "/api/users/": "/api/users/", "/api/users/X": "/api/users/X", "/api/Orders/1": "/api/Orders/1",
		"/api/Users/X": "/api/users/X", "/API/uSERS": "/api/users", "/api/orders/1": "/api/Orders/1", "/Api/ORDERS/": "/api/Orders/",
		"/api//users/a//b": "/api/users/a/b", "//api/users": "/api/users", "/api/%75sers/x": "/api/users/x", "/%61pi/users/%41": "/api/users/%41",
		"/api/users%2Fx": "", "/api/other/x": "", "/api/": "", "/api": "", "/": "", "/api/to%E2%84%AAen/x": "", "/api/users%/x": "",
	} {
		if got := spelled(path, "/api/", names); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
