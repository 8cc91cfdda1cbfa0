package admin

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddytls"
)

func init() {
	caddy.RegisterModule(probeHandler{})
	caddy.RegisterModule(probeApp{})
}

// probeHandler has secrets under names that say nothing.
type probeHandler struct {
	Plain  string                `json:"plain,omitempty"`
	Blend  []string              `json:"blend,omitempty" secret:"true"`
	Parts  map[string]*probePart `json:"parts,omitempty"`
	Routes []json.RawMessage     `json:"routes,omitempty" caddy:"namespace=http.handlers inline_key=handler"`
	probePart
}

type probePart struct {
	Grind json.RawMessage `json:"grind,omitempty" secret:"true"`
}

func (probeHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.mask_probe", New: func() caddy.Module { return new(probeHandler) }}
}

// probeApp has handlers and a provider of DNS.
type probeApp struct {
	Handlers map[string]json.RawMessage `json:"handlers,omitempty" caddy:"namespace=http.handlers inline_key=handler"`
	DNS      json.RawMessage            `json:"dns,omitempty" caddy:"namespace=dns.providers inline_key=name"`
	Auth     caddy.ModuleMap            `json:"auth,omitempty" caddy:"namespace=http.authentication.providers"`
	Issuers  []json.RawMessage          `json:"issuers,omitempty" caddy:"namespace=tls.issuance inline_key=module"`
}

func (probeApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mask_probe", New: func() caddy.Module { return new(probeApp) }}
}

// What the types of modules say is secret is masked whatever its name and place, and what
// they do not say is left.
func TestMaskKnown(t *testing.T) {
	const plain = `{"handler":"mask_probe","plain":"s","blend":["s","{env.A}",""],"parts":{"a":{"grind":{"x":["s"],"n":1}}},"grind":"s"`
	const want = `{"blend":["*****","{env.A}",""],"grind":"*****","handler":"mask_probe","parts":{"a":{"grind":{"n":1,"x":["*****"]}}},"plain":"s"`
	for text, want := range map[string]string{
		`{"handlers":{"a":` + plain + `,"routes":[` + plain + `}]}}}`: `{"handlers":{"a":` + want + `,"routes":[` + want + `}]}}}`,

		`{"dns":{"name":"some","account_sid":"s","zone":["s"],"ttl":3}}`:                         `{"dns":{"account_sid":"*****","name":"some","ttl":3,"zone":["*****"]}}`,
		`{"auth":{"http_basic":{"accounts":[{"username":"ann","password":"s"}]}}}`:               `{"auth":{"http_basic":{"accounts":[{"password":"*****","username":"ann"}]}}}`,
		`{"issuers":[{"module":"acme","external_account":{"key_id":"s","mac_key":"s"}}]}`:        `{"issuers":[{"external_account":{"key_id":"*****","mac_key":"*****"},"module":"acme"}]}`,
		`{"issuers":[{"module":"acme","challenges":{"dns":{"provider":{"name":"p"}}}}]}`:         `{"issuers":[{"challenges":{"dns":{"provider":{"name":"p"}}},"module":"acme"}]}`,
		`{"issuers":[{"module":"acme","challenges":{"dns":{"provider":{"login":"s"}}}}]}`:        `{"issuers":[{"challenges":{"dns":{"provider":{"login":"s"}}},"module":"acme"}]}`,
		`{"issuers":[{"module":"acme","challenges":{"dns":{"provider":{"name":"p","l":"s"}}}}]}`: `{"issuers":[{"challenges":{"dns":{"provider":{"l":"*****","name":"p"}}},"module":"acme"}]}`,
		`{"issuers":[{"module":"unknown","x":"s"},7,"s",null]}`:                                  `{"issuers":[{"module":"unknown","x":"s"},7,"s",null]}`,
	} {
		var v any
		if err := json.Unmarshal([]byte(`{"apps":{"mask_probe":`+text+`}}`), &v); err != nil {
			t.Fatal(text, err)
		}
		got, err := json.Marshal(maskKnown(v))
		if err != nil {
			t.Fatal(err)
		}
		if want = `{"apps":{"mask_probe":` + want + `}}`; string(got) != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
	for _, odd := range []any{nil, "s", []any{"s"}, map[string]any{"apps": []any{"s"}}, map[string]any{"apps": map[string]any{"mask_probe": "s"}}} {
		if got, _ := json.Marshal(maskKnown(odd)); strings.Contains(string(got), mask) {
			t.Errorf("%s", got)
		}
	}
}
