package resolve_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/servertest"
)

// probe is a handler with an option that is resolved for each request.
type probe struct {
	Key string `json:"key,omitempty"`
}

var probed struct {
	text string
	err  error
}

func (*probe) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.resolve_probe", New: func() caddy.Module { return new(probe) }}
}

func (p *probe) Provision(ctx caddy.Context) error {
	probed.text, probed.err = resolve.Request(ctx, "key", p.Key, "own")
	return probed.err
}

func (*probe) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { return nil }

func init() { caddy.RegisterModule(new(probe)) }

// request resolves a text in a handler that stands in the given routes, where
// PROBE is, and the error there is.
func request(t *testing.T, routes, text string) (string, error) {
	t.Helper()
	handler := fmt.Sprintf(`{"handler": "resolve_probe", "key": %q}`, text)
	_, err := servertest.LoadJSON(t, []byte(`{"apps": {"http": {"servers": {"s": {"listen": [":0"], "routes": `+strings.ReplaceAll(routes, "PROBE", handler)+`}}}}}`))
	return probed.text, err
}

func TestRequest(t *testing.T) {
	t.Setenv("KEY", "{http.request.header.X-Key}")
	t.Setenv("TYPO", "{http.request.hedaer.X-Key}")
	for text, want := range map[string]string{
		"{http.vars.client_ip}|{http.request.header.X-Tenant}": "",
		"fixed":                                "",
		"{http.auth.user.id}":                  "",
		"{http.auth.http_basic.error}":         "",
		"{http.auth.usr.id}":                   "is not a placeholder that has a value in a request",
		"{http.auth.user}":                     "is not a placeholder that has a value in a request",
		"{own}":                                "",
		`\{clientip\}`:                         "",
		"{env.KEY}":                            "",
		"{http.request.cookie.session}":        "",
		"{http.request.remote.host/24}":        "",
		"{http.request.host.labels.1}":         "",
		"{http.request.uri.path.0}":            "",
		"{http.request.tls.client.subject}":    "",
		"{http.request.tls.client.san.emails}": "",
		"{http.request.tls.server_name}":       "",
		"{http.request.local.port}":            "",
		"{http.request.orig_uri.path}":         "",
		"{http.request.uuid}":                  "",
		"{http.regexp.name.1}":                 "",
		"{http.shutting_down}":                 "",
		"{time.now.unix}":                      "",
		"{system.hostname}":                    "",

		"{clientip}":                       "did you mean {client_ip}?",
		"{client-ip}":                      "did you mean {client_ip}?",
		"{tenant}":                         "is not a placeholder",
		"{http.response.status}":           "the response comes later",
		"{http.response.header.X}":         "the response comes later",
		"{http.reverse_proxy.status_code}": "the response comes later",
		"{http.intercept.header.X}":        "the response comes later",
		"{http.error.status_code}":         "only in error routes",
		"{htp.request.host}":               "did you mean {http.request.host}?",
		"{http.request.hedaer.X-Tenant}":   "is not a placeholder",
		"{http.request.hostname}":          "is not a placeholder",
		"{http.request.tls.client.sub}":    "is not a placeholder",
		"{http.vars.tenant}":               "no vars handler sets tenant",
		"{http.vars.clientip}":             "did you mean {http.vars.client_ip}?",
		"{host}":                           "write {http.request.host}",
		"{http.request.header.}":           "a name is missing after its last dot",
		"{http.request.cookie.}":           "a name is missing after its last dot",
		"{http.auth.user.}":                "a name is missing after its last dot",
		"{header.X-Tenant}":                "write {http.request.header.X-Tenant}",
		"{env.RESOLVE_TEST_UNSET}":         "set the environment variable",
		"{env.TYPO}":                       "{http.request.hedaer.X-Key}",
		"a{http.vars.client_ip}b{nothing}": "{nothing}",
	} {
		_, err := resolved(t, text)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), "key: {") || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
	if got, err := resolved(t, "x-{env.KEY}"); err != nil || got != "x-{http.request.header.X-Key}" {
		t.Errorf("a variable: %q, %v", got, err)
	}
}

func resolved(t *testing.T, text string) (string, error) {
	t.Helper()
	return request(t, `[{"handle": [PROBE]}]`, text)
}

// A handler that stands alone, as in a test, knows nothing of its surroundings.
func TestRequestAlone(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	for text, want := range map[string]bool{
		"{tenant}": true, "{http.vars.tenant}": true, "{clientip}": false, "{ClientIP}": false, "{http.response.status}": false, "{http.request.hedaer.X}": false,
	} {
		if _, err := resolve.Request(ctx, "key", text); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Names that handlers define are found wherever they stand, before and behind.
func TestRequestFindsDefinitions(t *testing.T) {
	for _, routes := range []string{
		`[{"handle": [{"handler": "map", "source": "{http.request.host}", "destinations": ["{tenant}", "{my.plan}"]}, {"handler": "vars", "level": 1}, PROBE]}]`,
		`[{"handle": [PROBE]}, {"handle": [{"handler": "map", "destinations": ["{tenant}", "{my.plan}"]}, {"handler": "vars", "level": 1}]}]`,
		`[{"handle": [{"handler": "map", "destinations": ["{tenant}", "{my.plan}"]}, {"handler": "vars", "level": 1}]}, {"handle": [{"handler": "subroute", "routes": [{"handle": [PROBE]}]}]}]`,
		`[{"handle": [{"handler": "subroute", "routes": [{"handle": [{"handler": "map", "destinations": ["{tenant}", "{my.plan}"]}]}, {"handle": [{"handler": "vars", "level": 1}]}]}]}, {"handle": [PROBE]}]`,
		`[{"handle": [{"handler": "intercept", "handle_response": [{"routes": [{"handle": [{"handler": "map", "destinations": ["{tenant}", "{my.plan}"]}, {"handler": "vars", "level": 1}]}]}]}]}, {"handle": [PROBE]}]`,
	} {
		for _, text := range []string{"{tenant}", "{my.plan}", "{http.vars.level}"} {
			if _, err := request(t, routes, text); err != nil {
				t.Errorf("%s in %s: %v", text, routes, err)
			}
		}
	}
	if _, err := request(t, `[{"handle": [{"handler": "intercept", "handle_response": [{"routes": [{"handle": [PROBE]}]}]}]}]`, "{http.intercept.status_code}"); err != nil {
		t.Errorf("in handle_response: %v", err)
	}
	for text, want := range map[string]string{
		"{tenat}":        "did you mean {tenant}?",
		"{geoip.region}": "is not a placeholder",
	} {
		routes := `[{"handle": [{"handler": "map", "destinations": ["{tenant}"]}, PROBE]}]`
		if _, err := request(t, routes, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
