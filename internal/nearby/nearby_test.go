package nearby_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/nearby"
)

func TestHas(t *testing.T) {
	for _, tc := range []struct {
		networks        []string
		peer, forwarded string
		trusted, client string
		want            bool
	}{
		{[]string{"private_ranges"}, "127.0.0.1:1", "", "", "", true},
		{[]string{"private_ranges"}, "[::1]:1", "", "", "", true},
		{[]string{"private_ranges"}, "[::ffff:10.1.2.3]:1", "", "", "", true},
		{[]string{"private_ranges"}, "192.0.2.1:1", "", "", "", false},
		{[]string{"private_ranges"}, "[2001:db8::1]:1", "", "", "", false},
		// A proxy that nobody trusts.
		{[]string{"private_ranges"}, "10.0.0.1:1", "192.0.2.1", "", "", false},
		{[]string{"private_ranges"}, "10.0.0.1:1", "10.0.0.2", "", "", false},
		// One that is trusted.
		{[]string{"private_ranges"}, "10.0.0.1:1", "192.0.2.1", "yes", "192.0.2.1", false},
		{[]string{"private_ranges"}, "10.0.0.1:1", "10.0.0.2", "yes", "10.0.0.2", true},
		{[]string{"private_ranges"}, "10.0.0.1:1", "", "yes", "10.0.0.1", true},
		// One that appends to what the client wrote, which Caddy takes for the client.
		{[]string{"private_ranges"}, "10.0.0.1:1", "10.0.0.2, 192.0.2.1", "yes", "10.0.0.2", false},
		{[]string{"private_ranges"}, "10.0.0.1:1", "10.0.0.2,192.0.2.1:4711", "yes", "10.0.0.2", false},
		{[]string{"private_ranges"}, "10.0.0.1:1", "unknown, 10.0.0.1", "yes", "10.0.0.1", false},
		{[]string{"private_ranges"}, "10.0.0.1:1", "10.0.0.2:80, [fd00::1]:80, fd00::2,", "yes", "10.0.0.2", true},
		{[]string{"192.0.2.0/24"}, "192.0.2.1:1", "", "", "", true},
		{[]string{"192.0.2.7"}, "192.0.2.1:1", "", "", "", false},
		{[]string{"any"}, "192.0.2.1:1", "192.0.2.9", "", "", true},
		{nil, "127.0.0.1:1", "", "", "", false},
		{[]string{"private_ranges"}, "@", "", "", "", false},
	} {
		n, err := nearby.Parse(tc.networks)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = tc.peer
		if tc.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tc.forwarded)
		}
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{ClientIPHeaders: []string{"X-Forwarded-For"}})
		if tc.trusted != "" {
			caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
			caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, tc.client)
		}
		if got := n.Has(r); got != tc.want {
			t.Errorf("%v: got %v", tc, got)
		}
	}
	// With trusted_proxies_strict, and with a field that no proxy appends to, the client is known.
	for _, server := range []*caddyhttp.Server{{ClientIPHeaders: []string{"X-Forwarded-For"}, TrustedProxiesStrict: 1}, {ClientIPHeaders: []string{"X-Azure-Clientip"}}} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("X-Forwarded-For", "192.0.2.1, 10.0.0.2")
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), server)
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "10.0.0.2")
		if prefixes, _ := nearby.Prefixes([]string{"10.0.0.0/8"}); !nearby.Client(r, prefixes) {
			t.Errorf("%v: the client is not in its network", server.ClientIPHeaders)
		}
	}
	// Caddy takes the first field that has a valid address; what it does not take does not count.
	for first, want := range map[string]bool{"10.0.0.2": true, "": false, ",": false, "unknown": false, "[10.0.0.2]": false, "192.0.2.1": false} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("X-Azure-Clientip", first)
		r.Header.Set("X-Forwarded-For", "10.0.0.2, 192.0.2.1")
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{ClientIPHeaders: []string{"X-Azure-Clientip", "X-Forwarded-For"}})
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "10.0.0.2")
		if prefixes, _ := nearby.Prefixes([]string{"10.0.0.0/8"}); nearby.Client(r, prefixes) != want {
			t.Errorf("X-Azure-ClientIP %q: got %v", first, !want)
		}
	}
	n, _ := nearby.Parse([]string{"private_ranges"})
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.RemoteAddr = "10.0.0.1:1"
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{})
	r.Header.Set("Via", "1.1 proxy")
	if n.Has(r) {
		t.Error("a proxy that says that it is one")
	}
	r.Header.Del("Via")
	if !n.Has(r) {
		t.Error("nothing says that there is a proxy")
	}
	for value, want := range map[string]bool{"192.0.2.1": false, "10.0.0.2": false, "10.0.0.1, 192.0.2.1": false, "unknown": false, "10.0.0.1": true, "::ffff:10.0.0.1": true} {
		r.Header["X-Real-Ip"] = []string{value}
		if n.Has(r) != want {
			t.Errorf("X-Real-IP %q: got %v", value, !want)
		}
	}
	r.Header["X-Real-Ip"] = []string{"10.0.0.1", "192.0.2.1"}
	if n.Has(r) {
		t.Error("one of two addresses is not the peer's")
	}
	r.Header.Del("X-Real-Ip")
	if nearby.Forwarded(r); n.Has(r) {
		t.Error("what a proxy passed on, and guard removed, came from a private network")
	}
	if _, err := nearby.Parse([]string{"10.0.0.0/33"}); err == nil {
		t.Error("accepted")
	}
}
