package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/servertest"
)

// What is kept for a user is for the tokens that say the same: not for a subject of
// another issuer, and not for a token that allows something else.
func TestCacheOfOneSubject(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}))
	t.Cleanup(service.Close)
	gateway := servertest.New(t, ":80 {\njwt_auth "+allocationSecret+" {\nissuer https://a.example https://b.example\n}\nhttp_cache 60s {\nkey {\nper_user\n}\n}\nreverse_proxy "+service.Listener.Addr().String()+"\n}")
	sign := func(claims jwt.MapClaims) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(allocationSecret))
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + text
	}
	soon, later := time.Now().Add(time.Hour).Unix(), time.Now().Add(2*time.Hour).Unix()
	first := sign(jwt.MapClaims{"iss": "https://a.example", "sub": "ann", "exp": soon, "scope": "read"})
	for _, tc := range []struct {
		name, token string
		shares      bool
	}{
		{"the first", first, false},
		{"again", first, true},
		{"a newer token that says the same", sign(jwt.MapClaims{"iss": "https://a.example", "sub": "ann", "exp": later, "iat": 1, "jti": "x", "scope": "read"}), true},
		{"another issuer", sign(jwt.MapClaims{"iss": "https://b.example", "sub": "ann", "exp": soon, "scope": "read"}), false},
		{"another scope", sign(jwt.MapClaims{"iss": "https://a.example", "sub": "ann", "exp": soon, "scope": "read write"}), false},
		{"another client", sign(jwt.MapClaims{"iss": "https://a.example", "sub": "ann", "exp": soon, "scope": "read", "azp": "app"}), false},
		{"another tenant", sign(jwt.MapClaims{"iss": "https://a.example", "sub": "ann", "exp": soon, "scope": "read", "tid": 7}), false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway.URL+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", tc.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := tc.token
		if tc.shares {
			want = first
		}
		if resp.StatusCode != http.StatusOK || string(body) != want {
			t.Errorf("%s: %s", tc.name, fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Cache-Status"), " ", string(body) == first))
		}
	}
}

// What is kept for a user may vary by fields that are made of the user, since requests
// that share it have the same ones; but not by what differs with each token.
func TestVaryByTheUser(t *testing.T) {
	for value, stored := range map[string]bool{
		"{http.auth.user.id}": true, "{http.auth.user.scope}": true, "{http.auth.user.jti}": false, "{http.auth.user.id} {header.X-Kind}": false,
	} {
		service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "X-Who")
			_, _ = io.WriteString(w, r.Header.Get("X-Who"))
		}))
		gateway := servertest.New(t, ":80 {\njwt_auth "+allocationSecret+"\nhttp_cache 60s {\nkey {\nper_user\n}\n}\nreverse_proxy "+service.Listener.Addr().String()+" {\nheader_up X-Who \""+value+"\"\n}\n}")
		for i, user := range []string{"ann", "bob", "ann"} {
			text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix(), "scope": "of-" + user, "jti": fmt.Sprint(user, i)}).SignedString([]byte(allocationSecret))
			if err != nil {
				t.Fatal(err)
			}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway.URL+"/vary", nil)
			req.Header.Set("Authorization", "Bearer "+text)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if status := resp.Header.Get("Cache-Status"); strings.Contains(status, "hit") != (stored && i == 2) || !strings.Contains(string(body), user) {
				t.Errorf("%s: %s, request %d: %s, %q", value, user, i, status, body)
			}
		}
		service.Close()
	}
}
