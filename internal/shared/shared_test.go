package shared_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/shared"
)

type probe struct {
	Name, Rules, At string
}

var answers []string

func (*probe) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.shared_probe", New: func() caddy.Module { return new(probe) }}
}

func (p *probe) Provision(ctx caddy.Context) error {
	other, differs := shared.Differs(ctx, "zone", p.Name, p.Rules, p.At)
	answers = append(answers, fmt.Sprintf("%s:%v", other, differs))
	return nil
}

func (*probe) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { return nil }

func init() { caddy.RegisterModule(new(probe)) }

func TestDiffers(t *testing.T) {
	config := []byte(`{"apps": {"http": {"servers": {"s": {"listen": [":0"], "routes": [
		{"handle": [{"handler": "shared_probe", "name": "a", "rules": "1", "at": "F:1"}, {"handler": "shared_probe", "name": "a", "rules": "1", "at": "F:2"}]},
		{"handle": [{"handler": "subroute", "routes": [{"handle": [{"handler": "shared_probe", "name": "a", "rules": "2", "at": "F:3"}, {"handler": "shared_probe", "name": "b", "rules": "2", "at": "F:4"}]}]}]}
	]}}}}}`)
	// The second configuration begins anew.
	for range 2 {
		answers = nil
		if _, err := servertest.LoadJSON(t, config); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(answers, " "), ":false F:1:false F:1:true :false"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
