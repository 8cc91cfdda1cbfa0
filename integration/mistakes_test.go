package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/servertest"
)

// loadMistake validates a Caddyfile as `tentagate validate` does.
func loadMistake(text string) error {
	config, err := servertest.Adapt(text)
	if err != nil {
		return err
	}
	return validateJSON(config)
}

func validateJSON(config []byte) error {
	parsed := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(config, parsed); err != nil {
		return err
	}
	return caddy.Validate(parsed)
}

const secretOfMistakes = "z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPaQeUiOoXtYw"

// What would do nothing, refuse everything or open what was meant to be closed is an
// error of the configuration, with the option, what is accepted and the line.
func TestMistakes(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	t.Setenv("REDIS_URL_FILE", "")
	t.Setenv("JWT_SECRET_KEY", secretOfMistakes)
	t.Setenv("SHORT", "short")
	t.Setenv("ISSUERS", "any")
	t.Setenv("COMMA", " , ")
	site := func(lines string) string { return "{\nadmin off\n}\nhttp://:80 {\n" + lines + "\nrespond ok\n}" }
	auth := func(lines string) string { return site("jwt_auth {env.JWT_SECRET_KEY} {\n" + lines + "\n}") }
	for _, tc := range []struct{ name, text, want string }{
		{"two claims in one field", auth("forward sub X-User\nforward name x-user"), "forward: two claims go to the field x-user|at Caddyfile:7"},
		{"a claim and its field swapped", auth("forward X-User sub"), "the claim comes first: write `forward sub X-User`|at Caddyfile:6"},
		{"a field that cannot be", auth("forward sub x_user"), "letters, digits and dashes|at Caddyfile:6"},
		{"any issuer", auth("issuer any"), `issuer: "any" is not the iss of any token|at Caddyfile:6`},
		{"any issuer of a variable", auth("issuer {env.ISSUERS}"), `"any" is not the iss`},
		{"no issuer of a variable", auth("issuer {env.COMMA}"), "issuer: \"{env.COMMA}\" has no value"},
		{"any audience", auth("audience *"), `audience: "*" is not the aud of any token|at Caddyfile:6`},
		{"http without a fetch", auth("allow_http"), "allow_http: it is only accepted with the URL"},
		{"a secret in a file", auth("") + "\nhttp://:81 {\njwt_auth {\nsecret /run/secrets/tentagate/jwt_secret_key\n}\n}", "secret 1 of 1: it is what a variable or a file is called|at Caddyfile:12"},
		{"a placeholder without its brace", site("jwt_auth {env.JWT_SECRET_KEY"), "secret 1 of 1: a placeholder has no closing brace: write it as {env.NAME}|at Caddyfile:5"},
		{"an audience without its brace", auth("audience {env.AUDIENCE"), "audience: a placeholder has no closing brace: write it as {env.NAME}|at Caddyfile:6"},
		{"a secret of a variable", site("jwt_auth {env.SHORT}"), "secret 1 of 1: {env.SHORT}: 5 bytes are too short|at Caddyfile:5"},
		{"a matcher's scope", site("@a jwt_scope \"a b\"\nrespond @a no"), "jwt_scope: \"a b\": a scope is|at Caddyfile:5"},
		{"a matcher's variable", site("@a jwt_scope {env.NOT_SET}\nrespond @a no"), "jwt_scope: scopes: {env.NOT_SET} is empty|at Caddyfile:5"},
		{"a matcher's claim", site("@a {\njwt_claim tenant {env.NOT_SET}\n}\nrespond @a no"), "jwt_claim: values: {env.NOT_SET} is empty|at Caddyfile:6"},
		{
			"a provider that nobody uses", "{\nadmin off\ntentagate {\njwt_provider main {\ndiscovery https://a.example\nissuer {env.NOT_SET}\n}\n}\n}\nhttp://:80 {\nguard\nrespond ok\n}",
			"jwt_provider main: issuer: {env.NOT_SET} is empty|at Caddyfile:4",
		},
		{"a dashboard for everybody", site("tentagate {\nservice a http://127.0.0.1:1\n}\ndashboard"), "the dashboard at Caddyfile:8 is open to everybody|at Caddyfile:5"},
		{"the global option twice", "{\ntentagate {\n}\ntentagate {\n}\n}\nhttp://:80 {\n}", "tentagate is given more than once|at Caddyfile:4"},

		{"limit off", site("ratelimit off"), `"off" is not a limit: leave the directive out|at Caddyfile:5`},
		{"the key off", site("ratelimit 5/1m {\nkey off\n}"), "key: off is not a value|at Caddyfile:6"},
		{"a key without braces", site("ratelimit 5/1m {\nkey ip\n}"), "write {client_ip}|at Caddyfile:6"},
		{"a long key without braces", site("ratelimit 5/1m {\nkey http.auth.user.id\n}"), "write {http.auth.user.id}"},
		{"count after", site("ratelimit 5/1m {\ncount after 700\n}"), `count after: "700" is neither a status code|at Caddyfile:6`},
		{"count without codes", site("ratelimit 5/1m {\ncount after\n}"), "`count after <code or class…>`|at Caddyfile:6"},
		{"one limit twice", site("ratelimit {\nlimit 5/1m\nlimit 5/60s\n}"), "limit 5/1m: given more than once|at Caddyfile:7"},
		{"a cost that never fits", site("ratelimit 5/1m {\ncost 6\n}"), "cost: 6 is more than the 5 units"},

		{"a ttl", site("http_cache 60"), `http_cache: "60" is not a ttl such as 60s`},
		{"a ttl of a variable", site("http_cache {env.TTL}"), "a variable is written {$TTL} here"},
		{"hosts by URL", site("http_cache {\nhosts https://a.example\n}"), "write the host alone|at Caddyfile:6"},
		{"hosts by pattern", site("http_cache {\nhosts *.a.example\n}"), `"*.a.example" can match nothing`},
		{"hosts off", site("http_cache {\nhosts off\n}"), "hosts: off is not a value"},
		{"a field with a blank", site("http_cache {\nkey {\nheader \"X Y\"\n}\n}"), `"X Y" is not the name of a header field|at Caddyfile:7`},
		{"tags and off", site("http_cache {\ntags off X\n}"), "off cannot be combined"},
		{"too much memory", site("http_cache {\nmemory 100PiB\n}"), "at most 1TiB"},
		{"zero where there is no zero", site("http_cache {\nmax_error_ttl 0\n}"), "it cannot be switched off"},
		{"a matcher of bypass", site("http_cache {\nbypass {\npth /x\n}\n}"), `"pth" is not a matcher|at Caddyfile:7`},

		{"a breaker off", site("circuit_breaker off"), "circuit_breaker: off is not a name"},
		{"a breaker with a path first", site("circuit_breaker /api/*"), "the name comes first: write `circuit_breaker <name> /api/*`|at Caddyfile:5"},
		{"a breaker with one key", site("circuit_breaker a1 {\nkey users\n}"), "it is the same for all requests"},
		{"keys without a key", site("circuit_breaker a2 {\nmax_keys 5\n}"), "max_keys: it has no effect without key"},
		{"open without handlers", site("circuit_breaker a3 {\nconsecutive 5\nopen {\n}\n}"), "open: missing handlers, at Caddyfile:7"},
		{"an option of no policy", site("reverse_proxy a:1 {\nlb_policy available round_robin {\nmax_ejction 50%\n}\n}"), `unknown option "max_ejction"`},
		{"available without circuits", site("reverse_proxy a:1 {\nlb_policy available\n}"), "lb_policy available: there are no circuits to select by"},
		{"available in itself", site("reverse_proxy a:1 {\nlb_policy available available\n}"), "it cannot be the policy within itself"},

		{"forwarded by pattern", site("guard {\nkeep_forwarded X-Forwarded-*\n}"), `"X-Forwarded-*" is not a field`},
		{"an upgrade with a typo", site("guard {\nupgrades websockets\n}"), `"websockets" is not a protocol that is known: did you mean websocket?|at Caddyfile:6`},
		{"any upgrade", site("guard {\nupgrades *\n}"), `"*" is not a protocol name`},
		{"a service by placeholder", site("telemetry {host}"), "service: {http.request.host} is not a placeholder that is known when"},
		{"a service off", site("telemetry off"), "off is not the name of a service"},
		{"a log without names", site("log {\nformat filter {\nrequest>uri credentials {env.NOT_SET}\n}\n}"), "credentials: {env.NOT_SET} is empty"},

		{"a matcher of the directive", site("") + "\nhttp://:81 {\ntentagate {\nservice u http://u\nratelimit @nope 5/1m\n}\n}", "ratelimit: unrecognized matcher name: @nope: define it|at Caddyfile:11"},
		{"an origin of the directive", "{\nadmin off\n}\nhttp://:81 {\ntentagate {\nservice u http://u\nallowed_origins {env.NOT_SET}\n}\n}", "{env.NOT_SET} is empty|at Caddyfile:7"},
		{"a matcher that is not there", site("ratelimit @nope 5/1m"), "ratelimit: unrecognized matcher name: @nope: define it in the site|at Caddyfile:5"},
		{"a matcher behind a limit", site("ratelimit 5/1m /x"), "ratelimit: \"/x\" is a matcher, which comes first: write `ratelimit /x …`|at Caddyfile:5"},
		{"a matcher behind a ttl", site("@a path /a\nhttp_cache 60s @a"), "http_cache: \"@a\" is a matcher, which comes first|at Caddyfile:6"},
		{"a matcher of a breaker", site("circuit_breaker a4 @nope"), "circuit_breaker: unrecognized matcher name: @nope: define it in the site|at Caddyfile:5"},
		{"a matcher of cors", site("cors @nope https://a.example"), "cors: unrecognized matcher name: @nope: define it in the site|at Caddyfile:5"},
		{"a matcher of public", "http://:81 {\ntentagate {\nservice u http://u\npublic @nope\n}\n}", "public: unrecognized matcher name: @nope: define it in the site|at Caddyfile:4"},
		{"the directive off", "http://:81 {\ntentagate off\n}", "off is not a name: leave the directive out"},
		{"cors off, and origins", "http://:81 {\ntentagate {\nservice u http://u\ncors off\nallowed_origins https://a.example\n}\n}", "cors is off: remove one of the lines"},
		{"a named route", "&(x) {\nguard\njwt_auth {env.JWT_SECRET_KEY}\n}\nhttp://:81 {\ninvoke x\n}", "named route \"x\": Caddy keeps only the first"},
	} {
		err := loadMistake(tc.text)
		if err == nil {
			t.Errorf("%s: accepted", tc.name)
			continue
		}
		for part := range strings.SplitSeq(tc.want, "|") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want %q in it", tc.name, err, part)
			}
		}
		if strings.Contains(err.Error(), ":0") {
			t.Errorf("%s: a place that is none: %v", tc.name, err)
		}
	}
	// What is shared stands in every configuration, and in the environment.
	t.Setenv("ISSUERS", "https://a.example, https://b.example")
	if err := loadMistake(auth("issuer {env.ISSUERS}")); err != nil {
		t.Error(err)
	}
}

// everything has most options with numbers.
const everything = `{
	admin off
	tentagate {
		redis redis://127.0.0.1:1 {
			timeout 100ms
			dial_timeout 200ms
			budget 20ms
			pool_size 5
		}
		jwt_provider main {
			discovery https://issuer.example
			max_age 1h
			max_lifetime 1h
			leeway 5s
		}
	}
}
http://:80 {
	cors https://a.example {
		max_age 1h
	}
	jwt_auth {
		provider main
		scopes any read
		roles any admin
		token_cache 2MiB 100
		deny_list {
			max_entries 10
			ttl 1h
		}
		dpop {
			max_age 30s
			max_proofs 100
		}
	}
	ratelimit {
		zone numbers
		limit 10/1s
		budget 20ms
		ipv6_prefix 56
		max_concurrent 5
		delay 1s 10
		max_keys 100
	}
	http_cache 60s {
		ttl 404 5s
		max_error_ttl 5s
		memory 10MiB
		max_object_size 1MiB
		max_variants 5
		stale_while_revalidate 5s
		stale_if_error 5s
		stale_when_disconnected 5s
		collapse_timeout 5s
		fill_timeout 5s
		hit_for_miss 5s
		jitter 10%
		key {
			body 64KiB
		}
		invalidate_on_write segments 2
	}
	circuit_breaker numbers {
		key {host}
		max_keys 10
		window 5s
		trip 50% of 20
		consecutive 5
		slow 50% over 2s
		open_for 30s max 5m jitter 20%
		half_open 3 max 30s
		retry_after honor max 1m
		max_inflight adaptive min 10 max 100 queue 5 100ms
	}
	reverse_proxy {
		dynamic tentagate users.example:8000 {
			refresh 5s
		}
		lb_policy available round_robin {
			max_ejection 50%
		}
		transport tentagate {
			breaker numbers-up {
				max_keys 5
				consecutive 5
			}
			retry_budget 20% min 3
		}
	}
}
`

// A configuration in JSON is checked as one in a Caddyfile is: no number is below
// zero, none that counts something is without bound, no list that a check needs is
// empty, and no option is unknown.
func TestMistakesInJSON(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	config, err := servertest.Adapt(everything)
	if err != nil {
		t.Fatal(err)
	}
	if err := validateJSON(config); err != nil {
		t.Fatal(err)
	}
	var root any
	if err := json.Unmarshal(config, &root); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		changed, err := json.Marshal(root)
		if err != nil {
			t.Fatal(err)
		}
		if validateJSON(changed) == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	count := 0
	var walk func(at any, path string)
	walk = func(at any, path string) {
		switch at := at.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(at)) {
				here, value := path+"."+key, at[key]
				number, ok := value.(float64)
				if !ok {
					walk(value, here)
					continue
				}
				count++
				for _, bad := range []float64{-number - 1, -1e18} {
					at[key] = bad
					if key == "max_ejection" || key == "min_per_second" {
						at[key] = -2.0 // -1 is for none
					}
					refused(fmt.Sprintf("%s = %v", here, at[key]))
				}
				at[key] = value
				switch key {
				case "max_keys", "max_concurrent", "delay_queue", "consecutive", "min_requests", "max", "queue", "max_variants", "memory", "pool_size", "max_entries", "max_proofs",
					"min_per_second", "half_open", "timeout", "dial_timeout", "budget", "window", "max_bytes", "invalidate_segments":
					at[key] = 1e18
					refused(fmt.Sprintf("%s = 1e18", here))
					at[key] = value
				}
			}
			switch at["handler"] {
			case "jwt_auth":
				for _, list := range []string{"scopes", "roles"} {
					values := at[list]
					at[list] = []any{map[string]any{}}
					refused(list + " without values")
					at[list] = values
				}
			}
			if urls := at["urls"]; urls != nil {
				at["urls"] = []any{}
				refused("a Redis without addresses")
				at["urls"] = urls
			}
			if at["discovery"] != nil {
				at["audiance"] = []any{"api"}
				refused("an option of a shared provider that is misspelt")
				delete(at, "audiance")
			}
		case []any:
			for i, value := range at {
				walk(value, fmt.Sprintf("%s.%d", path, i))
			}
		}
	}
	walk(root, "")
	if count < 50 {
		t.Errorf("only %d numbers were found", count)
	}
}
