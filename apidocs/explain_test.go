package apidocs

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
)

// documentation returns the handler of api_docs in routes.
func documentation(routes caddyhttp.RouteList) *Handler {
	for _, route := range routes {
		for _, h := range route.Handlers {
			switch h := h.(type) {
			case *Handler:
				return h
			case *caddyhttp.Subroute:
				if found := documentation(h.Routes); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

// A dry run has no body, and so says nothing of one.
func TestExplain(t *testing.T) {
	server := contractSite(t, "explain-shop", "validate enforce").(*caddyhttp.Server)
	h := documentation(server.Routes)
	for _, tc := range []struct {
		method, path string
		result       explain.Result
		says         string
	}{
		{"POST", "/items", explain.Passes, "its body, which a dry run does not have, is checked too"},
		{"GET", "/items/1", explain.Passes, "/items/{id}"},
		{"GET", "/items/x", explain.Refuses, "id"},
		{"PUT", "/items", explain.Refuses, "method"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(tc.method, "http://gateway.test/api/explain-shop"+tc.path, http.NoBody)
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
		record := new(explain.Record)
		_ = h.Explain(record.Of(h), w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
		if len(record.Steps) != 1 || record.Steps[0].Result != tc.result || !strings.Contains(record.Steps[0].Reason, tc.says) {
			t.Errorf("%s %s: %+v", tc.method, tc.path, record.Steps)
		}
	}
}
