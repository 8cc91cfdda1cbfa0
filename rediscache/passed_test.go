package rediscache

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/testkit"
)

// A cache in handle_errors, or where a response is handled, stands behind the handlers
// that ran before.
func TestHandlersPassedBefore(t *testing.T) {
	const stored, site = "http_cache 60s\nreverse_proxy $PUBLIC\n", "http://a.test:$1 {\n"
	const cookie = "request_header X-Say {cookie.sid}\nrequest_header -Cookie\n"
	const fixed = "@a header Cookie sid=a\nrequest_header @a X-Say admin\nrequest_header -Cookie\n"
	const intercept = "intercept {\n@e status 404\nhandle_response @e {\n" + stored + "}\n}\n"
	for name, config := range map[string]string{
		"errors, a cookie":         "http://:$1 {\nroute {\n" + cookie + "error 404\n}\nhandle_errors {\n" + stored + "}\n}",
		"errors, a fixed value":    "http://:$1 {\nroute {\n" + fixed + "error 404\n}\nhandle_errors {\n" + stored + "}\n}",
		"errors of one status":     "http://:$1 {\nroute {\n" + fixed + "error 404\n}\nhandle_errors 404 {\n" + stored + "}\n}",
		"errors of one site":       site + "route {\n" + cookie + "error 404\n}\nhandle_errors {\n" + stored + "}\n}\nhttp://b.test:$1 {\nrespond b\n}",
		"responses, a cookie":      "http://:$1 {\nroute {\n" + intercept + cookie + "respond 404\n}\n}",
		"responses, a fixed value": "http://:$1 {\nroute {\n" + intercept + fixed + "respond 404\n}\n}",
	} {
		r := runCaddyfile(t, config)
		if got := r.get(1, "/", "Host", "a.test", "Cookie", "sid=a"); !strings.HasPrefix(got, "miss PUBLIC") {
			t.Errorf("%s: %s", name, got)
		}
		if got := r.get(1, "/", "Host", "a.test", "Cookie", "sid=b"); !strings.HasPrefix(got, "miss PUBLIC") {
			t.Errorf("%s, another one: %s", name, got)
		}
	}
}

// What other sites do with requests is nothing to the handle_errors of a site.
func TestErrorsOfOtherSites(t *testing.T) {
	r := runCaddyfile(t, "http://a.test:$1 {\nerror 404\nhandle_errors {\nhttp_cache 60s\nreverse_proxy $PUBLIC\n}\n}\nhttp://b.test:$1 {\nheader Vary *\nrespond b\n}")
	r.get(1, "/", "Host", "a.test")
	if got := r.get(1, "/", "Host", "a.test"); !strings.HasPrefix(got, "hit PUBLIC") {
		t.Error(got)
	}
}

// Two errors of one URL are answered apart, and as what they are after a refresh too.
func TestStatusOfErrors(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nroute {\n@a header X-Kind a\nerror @a 403\nerror 404\n}\nhandle_errors {\nhttp_cache 60s\nreverse_proxy $PUBLIC {\n"+
		"header_up X-Say <{err.status_code}>\nheader_down Cache-Control \"max-age=0, stale-while-revalidate=60\"\n}\n}\n}")
	testkit.Eventually(t, "refreshes", func() bool {
		for kind, status := range map[string]string{"a": "<403>", "b": "<404>"} {
			if got := r.get(1, "/", "Host", "a.test", "X-Kind", kind); !strings.HasSuffix(got, status) {
				t.Fatalf("after %d requests to the service: %s, want %s", r.asked.Load(), got, status)
			}
		}
		return r.asked.Load() >= 6
	})
}

// The fields with which another service lets a request pass name its user, wherever they
// are used. An explicit lifetime does not make a response one for everybody.
func TestAnswersOfOtherServices(t *testing.T) {
	const ask, answer = "reverse_proxy 127.0.0.1:$2 {\nmethod GET\nrewrite /auth\nhandle_response {\n", "{rp.header.X-User}"
	for name, c := range map[string]struct{ inner, front, up string }{
		"a variable":              {inner: "vars who " + answer, up: "{vars.who}"},
		"a variable in a field":   {inner: "vars who " + answer, front: "request_header X-Say {vars.who}"},
		"a variable in another":   {inner: "vars a " + answer, front: "vars who {vars.a}", up: "{vars.who}"},
		"parts of one":            {front: "map " + answer + " {who} {\n~(.*) <${1}>\n}", up: "{who}"},
		"the field":               {inner: "vars x y", up: answer},
		"where it is answered to": {inner: "request_header -Cookie\nhttp_cache\nreverse_proxy $PUBLIC {\nheader_up X-Say " + answer + "\nheader_down Cache-Control max-age=60\n}"},
	} {
		up := ""
		if c.up != "" {
			up = "header_up X-Say " + c.up + "\n"
		}
		r := runCaddyfile(t, "http://:$1 {\nroute {\n"+ask+c.inner+"\n}\n}\n"+c.front+"\nrequest_header -Cookie\nhttp_cache\nreverse_proxy $PUBLIC {\n"+up+"header_down Cache-Control max-age=60\n}\n}\n}\n"+
			"http://:$2 {\nheader X-User {cookie.sid}\nrespond 204\n}")
		for _, user := range []string{"ann", "bob"} {
			if got := r.get(1, "/", "Host", "a.test", "Cookie", "sid="+user); !strings.HasPrefix(got, "miss PUBLIC") || !strings.Contains(got, user) {
				t.Errorf("%s: %s: %s", name, user, got)
			}
		}
	}
}

// A field of which handlers behind make credentials is one.
func TestCredentialsMadeBehind(t *testing.T) {
	for what, behind := range map[string]string{
		"Authorization":             "reverse_proxy $PUBLIC {\nheader_up Authorization \"Bearer {header.X-Say}\"\nheader_down Cache-Control max-age=60\n}",
		"an API key":                "reverse_proxy $PUBLIC {\nheader_up +X-Api-Key {header.X-Say}\nheader_down Cache-Control max-age=60\n}",
		"a cookie":                  "request_header Cookie sid={header.X-Say}\nreverse_proxy $PUBLIC {\nheader_down Cache-Control max-age=60\n}",
		"the name of a user":        "reverse_proxy $PUBLIC {\nheader_up X-User {header.X-Say}\n}",
		"a variable in front of it": "reverse_proxy $PUBLIC {\nheader_up X-User {vars.say}\n}",
	} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\nvars say {header.X-Say}\nhttp_cache 60s\n"+behind+"\n}\n}")
		for _, say := range []string{"ann", "bob"} {
			if got := r.get(1, "/", "Host", "a.test", "X-Say", say); !strings.HasSuffix(got, say) {
				t.Errorf("%s: %s: %s", what, say, got)
			}
		}
		r.get(1, "/", "Host", "a.test")
		if got := r.get(1, "/", "Host", "a.test"); !strings.HasPrefix(got, "hit") {
			t.Errorf("%s: nobody: %s", what, got)
		}
	}
}

// The operator's secrets make no credential of a request, nor does the client's address.
func TestNoCredentialsMadeBehind(t *testing.T) {
	for _, behind := range []string{
		"header_up Authorization \"Bearer {env.PATH}\"", "header_up X-Api-Key {vars.secret}", "header_up X-User {client_ip}", "header_up X-Token {uri}",
	} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\nvars secret {env.PATH}\nhttp_cache 60s\nreverse_proxy $PUBLIC {\n"+behind+"\n}\n}\n}")
		r.get(1, "/", "Host", "a.test")
		if got := r.get(1, "/", "Host", "a.test"); !strings.HasPrefix(got, "hit") {
			t.Errorf("%s: %s", behind, got)
		}
	}
}

// Services may tell hosts apart by the address that was connected to, too.
func TestAddressThatWasConnectedTo(t *testing.T) {
	for _, what := range []string{"request_header X-Say {http.request.local.host}\nhttp_cache 60s\nreverse_proxy $PUBLIC", "http_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say {http.request.local.host}\n}"} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\n"+what+"\n}\n}")
		for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+":"+r.ports[0]+"/", nil)
			req.Host = "a.test"
			if got := r.do(req); !strings.HasSuffix(got, host) {
				t.Errorf("%s: %s: %s", what, host, got)
			}
		}
	}
	if made := (hostMade{}); !made.in("{http.request.tls.server_name}") || !slices.Contains(made.variables([]string{"http.request.tls.server_name"}), "http.request.tls.server_name") {
		t.Error("the name in the TLS handshake does not count")
	}
}

// What a proxy says that a reverse_proxy behind trusts reaches the service, and is part of
// the key.
func TestProxiesThatAProxyBehindTrusts(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nhttp_cache 60s\nreverse_proxy $PUBLIC {\ntrusted_proxies 127.0.0.0/8\nheader_up X-Say {header.X-Forwarded-Prefix}\n}\n}")
	for _, want := range []string{"miss", "hit"} {
		for _, prefix := range []string{"/shop", "/blog"} {
			if got := r.get(1, "/", "Host", "a.test", "X-Forwarded-Prefix", prefix); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, prefix) {
				t.Errorf("%s: %s, want a %s", prefix, got, want)
			}
		}
	}
}

// A field is a credential at all places if a handler of the configuration reads it as one,
// and in every spelling that a service may take for the same.
func TestFieldsThatAreCredentials(t *testing.T) {
	credentials.AddField("X-Ticket-Of-Test")
	r := runCaddyfile(t, "http://:$1 {\nhttp_cache 60s\nreverse_proxy $PUBLIC\n}")
	r.get(1, "/", "Host", "a.test", "X-Ticket-Of-Test", "a")
	if got := r.get(1, "/", "Host", "a.test", "X-Ticket-Of-Test", "b"); !strings.HasPrefix(got, "miss") {
		t.Errorf("a field that a handler reads: %s", got)
	}
	r = runWith(t, "servers {\nexpected_underscore_headers X_* Api_*\nexpected_dot_headers X.*\n}\n", "http://:$1 {\nhttp_cache 60s\nreverse_proxy $PUBLIC\n}\n"+
		"http://:$2 {\nhttp_cache 60s {\nkey {\nheader Api_key\ncredentials our_name\n}\n}\nreverse_proxy $PUBLIC\n}")
	for _, field := range []string{"Api_key", "X_api_key", "X_user", "X.user", "X~Api~Key", "X_ticket_of_test", "X_ssl_client_s_dn"} {
		r.get(1, "/"+field, "Host", "a.test", field, "a")
		if got := r.get(1, "/"+field, "Host", "a.test", field, "b"); !strings.HasPrefix(got, "miss") {
			t.Errorf("%s: %s", field, got)
		}
	}
	for field, want := range map[string]string{"Api_key": "hit", "Our-Name": "miss"} {
		r.get(2, "/"+field, "Host", "a.test", field, "a")
		if got := r.get(2, "/"+field, "Host", "a.test", field, "a"); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want a %s", field, got, want)
		}
	}
}

// Several placeholders in one text of `key value` are told apart.
func TestKeyValuesOfSeveralPlaceholders(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nhttp_cache 60s {\nkey {\nvalue {header.X-A}-{header.X-B}\n}\n}\nreverse_proxy $PUBLIC\n}")
	r.get(1, "/", "Host", "a.test", "X-A", "x-y", "X-B", "z")
	if got := r.get(1, "/", "Host", "a.test", "X-A", "x", "X-B", "y-z"); !strings.HasPrefix(got, "miss") {
		t.Error(got)
	}
	if got := r.get(1, "/", "Host", "a.test", "X-A", "x", "X-B", "y-z"); !strings.HasPrefix(got, "hit") {
		t.Error(got)
	}
}

// A field that Connection names does not reach the service, so that the response is not
// one for requests where it does.
func TestFieldsThatConnectionNames(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nhttp_cache 60s {\nkey {\nheader X-Say\n}\n}\nreverse_proxy $PUBLIC\n}\nhttp://:$2 {\nrequest_header X-Say operator\nhttp_cache 60s\nreverse_proxy $PUBLIC\n}")
	for port, fields := range map[int][]string{1: {"Host", "a.test", "X-Say", "operator"}, 2: {"Host", "a.test"}} {
		if got := r.get(port, "/", append(fields, "Connection", "close, x-say")...); !strings.HasPrefix(got, "miss") {
			t.Errorf("%d: %s", port, got)
		}
		if got := r.get(port, "/", fields...); !strings.HasPrefix(got, "miss") || !strings.HasSuffix(got, "operator") {
			t.Errorf("%d, afterwards: %s", port, got)
		}
		if got := r.get(port, "/", append(fields, "Connection", "Keep-Alive, X-Nothing")...); !strings.HasPrefix(got, "hit") {
			t.Errorf("%d, a field that is not there: %s", port, got)
		}
	}
}

// The response to a POST that `bypass` fits is not stored either.
func TestBypassOfPost(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nhttp_cache {\nbypass {\nheader X-Say *\n}\n}\nreverse_proxy $PUBLIC {\nheader_down Cache-Control max-age=60\nheader_down Content-Location {uri}\n}\n}")
	for path, want := range map[string]string{"/preview": "miss", "/": "hit"} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:"+r.ports[0]+path, strings.NewReader("x"))
		req.Host = "a.test"
		if want == "miss" {
			req.Header.Set("X-Say", "preview")
		}
		r.do(req)
		if got := r.get(1, path, "Host", "a.test"); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want a %s", path, got, want)
		}
	}
}

// speller says how the configuration spells the path, as the services of tentagate do.
type speller struct{}

func (speller) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_speller", New: func() caddy.Module { return new(speller) }}
}

func (speller) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	requeststate.SetPath(r, strings.ToLower(r.URL.Path))
	return next.ServeHTTP(w, r)
}

func init() {
	caddy.RegisterModule(speller{})
	httpcaddyfile.RegisterHandlerDirective("test_speller", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return speller{}, nil })
}

// Spellings of one path are one resource, but not those of URLs that were rewritten to it.
func TestSpellingOfARewrittenPath(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nroute {\nrequest_header X-Say {path.0}\nuri strip_prefix /v1\nuri strip_prefix /v2\ntest_speller\nhttp_cache 60s\nreverse_proxy $PUBLIC\n}\n}")
	for _, version := range []string{"v1", "v2"} {
		if got := r.get(1, "/"+version+"/API/x", "Host", "a.test"); !strings.HasPrefix(got, "miss") || !strings.HasSuffix(got, version) {
			t.Errorf("%s: %s", version, got)
		}
	}
	r.get(1, "/api/x", "Host", "a.test")
	if got := r.get(1, "/API/x", "Host", "a.test"); !strings.HasPrefix(got, "hit") {
		t.Error(got)
	}
}
