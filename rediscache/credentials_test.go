package rediscache

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/identity"
)

// asks sends a request that change has its way with, and says what came and
// whether the service was asked.
func (g *gateway) asks(path string, change func(*http.Request)) (body string, asked bool) {
	g.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://"+g.host+path, nil)
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	if change != nil {
		change(r)
	}
	if err := g.h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		asked = true
		g.service(w, r)
		return nil
	})); err != nil {
		g.t.Fatal(err)
	}
	return w.Body.String(), asked
}

// persons are requests that say who asks, in all ways that there are. The name
// makes two of one kind differ.
var persons = map[string]func(name string) func(*http.Request){
	"cookie":        func(name string) func(*http.Request) { return field("Cookie", "session="+name) },
	"Authorization": func(name string) func(*http.Request) { return field("Authorization", "Bearer "+name) },
	"user": func(name string) func(*http.Request) {
		return func(r *http.Request) {
			r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.auth.user.id", name)
		}
	},
	"jwt": func(name string) func(*http.Request) {
		return func(r *http.Request) { identity.Set(r, &identity.Identity{Provider: "main", Subject: name}) }
	},
	"certificate": func(name string) func(*http.Request) {
		return func(r *http.Request) {
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: []byte(name)}}}
		}
	},
	"own field": func(name string) func(*http.Request) { return field("X-Our-Key", name) },
}

func field(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func init() {
	for _, name := range slices.Concat(credentials.Fields, []string{
		"Circle-Token", "X-Acme-Api-Key", "X-Client-Secret", "Ssl-Client-Subject-Dn", "X-Tls-Client-Cert", "Client-Cert-Chain", "X-Arr-Clientcert",
		"X-User", "Remote-Groups", "X-Auth-Request-Email", "X-Pomerium-Claim-Email", "Impersonate-User", "Sm-User",
	}) {
		persons[name] = func(value string) func(*http.Request) { return field(name, value) }
	}
}

// What only the operator's ttl makes fresh is for requests that say nothing of
// who asks; what the service calls public is for all.
func TestUsersGetTheirOwnResponses(t *testing.T) {
	for kind, person := range persons {
		for _, block := range []string{"http_cache 60s {\nkey {\ncredentials X-Our-Key\n}\n}", "http_cache 60s {\nkey {\nper_user\ncredentials x-our-key\n}\n}"} {
			says := ""
			g := newGateway(t, block, func(w http.ResponseWriter, r *http.Request) {
				if says != "" {
					w.Header().Set("Cache-Control", says)
				}
				_, _ = w.Write([]byte("an answer"))
			})
			tls := func(r *http.Request) {
				if kind == "certificate" {
					r.TLS = &tls.ConnectionState{}
				}
			}
			path := "/" + strings.ReplaceAll(kind, " ", "-") + "/" + fmt.Sprint(len(block))
			for i, who := range []func(*http.Request){person("ann"), person("bob"), tls} {
				if _, asked := g.asks(path, who); !asked {
					t.Errorf("%s, %s: request %d got another's answer", kind, block, i)
				}
			}
			if _, asked := g.asks(path, tls); asked {
				t.Errorf("%s: a response to a request without credentials is not shared", kind)
			}
			if _, asked := g.asks(path, person("ann")); asked == (g.h.Key.PerUser && (kind == "user" || kind == "jwt" || kind == "certificate")) {
				t.Errorf("%s, %s: ann again: asked %v", kind, block, asked)
			}
			says = "public, max-age=60"
			g.asks(path+"/public", person("ann"))
			if _, asked := g.asks(path+"/public", person("bob")); asked {
				t.Errorf("%s: what is public is not shared", kind)
			}
		}
	}
}

func TestTokensInTheURL(t *testing.T) {
	g := newGateway(t, "http_cache 60s", says("Cache-Control", "public, max-age=60"))
	for _, path := range []string{"/?access_token=x", "/?a=1&access_token=y", "/?access%5ftoken=z", "/?ACCESS_TOKEN=z"} {
		for range 2 {
			if _, asked := g.asks(path, nil); !asked {
				t.Errorf("%s: from the cache", path)
			}
		}
	}
	for range 2 {
		if _, asked := g.asks("/stripped", func(r *http.Request) { identity.KeepPrivate(r) }); !asked {
			t.Error("a private answer from the cache")
		}
	}
	g.asks("/?no_access_token=1", nil)
	if _, asked := g.asks("/?no_access_token=1", nil); asked {
		t.Error("another parameter is no token")
	}
}

// Users whom other handlers authenticate have partitions of their own.
func TestOtherHandlersUsers(t *testing.T) {
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-User", r.Header.Get("X-Ticket"))
	}))
	t.Cleanup(auth.Close)
	address := strings.TrimPrefix(auth.URL, "http://")
	for name, tc := range map[string]struct {
		front, key string
		stored     bool
	}{
		"forward_auth, copied":         {"forward_auth " + address + " {\nuri /\ncopy_headers X-User>X-Say\n}\n", "key {\nper_user\n}\n", true},
		"forward_auth, no partition":   {"forward_auth " + address + " {\nuri /\ncopy_headers X-User>X-Say\n}\n", "", false},
		"forward_auth, nothing copied": {"forward_auth " + address + " {\nuri /\n}\nrequest_header X-Say {http.request.header.X-Ticket}\n", "key {\nper_user\n}\n", false},
		"fields by option":             {"request_header X-Say {http.request.header.X-Ticket}\n", "key {\nper_user header X-Say\n}\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := runCaddyfile(t, "http://:$1 {\nroute {\n"+tc.front+"http_cache 60s {\n"+tc.key+"}\nreverse_proxy $PUBLIC\n}\n}")
			for _, user := range []string{"ann", "bob", "cid"} {
				if got := r.get(1, "/", "X-Ticket", user); !strings.HasPrefix(got, "miss") || !strings.HasSuffix(got, user) {
					t.Errorf("%s: %s", user, got)
				}
			}
			want := "miss"
			if tc.stored {
				want = "hit"
			}
			if got := r.get(1, "/", "X-Ticket", "bob"); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "bob") {
				t.Errorf("bob again: %s", got)
			}
		})
	}
}

// With per_user, requests of one user that say something else of who asks do not share.
// The token itself says no more than who its user is.
func TestOtherCredentialsOfOneUser(t *testing.T) {
	users := map[string]func(*http.Request){"jwt": persons["jwt"]("ann"), "certificate": persons["certificate"]("ann"), "user": persons["user"]("ann")}
	for user, ann := range users {
		for kind, other := range persons {
			if _, itself := users[kind]; itself {
				continue
			}
			for _, says := range []string{"", "private, max-age=60"} {
				g := newGateway(t, "http_cache 60s {\nkey {\nper_user\ncredentials X-Our-Key\n}\n}", func(w http.ResponseWriter, _ *http.Request) {
					if says != "" {
						w.Header().Set("Cache-Control", says)
					}
					_, _ = w.Write([]byte("an answer"))
				})
				path := "/" + strings.ReplaceAll(kind, " ", "-") + user + fmt.Sprint(len(says))
				as := func(value string) func(*http.Request) {
					return func(r *http.Request) {
						ann(r)
						if value != "" {
							other(value)(r)
						}
					}
				}
				for i, value := range []string{"", "one", "two", "", "one", "two"} {
					if _, asked := g.asks(path, as(value)); asked != (i < 3) {
						t.Errorf("%s of %s, %q, request %d: asked %v", kind, user, says, i, asked)
					}
				}
			}
		}
	}
}

func TestTheTokenItself(t *testing.T) {
	for name, tc := range map[string]struct {
		source identity.Source
		fields [2][]string
		shared bool
	}{
		"Authorization":           {identity.Source{Field: "Authorization"}, [2][]string{{"Authorization", "Bearer 1"}, {"Authorization", "Bearer 2"}}, true},
		"another field":           {identity.Source{Field: "X-Auth-Token"}, [2][]string{{"X-Auth-Token", "1"}, {"X-Auth-Token", "2"}}, true},
		"a proof":                 {identity.Source{Field: "Authorization", Proof: true}, [2][]string{{"Dpop", "1"}, {"Dpop", "2"}}, true},
		"no proof":                {identity.Source{Field: "Authorization"}, [2][]string{{"Dpop", "1"}, {"Dpop", "2"}}, false},
		"a cookie":                {identity.Source{Field: "Cookie", Cookie: "token"}, [2][]string{{"Cookie", "token=1; a=b"}, {"Cookie", "a=b; token=2"}}, true},
		"a cookie beside":         {identity.Source{Field: "Cookie", Cookie: "token"}, [2][]string{{"Cookie", "token=1; a=b"}, {"Cookie", "token=1; a=c"}}, false},
		"a malformed cookie":      {identity.Source{Field: "Cookie", Cookie: "token"}, [2][]string{{"Cookie", `token=1; a={"b":1}`}, {"Cookie", `token=1; a={"b":2}`}}, false},
		"a cookie and a field":    {identity.Source{Field: "Cookie", Cookie: "token"}, [2][]string{{"Cookie", "token=1", "Authorization", "Bearer 1"}, {"Cookie", "token=1", "Authorization", "Bearer 2"}}, false},
		"a field and a key":       {identity.Source{Field: "Authorization"}, [2][]string{{"Authorization", "Bearer 1", "X-Api-Key", "1"}, {"Authorization", "Bearer 1", "X-Api-Key", "2"}}, false},
		"nothing, and a key":      {identity.Source{Field: "Authorization"}, [2][]string{{"Authorization", "Bearer 1"}, {"Authorization", "Bearer 1", "X-Api-Key", "2"}}, false},
		"a value moved elsewhere": {identity.Source{Field: "Authorization"}, [2][]string{{"X-Api-Key", "1", "Apikey", ""}, {"X-Api-Key", "", "Apikey", "1"}}, false},
	} {
		g := newGateway(t, "http_cache 60s {\nkey {\nper_user\n}\n}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("an answer")) })
		for i, fields := range tc.fields {
			_, asked := g.asks("/"+strings.ReplaceAll(name, " ", "-"), func(r *http.Request) {
				persons["jwt"]("ann")(r)
				identity.SetSource(r, tc.source)
				for j := 0; j < len(fields); j += 2 {
					r.Header.Set(fields[j], fields[j+1])
				}
			})
			if asked != (i == 0 || !tc.shared) {
				t.Errorf("%s: request %d: asked %v", name, i, asked)
			}
		}
	}
}
