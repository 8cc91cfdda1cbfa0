package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pythopus/tentagate/internal/servertest"
)

// What a client sends in a field that a handler of the site forwards reaches no
// service, on no path and in no spelling; what the operator and the token say
// does.
func TestForwardedFieldsOfClients(t *testing.T) {
	const secret = "an-integration-secret-7c3f1e9b5a2d"
	t.Setenv("JWT_SECRET_KEY", secret)
	seen := make(chan http.Header, 1)
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		all := r.Header.Clone()
		for name, values := range r.Trailer {
			all[name] = append(all[name], values...)
		}
		seen <- all
	}))
	defer service.Close()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	proxy := "reverse_proxy " + strings.TrimPrefix(service.URL, "http://") + " {\n header_up X-Id id={http.auth.user.id};\n}\n"
	auth := "{env.JWT_SECRET_KEY} {\n forward sub X-User\n forward org X-Org\n"
	for name, tc := range map[string]struct {
		site           string
		private        string // a path that needs a token
		public         string // one that needs none
		user, operator string // what the service gets there, of whom
	}{
		"matcher": {
			site:    ":80 {\n jwt_auth /in/* " + auth + "}\n " + proxy + "}",
			private: "/in/a", public: "/out",
		},
		"named matcher": {
			site:    ":80 {\n @in not path /out\n jwt_auth @in " + auth + "}\n " + proxy + "}",
			private: "/a", public: "/out",
		},
		"route": {
			site:    ":80 {\n route {\n jwt_auth /in/* " + auth + "}\n " + proxy + "}\n}",
			private: "/in/a", public: "/out",
		},
		"handle": {
			site:    ":80 {\n guard\n handle /in/* {\n jwt_auth " + auth + "}\n " + proxy + "}\n handle {\n " + proxy + "}\n}",
			private: "/in/a", public: "/out",
		},
		"handle_path, route and a snippet": {
			site:    "(auth) {\n jwt_auth " + auth + "}\n}\n:80 {\n guard\n handle_path /in/* {\n route {\n import auth\n " + proxy + "}\n}\n route /out {\n " + proxy + "}\n}",
			private: "/in/a", public: "/out",
		},
		"named route": {
			site:    "&(in) {\n route {\n jwt_auth " + auth + "}\n " + proxy + "}\n}\n:80 {\n guard\n invoke /in/* in\n " + proxy + "}",
			private: "/in/a", public: "/out",
		},
		"optional": {
			site:    ":80 {\n guard\n jwt_auth " + auth + " optional\n}\n " + proxy + "}",
			private: "", public: "/out",
		},
		"two handlers": {
			site:    ":80 {\n jwt_auth /in/* {env.JWT_SECRET_KEY} {\n forward sub X-User\n}\n jwt_auth /other/* {env.JWT_SECRET_KEY} {\n forward sub X-Org\n}\n " + proxy + "}",
			private: "/in/a", public: "/out",
		},
		"the operator's field": {
			site:    ":80 {\n guard\n request_header /out X-User guest\n jwt_auth /in/* " + auth + "}\n " + proxy + "}",
			private: "/in/a", public: "/out", operator: "guest",
		},
		"the directive": {
			site:    ":80 {\n tentagate {\n public /api/users/login\n jwt {\n secret {env.JWT_SECRET_KEY}\n forward sub X-User\n forward org X-Org\n}\n ratelimit off\n cache off\n service users " + service.URL + " {\n header_up X-Id id={http.auth.user.id};\n}\n}\n}",
			private: "/api/users/a", public: "/api/users/login",
		},
		"request_header, which comes before jwt_auth": {
			site:    ":80 {\n guard\n request_header X-Own own={http.auth.user.id};\n jwt_auth /in/* " + auth + "}\n " + proxy + "}",
			private: "/in/a", public: "/out",
		},
	} {
		run := func(t *testing.T, config string) {
			address := strings.TrimPrefix(servertest.New(t, config).URL, "http://")
			ask := func(path string, lines ...string) http.Header {
				t.Helper()
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\n%s\r\nTransfer-Encoding: chunked\r\nTrailer: X-User\r\nTE: trailers\r\n\r\n1\r\nx\r\n0\r\nX-User: mallory\r\n\r\n", path, strings.Join(lines, "\r\n"))
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Fatalf("%s: %d", path, resp.StatusCode)
				}
				return <-seen
			}
			forged := []string{"X-User: mallory", "X_User: mallory", "x~user: mallory", "X.User: mallory", "XUSER: mallory", "X-Org: mallory", "x_org: mallory", "Accept: */*"}
			for _, path := range []string{tc.private, tc.public} {
				if path == "" {
					continue
				}
				lines, user := forged, tc.operator
				if path == tc.private {
					lines, user = append([]string{"Authorization: Bearer " + token}, forged...), "ann"
				}
				got := ask(path, lines...)
				for field, values := range got {
					if text := strings.Join(values, " "); strings.Contains(text, "mallory") || strings.Contains(text, "{") {
						t.Errorf("%s: the service got %s %q", path, field, values)
					}
				}
				id := "id=;"
				if path == tc.private {
					id = "id=ann;"
				}
				if got.Get("X-User") != user || got.Get("X-Id") != id {
					t.Errorf("%s: the user is %q, and by the placeholder %q", path, got["X-User"], got["X-Id"])
				}
			}
		}
		// Whatever handler is first, and whether the site is alone in its server.
		alone := strings.Replace(tc.site, " guard\n", "", 1)
		other := "\nhttp://b {\n jwt_auth {env.JWT_SECRET_KEY} {\n forward sub X-Own\n}\n " + proxy + "}"
		t.Run(name, func(t *testing.T) { run(t, tc.site) })
		t.Run(name+", no guard", func(t *testing.T) { run(t, alone) })
		t.Run(name+", among other sites", func(t *testing.T) { run(t, strings.Replace(alone, ":80 {", "http://a, http://c {", 1)+other) })
	}
}
