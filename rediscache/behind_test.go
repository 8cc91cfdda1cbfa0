package rediscache

import (
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

// A response is not used for a request that would get another one: what chooses may be
// made by handlers behind the cache, or come from an answer that handlers in front got.
func TestResponsesOfHandlersBehind(t *testing.T) {
	const fails = "@bad header X-Kind b\nerror @bad 503\nerror 404\n"
	const asks = "reverse_proxy 127.0.0.1:$2 {\n@any status 2xx\nhandle_response @any {\n}\n}\n"
	for name, tc := range map[string]struct {
		config string
		cached bool // the same request gets it again
	}{
		"Vary by header_up":                                     {"http_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say {header.X-Kind}\nheader_down Vary X-Say\n}", false},
		"Vary by header_up, of several":                         {"http_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say {header.X-Kind}\nheader_down Vary \"Accept, x-say\"\nheader_down Cache-Control public,max-age=60\n}", false},
		"Vary by header_up, a replacement":                      {"http_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say ^.*$ {header.X-Kind}\nheader_down Vary X-Say\n}", false},
		"Vary by request_header behind":                         {"http_cache 60s\nrequest_header X-Say {header.X-Kind}\nreverse_proxy $PUBLIC {\nheader_down Vary X-Say\n}", false},
		"Vary by request_header behind, of the user":            {"http_cache 60s {\nkey {\nper_user header X-Kind\n}\n}\nrequest_header X-Say {header.X-Kind}\nreverse_proxy $PUBLIC {\nheader_down Vary X-Say\n}", true},
		"Vary by header_up, of what is no client's":             {"http_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say {http.request.host}\nheader_down Vary X-Say,X-Kind\n}", true},
		"Vary by a deleted field":                               {"http_cache 60s\nreverse_proxy $PUBLIC {\nheader_up -X-Forwarded-For\nheader_down Vary X-Forwarded-For,X-Kind\n}", true},
		"Vary by X-Forwarded-For":                               {"http_cache 60s\nreverse_proxy $PUBLIC {\nheader_down Vary X-Forwarded-For\n}", false},
		"Vary by header_up, of the user":                        {"http_cache 60s {\nkey {\nper_user header X-Kind\n}\n}\nreverse_proxy $PUBLIC {\nheader_up X-Say {header.X-Kind}\nheader_down Vary X-Say\n}", true},
		"Vary by header_up, of the user, public":                {"http_cache 60s {\nkey {\nper_user header X-Kind\n}\n}\nreverse_proxy $PUBLIC {\nheader_up X-Say {header.X-Kind}\nheader_down Vary X-Say\nheader_down Cache-Control public,max-age=60\n}", true},
		"Vary by header_up, of a field of the key":              {"http_cache 60s {\nkey {\nheader X-Kind\n}\n}\nreverse_proxy $PUBLIC {\nheader_up X-Say {header.X-Kind}\nheader_down Vary X-Say\n}", true},
		"Vary by header_up, of the user and more":               {"http_cache 60s {\nkey {\nper_user header X-Kind\n}\n}\nreverse_proxy $PUBLIC {\nheader_up X-Say \"{header.X-Kind} {remote_host}\"\nheader_down Vary X-Say\n}", false},
		"Vary by header_up, of the user's field changed behind": {"http_cache 60s {\nkey {\nper_user header X-Kind\n}\n}\nrequest_header X-Kind {remote_host}\nreverse_proxy $PUBLIC {\nheader_up X-Say {header.X-Kind}\nheader_down Vary X-Say\n}", false},
		"Vary by a handler in front":                            {"request_header X-Say {header.X-Kind}\nhttp_cache 60s\nreverse_proxy $PUBLIC {\nheader_down Vary X-Say\n}", true},
		"Vary of a header in front":                             {"header Vary X-Kind\nhttp_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say {header.X-Kind}\n}", true},
		"Vary of a header in front, deferred":                   {"header >Vary \"Accept, X-Kind\"\nhttp_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say {header.X-Kind}\n}", true},
		"Vary * of a header in front":                           {"header +Vary *\nhttp_cache 60s\nreverse_proxy $PUBLIC", false},
		"a service that another one names":                      {asks + "http_cache 60s\nrewrite /?{http.reverse_proxy.header.X-Kind}\nreverse_proxy $PUBLIC {\nheader_down Cache-Control max-age=60\n}", true},
		"what another service says":                             {asks + "http_cache 60s\nroute {\nheader Cache-Control max-age=60\nrespond {http.reverse_proxy.header.X-Kind} 200\n}", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := runCaddyfile(t, "http://:$1 {\nroute {\n"+tc.config+"\n}\n}\nhttp://:$2 {\nheader X-Kind {header.X-Kind}\nrespond 200\n}")
			checkTwo(t, r, tc.cached)
		})
	}
	t.Run("errors", func(t *testing.T) {
		r := runCaddyfile(t, "http://:$1 {\n"+fails+"handle_errors {\nroute {\nhttp_cache 60s\nrewrite /{err.status_code}\nreverse_proxy $PUBLIC\n}\n}\n}")
		checkTwo(t, r, true)
	})
	t.Run("errors, by matchers", func(t *testing.T) {
		r := runCaddyfile(t, "http://:$1 {\n"+fails+"handle_errors {\nroute {\nhttp_cache 60s\n@gone expression {err.status_code} == 404\nrewrite @gone /gone\nreverse_proxy $PUBLIC\n}\n}\n}")
		checkTwo(t, r, true)
	})
}

// The client's address that a handler in front tells the service is no part of the key.
func TestAddressesOfHandlersInFront(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nroute {\nrequest_header X-Real-IP {header.X-Kind}\nhttp_cache 60s\nreverse_proxy 127.0.0.1:$2\n}\n}\nhttp://:$2 {\nrespond <{header.X-Real-IP}> 200\n}")
	for _, kind := range []string{"a", "b"} {
		got := r.get(1, "/", "Host", "a.test", "X-Kind", kind, "X-Real-IP", "127.0.0.1")
		if how := map[string]string{"a": "miss", "b": "hit"}[kind]; !strings.HasPrefix(got, how) || !strings.Contains(got, "<a>") {
			t.Errorf("%s: %s", kind, got)
		}
	}
}

// One that it adds, replaces or sets for some requests only may be the client's own word,
// which does not reach the service with a request whose response may be shared.
func TestAddressesOfSomeRequests(t *testing.T) {
	for _, front := range []string{
		"request_header +X-Real-IP 192.0.2.1", "@a header X-Kind a\nrequest_header @a X-Real-IP 192.0.2.1", "request_header X-Real-IP ^a$ {remote_host}",
		"route /x* {\nrequest_header X-Real-IP 192.0.2.1\n}",
	} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\n"+front+"\nhttp_cache 60s\nreverse_proxy 127.0.0.1:$2\n}\n}\nhttp://:$2 {\nrespond <{header.X-Real-IP}> 200\n}")
		if got := r.get(1, "/", "Host", "a.test", "X-Real-IP", "127.0.0.1"); strings.Contains(got, "127.0.0.1>") || strings.Contains(got, "<127.0.0.1") {
			t.Errorf("%s: %s", front, got)
		}
	}
}

// The key of a response is made of the fields as they are in front of handlers that
// change them.
func TestFieldsChangedBehind(t *testing.T) {
	for _, behind := range []string{
		"request_header X-Say {header.X-Kind}\nrequest_header -X-Kind\nreverse_proxy $PUBLIC {\nheader_down No-Vary-Search params\n}",
		"request_header X-Say {header.X-Kind}\nrequest_header X-Kind b\nreverse_proxy $PUBLIC {\nheader_down Vary X-Say\n}",
	} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\nhttp_cache 60s {\nkey {\nheader X-Kind\n}\n}\n"+behind+"\n}\n}")
		first := r.get(1, "/?a=1", "Host", "a.test", "X-Kind", "a")
		for _, other := range []string{"", "b"} {
			if got := r.get(1, "/?a=1", "Host", "a.test", "X-Kind", other); !strings.HasPrefix(got, "miss") {
				t.Errorf("%s: of %q after %q: %s", behind, other, first, got)
			}
		}
		if got := r.get(1, "/?a=1", "Host", "a.test", "X-Kind", "a"); !strings.HasPrefix(got, "hit") {
			t.Errorf("%s: again %s", behind, got)
		}
	}
}

// So is what a trusted proxy says, which the directive replaces for the service.
func TestPrefixReplacedBehind(t *testing.T) {
	r := runWith(t, "servers {\ntrusted_proxies static private_ranges\n}\n", "http://:$1 {\nroute {\nhttp_cache 60s\n"+
		"request_header X-Forwarded-Prefix /api/a\nreverse_proxy $PUBLIC {\nheader_down No-Vary-Search params\n}\n}\n}")
	for _, want := range []string{"miss", "hit"} {
		if got := r.get(1, "/?a=1", "Host", "a.test", "X-Forwarded-Prefix", "/shop"); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The first response that says No-Vary-Search is stored where the next request looks for
// it, also if handlers behind rewrite the URL.
func TestSearchRuleOfARewrittenURL(t *testing.T) {
	for _, behind := range []string{"rewrite * /other{uri}", "uri strip_prefix /a", ""} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\nhttp_cache 60s\n"+behind+"\nreverse_proxy $PUBLIC {\nheader_down No-Vary-Search `params=(\"utm\")`\n}\n}\n}")
		first := r.get(1, "/a/b?utm=1&x=2", "Host", "a.test")
		if got := r.get(1, "/a/b?x=2&utm=3", "Host", "a.test"); !strings.HasPrefix(got, "hit") {
			t.Errorf("%q: %s, then %s", behind, first, got)
		}
	}
}

// checkTwo has two clients ask for one URL, which get different responses.
func checkTwo(t *testing.T, r *running, cached bool) {
	t.Helper()
	ask := func(key string, more ...string) string {
		return r.get(1, "/", append([]string{"Host", "a.test", "X-Kind", key, "If-None-Match", `"none"`}, more...)...)
	}
	first := ask("a")
	if other := ask("b"); !strings.HasPrefix(other, "miss") {
		t.Errorf("first %s, then %s", first, other)
	}
	if again := ask("a"); strings.HasPrefix(again, "hit") != cached || cached && again[4:] != first[5:] {
		t.Errorf("first %s, again %s", first, again)
	}
}

// A cookie counts as the service reads it, also if net/http does not.
func TestCookiesOfTheKey(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nhttp_cache 60s {\nkey {\ncookie sid\n}\n}\nreverse_proxy $PUBLIC\n}")
	for i, cookie := range []string{"", "sid=a", `sid="a"`, `sid={"user":"ann"}`, `sid={"user":"bob"}`, `sid=a\b`, "sid=\xfc", "sid=a; sid=b", "sid=b; sid=a", "sid="} {
		for _, how := range []string{"miss", "hit"} {
			if got := r.get(1, "/", "Host", "a.test", "Cookie", cookie); !strings.HasPrefix(got, how) {
				t.Errorf("%d, %q: %s, want a %s", i, cookie, got, how)
			}
		}
	}
	if got := r.get(1, "/", "Host", "a.test", "Cookie", "other=1; sid=a"); !strings.HasPrefix(got, "hit") {
		t.Errorf("another cookie beside: %s", got)
	}
}

// The host is in the key in its normal form. What handlers in front made of it as it was
// sent does not reach those who send it otherwise.
func TestFieldsMadeOfTheHost(t *testing.T) {
	const tenants = "map {host} {tenant} {\nevil.test known\ndefault EVIL\n}\n"
	for _, front := range []string{
		"request_header X-Say {http.request.host}", "request_header X-Say {http.request.hostport}", "request_header X-Say {http.request.host.labels.1}",
		"request_header X-Say ^.*$ {host}", "vars h {host}\nrequest_header X-Say {vars.h}", "vars h {host}\nrequest_header X-Say x ={vars.h}",
		tenants + "request_header X-Say {tenant}", tenants + "vars h {tenant}\nvars g {vars.h}", "vars g {hostport}",
		"map {path} {h} {\ndefault {host}\n}\nrequest_header X-Say {h}",
	} {
		up := ""
		if strings.Contains(front, "vars g") {
			up = "header_up X-Say {vars.g}"
		}
		r := runCaddyfile(t, "http://:$1 {\nroute {\n"+front+"\nhttp_cache 60s\nreverse_proxy $PUBLIC {\n"+up+"\n}\n}\n}")
		r.get(1, "/", "Host", "EVIL.test:80", "X-Say", "x")
		if got := r.get(1, "/", "Host", "evil.test", "X-Say", "x"); strings.Contains(got, "EVIL") || strings.Contains(got, ":80") {
			t.Errorf("%s: %s", front, got)
		}
	}
}

// A refresh in the background tells the service what its client asked for, before it was
// rewritten.
func TestRefreshKeepsTheOriginalRequest(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nhandle_path /shop/* {\nhttp_cache 60s\nreverse_proxy $PUBLIC {\nheader_up X-Say \"{http.request.orig_uri} {http.request.orig_uri.path} {http.request.orig_uri.query} {http.request.orig_method}\"\n"+
		"header_down Cache-Control \"max-age=0, stale-while-revalidate=60\"\n}\n}\n}")
	want := strings.TrimPrefix(r.get(1, "/shop/a?b=c", "Host", "a.test"), "miss")
	if !strings.Contains(want, " /shop/a?b=c /shop/a b=c GET") {
		t.Fatal(want)
	}
	testkit.Eventually(t, "refreshes", func() bool {
		if got := r.get(1, "/shop/a?b=c", "Host", "a.test"); !strings.HasSuffix(got, want) {
			t.Fatalf("after %d requests to the service: %s, want %s", r.asked.Load(), got, want)
		}
		return r.asked.Load() > 3
	})
}
