package jwtauth

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
)

// send gives a request with a token to a handler, and returns the status.
func send(t testing.TB, h *Handler, text string) int {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	bearer(text)(r)
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })); err != nil {
		t.Fatal(err)
	}
	return w.Code
}

func must(t testing.TB, block string) *Handler {
	t.Helper()
	h, err := load(t, block)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Time, and what is configured, is evaluated on each hit.
func TestRulesApplyToCachedTokens(t *testing.T) {
	h := must(t, "jwt_auth "+secret)
	start := time.Now()
	text := mint(t, secret, jwt.MapClaims{"exp": start.Add(time.Minute).Unix(), "nbf": start.Add(-time.Minute).Unix()})
	at := func(d time.Duration, want int) {
		t.Helper()
		h.now = func() time.Time { return start.Add(d) }
		if got := send(t, h, text); got != want {
			t.Errorf("after %s: %d", d, got)
		}
	}
	others, size, _ := h.cache.good.Stats() // of other tests: the cache is shared
	at(0, 200)
	at(0, 200)
	if n, bytes, _ := h.cache.good.Stats(); n != others+1 || bytes < size+500 {
		t.Errorf("%d tokens, %d bytes are remembered", n-others, bytes-size)
	}
	at(-2*time.Minute, 401) // not valid yet
	at(80*time.Second, 200) // within the leeway
	at(91*time.Second, 401)
	at(0, 200) // the refusal before was not final for the token
}

func TestRoutesBehindOneCache(t *testing.T) {
	a := must(t, "jwt_auth {\n secret "+secret+"\n audience a\n}")
	b := must(t, "jwt_auth {\n secret "+secret+"\n audience b\n}")
	admin := must(t, "jwt_auth {\n secret "+secret+"\n audience a\n require role admin\n}")
	if a.cache != b.cache || a.cache != admin.cache {
		t.Fatal("the routes have caches of their own")
	}
	text := mint(t, secret, jwt.MapClaims{"aud": "a", "role": "user"})
	for range 3 {
		if got := []int{send(t, a, text), send(t, b, text), send(t, admin, text)}; got[0] != 200 || got[1] != 401 || got[2] != 403 {
			t.Errorf("statuses %v", got)
		}
	}
	// The same provider on two routes is verified once.
	if a.providers[0].generation != admin.providers[0].generation || a.providers[0].generation == b.providers[0].generation {
		t.Error("generations")
	}
}

func TestCacheEntriesNeedTheirKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secret)
	h := must(t, "jwt_auth {file."+path+"}")
	old, fresh := mint(t, secret, jwt.MapClaims{"sub": "a"}), mint(t, other, jwt.MapClaims{"sub": "a"})
	reload := func() { h.providers[0].source.(interface{ Due() }).Due() }
	for range 2 {
		if x, y := send(t, h, old), send(t, h, fresh); x != 200 || y != 401 {
			t.Errorf("before the rotation: %d %d", x, y)
		}
	}
	write(other)
	reload()
	if send(t, h, old) != 401 {
		t.Error("the token of a removed key is accepted")
	}
	if send(t, h, fresh) != 200 {
		t.Error("the token of the new key is remembered as bad")
	}
}

func TestCacheOff(t *testing.T) {
	h := must(t, "jwt_auth "+secret+" {\n token_cache off\n}")
	if h.cache != nil || send(t, h, mint(t, secret, jwt.MapClaims{})) != 200 || send(t, h, "x.y.z") != 401 {
		t.Error("without a cache")
	}
	if o := must(t, "jwt_auth "+secret+" {\n token_cache 2MiB 100\n}").TokenCache; o.MaxBytes != 2<<20 || o.MaxEntries != 100 {
		t.Errorf("%+v", o)
	}
}

// The next handler is reached with at most four allocations of the handler's
// own, whatever the request before it cost.
func TestWarmAllocations(t *testing.T) {
	h := must(t, "jwt_auth "+secret)
	text := mint(t, secret, jwt.MapClaims{"sub": "ann", "scope": "read write"})
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	w := httptest.NewRecorder()
	run := func(serve bool) float64 {
		return testing.AllocsPerRun(1000, func() {
			r := prepared(text, w)
			if serve {
				_ = h.ServeHTTP(w, r, next)
			}
		})
	}
	run(true)
	if n := run(true) - run(false); n > 4 {
		t.Errorf("%v allocations", n)
	}
}

func prepared(text string, w http.ResponseWriter) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header["Authorization"] = []string{"Bearer " + text}
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
}

// Tokens without a subject are distinguished by their hash, with a cache or
// without.
func TestPartitions(t *testing.T) {
	for _, options := range []string{"", "token_cache off"} {
		h := must(t, "jwt_auth "+secret+" {\n"+options+"\n}")
		partition := func(text string) string {
			_, seen := through(t, bearer(text), h)
			id, ok := identity.From(seen)
			if !ok {
				t.Fatal("nobody")
			}
			return id.Partition()
		}
		text := mint(t, secret, jwt.MapClaims{"jti": "1"})
		one, two := partition(text), partition(mint(t, secret, jwt.MapClaims{"jti": "2"}))
		if one == two || one != partition(text) {
			t.Errorf("%q: %s and %s", options, one, two)
		}
		if partition(mint(t, secret, jwt.MapClaims{"jti": "1", "sub": "ann"})) != partition(mint(t, secret, jwt.MapClaims{"jti": "2", "sub": "ann"})) {
			t.Errorf("%q: one subject is two", options)
		}
	}
}
