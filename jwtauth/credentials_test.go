package jwtauth

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/jwtauth/internal/policy"
)

// The log filter knows every field and parameter that tokens are taken from.
func TestSourcesAreCredentials(t *testing.T) {
	if credentials.IsField("X-Credential-Test") || credentials.IsParameter("credential_test") {
		t.Fatal("this tests nothing")
	}
	if _, err := load(t, "jwt_auth "+secret+" {\n sources header header:X-Credential-Test query:Credential_Test websocket\n dpop\n}"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"X-Credential-Test", "Authorization", "Sec-Websocket-Protocol", "Dpop"} {
		if !credentials.IsField(name) {
			t.Errorf("%s is not known", name)
		}
	}
	if !credentials.IsParameter("credential_test") {
		t.Error("the parameter is not known")
	}
}

// A handler warns if another of its site forwards claims in a field that it reads,
// and only then.
func TestForwardedByAnotherHandlerOfTheSite(t *testing.T) {
	handler := func(options string) *Handler {
		h, err := load(t, "jwt_auth "+secret+" {\n"+options+"\n}")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	forwards := handler("forward sub X-Key")
	site := func(handlers ...caddyhttp.MiddlewareHandler) caddyhttp.Route {
		return caddyhttp.Route{Handlers: handlers, Terminal: true}
	}
	for name, tc := range map[string]struct {
		sources string
		server  func(*Handler) *caddyhttp.Server
		want    []string
	}{
		"same site": {"sources header header:X-Key", func(h *Handler) *caddyhttp.Server {
			return &caddyhttp.Server{Routes: caddyhttp.RouteList{site(h, forwards)}}
		}, []string{"X-Key"}},
		"no site but the server": {"sources header:X-KEY", func(h *Handler) *caddyhttp.Server {
			return &caddyhttp.Server{Routes: caddyhttp.RouteList{
				{Handlers: []caddyhttp.MiddlewareHandler{h}}, {Handlers: []caddyhttp.MiddlewareHandler{forwards}},
			}}
		}, []string{"X-Key"}},
		"another site": {"sources header:X-Key", func(h *Handler) *caddyhttp.Server {
			return &caddyhttp.Server{Routes: caddyhttp.RouteList{site(forwards), site(h)}}
		}, []string{}},
		"another field": {"sources header:X-Other", func(h *Handler) *caddyhttp.Server {
			return &caddyhttp.Server{Routes: caddyhttp.RouteList{site(forwards, h)}}
		}, []string{}},
	} {
		h := handler(tc.sources)
		core, logs := observer.New(zap.WarnLevel)
		h.logger = zap.New(core)
		h.warnOfForwardedSources(tc.server(h))
		fields := []string{}
		for _, entry := range logs.All() {
			fields = append(fields, entry.ContextMap()["field"].(string))
		}
		if !slices.Equal(fields, tc.want) {
			t.Errorf("%s: warned of %v, want %v", name, fields, tc.want)
		}
	}
}

// A requirement whose values are an empty variable is warned of.
func TestEmptyRequirementIsWarnedOf(t *testing.T) {
	for _, tc := range []struct {
		values []string
		want   int
	}{{nil, 1}, {[]string{"*"}, 0}, {[]string{"a"}, 0}} {
		core, logs := observer.New(zap.WarnLevel)
		warnOfEmpty(zap.New(core), &policy.Requirement{Path: "tenant", Values: tc.values}, "")
		if logs.Len() != tc.want {
			t.Errorf("%v: %d warnings", tc.values, logs.Len())
		}
	}
	// A placeholder with no value is an error.
	t.Setenv("JWTAUTH_TEST_TENANT", "")
	if _, err := load(t, "jwt_auth "+secret+" {\n require tenant {env.JWTAUTH_TEST_TENANT}\n}"); err == nil || !strings.Contains(err.Error(), "JWTAUTH_TEST_TENANT") {
		t.Errorf("got %v", err)
	}
}
