package guard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requestid"
)

// provisioned prepares a handler.
func provisioned(t testing.TB, h *Handler) *Handler {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return h
}

// serve sends a request through the handler and returns what the next handler
// saw, nil if it was not reached, and the answer.
func serve(t testing.TB, h *Handler, r *http.Request) (*http.Request, *httptest.ResponseRecorder) {
	t.Helper()
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	var seen *http.Request
	if err := provisioned(t, h).ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		seen = r
		w.Header().Add(requestid.Header, "the-services-own")
		w.WriteHeader(http.StatusNoContent)
		return nil
	})); err != nil {
		t.Errorf("%s %s: %v was not answered", r.Method, r.URL, err)
	}
	return seen, w
}

func TestConnection(t *testing.T) {
	for _, tc := range []struct {
		connection, upgrade string
		accepted            []string
		want, wantUpgrade   string
	}{
		{"", "", nil, "", ""},
		{"close", "", nil, "close", ""},
		{"Close", "", nil, "close", ""},
		{"keep-alive", "", nil, "keep-alive", ""},
		{"close, X-User", "", nil, "close", ""},
		{"x-user,\tX-Request-Id , authorization", "", nil, "", ""},
		{",,", "", nil, "", ""},
		{"Upgrade", "websocket", nil, "upgrade", "websocket"},
		{"keep-alive, Upgrade, X-User", "WebSocket", nil, "keep-alive, upgrade", "WebSocket"},
		{"Upgrade, HTTP2-Settings", "h2c", nil, "", ""},
		{"Upgrade", "websocket, h2c", nil, "", ""},
		{"Upgrade", "", nil, "", ""},
		{"TE, te", "", nil, "te", ""},
		{"Upgrade", "websocket", []string{"off"}, "", ""},
		{"Upgrade", "Foo/1", []string{"foo/1", "websocket"}, "upgrade", "Foo/1"},
		{"Upgrade", "foo/2", []string{"foo/1"}, "", ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if tc.connection != "" {
			r.Header.Set("Connection", tc.connection)
		}
		if tc.upgrade != "" {
			r.Header.Set("Upgrade", tc.upgrade)
			r.Header.Set("Http2-Settings", "x")
		}
		seen, _ := serve(t, &Handler{Upgrades: tc.accepted}, r)
		if got := strings.Join(seen.Header["Connection"], "|"); got != tc.want {
			t.Errorf("Connection %q with Upgrade %q: got %q, want %q", tc.connection, tc.upgrade, got, tc.want)
		}
		if got := seen.Header.Get("Upgrade"); got != tc.wantUpgrade {
			t.Errorf("Upgrade %q: got %q, want %q", tc.upgrade, got, tc.wantUpgrade)
		}
		if seen.Header.Get("Http2-Settings") != "" {
			t.Errorf("Upgrade %q: HTTP2-Settings came through", tc.upgrade)
		}
	}
	// Several fields are one list.
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header["Connection"] = []string{"close", "X-User"}
	if seen, _ := serve(t, new(Handler), r); len(seen.Header["Connection"]) != 1 || seen.Header.Get("Connection") != "close" {
		t.Errorf("two fields: %v", seen.Header["Connection"])
	}
}

func TestRequestID(t *testing.T) {
	for _, tc := range []struct {
		given []string
		kept  bool
	}{
		{nil, false},
		{[]string{"a"}, true},
		{[]string{"Az09._-"}, true},
		{[]string{strings.Repeat("x", 128)}, true},
		{[]string{strings.Repeat("x", 129)}, false},
		{[]string{""}, false},
		{[]string{"a b"}, false},
		{[]string{"a\nb"}, false},
		{[]string{"<script>"}, false},
		{[]string{"é"}, false},
		{[]string{"a", "b"}, false},
		{[]string{"a", "a"}, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if tc.given != nil {
			r.Header[requestid.Header] = tc.given
		}
		seen, w := serve(t, new(Handler), r)
		id := seen.Header.Get(requestid.Header)
		if tc.kept != (tc.given != nil && id == tc.given[0]) {
			t.Errorf("%q: became %q", tc.given, id)
		}
		if !tc.kept && (len(id) != 36 || id[14] != '7') {
			t.Errorf("%q: %q is no UUIDv7", tc.given, id)
		}
		if got := w.Header()[requestid.Header]; len(got) != 1 || got[0] != id || len(seen.Header[requestid.Header]) != 1 {
			t.Errorf("%q: the client got %q, the service %q", tc.given, got, seen.Header[requestid.Header])
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		method, target string
		allow          bool
		status         int
	}{
		{"GET", "/a/b", false, 204},
		{"OPTIONS", "*", false, 204},
		{"GET", "*", false, 400},
		{"GET", "/a/%2e%2e/b", false, 400},
		{"GET", "/a/../b", false, 400},
		{"GET", "/a%2fb", false, 400},
		{"GET", "/a%2fb", true, 204},
		{"GET", "/a%2f..", true, 400},
		{"GET", "/a;b/c", true, 400},
		{"GET", "/a%3bb", true, 400},
		{"GET", "/%2561dm", true, 400},
		{"GET", "/a?x=a;b%2541", false, 204},
		{"GET", "/a#b", false, 400},
		{"GET", "/a?b#c", false, 400},
		{"GET", "http://gateway.test/", false, 204},
		{"GET", "HTTPS://gateway.test:8443/", false, 204},
		{"GET", "http://user@gateway.test/", false, 400},
		{"GET", "ftp://gateway.test/", false, 400},
		{"GET", "file:///etc/passwd", false, 400},
		{"GET", "gateway.test:/a", false, 400},
		{"GET", `/a\b`, false, 400},
		{"GET", `/a%2fb"`, false, 400}, // the quote makes net/url drop the encoding
		{"GET", "/a%5cb", true, 400},
		{"GET", "http://gateway.test/a/../b", false, 400},
		{"GET", "x:%2fadmin", false, 400},
		{"GET", "x:..%2fadmin", true, 400},
		{"GET", "/a?x=/../%2e%2e%2f", false, 204}, // the query is the service's
		{"TRACE", "/", false, 405},
		{"trace", "/", false, 405},
		{"TRACK", "/", false, 405},
		{"CONNECT", "/", false, 405},
		{"CONNECT", "backend.internal:22", false, 405},
		{"PROPFIND", "/", false, 204},
	} {
		seen, w := serve(t, &Handler{AllowEncodedSlashes: tc.allow}, httptest.NewRequest(tc.method, tc.target, nil))
		if w.Code != tc.status || (seen != nil) != (tc.status == 204) {
			t.Errorf("%s %s: got %d, reached the next handler: %v", tc.method, tc.target, w.Code, seen != nil)
		}
		if tc.status != 204 {
			if w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), w.Header().Get(requestid.Header)) {
				t.Errorf("%s %s: %v %s", tc.method, tc.target, w.Header(), w.Body)
			}
		}
		if (w.Header().Get("Allow") != "") != (tc.status == 405) {
			t.Errorf("%s %s: Allow is %q", tc.method, tc.target, w.Header().Get("Allow"))
		}
	}
}

// A URL without a path is one whose path is "/": no matcher is passed by.
func TestEmptyPath(t *testing.T) {
	if seen, _ := serve(t, new(Handler), httptest.NewRequest(http.MethodGet, "http://gateway.test", nil)); seen == nil || seen.URL.Path != "/" {
		t.Errorf("the next handler saw %+v", seen)
	}
}

func TestExtendedConnect(t *testing.T) {
	for _, tc := range []struct {
		major    int
		proto    string
		pseudo   []string
		upgrades []string
		ok       bool
	}{
		{2, "HTTP/2.0", []string{"websocket"}, nil, true},
		{2, "HTTP/2.0", nil, nil, false},
		{2, "HTTP/2.0", []string{"connect-udp"}, nil, false},
		{2, "HTTP/2.0", []string{"connect-udp"}, []string{"connect-udp"}, true},
		{2, "HTTP/2.0", []string{"websocket"}, []string{"off"}, false},
		{3, "websocket", nil, nil, true},
		{3, "HTTP/3.0", nil, nil, false},
		{3, "webtransport", nil, nil, false},
		{1, "HTTP/1.1", []string{"websocket"}, nil, false},
	} {
		r := httptest.NewRequest(http.MethodConnect, "/chat", nil)
		r.URL.Path, r.ProtoMajor, r.Proto = "/chat", tc.major, tc.proto
		if tc.pseudo != nil {
			r.Header[":protocol"] = tc.pseudo
		}
		if seen, w := serve(t, &Handler{Upgrades: tc.upgrades}, r); (seen != nil) != tc.ok {
			t.Errorf("%s %v, accepting %v: %d", tc.proto, tc.pseudo, tc.upgrades, w.Code)
		}
	}
}

func TestOverrides(t *testing.T) {
	names := []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"}
	for keep, want := range map[bool]string{false: "", true: "DELETE"} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		for _, name := range names {
			r.Header.Set(name, "DELETE")
		}
		seen, _ := serve(t, &Handler{KeepOverrides: keep}, r)
		for _, name := range names {
			if got := seen.Header.Get(name); got != want {
				t.Errorf("keep %v: %s is %q", keep, name, got)
			}
		}
	}
}

func TestUnmarshalCaddyfile(t *testing.T) {
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser("guard {\n allow_encoded_slashes\n allow_path_parameters\n allow_double_encoding\n keep_overrides\n keep_forwarded x-real-ip Forwarded\n upgrades websocket foo/1\n}")); err != nil ||
		!h.AllowEncodedSlashes || !h.AllowPathParameters || !h.AllowDoubleEncoding || !h.KeepOverrides || len(h.KeepForwarded) != 2 || len(h.Upgrades) != 2 || h.Position == "" {
		t.Errorf("%+v, %v", h, err)
	}
	for block, want := range map[string]string{
		"guard x":                                "it takes none",
		"guard {\n allow_encoded_slashes yes\n}": "it takes none",
		"guard {\n keep_overrides yes\n}":        "it takes none",
		"guard {\n allow_encoded_slashes\n allow_encoded_slashes\n}": "given more than once",
		"guard {\n upgrades\n}":                  "upgrades: missing argument",
		"guard {\n allow\n}":                     `unknown option "allow": accepted are allow_encoded_slashes, allow_path_parameters, allow_double_encoding, keep_overrides, keep_forwarded, upgrades`,
		"guard {\n allow_path_parameters off\n}": "it takes none",
		"guard {\n allow_double_encoding yes\n}": "it takes none",
		"guard {\n keep_forwarded\n}":            "keep_forwarded: missing argument",
		"guard {\n keep_forwarded X-User\n}":     `keep_forwarded: "X-User" is not a field that guard deletes`,
		"guard {\n upgrades websocket H2C\n}":    "upgrades: H2C is not accepted: the requests in such a connection bypass every handler",
		"guard {\n upgrades TLS/1.0\n}":          "upgrades: TLS/1.0 is not accepted",
		"guard {\n upgrades HTTP/2.0\n}":         "upgrades: HTTP/2.0 is not accepted",
		"guard {\n upgrades on\n}":               "upgrades: \"on\" is not the name of a protocol: websocket is accepted by default",
		"guard {\n upgrades off websocket\n}":    "upgrades: off cannot be combined with protocols, at ",
	} {
		if err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", block, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for want, handlers := range map[string][]*Handler{
		"guard: upgrades: ": {
			{Upgrades: []string{"off", "websocket"}},
			{Upgrades: []string{""}},
			{Upgrades: []string{"a b"}},
			{Upgrades: []string{"a/"}},
			{Upgrades: []string{"a/b/c"}},
			{Upgrades: []string{"wébsocket"}},
			{Upgrades: []string{"{env.X}"}},
			{Upgrades: []string{"h2c"}},
		},
		"guard: keep_forwarded: ": {
			{KeepForwarded: []string{"X-User"}}, {KeepForwarded: []string{""}}, {KeepForwarded: []string{"*"}}, {KeepForwarded: []string{"X-HTTP-Method"}},
		},
	} {
		for _, h := range handlers {
			h.Position = "Caddyfile:7"
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			if err := h.Provision(ctx); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), ", at Caddyfile:7") {
				t.Errorf("%+v: got %v", h, err)
			}
			cancel()
		}
	}
}

// guard allocates once, and once more for a new id.
func TestAllocations(t *testing.T) {
	h := provisioned(t, new(Handler))
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	for given, want := range map[string]float64{"a-b": 1, "": 2} {
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/api/users/42", nil), caddy.NewReplacer(), w, &caddyhttp.Server{})
		sent := []string{given}
		if n := testing.AllocsPerRun(100, func() {
			r.Header[requestid.Header] = sent
			_ = h.ServeHTTP(w, r, next)
		}); n > want {
			t.Errorf("id %q: %v allocations, want %v", given, n, want)
		}
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	h := provisioned(b, new(Handler))
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	for name, id := range map[string]string{"given id": "0191d3c2-7b1e-7c55-9b7e-8f0c2a4d6e10", "new id": ""} {
		b.Run(name, func(b *testing.B) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/api/users/42", nil)
			r.Header.Set("Connection", "keep-alive")
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
			b.ReportAllocs()
			for b.Loop() {
				r.Header[requestid.Header] = []string{id}
				_ = h.ServeHTTP(w, r, next)
			}
		})
	}
}
