package guard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// serve sends a request through the handler and returns what the next handler
// saw, nil if it was not reached, and the answer.
func serve(h *Handler, r *http.Request) (*http.Request, *httptest.ResponseRecorder) {
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	var seen *http.Request
	_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		seen = r
		w.Header().Add(RequestIDHeader, "the-services-own")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	return seen, w
}

func TestConnection(t *testing.T) {
	for _, tc := range []struct{ connection, upgrade, want, wantUpgrade string }{
		{"", "", "", ""},
		{"close", "", "close", ""},
		{"keep-alive", "", "keep-alive", ""},
		{"close, X-User", "", "close", ""},
		{"x-user,\tX-Request-Id , authorization", "", "", ""},
		{"Upgrade", "websocket", "upgrade", "websocket"},
		{"keep-alive, Upgrade, X-User", "WebSocket", "keep-alive, upgrade", "WebSocket"},
		{"Upgrade, HTTP2-Settings", "h2c", "", ""},
		{"Upgrade", "websocket, h2c", "", ""},
		{"Upgrade", "", "", ""},
		{"TE, te", "", "te", ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if tc.connection != "" {
			r.Header.Set("Connection", tc.connection)
		}
		if tc.upgrade != "" {
			r.Header.Set("Upgrade", tc.upgrade)
			r.Header.Set("Http2-Settings", "x")
		}
		seen, _ := serve(new(Handler), r)
		if got := seen.Header.Get("Connection"); got != tc.want {
			t.Errorf("Connection %q with Upgrade %q: got %q, want %q", tc.connection, tc.upgrade, got, tc.want)
		}
		if got := seen.Header.Get("Upgrade"); got != tc.wantUpgrade {
			t.Errorf("Upgrade %q: got %q, want %q", tc.upgrade, got, tc.wantUpgrade)
		}
	}
	// Several fields are one list.
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header["Connection"] = []string{"close", "X-User"}
	if seen, _ := serve(new(Handler), r); len(seen.Header["Connection"]) != 1 || seen.Header.Get("Connection") != "close" {
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
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if tc.given != nil {
			r.Header[RequestIDHeader] = tc.given
		}
		seen, w := serve(new(Handler), r)
		id := seen.Header.Get(RequestIDHeader)
		if tc.kept != (tc.given != nil && id == tc.given[0]) {
			t.Errorf("%q: became %q", tc.given, id)
		}
		if !tc.kept && (len(id) != 36 || id[14] != '7') {
			t.Errorf("%q: %q is no UUIDv7", tc.given, id)
		}
		if got := w.Header()[RequestIDHeader]; len(got) != 1 || got[0] != id || len(seen.Header[RequestIDHeader]) != 1 {
			t.Errorf("%q: the client got %q, the service %q", tc.given, got, seen.Header[RequestIDHeader])
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
		{"GET", "/a/%2e%2e/b", false, 400},
		{"GET", "/a/../b", false, 400},
		{"GET", "/a%2fb", false, 400},
		{"GET", "/a%2fb", true, 204},
		{"GET", "/a%2f..", true, 400},
		{"TRACE", "/", false, 405},
		{"TRACK", "/", false, 405},
	} {
		seen, w := serve(&Handler{AllowEncodedSlashes: tc.allow}, httptest.NewRequest(tc.method, tc.target, nil))
		if w.Code != tc.status || (seen != nil) != (tc.status == 204) {
			t.Errorf("%s %s: got %d, reached the next handler: %v", tc.method, tc.target, w.Code, seen != nil)
		}
		if tc.status != 204 {
			if w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), w.Header().Get(RequestIDHeader)) {
				t.Errorf("%s %s: %v %s", tc.method, tc.target, w.Header(), w.Body)
			}
		}
		if tc.status == 405 && w.Header().Get("Allow") == "" {
			t.Error("405 without Allow")
		}
	}
}

func TestOverrides(t *testing.T) {
	for keep, want := range map[bool]string{false: "", true: "DELETE"} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		for _, name := range overrides {
			r.Header.Set(name, "DELETE")
		}
		seen, _ := serve(&Handler{KeepOverrides: keep}, r)
		for _, name := range overrides {
			if got := seen.Header.Get(name); got != want {
				t.Errorf("keep %v: %s is %q", keep, name, got)
			}
		}
	}
}

func TestUnmarshalCaddyfile(t *testing.T) {
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser("guard {\n allow_encoded_slashes\n keep_overrides\n}")); err != nil || !h.AllowEncodedSlashes || !h.KeepOverrides {
		t.Errorf("%+v, %v", h, err)
	}
	for block, want := range map[string]string{
		"guard x":                                "it takes none",
		"guard {\n allow_encoded_slashes yes\n}": "it takes none",
		"guard {\n allow_encoded_slashes\n allow_encoded_slashes\n}": "given more than once",
		"guard {\n allow\n}": `unknown option "allow": accepted are allow_encoded_slashes, keep_overrides`,
	} {
		if err := new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser(block)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", block, err)
		}
	}
}
