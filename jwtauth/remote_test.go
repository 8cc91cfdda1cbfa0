package jwtauth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// named is a signing key with a name.
type named struct {
	kid string
	key ed25519.PrivateKey
}

func newNamed(t testing.TB, kid string) named {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return named{kid, key}
}

func (n named) jwk() string {
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, n.kid, b64(n.key.Public().(ed25519.PublicKey)))
}

// token is one that outlives the test; different ones have different numbers.
func (n named) token(t testing.TB, number int) string {
	t.Helper()
	return signer{"EdDSA", jwt.SigningMethodEdDSA, n.key}.sign(t, fmt.Sprintf(`{"alg":"EdDSA","kid":%q}`, n.kid), fmt.Sprintf(`{"sub":"ann","jti":"%d","exp":%d}`, number, time.Now().Add(100*time.Hour).Unix()))
}

func published(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

// endpoint serves keys in the time of a synctest bubble, and counts.
type endpoint struct {
	answer  atomic.Pointer[func(*http.Request) (*http.Response, error)]
	fetches atomic.Int64
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	e.fetches.Add(1)
	return (*e.answer.Load())(r)
}

func (e *endpoint) does(f func(*http.Request) (*http.Response, error)) { e.answer.Store(&f) }

func (e *endpoint) serves(body []byte) {
	e.does(func(*http.Request) (*http.Response, error) {
		return response(200, io.NopCloser(bytes.NewReader(body))), nil
	})
}

func response(status int, body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: body}
}

// handler is one whose keys are fetched from the endpoint.
func (e *endpoint) handler(t *testing.T, options string) (h *Handler, end func()) {
	t.Helper()
	h = must(t, "jwt_auth "+secret+" {\n "+options+"\n}")
	remote := keyset.NewRemote(keyset.Options{URL: "https://issuer.test/keys", Transport: e})
	h.providers[0].source = remote
	remote.Start()
	return h, func() { _ = remote.Destruct() }
}

// Keys that rotate twice within the cooldown: the second new one is not known
// before its end, everything else is answered right all the time, and however
// many ask there is one fetch for each cooldown.
func TestKeysRotateTwiceInTheCooldown(t *testing.T) {
	for _, options := range []string{"", "token_cache off"} {
		synctest.Test(t, func(t *testing.T) {
			e := new(endpoint)
			one, two, three := newNamed(t, "1"), newNamed(t, "2"), newNamed(t, "3")
			e.serves(published(one.jwk()))
			h, end := e.handler(t, options)
			defer end()
			number := 0
			all := func(what string, wants map[string]int) {
				t.Helper()
				for _, n := range []named{one, two, three} {
					number++
					for range 3 { // twice the same: from the caches
						if got := send(t, h, n.token(t, number)); got != wants[n.kid] {
							t.Errorf("%s: a token of key %s: %d", what, n.kid, got)
						}
					}
				}
			}
			synctest.Wait()
			time.Sleep(40 * time.Second)
			all("before", map[string]int{"1": 200, "2": 401, "3": 401})
			time.Sleep(40 * time.Second)
			e.serves(published(one.jwk(), two.jwk()))
			all("rotated once", map[string]int{"1": 200, "2": 200, "3": 401})
			fetched := e.fetches.Load()
			e.serves(published(one.jwk(), two.jwk(), three.jwk()))
			for range 29 {
				time.Sleep(time.Second)
				all("rotated twice, in the cooldown", map[string]int{"1": 200, "2": 200, "3": 401})
			}
			if n := e.fetches.Load(); n != fetched {
				t.Errorf("%d fetches in the cooldown", n-fetched)
			}
			time.Sleep(time.Second)
			all("after the cooldown", map[string]int{"1": 200, "2": 200, "3": 200})
			if n := e.fetches.Load(); n != fetched+1 {
				t.Errorf("%d fetches after the cooldown", n-fetched)
			}
			// A key that is taken back stands until the next fetch, which the schedule
			// or an unknown name brings, and not longer.
			e.serves(published(two.jwk(), three.jwk()))
			time.Sleep(10*time.Minute + 10*time.Second)
			all("one is gone", map[string]int{"1": 401, "2": 200, "3": 200})
		})
	}
}

// Thousands of tokens with names of keys that nobody has, in a minute, while
// the endpoint works or fails: three fetches at most, and tokens of known keys
// pass all the time.
func TestRandomKeyNamesThroughTheHandler(t *testing.T) {
	for _, failing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := new(endpoint)
			one := newNamed(t, "1")
			e.serves(published(one.jwk()))
			h, end := e.handler(t, "")
			defer end()
			synctest.Wait()
			time.Sleep(time.Minute)
			if failing {
				e.does(func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
			}
			good, before := one.token(t, 0), e.fetches.Load()
			for i := range 60 {
				for j := range 50 {
					stranger := named{fmt.Sprint("stranger-", i, "-", j), one.key}
					go func() {
						if got := send(t, h, stranger.token(t, 0)); got != 401 {
							t.Errorf("a stranger: %d", got)
						}
					}()
				}
				if began := time.Now(); send(t, h, good) != 200 || time.Since(began) != 0 {
					t.Errorf("a known key: refused, or after %s", time.Since(began))
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if n := e.fetches.Load() - before; n > 3 {
				t.Errorf("failing %v: %d fetches in a minute", failing, n)
			}
		})
	}
}

// waits is a body that comes as slowly as it likes.
type waits struct {
	ctx  context.Context
	each time.Duration
	data []byte
}

func (w *waits) Read(p []byte) (int, error) {
	if len(w.data) == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(w.each):
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
	p[0], w.data = w.data[0], w.data[1:]
	return 1, nil
}

func (*waits) Close() error { return nil }

// An endpoint that worked and then fails in any way: for hours tokens of the
// keys that were fetched pass at once, all others get 401, and nothing gets
// another status. When it is well again, its new keys are used.
func TestEndpointFails(t *testing.T) {
	one, two, evil := newNamed(t, "1"), newNamed(t, "2"), newNamed(t, "2")
	text := func(status int, body string) func(*http.Request) (*http.Response, error) {
		return func(*http.Request) (*http.Response, error) {
			return response(status, io.NopCloser(strings.NewReader(body))), nil
		}
	}
	redirect := func(to string) func(*http.Request) (*http.Response, error) {
		return func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "evil.test" || r.URL.Scheme == "http" {
				return response(200, io.NopCloser(bytes.NewReader(published(evil.jwk())))), nil
			}
			resp := response(http.StatusFound, http.NoBody)
			resp.Header.Set("Location", to)
			return resp, nil
		}
	}
	good := string(published(two.jwk()))
	for name, f := range map[string]func(*http.Request) (*http.Response, error){
		"hangs":   func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
		"refuses": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"slow body": func(r *http.Request) (*http.Response, error) {
			return response(200, io.NopCloser(&waits{r.Context(), time.Second, []byte(good)})), nil
		},
		"breaks off": func(r *http.Request) (*http.Response, error) {
			return response(200, io.NopCloser(io.MultiReader(strings.NewReader(good[:40]), &broken{}))), nil
		},
		"half of it":             text(200, good[:len(good)/2]),
		"without an end":         func(*http.Request) (*http.Response, error) { return response(200, io.NopCloser(endless{})), nil },
		"huge":                   text(200, strings.Repeat(" ", 1<<20)+good),
		"HTML":                   text(200, "<!doctype html><title>Sorry</title>"),
		"empty":                  text(200, ""),
		"null":                   text(200, "null"),
		"an error as JSON":       text(200, `{"error":"temporarily_unavailable"}`),
		"no keys":                text(200, `{"keys":[]}`),
		"keys an object":         text(200, `{"keys":{"2":`+two.jwk()+`}}`),
		"KEYS":                   text(200, strings.Replace(good, `"keys"`, `"KEYS"`, 1)),
		"text behind":            text(200, good+"x"),
		"only broken keys":       text(200, `{"keys":[{},1,null,{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`),
		"a secret":               text(200, `{"keys":[{"kty":"oct","kid":"2","k":"`+b64([]byte(secret))+`"}]}`),
		"a private key":          text(200, `{"keys":[`+strings.TrimSuffix(two.jwk(), "}")+`,"d":"AAAA"}]}`),
		"500 with keys":          text(500, good),
		"404 with keys":          text(404, good),
		"201 with keys":          text(201, good),
		"204":                    text(204, ""),
		"304 unasked":            text(304, ""),
		"redirect elsewhere":     redirect("https://evil.test/keys"),
		"redirect to http":       redirect("http://issuer.test/keys"),
		"redirect to itself":     redirect("https://issuer.test/keys"),
		"redirect to nothing":    redirect("://"),
		"redirect to a port":     redirect("https://issuer.test:8443/keys"),
		"redirect, other scheme": redirect("file:///etc/passwd"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := new(endpoint)
				e.serves(published(one.jwk()))
				h, end := e.handler(t, "")
				defer end()
				synctest.Wait()
				remembered := one.token(t, 0)
				if got := send(t, h, remembered); got != 200 {
					t.Fatalf("well: %d", got)
				}
				e.does(f)
				secretToken := mint(t, secret, jwt.MapClaims{})
				hours := 4
				if name == "huge" || name == "without an end" {
					hours = 1 // a megabyte is read each time
				}
				for i := range hours {
					time.Sleep(59 * time.Minute)
					began := time.Now()
					if send(t, h, remembered) != 200 || send(t, h, one.token(t, i)) != 200 || time.Since(began) != 0 {
						t.Errorf("a token of a good key was refused, or waited %s", time.Since(began))
					}
					for what, text := range map[string]string{
						"a key that is not well published": two.token(t, i), "another's": evil.token(t, i), "forged": named{"1", two.key}.token(t, i),
						"a secret": secretToken, "nothing": "",
					} {
						if got := send(t, h, text); got != 401 {
							t.Errorf("%s: %d", what, got)
						}
					}
				}
				e.serves(published(one.jwk(), two.jwk()))
				time.Sleep(time.Minute)
				if x, y, z := send(t, h, remembered), send(t, h, two.token(t, 0)), send(t, h, evil.token(t, 0)); x != 200 || y != 200 || z != 401 {
					t.Errorf("well again: %d %d %d", x, y, z)
				}
			})
		})
	}
}

// broken is a connection that breaks.
type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// endless has no end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A set of which half is broken gives the other half.
func TestHalfBrokenKeySet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, twin := newNamed(t, "1"), newNamed(t, "2"), newNamed(t, "3")
		e := new(endpoint)
		e.serves(published(`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"0"}`, one.jwk(), `"x"`, `{"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"}`, twin.jwk(),
			strings.Replace(two.jwk(), `"kty"`, `"use":"enc","kty"`, 1), newNamed(t, "3").jwk(), `{"kty":"OKP","crv":"Ed448","x":"AA","kid":"4"}`))
		h, end := e.handler(t, "")
		defer end()
		synctest.Wait()
		for n, want := range map[*named]int{&one: 200, &two: 401, &twin: 401} {
			if got := send(t, h, n.token(t, 0)); got != want {
				t.Errorf("key %s: %d", n.kid, got)
			}
		}
	})
}
