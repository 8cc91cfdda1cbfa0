package upstream

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/breaker/internal/direct"
)

// What the direct client does not do goes through Caddy's, and the reason can be
// told.
func TestIndirect(t *testing.T) {
	if !direct.Supported {
		t.Skip("no direct client on this system")
	}
	for name, tc := range map[string]struct {
		change func(t *Transport)
		want   string
	}{
		"default":     {func(*Transport) {}, ""},
		"on":          {func(t *Transport) { t.Direct = new(true) }, ""},
		"off":         {func(t *Transport) { t.Direct = new(false) }, "direct is off"},
		"TLS":         {func(t *Transport) { t.TLS = new(reverseproxy.TLSConfig) }, "TLS"},
		"h2c":         {func(t *Transport) { t.Versions = []string{"h2c", "2"} }, "versions"},
		"h2c and 1.1": {func(t *Transport) { t.Versions = []string{"1.1", "h2c"} }, "versions"},
		"HTTP/3":      {func(t *Transport) { t.Versions = []string{"3"} }, "versions"},
		"HTTP/1.1":    {func(t *Transport) { t.Versions = []string{"1.1"} }, ""},
		"proxy":       {func(t *Transport) { t.NetworkProxyRaw = json.RawMessage(`{"from":"none"}`) }, "network_proxy"},
		"old proxy":   {func(t *Transport) { t.ForwardProxyURL = "http://a" }, "network_proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTTP_PROXY", "")
			t.Setenv("http_proxy", "")
			tr := &Transport{HTTPTransport: reverseproxy.HTTPTransport{Versions: []string{"1.1", "2"}}}
			tc.change(tr)
			if got := tr.indirect(); !strings.HasPrefix(got, tc.want) || tc.want == "" && got != "" {
				t.Errorf("%q, want %q", got, tc.want)
			}
			t.Setenv("http_proxy", "http://a")
			if got := tr.indirect(); got == "" {
				t.Error("a proxy of the environment is passed by")
			}
		})
	}
}
