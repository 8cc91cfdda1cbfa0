package problem

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
)

// request returns a request as Caddy's server hands it to handlers.
func request(t *testing.T, server *caddyhttp.Server) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://gateway.test/x", nil)
	repl := caddy.NewReplacer()
	w := httptest.NewRecorder()
	if server == nil {
		server = &caddyhttp.Server{}
	}
	return caddyhttp.PrepareRequest(r, repl, w, server)
}

func fail(err error) Handler {
	return func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { return err }
}

var noNext = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// A past request refers to the log only where the log has its error.
func TestErrorLogged(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"a foreign 5xx": {caddyhttp.Error(502, errors.New("refused")), true},
		"a foreign 4xx": {caddyhttp.Error(404, errors.New("none")), false},
		"our own 5xx":   {Error(New(503, "the circuit is open")), false},
	} {
		r := request(t, nil)
		if err := Serve(httptest.NewRecorder(), r, noNext, fail(tc.err)); err != nil {
			t.Fatal(err)
		}
		if got := requeststate.Of(r).Decisions.ErrorLogged; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestServe(t *testing.T) {
	rejection := &Problem{
		Type: "https://example.com/p", Title: "No", Status: 429, Detail: `say "no"`,
		Ext: map[string]any{"violated-policies": []string{"a"}, "also": 1},
	}
	for _, tc := range []struct {
		name   string
		err    error
		status int
		body   string
	}{
		{"own", Error(rejection), 429, `{"type":"https://example.com/p","title":"No","status":429,"detail":"say \"no\"","instance":"id-1","also":1,"violated-policies":["a"],"request_id":"id-1"}`},
		{"foreign", caddyhttp.Error(502, errors.New("dial tcp 10.1.2.3:80: refused")), 502, `{"type":"about:blank","title":"Bad Gateway","status":502,"detail":"the service behind the gateway could not be reached or did not answer properly","instance":"id-1","request_id":"id-1"}`},
		{"foreign without a text", caddyhttp.Error(418, errors.New("x")), 418, `{"type":"about:blank","title":"I'm a teapot","status":418,"instance":"id-1","request_id":"id-1"}`},
		{"plain", errors.New("secret"), 500, `{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the gateway could not process the request","instance":"id-1","request_id":"id-1"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(t, nil)
			SetRequestID(r, "id-1")
			w := httptest.NewRecorder()
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Content-Encoding", "gzip")
			if err := Serve(w, r, noNext, fail(tc.err)); err != nil {
				t.Fatalf("got error %v, want it answered", err)
			}
			if w.Code != tc.status || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("got %d %q", w.Code, w.Header().Get("Content-Type"))
			}
			if got := strings.TrimSpace(w.Body.String()); got != tc.body {
				t.Errorf("got  %s\nwant %s", got, tc.body)
			}
			if !json.Valid(w.Body.Bytes()) {
				t.Error("the body is not JSON")
			}
			if w.Header().Get("Retry-After") != "7" || w.Header().Get("Content-Encoding") != "" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("headers: %v", w.Header())
			}
		})
	}
}

func TestServeLeavesTheErrorTo(t *testing.T) {
	refusal := Error(New(403, "no"))
	site := func(host string) *caddyhttp.Server {
		return &caddyhttp.Server{Errors: &caddyhttp.HTTPErrorConfig{Routes: caddyhttp.RouteList{
			{MatcherSets: caddyhttp.MatcherSets{{caddyhttp.MatchHost{host}}}},
		}}}
	}

	t.Run("an outer handler", func(t *testing.T) {
		r := request(t, nil)
		w := httptest.NewRecorder()
		var inner error
		err := Serve(w, r, noNext, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
			inner = Serve(w, r, next, fail(refusal))
			return inner
		})
		if err != nil || w.Code != 403 {
			t.Errorf("outer: got %v and %d", err, w.Code)
		}
		if inner == nil || !IsOwn(inner) {
			t.Errorf("inner: got %v, want the refusal", inner)
		}
	})
	t.Run("an error route of this site", func(t *testing.T) {
		w := httptest.NewRecorder()
		if err := Serve(w, request(t, site("gateway.test")), noNext, fail(refusal)); err == nil || w.Body.Len() > 0 {
			t.Errorf("got %v and %q", err, w.Body)
		}
	})
	t.Run("not an error route of another site", func(t *testing.T) {
		w := httptest.NewRecorder()
		if err := Serve(w, request(t, site("other.test")), noNext, fail(refusal)); err != nil || w.Code != 403 {
			t.Errorf("got %v and %d", err, w.Code)
		}
	})
	t.Run("an error route for its status", func(t *testing.T) {
		// As the Caddyfile has them: the site's route around the status's.
		status := func(code int) *caddyhttp.Server {
			matcher := caddyhttp.MatchExpression{Expr: "{http.error.status_code} == " + strconv.Itoa(code)}
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			t.Cleanup(cancel)
			if err := matcher.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			server := site("gateway.test")
			server.Errors.Routes[0].Handlers = []caddyhttp.MiddlewareHandler{&caddyhttp.Subroute{Routes: caddyhttp.RouteList{{
				MatcherSets: caddyhttp.MatcherSets{{&matcher}}, Handlers: []caddyhttp.MiddlewareHandler{&caddyhttp.StaticResponse{}},
			}}}}
			return server
		}
		w := httptest.NewRecorder()
		if err := Serve(w, request(t, status(403)), noNext, fail(refusal)); err == nil || w.Body.Len() > 0 {
			t.Errorf("for 403: got %v and %q", err, w.Body)
		}
		w = httptest.NewRecorder()
		if err := Serve(w, request(t, status(404)), noNext, fail(refusal)); err != nil || w.Code != 403 {
			t.Errorf("for 404: got %v and %d", err, w.Code)
		}
	})
	t.Run("the server when the answer has begun", func(t *testing.T) {
		for name, begin := range map[string]func(http.ResponseWriter){
			"header": func(w http.ResponseWriter) { w.WriteHeader(200) },
			"body":   func(w http.ResponseWriter) { _, _ = io.WriteString(w, "x") },
			"flush":  func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
			"copy":   func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader("x")) },
		} {
			w := httptest.NewRecorder()
			err := Serve(w, request(t, nil), noNext, func(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
				begin(w)
				return refusal
			})
			if err == nil || w.Code != 200 || strings.Contains(w.Body.String(), "type") {
				t.Errorf("%s: got %v, %d, %q", name, err, w.Code, w.Body)
			}
		}
	})
	t.Run("nobody after an informational header", func(t *testing.T) {
		w := httptest.NewRecorder()
		err := Serve(w, request(t, nil), noNext, func(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
			w.WriteHeader(http.StatusEarlyHints)
			return refusal
		})
		if err != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestServeOfHEADHasNoBody(t *testing.T) {
	r := request(t, nil)
	r.Method = http.MethodHead
	w := httptest.NewRecorder()
	if err := Serve(w, r, noNext, fail(Error(New(404, "gone")))); err != nil {
		t.Fatal(err)
	}
	if w.Body.Len() != 0 || w.Header().Get("Content-Length") == "0" || w.Code != 404 {
		t.Errorf("got %d, %q, %v", w.Code, w.Body, w.Header())
	}
}

func TestRequestIDWithoutGuard(t *testing.T) {
	r := request(t, nil)
	id := RequestID(r)
	if len(id) != 36 || RequestID(r) != id {
		t.Errorf("got %q, want the same UUID each time", id)
	}
}

// A problem names the request and the trace that it belongs to. A client cannot write into
// it through either.
func TestIDsOfTheRequest(t *testing.T) {
	id, err := trace.TraceIDFromHex("4bf92f3577b34da6a3ce929d0e0e4736")
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}})
	for name, test := range map[string]struct {
		ctx  context.Context
		want any
	}{
		"traced":         {trace.ContextWithSpanContext(t.Context(), span), id.String()},
		"not traced":     {t.Context(), nil},
		"an empty trace": {trace.ContextWithSpanContext(t.Context(), trace.SpanContext{}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, nil)
			r = r.WithContext(trace.ContextWithSpanContext(r.Context(), trace.SpanContextFromContext(test.ctx)))
			r.Header.Set("Traceparent", `00-","trace_id":"x-0000000000000001-01`)
			SetRequestID(r, `a"b`)
			w := httptest.NewRecorder()
			err := Error(&Problem{Status: 403, Ext: map[string]any{"request_id": "taken", "trace_id": "taken"}})
			if err := Serve(w, r, nil, fail(err)); err != nil {
				t.Fatal(err)
			}
			var members map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &members); err != nil {
				t.Fatalf("%v: %s", err, w.Body)
			}
			if members["request_id"] != `a"b` || members["instance"] != `a"b` || members["trace_id"] != test.want {
				t.Errorf("%s", w.Body)
			}
			if strings.Count(w.Body.String(), "_id\"") != len(members)-4 { // type, title, status, instance
				t.Errorf("a member is there twice: %s", w.Body)
			}
		})
	}
}
