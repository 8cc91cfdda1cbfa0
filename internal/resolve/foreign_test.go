package resolve

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A handler of somebody else may define names that nobody else knows. What has
// a meaning of its own is judged all the same.
func TestForeignHandlers(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	n := &names{}
	n.handler(&caddyhttp.Subroute{})
	if n.foreign {
		t.Error("a handler of Caddy is foreign")
	}
	n.handler(http.NotFoundHandler())
	if !n.foreign {
		t.Error("a handler of another module is not foreign")
	}
	for name, want := range map[string]string{
		"geoip.region":          "",
		"region":                "",
		"http.vars.region":      "",
		"http.request.hedaer.X": "is not a placeholder",
		"http.response.status":  "the response comes later",
	} {
		err := n.check(ctx, name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
