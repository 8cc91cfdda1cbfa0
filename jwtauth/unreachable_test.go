package jwtauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// answered sends a request with the token, and returns what the client gets.
func answered(t *testing.T, h *Handler, text string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	bearer(text)(r)
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
	return w
}

// While there are no keys, nothing is known of a token: 503 with Retry-After,
// and never 401, which would have clients drop it. Once the source is up, tokens
// pass within seconds. What no key could make good is refused all the time.
func TestSourceUnreachableAtStart(t *testing.T) {
	hangs := func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }
	for name, down := range map[string]func(*http.Request) (*http.Response, error){
		"refuses": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"hangs":   hangs,
		"503":     func(*http.Request) (*http.Response, error) { return response(503, http.NoBody), nil },
		"no keys": func(*http.Request) (*http.Response, error) {
			return response(200, io.NopCloser(bytes.NewReader(published()))), nil
		},
	} {
		for _, options := range []string{"", "token_cache off", "optional"} {
			synctest.Test(t, func(t *testing.T) {
				one, e := newNamed(t, "1"), new(endpoint)
				e.does(down)
				h, end := e.handler(t, options)
				defer end()
				unnamed := signer{"EdDSA", jwt.SigningMethodEdDSA, one.key}
				for range 60 {
					for _, text := range []string{one.token(t, 0), named{"2", one.key}.token(t, 1), unnamed.sign(t, `{"alg":"EdDSA"}`, goodPayload(""))} {
						w := answered(t, h, text)
						wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
						if w.Code != 503 || err != nil || wait < 1 || wait > 6 || w.Header().Get("WWW-Authenticate") != "" || w.Header().Get("Cache-Control") != "no-store" {
							t.Fatalf("%s, %s: %d %v", name, options, w.Code, w.Header())
						}
						if !strings.Contains(w.Header().Get("Content-Type"), "problem+json") || !strings.Contains(w.Body.String(), "temporarily unavailable") {
							t.Errorf("%s: %s", name, w.Body)
						}
					}
					for _, text := range []string{"x.y.z", "x", mint(t, secret, jwt.MapClaims{})} {
						if w := answered(t, h, text); w.Code != 401 {
							t.Errorf("%s, %s: %q: %d", name, options, text, w.Code)
						}
					}
					time.Sleep(time.Second)
				}
				e.serves(published(one.jwk()))
				began := time.Now()
				for answered(t, h, one.token(t, 0)).Code != 200 {
					time.Sleep(50 * time.Millisecond)
				}
				if late := time.Since(began); late > 11*time.Second || name != "hangs" && late > 5600*time.Millisecond {
					t.Errorf("%s: a good token passed only after %s", name, late)
				}
				if w := answered(t, h, named{"2", one.key}.token(t, 2)); w.Code != 401 {
					t.Errorf("%s: an unknown key: %d", name, w.Code)
				}
			})
		}
	}
}

// A new key under the name of the old one: its tokens pass at the next fetch,
// which a bad signature brings once in the cooldown, and those of the old one
// end. However many bad signatures come, there is no further fetch.
func TestNewKeyUnderTheOldName(t *testing.T) {
	for _, options := range []string{"", "token_cache off"} {
		synctest.Test(t, func(t *testing.T) {
			e := new(endpoint)
			before, after, stranger := newNamed(t, "1"), newNamed(t, "1"), newNamed(t, "1")
			e.serves(published(before.jwk()))
			h, end := e.handler(t, options)
			defer end()
			synctest.Wait()
			time.Sleep(time.Minute)
			good := before.token(t, 0)
			if got := send(t, h, good); got != 200 {
				t.Fatalf("the old key: %d", got)
			}
			e.serves(published(after.jwk()))
			fresh := after.token(t, 0)
			if got := send(t, h, fresh); got != 200 {
				t.Errorf("the new key, after the cooldown: %d", got)
			}
			if got := send(t, h, good); got != 401 {
				t.Errorf("the old key: %d", got)
			}
			// Replaced again within the cooldown: it ends it, also for a token that
			// was refused and is remembered.
			again := newNamed(t, "1")
			e.serves(published(again.jwk()))
			next, fetched := again.token(t, 0), e.fetches.Load()
			for i := range 29 {
				time.Sleep(time.Second)
				if got := send(t, h, next); got != 401 {
					t.Fatalf("in the cooldown: %d", got)
				}
				for j := range 20 {
					if got := send(t, h, stranger.token(t, 100*i+j)); got != 401 {
						t.Fatalf("a stranger: %d", got)
					}
				}
			}
			if n := e.fetches.Load() - fetched; n != 0 {
				t.Errorf("%d fetches in the cooldown", n)
			}
			time.Sleep(time.Second)
			if got := send(t, h, next); got != 200 {
				t.Errorf("after the cooldown: %d", got)
			}
			// An hour of strangers: two fetches a minute at most.
			fetched = e.fetches.Load()
			for i := range 60 * 60 {
				_ = send(t, h, stranger.token(t, i))
				time.Sleep(time.Second)
			}
			if n := e.fetches.Load() - fetched; n > 120 {
				t.Errorf("%d fetches in an hour", n)
			}
		})
	}
}

// Tokens without a kid are tried with up to four keys of their algorithm.
func TestTokensWithoutAKid(t *testing.T) {
	var keys []named
	var jwks []string
	for i := range 4 {
		keys = append(keys, newNamed(t, fmt.Sprint(i)))
		jwks = append(jwks, keys[i].jwk())
	}
	set, _, err := keyset.ParseJWKS(published(jwks...), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	h := must(t, "jwt_auth "+secret)
	h.providers[0].source = staticKeys{set}
	h.providers[0].Algorithms = nil
	for i, k := range append(keys, newNamed(t, "x")) {
		s := signer{"EdDSA", jwt.SigningMethodEdDSA, k.key}
		want := 200
		if i == 4 {
			want = 401
		}
		if got := send(t, h, s.sign(t, `{"alg":"EdDSA"}`, goodPayload(""))); got != want {
			t.Errorf("key %d: %d", i, got)
		}
		if got := send(t, h, s.sign(t, `{"alg":"EdDSA","kid":"0"}`, goodPayload(""))); (got == 200) != (i == 0) {
			t.Errorf("key %d by the name of key 0: %d", i, got)
		}
	}
}

// A gateway that is reloaded while its provider is down goes on to ask, and has
// the keys once it is up; a reload afterwards keeps them without a fetch.
func TestReloadWhileTheProviderIsDown(t *testing.T) {
	var up atomic.Bool
	var hits atomic.Int64
	one := newNamed(t, "1")
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		if !up.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(published(one.jwk()))
	}))
	defer issuer.Close()
	start := func(more string) (*Handler, func()) {
		h, err := parsed(t, "jwt_auth {\n jwks "+issuer.URL+"\n"+more+"}")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		if err := h.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		return h, func() { cancel(); _ = h.Cleanup() }
	}
	h, stop := start("")
	if w := answered(t, h, one.token(t, 0)); w.Code != 503 {
		t.Fatalf("before: %d", w.Code)
	}
	for _, more := range []string{"", " audience x\n", ""} {
		next, stopNext := start(more)
		stop()
		h, stop = next, stopNext
		if w := answered(t, h, one.token(t, 0)); w.Code != 503 {
			t.Errorf("reloaded: %d", w.Code)
		}
	}
	up.Store(true)
	testkit.Eventually(t, "a good token passes", func() bool { return answered(t, h, one.token(t, 0)).Code == 200 })
	n := hits.Load()
	next, stopNext := start("")
	stop()
	if w := answered(t, next, one.token(t, 1)); w.Code != 200 || hits.Load() != n {
		t.Errorf("reloaded: %d, %d fetches", w.Code, hits.Load()-n)
	}
	stopNext()
}

// staticKeys are keys that never change.
type staticKeys struct{ set *keyset.Set }

func (s staticKeys) Keys() *keyset.Set                   { return s.set }
func (s staticKeys) Refresh(context.Context) *keyset.Set { return s.set }
func (s staticKeys) Current() *keyset.Set                { return s.set }
