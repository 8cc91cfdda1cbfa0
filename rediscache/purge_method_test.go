package rediscache

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func TestPurgeMethod(t *testing.T) {
	ts := acquireTest(t, tierApp(t, ""), tierSettings{memory: 1 << 20})
	for _, tc := range []struct {
		name   string
		method PurgeMethod
		from   string
		user   string
		status int
	}{
		{"network", PurgeMethod{Allow: []string{"10.0.0.0/8"}}, "10.1.2.3", "", 200},
		{"mapped", PurgeMethod{Allow: []string{"10.0.0.0/8"}}, "::ffff:10.1.2.3", "", 200},
		{"private", PurgeMethod{Allow: []string{"private_ranges"}}, "fd00::7", "", 200},
		{"other network", PurgeMethod{Allow: []string{"10.0.0.0/8"}}, "11.1.2.3", "", 403},
		{"no address", PurgeMethod{Allow: []string{"0.0.0.0/0"}}, "", "", 403},
		{"user", PurgeMethod{Users: []string{"deploy"}}, "1.2.3.4", "deploy", 200},
		{"other user", PurgeMethod{Users: []string{"deploy"}}, "1.2.3.4", "mallory", 403},
		{"anonymous", PurgeMethod{Users: []string{"deploy"}}, "1.2.3.4", "", 403},
		{"anybody known", PurgeMethod{Users: []string{"*"}}, "1.2.3.4", "mallory", 200},
		{"anybody known, anonymous", PurgeMethod{Users: []string{"*"}}, "1.2.3.4", "", 403},
		{"both", PurgeMethod{Allow: []string{"10.0.0.0/8"}, Users: []string{"deploy"}}, "10.0.0.1", "deploy", 200},
		{"one of both", PurgeMethod{Allow: []string{"10.0.0.0/8"}, Users: []string{"deploy"}}, "10.0.0.1", "", 403},
		{"the other of both", PurgeMethod{Allow: []string{"10.0.0.0/8"}, Users: []string{"deploy"}}, "1.0.0.1", "deploy", 403},
		{"through a proxy that is not trusted", PurgeMethod{Allow: []string{"private_ranges"}}, "10.1.2.3, 1.2.3.4", "", 403},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.method.provision(); err != nil {
				t.Fatal(err)
			}
			o := keepObject(ts, "a")
			r := purgeRequestFrom(tc.from, tc.user)
			w := httptest.NewRecorder()
			err := tc.method.serve(w, r, "https://example.com/a", ts.epochs)
			status, want := w.Code, object.Hard
			if e, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
				status = e.StatusCode
			}
			if tc.status != 200 {
				want = object.Valid
			}
			if status != tc.status || ts.epochs.Check(o) != want {
				t.Errorf("status %d, freshness %d", status, ts.epochs.Check(o))
			}
			if status == 200 && !bytes.Contains(w.Body.Bytes(), []byte(`"purged":true,"shared":"no"`)) {
				t.Errorf("%s", w.Body)
			}
		})
	}
	t.Run("tags, soft", func(t *testing.T) {
		m := PurgeMethod{Allow: []string{"::/0"}}
		_ = m.provision()
		a := keepObject(ts, "a", "one")
		b := keepObject(ts, "b", "two")
		c := keepObject(ts, "c", "three")
		r := purgeRequestFrom("::1", "")
		r.Header.Set("Xkey", "one")
		r.Header.Set("Cache-Tag", "x, three")
		r.Header.Set("Soft-Purge", "1")
		if err := m.serve(httptest.NewRecorder(), r, "https://example.com/b", ts.epochs); err != nil {
			t.Fatal(err)
		}
		for o, want := range map[*object.Object]object.Freshness{a: object.Soft, b: object.Valid, c: object.Soft} {
			if got := ts.epochs.Check(o); got != want {
				t.Errorf("%s: %d, want %d", o.Path, got, want)
			}
		}
	})
	var none *PurgeMethod
	if none.handles(purgeRequestFrom("::1", "")) {
		t.Error("PURGE without the option")
	}
}

func purgeRequestFrom(ip, user string) *http.Request {
	r := httptest.NewRequest(methodPurge, "https://example.com/a", nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, &caddyhttp.Server{})
	ip, client, proxied := strings.Cut(ip, ", ")
	if proxied {
		r.Header.Set("X-Forwarded-For", client)
	}
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, ip)
	if user != "" {
		identity.Set(r, &identity.Identity{Provider: "main", Subject: user})
	}
	return r
}

func TestPurgeMethodSyntax(t *testing.T) {
	t.Setenv("PURGERS", "10.0.0.1, 10.1.0.0/16")
	for input, part := range map[string]string{
		"purge_method {\n allow 10.0.0.0/8 ::1\n}":             "",
		"purge_method {\n users a b\n allow private_ranges\n}": "",
		"purge_method {\n allow {env.PURGERS}\n}":              "",
		"purge_method":                              "anybody could empty the cache",
		"purge_method {\n}":                         "anybody could empty the cache",
		"purge_method x {\n allow ::1\n}":           "unexpected argument",
		"purge_method {\n allow\n}":                 "missing argument",
		"purge_method {\n allow ::1\n allow ::1\n}": "more than once",
		"purge_method {\n allow 10.0.0.300\n}":      "is not an address",
		"purge_method {\n users \"\"\n}":            "an empty value",
		"purge_method {\n deny ::1\n}":              "accepted are allow, users",
	} {
		d := caddyfile.NewTestDispenser(input)
		d.Next()
		h := new(Handler)
		err := h.unmarshalPurgeMethod(d)
		if err == nil {
			err = h.PurgeMethod.provision()
		}
		if (err == nil) != (part == "") || err != nil && !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v", input, err)
		}
	}
	p := &PurgeMethod{Allow: []string{"{env.PURGERS}"}}
	if err := p.provision(); err != nil || len(p.networks) != 2 {
		t.Errorf("%v %v", p.networks, err)
	}
	p = &PurgeMethod{Allow: []string{"{env.NOT_SET_ANYWHERE}"}}
	if err := p.provision(); err == nil {
		t.Error("an empty placeholder lets everybody in")
	}
}
