package rediscache

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
)

// Handlers in front of the cache may tell requests apart, and delete what they looked at.
// The service answers by what they made of it.
func TestFieldsMadeInFront(t *testing.T) {
	const role, who = "vars.role", "vars.who"
	for name, test := range map[string]struct {
		front, key, up, field string
		shared                bool // by requests with the same value
	}{
		"a credential moved to a field":       {front: "request_header X-Say {header.X-Api-Key}\nrequest_header -X-Api-Key", field: "X-Api-Key"},
		"and added":                           {front: "request_header +X-Say {header.X-Api-Key}\nrequest_header -X-Api-Key", field: "X-Api-Key"},
		"and in a replacement":                {front: "request_header X-Say x\nrequest_header X-Say .* {header.X-Api-Key}\nrequest_header -X-Api-Key", field: "X-Api-Key"},
		"Authorization moved to a field":      {front: "request_header X-Say {header.Authorization}\nrequest_header -Authorization", field: "Authorization"},
		"a cookie moved to a field":           {front: "request_header X-Say {cookie.sid}\nrequest_header -Cookie", field: "Cookie"},
		"a cookie moved, though one is keyed": {front: "request_header X-Say {cookie.sid}\nrequest_header -Cookie", key: "cookie lang", field: "Cookie", shared: true},
		"a keyed field moved":                 {front: "request_header X-Say {header.X-Api-Key}\nrequest_header -X-Api-Key", key: "header X-Api-Key", field: "X-Api-Key", shared: true},
		"a credential moved to a variable":    {front: "vars who {header.X-Api-Key}\nrequest_header -X-Api-Key", up: who, field: "X-Api-Key"},
		"and to another one":                  {front: "vars a {header.X-Api-Key}\nvars who {vars.a}\nrequest_header -X-Api-Key", up: who, field: "X-Api-Key"},
		"a variable moved to a field":         {front: "vars who {header.X-Api-Key}\nrequest_header X-Say {vars.who}\nrequest_header -X-Api-Key", field: "X-Api-Key"},
		"a credential of one's own":           {front: "request_header X-Say {header.X-Our}\nrequest_header -X-Our", key: "credentials X-Our", field: "X-Our"},
		"a part of a cookie":                  {front: "@m header_regexp n Cookie sid=(.*)\nrequest_header @m X-Seen 1\nrequest_header -Cookie", up: "re.n.1", field: "Cookie", shared: true},
		"a map of a cookie":                   {front: "map {cookie.sid} {who} {\na ann\ndefault nobody\n}\nrequest_header X-Say {who}\nrequest_header -Cookie", field: "Cookie", shared: true},
		"a map with parts of a cookie":        {front: "map {cookie.sid} {who} {\n~^(.*)$ ${1}\n}\nrequest_header X-Say {who}\nrequest_header -Cookie", field: "Cookie"},
		"a map of a field":                    {front: "map {header.X-Kind} {who} {\na ann\ndefault nobody\n}", up: "who", field: "X-Kind", shared: true},
		"a fixed value for some":              {front: "@a header X-Kind a\nrequest_header @a X-Say admin", field: "X-Kind", shared: true},
		"a fixed value added for some":        {front: "@a header X-Kind a\nrequest_header @a +X-Say admin", field: "X-Kind", shared: true},
		"a fixed value removed for some":      {front: "@b not header X-Kind a\nrequest_header X-Say admin\nrequest_header @b -X-Say", field: "X-Kind", shared: true},
		"a fixed value in a replacement":      {front: "@a header X-Kind a\nrequest_header X-Say guest\nrequest_header @a X-Say guest admin", field: "X-Kind", shared: true},
		"a fixed variable for some":           {front: "@a header X-Kind a\nvars @a role admin", up: role, field: "X-Kind", shared: true},
		"one of two fixed variables":          {front: "@a header X-Kind a\nvars role guest\nvars @a role admin", up: role, field: "X-Kind", shared: true},
		"a number for some":                   {front: "@a header X-Kind a\nvars @a role 1", up: role, field: "X-Kind", shared: true},
		"a fixed variable in a field":         {front: "@a header X-Kind a\nvars role guest\nvars @a role admin\nrequest_header X-Say {vars.role}", field: "X-Kind", shared: true},
		"a fixed value by a credential":       {front: "@a header Cookie sid=a\nrequest_header @a X-Say admin\nrequest_header -Cookie", field: "Cookie", shared: true},
		"a fixed value by an expression":      {front: "@a expression `{header.X-Kind} == \"a\"`\nrequest_header @a X-Say admin", field: "X-Kind", shared: true},
	} {
		up := ""
		if test.up != "" {
			up = "{\nheader_up X-Say {" + test.up + "}\n}"
		}
		key := ""
		if test.key != "" {
			key = "{\nkey {\n" + test.key + "\n}\n}"
		}
		r := runCaddyfile(t, "http://:$1 {\nroute {\n"+test.front+"\nhttp_cache 60s "+key+"\nreverse_proxy $PUBLIC "+up+"\n}\n}")
		ask := func(value string) string {
			if value == "" {
				return r.get(1, "/", "Host", "a.test")
			}
			if test.field == "Cookie" {
				value = "sid=" + value
			}
			return r.get(1, "/", "Host", "a.test", test.field, value)
		}
		first := ask("a")
		_, content, _ := strings.Cut(first, " ")
		for _, value := range []string{"b", ""} {
			if got := ask(value); strings.HasSuffix(got, " "+content) {
				t.Errorf("%s: %q after %q: %s", name, value, first, got)
			}
		}
		if again := ask("a"); strings.HasPrefix(again, "hit") != test.shared {
			t.Errorf("%s: first %s, again %s", name, first, again)
		}
	}
}

// Caddy reads a file for each request: a value that it had once is no constant.
func TestFilesInFront(t *testing.T) {
	for front, up := range map[string]string{
		"request_header @a X-Say {file.$FILE}":                           "",
		"vars @a role {file.$FILE}":                                      "{\nheader_up X-Say {vars.role}\n}",
		"vars @a role {file.$FILE}\nrequest_header @a X-Say {vars.role}": "",
	} {
		file := filepath.Join(t.TempDir(), "role")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("one")
		r := runCaddyfile(t, "http://:$1 {\nroute {\n@a header X-Kind a\n"+strings.ReplaceAll(front, "$FILE", file)+"\nhttp_cache 60s\nreverse_proxy $PUBLIC "+up+"\n}\n}")
		ask := func(kind string) string { return r.get(1, "/", "Host", "a.test", "X-Kind", kind) }
		ask("a")
		if got := ask("a"); !strings.HasPrefix(got, "hit") || !strings.HasSuffix(got, "one") {
			t.Errorf("%s: again %s", front, got)
		}
		write("two")
		if got := ask("a"); !strings.HasPrefix(got, "miss") || !strings.HasSuffix(got, "two") {
			t.Errorf("%s: after the file changed %s", front, got)
		}
		if got := ask("b"); strings.Contains(got, "two") {
			t.Errorf("%s: without the field %s", front, got)
		}
	}
}

// Two places with one namespace do not share what different variables in front chose.
func TestVariablesOfPlacesWithOneNamespace(t *testing.T) {
	place := func(name string) string {
		return "route {\n@a header X-Kind a\nvars @a " + name + " admin\nhttp_cache 60s {\nnamespace one\n}\nreverse_proxy $PUBLIC {\nheader_up X-Say {vars." + name + "}" + "\n}\n}"
	}
	// The second one has a variable of another name, with the same value.
	r := runCaddyfile(t, "http://:$1 {\n"+place("role")+"\n}\nhttp://:$2 {\n"+strings.ReplaceAll(place("other"), "{vars.other}", "<{vars.other}>")+"\n}")
	first := r.get(1, "/", "Host", "a.test", "X-Kind", "a")
	if got := r.get(2, "/", "Host", "a.test", "X-Kind", "a"); !strings.HasPrefix(got, "miss") || !strings.HasSuffix(got, "<admin>") {
		t.Errorf("first %s, then %s", first, got)
	}
}

// Fields of `key header` and variables of `key value` are part of the key, and no
// credentials, also if handlers in front make them of such.
func TestMadeCredentialsInTheKey(t *testing.T) {
	for front, options := range map[string][2]string{
		"request_header X-Tenant {header.X-Api-Key}\nrequest_header X-Say {header.X-Tenant}": {"header X-Tenant", ""},
		"vars who {header.X-Api-Key}":                                  {"value {vars.who}", "{\nheader_up X-Say {vars.who}\n}"},
		"vars who {header.X-Api-Key}\nrequest_header X-Say {vars.who}": {"value {vars.who}", ""},
	} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\n"+front+"\nrequest_header -X-Api-Key\nhttp_cache 60s {\nkey {\n"+options[0]+"\n}\n}\nreverse_proxy $PUBLIC "+options[1]+"\n}\n}")
		for i, key := range []string{"ann", "bob", "ann", "bob"} {
			got, want := r.get(1, "/", "Host", "a.test", "X-Api-Key", key), []string{"miss", "hit"}[i/2]
			if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, key) {
				t.Errorf("%s: %s: %s, want a %s", front, key, got, want)
			}
		}
	}
}

// tokenReader authenticates ann by any Authorization, as jwt_auth does by a token.
type tokenReader struct{}

func (tokenReader) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_token", New: func() caddy.Module { return new(tokenReader) }}
}

func (tokenReader) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	identity.Set(r, &identity.Identity{Provider: "main", Subject: "ann"})
	identity.SetSource(r, identity.Source{Field: "Authorization"})
	return next.ServeHTTP(w, r)
}

func init() {
	caddy.RegisterModule(tokenReader{})
	httpcaddyfile.RegisterHandlerDirective("test_token", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return tokenReader{}, nil })
}

// What handlers in front make of the token alone says no more than the token, which is
// another one after each refresh.
func TestWhatIsMadeOfTheToken(t *testing.T) {
	for front, want := range map[string]string{
		"vars who {header.Authorization}":                        "hit",
		"vars a {header.Authorization}\nvars who {vars.a}":       "hit",
		"vars who \"{header.Authorization} {header.X-Api-Key}\"": "miss",
		"vars who {header.X-Api-Key}":                            "miss",
	} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\n"+front+"\nrequest_header -X-Api-Key\ntest_token\nhttp_cache 60s {\nkey {\nper_user\n}\n}\nreverse_proxy $PUBLIC {\nheader_up X-Say {vars.who}\n}\n}\n}")
		r.get(1, "/", "Host", "a.test", "Authorization", "Bearer 1", "X-Api-Key", "1")
		if got := r.get(1, "/", "Host", "a.test", "Authorization", "Bearer 2", "X-Api-Key", "2"); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want a %s", front, got, want)
		}
	}
}

// What is the same for all, and what the user's own partition has, is shared as before.
func TestFieldsMadeInFrontThatAreShared(t *testing.T) {
	for _, front := range []string{"request_header X-Say one", "request_header -X-Kind", "vars x {header.X-Kind}", "request_header X-Other {header.User-Agent}"} {
		r := runCaddyfile(t, "http://:$1 {\nroute {\n"+front+"\nhttp_cache 60s\nreverse_proxy $PUBLIC\n}\n}")
		r.get(1, "/", "Host", "a.test", "X-Kind", "a")
		if got := r.get(1, "/", "Host", "a.test", "X-Kind", "b"); !strings.HasPrefix(got, "hit") {
			t.Errorf("%s: %s", front, got)
		}
	}
}

// Of one user, requests with other credentials in fields of handlers in front do not share.
func TestMadeCredentialsOfOneUser(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nroute {\nvars who {header.X-Api-Key}\nrequest_header -X-Api-Key\nhttp_cache 60s {\nkey {\nper_user header X-Ann\n}\n}\nreverse_proxy $PUBLIC {\nheader_up X-Say {vars.who}\n}\n}\n}")
	ask := func(key string) string { return r.get(1, "/", "Host", "a.test", "X-Ann", "1", "X-Api-Key", key) }
	ask("a")
	if got := ask("b"); !strings.HasPrefix(got, "miss") {
		t.Errorf("another key: %s", got)
	}
	if got := ask("a"); !strings.HasPrefix(got, "hit") {
		t.Errorf("the same key: %s", got)
	}
}
