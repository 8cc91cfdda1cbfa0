package integration

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/servertest"
)

// A token in the address makes the answer its client's alone: the cache shares
// none and lets the request pass, whatever the service says, and what leaves is
// private.
func TestQueryTokensAndTheCache(t *testing.T) {
	const secret = "an-integration-secret-7c3f1e9b5a2d"
	t.Setenv("JWT_SECRET_KEY", secret)
	var count atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, s-maxage=600, max-age=60")
		fmt.Fprint(w, count.Add(1))
	}))
	defer service.Close()
	mint := func(sub string) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": sub, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ann, bob := mint("ann"), mint("bob")
	for name, options := range map[string]string{
		"plain":                         "",
		"per user":                      "key {\n per_user\n}",
		"the token is no part":          "key {\n query deny access_token\n}",
		"the token is no part, by user": "key {\n query deny access_token\n per_user\n}",
	} {
		for _, strip := range []string{"", "strip_token\n"} {
			gateway := servertest.New(t, ":80 {\n jwt_auth {env.JWT_SECRET_KEY} {\n sources header query:access_token\n "+strip+"}\n http_cache 60s {\n "+options+"\n}\n reverse_proxy "+strings.TrimPrefix(service.URL, "http://")+"\n}")
			path := rand.Text()
			get := func(query, header string) string {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway.URL+"/"+path+"?"+query, nil)
				if err != nil {
					t.Fatal(err)
				}
				if header != "" {
					r.Header.Set("Authorization", "Bearer "+header)
				}
				resp, err := gateway.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				var body string
				_, _ = fmt.Fscan(resp.Body, &body)
				if control := resp.Header.Get("Cache-Control"); resp.StatusCode != 200 || query != "" && control != "max-age=60, private" || query == "" && !strings.Contains(control, "public") {
					t.Errorf("%s: %d %q", name, resp.StatusCode, control)
				}
				return body
			}
			first := get("access_token="+ann, "")
			if again := get("access_token="+ann, ""); again == first {
				t.Errorf("%s, %q: the same client got %s, then %s", name, strip, first, again)
			}
			if other := get("access_token="+bob, ""); other == first {
				t.Errorf("%s, %q: another client got the answer", name, strip)
			}
			if other := get("", bob); other == first {
				t.Errorf("%s, %q: another client got the answer, with a token in a field", name, strip)
			}
		}
	}
}
