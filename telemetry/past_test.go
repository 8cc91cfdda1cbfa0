package telemetry_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/servertest"
)

func init() {
	caddy.RegisterModule(new(decider))
	httpcaddyfile.RegisterHandlerDirective("decider", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return new(decider), nil })
	httpcaddyfile.RegisterDirectiveOrder("decider", httpcaddyfile.Before, "reverse_proxy")
}

// decider decides what the path says.
type decider struct{}

func (*decider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.decider", New: func() caddy.Module { return new(decider) }}
}

func (*decider) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	s := requeststate.Of(r)
	switch r.URL.Path {
	case "/scope":
		s.Decisions.Auth, s.Decisions.Subject = "scope", "alice"
		w.WriteHeader(http.StatusForbidden)
	case "/anonymous": // but known to basic_auth
		s.Decisions.Auth = "anonymous"
		s.Replacer().Set("http.auth.user.id", "bob")
	case "/closed":
		w.WriteHeader(requeststate.StatusClientClosed)
	case "/abort":
		panic(http.ErrAbortHandler)
	case "/whole":
		w.Header().Set("Content-Length", "7")
		_, _ = w.Write([]byte("content"))
	case "/content":
		_, _ = w.Write([]byte("content"))
	}
	return nil
}

// leavingWriter is one whose client leaves when it has the first part of the content.
type leavingWriter struct {
	http.ResponseWriter
	leave func()
}

func (w *leavingWriter) Write(p []byte) (int, error) {
	defer w.leave()
	return w.ResponseWriter.Write(p)
}

// A past request has the user that the access log has, and says when the client left or the
// request was aborted.
func TestPast(t *testing.T) {
	handler := servertest.Handler(t, ":80 {\n route {\n telemetry past\n guard\n decider\n }\n}\n")
	gone, leave := context.WithCancel(t.Context())
	leave()
	leaving, leave := context.WithCancel(t.Context())
	defer leave()
	leavingLate, leaveLate := context.WithCancel(t.Context())
	defer leaveLate()
	for id, tc := range map[string]struct {
		ctx           context.Context
		path          string
		status        int
		outcome, user string
	}{
		"past-scope":     {t.Context(), "/scope", 403, "answered", "alice"},
		"past-anonymous": {t.Context(), "/anonymous", 200, "answered", "bob"},
		"past-nobody":    {t.Context(), "/", 200, "answered", ""},
		"past-closed":    {gone, "/closed", 499, "client_closed", ""},
		"past-own-499":   {t.Context(), "/closed", 499, "answered", ""},
		"past-abort":     {t.Context(), "/abort", 500, "aborted", ""},
		"past-left":      {gone, "/abort", 500, "client_closed", ""},
		"past-content":   {t.Context(), "/content", 200, "answered", ""},
		// A handler such as http_cache answers a client that has left, or does not mind that
		// it leaves.
		"past-unread": {gone, "/content", 499, "client_closed", ""},
		"past-broken": {leaving, "/content", 200, "client_closed", ""},
		"past-whole":  {leavingLate, "/whole", 200, "answered", ""},
	} {
		r := httptest.NewRequestWithContext(tc.ctx, http.MethodGet, "http://past.test"+tc.path, nil)
		r.Header.Set("X-Request-Id", id)
		func() {
			defer func() { _ = recover() }() // as net/http does
			var w http.ResponseWriter = httptest.NewRecorder()
			switch tc.ctx {
			case leaving:
				w = &leavingWriter{w, leave}
			case leavingLate:
				w = &leavingWriter{w, leaveLate}
			}
			handler.ServeHTTP(w, r)
		}()
		w := httptest.NewRecorder()
		admin.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/tentagate/requests/"+id, nil))
		var a struct {
			Requests []struct {
				Status        int
				Outcome, User string
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || len(a.Requests) != 1 {
			t.Errorf("%s: %d %s", id, w.Code, w.Body)
		} else if got := a.Requests[0]; got.Outcome != tc.outcome || got.Status != tc.status || got.User != accesslog.Pseudonym(tc.user) {
			t.Errorf("%s: %+v, want %d, %s, user %s", id, got, tc.status, tc.outcome, accesslog.Pseudonym(tc.user))
		}
	}
}

// A request that a handler in front of guard refuses is kept too, with the id of the answer.
func TestPastInFront(t *testing.T) {
	handler := servertest.Handler(t, ":80 {\n route {\n telemetry front\n error \"in front\" 403\n guard\n decider\n }\n}\n")
	for _, given := range []string{"", "past-front"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://past.test/", nil)
		if given != "" {
			r.Header.Set("X-Request-Id", given)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		id := w.Header().Get("X-Request-Id")
		if id == "" || given != "" && id != given || !strings.Contains(w.Body.String(), `"request_id":"`+id+`"`) {
			t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		w = httptest.NewRecorder()
		admin.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/tentagate/requests/"+id, nil))
		if !strings.Contains(w.Body.String(), `"status": 403`) {
			t.Errorf("%s: %d %s", id, w.Code, w.Body)
		}
	}
}
