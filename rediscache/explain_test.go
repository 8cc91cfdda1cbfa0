package rediscache

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
)

// A stale response that a real request gets in place of an error is the answer of a dry
// run, too.
func TestExplainStale(t *testing.T) {
	g := newGateway(t, "http_cache", says("Cache-Control", "max-age=1, stale-if-error=600", "Age", "2"))
	g.send("GET", "/") // stored stale
	for name, tc := range map[string]struct {
		err    error
		method string
		status int
	}{
		"503":               {caddyhttp.Error(http.StatusServiceUnavailable, errors.New("open")), "GET", 200},
		"a client's fault":  {caddyhttp.Error(http.StatusRequestEntityTooLarge, errors.New("large")), "GET", 0},
		"the service asked": {explain.ErrStopped, "GET", 0},
		"no stored method":  {caddyhttp.Error(http.StatusServiceUnavailable, errors.New("open")), "PUT", 0},
	} {
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(httptest.NewRequest(tc.method, "http://"+g.host+"/", nil), caddy.NewReplacer(), w, &caddyhttp.Server{})
		record := new(explain.Record)
		err := g.h.Explain(record.Of(g.h), w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Retry-After", "9")
			return tc.err
		}))
		if answered := tc.status != 0; record.Status != tc.status || (err == nil) != answered || (w.Header().Get("Retry-After") == "") != answered {
			t.Errorf("%s: %d %v %v %+v", name, record.Status, err, w.Header(), record.Steps)
		}
	}
}
