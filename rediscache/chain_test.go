package rediscache

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What handlers behind the cache decide by the client decides who gets what they
// answered: one for whom a matcher or a placeholder says something else never
// gets it, and those who are alike share it.
func TestHandlersBehindDecide(t *testing.T) {
	const handles = "http_cache 60s\nhandle @vip {\nreverse_proxy $INTERNAL\n}\nhandle {\nreverse_proxy $PUBLIC\n}"
	const routes = "route {\nhttp_cache 60s\nreverse_proxy @vip $INTERNAL\nreverse_proxy $PUBLIC\n}"
	const invokes = "http_cache 60s\nhandle {\ninvoke app\n}"
	const nested = "http_cache 60s\nhandle_path /api/* {\nroute {\n@a path /*\nhandle @a {\nhandle @vip {\nrespond INTERNAL\n}\nrespond PUBLIC\n}\n}\n}"
	shapes := map[string]string{"handle": handles, "reverse_proxy": routes, "named route": invokes, "nested": nested}
	for name, tc := range map[string]struct{ matcher, field string }{
		"header":                {"header X-Vip 1", "X-Vip: 1"},
		"header, any":           {"header X-Vip *", "X-Vip: 7"},
		"header, absent":        {"header !X-Plain", ""},
		"header_regexp":         {"header_regexp X-Vip ^(1)$", "X-Vip: 1"},
		"not":                   {"not header X-Plain 1", ""},
		"not, several":          {"not {\nheader X-Plain 1\npath /*\n}", ""},
		"client_ip":             {"client_ip 10.0.0.0/8", "X-Forwarded-For: 10.1.1.1"},
		"not client_ip":         {"not client_ip 192.168.0.0/16", "X-Forwarded-For: 10.1.1.1"},
		"vars":                  {"vars {http.request.header.X-Vip} 1", "X-Vip: 1"},
		"vars, client_ip":       {"vars client_ip 10.1.1.1", "X-Forwarded-For: 10.1.1.1"},
		"vars_regexp":           {"vars_regexp {http.request.header.X-Vip} ^1", "X-Vip: 1"},
		"expression":            {"expression `{header.X-Vip} == \"1\"`", "X-Vip: 1"},
		"expression, function":  {"expression `header({\"X-Vip\": \"1\"})`", "X-Vip: 1"},
		"expression, client_ip": {"expression `client_ip(\"10.0.0.0/8\") || header_regexp(\"X-Vip\", \"^1\")`", "X-Forwarded-For: 10.1.1.1"},
		"with a path":           {"{\npath /api/* /x\nheader X-Vip 1\n}", "X-Vip: 1"},
	} {
		for shape, text := range shapes {
			matcher := tc.matcher
			if shape == "nested" && name == "with a path" {
				matcher = "{\npath /x\nheader X-Vip 1\n}" // stripped by then
			}
			t.Run(name+"/"+shape, func(t *testing.T) {
				define := "@vip " + matcher + "\n"
				site := "http://:$1 {\n" + define + text + "\n}"
				if shape == "named route" {
					site = "&(app) {\n" + define + strings.TrimPrefix(handles, "http_cache 60s\n") + "\n}\nhttp://:$1 {\n" + text + "\n}"
				}
				vip, plain := []string{}, []string{}
				if field, value, ok := strings.Cut(tc.field, ": "); ok {
					vip = []string{field, value}
				}
				plain = append(plain, "X-Forwarded-For", "192.168.1.1")
				if len(vip) == 0 || vip[0] != "X-Forwarded-For" {
					vip = append(vip, "X-Forwarded-For", "192.168.1.1")
				}
				if tc.field == "" {
					plain = append(plain, "X-Plain", "1")
				}
				for _, order := range [][2][]string{{vip, plain}, {plain, vip}} {
					r := runWith(t, "\tservers {\n\t\ttrusted_proxies static private_ranges\n\t}\n", site)
					for i, fields := range order {
						want := "PUBLIC"
						if (i == 0) == (len(order[0]) == len(vip) && order[0][0] == vip[0] && order[0][1] == vip[1]) {
							want = "INTERNAL"
						}
						for _, how := range []string{"miss", "hit"} {
							got := r.get(1, "/api/x", fields...)
							passes := strings.HasPrefix(name, "expression, ") && shape == "nested"
							if !passes && !strings.HasPrefix(got, how) || !strings.Contains(got, want) {
								t.Errorf("%v: got %s, want a %s of %s", fields, got, how, want)
							}
						}
					}
				}
			})
		}
	}
}

// What handlers behind say themselves, and which service they ask, is for those
// for whom they would say or ask the same.
func TestPlaceholdersBehindDecide(t *testing.T) {
	for name, config := range map[string]string{
		"answer":                "handle {\nrespond \"{header.X-Who}\"\n}",
		"rewrite":               "handle {\nrewrite * /{header.X-Who}\nreverse_proxy $PUBLIC\n}",
		"rewrite of a proxy":    "handle {\nreverse_proxy $PUBLIC {\nrewrite /{header.X-Who}\n}\n}",
		"Host":                  "handle {\nreverse_proxy $PUBLIC {\nheader_up Host {header.X-Who}\n}\n}",
		"vars":                  "handle {\nvars who {header.X-Who}\nrespond {vars.who}\n}",
		"map":                   "handle {\nmap {header.X-Who} {who} {\nalice A\ndefault B\n}\nrespond {who}\n}",
		"map in front":          "map {header.X-Who} {who} {\nalice A\ndefault B\n}\nhandle {\nrespond {who}\n}",
		"captured":              "handle {\n@w header_regexp w X-Who ^(.*)$\nhandle @w {\nrespond {re.w.1}\n}\n}",
		"made of another field": "handle {\nroute {\nrequest_header X-Other {header.X-Who}\n@a header X-Other alice\nrespond @a A\nrespond B\n}\n}",
		"replaced":              "handle {\nroute {\nrequest_header X-Who ^a.* admin\n@a header X-Who admin\nrespond @a A\nrespond B\n}\n}",
		"templates":             "handle {\ntemplates\nrespond \"{{.Req.Header.Get `X-Who`}}\"\n}",
		"handle_response":       "handle {\nreverse_proxy $PUBLIC {\n@ok status 200\nhandle_response @ok {\n@a header X-Who alice\nrespond @a A\nrespond B\n}\n}\n}",
		"site's errors":         "handle {\nroute {\n@a header X-Who alice\nerror @a 410\nrespond B\n}\n}\nhandle_errors {\nrespond A 200\n}",
	} {
		t.Run(name, func(t *testing.T) {
			plain := runCaddyfile(t, "http://:$1 {\n"+config+"\n}")
			alice, bob := plain.get(1, "/x", "X-Who", "alice"), plain.get(1, "/x", "X-Who", "bob")
			r := runCaddyfile(t, "http://:$1 {\nhttp_cache 60s\n"+config+"\n}")
			for i, who := range []string{"alice", "alice", "bob", "bob", "alice"} {
				want := strings.NewReplacer(plain.names["$PUBLIC"], r.names["$PUBLIC"], plain.ports[0], r.ports[0]).Replace(alice)
				if who == "bob" {
					want = strings.NewReplacer(plain.names["$PUBLIC"], r.names["$PUBLIC"], plain.ports[0], r.ports[0]).Replace(bob)
				}
				if got := r.get(1, "/x", "X-Who", who); strings.SplitN(got, " ", 2)[1] != strings.SplitN(want, " ", 2)[1] {
					t.Errorf("%d: %s gets %s, want %s", i, who, got, want)
				}
			}
			if alice == bob {
				t.Error("both get the same without a cache")
			}
		})
	}
}

func TestResponseFieldsBehindDecide(t *testing.T) {
	r := runCaddyfile(t, "http://:$1 {\nhttp_cache 60s\nhandle /a {\nheader X-Say {header.X-Who}\nreverse_proxy $PUBLIC\n}\nhandle {\nreverse_proxy $PUBLIC {\nheader_down X-Say {header.X-Who}\n}\n}\n}")
	for _, path := range []string{"/a", "/b"} {
		for _, who := range []string{"alice", "alice", "bob", "bob"} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+r.ports[0]+path, nil)
			req.Header.Set("X-Who", who)
			resp, err := httpClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := resp.Header.Get("X-Say"); got != who {
				t.Errorf("%s: %s gets %q", path, who, got)
			}
		}
	}
}

// What no handler decides by is no part of the key: sites share as before.
func TestWhatDoesNotDecide(t *testing.T) {
	for i, config := range []string{
		"handle {\nreverse_proxy $PUBLIC {\nheader_up X-Real-IP {http.request.header.X-Who}\n}\n}",
		"handle {\nrequest_header X-Real-IP {http.request.header.X-Who}\nreverse_proxy $PUBLIC\n}",
		"handle {\nlog_append who {header.X-Who}\nreverse_proxy $PUBLIC\n}",
		"handle_path /x {\nrewrite * /y{uri}\nreverse_proxy $PUBLIC {\nheader_up X-Id {http.request.uuid}\n}\n}",
		"@a path /x\nhandle @a {\nheader X-Id {http.request.uuid}\nreverse_proxy $PUBLIC\n}",
		"handle {\n@a header X-Vip 1\nhandle @a {\nrespond vip\n}\nreverse_proxy $PUBLIC\n}",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := runCaddyfile(t, "http://:$1 {\nhttp_cache 60s\n"+config+"\n}")
			r.get(1, "/x", "X-Who", "alice")
			if got := r.get(1, "/x", "X-Who", "bob"); !strings.HasPrefix(got, "hit") {
				t.Errorf("got %s", got)
			}
		})
	}
}
