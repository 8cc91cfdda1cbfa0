package jwtauth

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestWebSocketTokens(t *testing.T) {
	good := mint(t, secret, jwt.MapClaims{"sub": "ann"})
	bad := mint(t, other, jwt.MapClaims{"sub": "ann"})
	kubernetes := kubernetesProtocol + base64.RawURLEncoding.EncodeToString([]byte(good))
	first := func(offered string) string { one, _, _ := strings.Cut(offered, ","); return one }
	none := func(string) string { return "" }
	stubborn := func(string) string { return good }
	for _, tc := range []struct {
		name, offered string
		choose        func(string) string
		status        int
		seen, echo    string
	}{
		{"graphql", "graphql-transport-ws, " + good, first, 101, "graphql-transport-ws", "graphql-transport-ws"},
		{"graphql, the token first", good + ",graphql-transport-ws, graphql-ws", first, 101, "graphql-transport-ws, graphql-ws", "graphql-transport-ws"},
		{"graphql, the service chooses none", "graphql-ws, " + good, none, 101, "graphql-ws", ""},
		{"the service answers with the token", "graphql-ws, " + good, stubborn, 101, "graphql-ws", ""},
		{"kubernetes", kubernetes + ", v5.channel.k8s.io, v4.channel.k8s.io", first, 101, "v5.channel.k8s.io, v4.channel.k8s.io", "v5.channel.k8s.io"},
		{"a mark", "access_token, " + good, first, 101, "", "access_token"},
		{"a mark and a protocol", "Bearer, " + good + ", graphql-ws", first, 101, "graphql-ws", "graphql-ws"},
		{"a mark without a token", "bearer, graphql-ws", first, 401, "", ""},
		{"the token alone", good, first, 400, "", ""},
		{"kubernetes alone", kubernetes, first, 400, "", ""},
		{"a bad token", "graphql-ws, " + bad, first, 401, "", ""},
		{"bad base64", kubernetesProtocol + "=, v4.channel.k8s.io", first, 401, "", ""},
		{"two tokens", "graphql-ws, " + good + ", " + good, first, 400, "", ""},
		{"none", "graphql-ws", first, 401, "", ""},
	} {
		for i, spelling := range []string{"Sec-Websocket-Protocol", "Sec-WebSocket-Protocol"} {
			strip := i == 1
			block := "jwt_auth " + secret + " {\n sources header websocket\n}"
			if strip {
				block = "jwt_auth " + secret + " {\n sources header websocket\n strip_token\n}"
			}
			h := must(t, block)
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			r.Header.Set("Sec-WebSocket-Protocol", tc.offered)
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
			reached := false
			_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				reached = true
				if got := r.Header.Get("Sec-WebSocket-Protocol"); got != tc.seen {
					t.Errorf("%s: the service is offered %q", tc.name, got)
				}
				if (r.Header.Get("Authorization") == "Bearer "+good) == strip {
					t.Errorf("%s, strip_token %v: the service got %q", tc.name, strip, r.Header["Authorization"])
				}
				if chosen := tc.choose(r.Header.Get("Sec-WebSocket-Protocol")); chosen != "" {
					w.Header()[spelling] = []string{chosen}
				}
				w.WriteHeader(http.StatusSwitchingProtocols)
				return nil
			}))
			if w.Code != tc.status || reached != (tc.status == 101) || strings.Join(slices.Concat(w.Header()["Sec-Websocket-Protocol"], w.Header()["Sec-WebSocket-Protocol"]), "|") != tc.echo {
				t.Errorf("%s: %d, the answer chooses %q", tc.name, w.Code, w.Header())
			}
		}
	}
	h := must(t, "jwt_auth "+secret+" {\n sources websocket\n}")
	if w, _ := through(t, func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "a, "+good) }, h); w.Code != 401 {
		t.Errorf("without a WebSocket: %d", w.Code)
	}
	for name, set := range map[string]func(*http.Request){
		"h2": func(r *http.Request) { r.ProtoMajor = 2; r.Header[":protocol"] = []string{"websocket"} },
		"h3": func(r *http.Request) { r.ProtoMajor = 3; r.Proto = "websocket" },
	} {
		w, _ := through(t, func(r *http.Request) {
			r.Method = http.MethodConnect
			r.Header.Set("Sec-WebSocket-Protocol", "a, "+good)
			set(r)
		}, h)
		if w.Code != 200 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}

func TestSchemeOfAField(t *testing.T) {
	good := mint(t, secret, jwt.MapClaims{"sub": "ann"})
	for _, sources := range []string{"header:X-Auth bearer", `"header:X-Auth bearer"`, "header:x-auth Bearer"} {
		h := must(t, "jwt_auth "+secret+" {\n sources "+sources+"\n}")
		for value, want := range map[string]int{"Bearer " + good: 200, "bearer  " + good: 200, good: 401, "Basic x": 401, "": 401, "DPoP " + good: 401} {
			if w, _ := through(t, func(r *http.Request) { r.Header.Set("X-Auth", value) }, h); w.Code != want {
				t.Errorf("%s: %.12q: %d", sources, value, w.Code)
			}
		}
	}
	if _, err := load(t, "jwt_auth "+secret+" {\n sources header:X-Auth bearer header:X-Auth\n}"); err == nil {
		t.Error("one field is two sources")
	}
}
