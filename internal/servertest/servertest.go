// Package servertest runs a Caddyfile inside a test: adapted, provisioned and
// served by Caddy's own server, but on a listener of the test. The handlers
// that the Caddyfile names must be imported by the test.
package servertest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile" // the adapter
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard" // Caddy's own handlers
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"        // the storage that certificates default to
	_ "github.com/caddyserver/caddy/v2/modules/logging"            // log outputs
)

// options are put before every Caddyfile.
const options = "{\n\tadmin off\n\tauto_https off\n\tlog {\n\t\toutput discard\n\t}\n}\n"

// Handler returns the handler of the one server that the Caddyfile defines, without
// global options. A site `:80 { … }` is enough; nothing listens on its address. The
// configuration is provisioned but not started, and Caddy cannot unload it.
func Handler(t testing.TB, caddyfile string) http.Handler {
	t.Helper()
	handler, err := Load(t, caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

// Load is Handler for a Caddyfile that may be invalid.
func Load(t testing.TB, caddyfile string) (http.Handler, error) {
	t.Helper()
	config, err := Adapt(options + caddyfile)
	if err != nil {
		return nil, err
	}
	return LoadJSON(t, config)
}

// Adapt returns the configuration in JSON that a Caddyfile stands for.
func Adapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// LoadJSON is Load for a configuration in JSON.
func LoadJSON(t testing.TB, config []byte) (http.Handler, error) {
	t.Helper()
	app, err := App(config)
	if err != nil {
		return nil, err
	}
	for _, server := range app.Servers {
		return server, nil
	}
	t.Fatal("the configuration has no server")
	return nil, nil
}

// App returns the HTTP app of a configuration in JSON, as Load has it: with all servers.
func App(config []byte) (*caddyhttp.App, error) {
	parsed := new(caddy.Config)
	if err := json.Unmarshal(config, parsed); err != nil {
		return nil, err
	}
	ctx, err := caddy.ProvisionContext(parsed)
	if err != nil {
		return nil, err
	}
	app, err := ctx.App("http")
	if err != nil {
		return nil, err
	}
	return app.(*caddyhttp.App), nil
}

// New serves the Caddyfile over HTTP/1.1 until the test ends.
func New(t testing.TB, caddyfile string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(Handler(t, caddyfile))
	t.Cleanup(server.Close)
	return server
}

// NewTLS serves the Caddyfile over HTTP/2, and HTTP/1.1, until the test ends.
func NewTLS(t testing.TB, caddyfile string) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(Handler(t, caddyfile))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}
