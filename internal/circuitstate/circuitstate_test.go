package circuitstate

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestMark(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if Refused(r, "open"); WasRefused(r) {
		t.Error("a request without variables has a mark")
	}
	Reset(r)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{})
	if Refused(r, "open"); WasRefused(r) {
		t.Error("marked, though nobody watches")
	}
	Watch(r)
	if WasRefused(r) {
		t.Error("marked from the start")
	}
	if Refused(r, "open"); !WasRefused(r) {
		t.Error("not marked")
	}
	if Reset(r); WasRefused(r) {
		t.Error("marked after the reset")
	}
}
