package caddyfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The status has each proxy wherever it stands, with what stands in front of it there.
func TestServicesAtAnyDepth(t *testing.T) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`{
	admin off
	auto_https off
}
&(named) {
	route {
		circuit_breaker of-named
		reverse_proxy named:1
		invoke again
	}
}
&(again) {
	route {
		reverse_proxy again:1
		invoke again
	}
}
a.test:80 {
	invoke named
	handle_errors {
		reverse_proxy errors:1
	}
}
b.test:80 {
	invoke again
	reverse_proxy b:1 {
		@gone status 404
		handle_response @gone {
			reverse_proxy response:1
		}
	}
}
`), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	parsed := new(caddy.Config)
	if err := json.Unmarshal(config, parsed); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(parsed)
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range servicesOf(app.(*caddyhttp.App)) {
		got = append(got, fmt.Sprint(s.Site, " ", s.Upstreams[0].Address, " ", len(s.Breakers)))
	}
	slices.Sort(got)
	want := []string{"a.test again:1 1", "a.test errors:1 0", "a.test named:1 1", "b.test again:1 0", "b.test b:1 0", "b.test response:1 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
