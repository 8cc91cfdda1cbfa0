package shared

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

type probe struct {
	Name, Rules, At string
}

var answers []string

func (*probe) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.shared_probe", New: func() caddy.Module { return new(probe) }}
}

func (p *probe) Provision(ctx caddy.Context) error {
	other, different := differs(ctx, "zone", p.Name, p.Rules, p.At)
	answers = append(answers, fmt.Sprintf("%s:%v", other, different))
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

// A configuration that is unloaded leaves nothing behind.
func TestUnload(t *testing.T) {
	count := func() (n int) {
		configurations.Range(func(any, any) bool { n++; return true })
		return n
	}
	before := count()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	if _, err := ctx.LoadModuleByID("http.handlers.shared_probe", []byte(`{"name": "a", "rules": "1", "at": "F:1"}`)); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != before+1 {
		t.Errorf("%d configurations, want %d", n, before+1)
	}
	cancel()
	testkit.Eventually(t, "the configuration is forgotten", func() bool { return count() == before })
}
