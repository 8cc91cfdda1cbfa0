package apidocs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/apidocs/internal/fetch"
	"github.com/pythopus/tentagate/internal/route"
	"github.com/pythopus/tentagate/internal/servertest"
)

func init() {
	caddy.RegisterModule(new(echo))
	httpcaddyfile.RegisterHandlerDirective("echo_body", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return new(echo), nil })
	httpcaddyfile.RegisterDirectiveOrder("echo_body", httpcaddyfile.Before, "respond")
}

// echo answers with the body of the request, and says which route it has.
type echo struct{}

func (*echo) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.echo_body", New: func() caddy.Module { return new(echo) }}
}

func (*echo) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("X-Route", route.Of(r))
	if strings.HasSuffix(r.URL.Path, "/gone") {
		w.Header().Set("Sunset", "own")
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return caddyhttp.Error(http.StatusBadGateway, err)
	}
	_, _ = w.Write(text)
	return nil
}

const shop = `{"openapi":"3.0.3","info":{"title":"Shop","version":"1"},"paths":{
"/items/{id}":{"get":{"parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"integer"}}],"responses":{"200":{"description":"ok"}}}},
"/items":{"post":{"deprecated":true,"x-sunset":"2027-01-31","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Item"}}}},"responses":{"200":{"description":"ok"}}}},
"/notes":{"post":{"requestBody":{"content":{"text/plain":{},"application/json":{"schema":{"type":"object"}}}},"responses":{"200":{"description":"ok"}}}},
"/old":{"patch":{"deprecated":true,"requestBody":{"content":{"application/json":{}}},"responses":{"200":{"description":"ok"}}}},
"/gone":{"get":{"deprecated":true,"x-sunset":"2027-01-31","responses":{"200":{"description":"ok"}}}}},
"components":{"schemas":{"Item":{"type":"object","required":["name"],"properties":{"name":{"type":"string","nullable":true},"n":{"type":"integer"}}}}}}`

// contractSite is a site with the document of shop, which was fetched.
func contractSite(t *testing.T, service, options string) http.Handler {
	t.Helper()
	b := newBackend(t, shop)
	h := servertest.Handler(t, fmt.Sprintf(":80 {\n api_docs {\n service %s %s\n %s\n }\n echo_body\n}", service, b.address(), options))
	get(t, h, "/openapi.json")
	fetched(t, service, fetch.OK)
	return h
}

func send(h http.Handler, method, path string, body io.Reader, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://gateway.test"+path, body)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	h := contractSite(t, "routes-shop", "")
	for path, want := range map[string]string{
		"/api/routes-shop/items/1": "/items/{id}", "/API/Routes-Shop/items/x": "/items/{id}", "//api//routes-shop/items/1": "/items/{id}",
		"/api/routes-shop/items/a%2Fb": "/items/{id}", "/api/routes-shop/items": "/items", "/api/routes-shop/other": "", "/api/none/items": "", "/items": "",
	} {
		if got := send(h, http.MethodGet, path, nil).Header().Get("X-Route"); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// The look-up of the route costs a request nothing on the heap.
func TestFindAllocates(t *testing.T) {
	h := &Handler{prefix: "/api/", byName: map[string]*Service{"users": {}}}
	r := httptest.NewRequest(http.MethodGet, "/api/users/items/1", nil)
	if n := testing.AllocsPerRun(100, func() { h.find(r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDeprecatedOperations(t *testing.T) {
	h := contractSite(t, "deprecated-shop", "")
	w := send(h, http.MethodPost, "/api/deprecated-shop/items", nil)
	if got := w.Header().Get("Deprecation") + " " + w.Header().Get("Sunset"); got != "@0 Sun, 31 Jan 2027 00:00:00 GMT" {
		t.Errorf("got %q", got)
	}
	if w = send(h, http.MethodGet, "/api/deprecated-shop/gone", nil); w.Header().Get("Sunset") != "own" || w.Header().Get("Deprecation") != "@0" {
		t.Errorf("what the service says: %v", w.Header())
	}
	if w = send(h, http.MethodGet, "/api/deprecated-shop/items/1", nil); w.Header().Get("Deprecation") != "" {
		t.Errorf("not deprecated: %v", w.Header())
	}
}

func count(service string, result int) float64 {
	return testutil.ToFloat64(validations.WithLabelValues(service, resultNames[result]))
}

// The series of a service end with the last configuration that has it.
func TestSeriesOfRemovedServices(t *testing.T) {
	const service = "series-shop"
	series := func() (n int) {
		for _, c := range []prometheus.Collector{fetches, validations} {
			metrics := make(chan prometheus.Metric, 10_000)
			c.Collect(metrics)
			close(metrics)
			for m := range metrics {
				var out dto.Metric
				if err := m.Write(&out); err != nil {
					t.Fatal(err)
				}
				if out.GetLabel()[1].GetValue() == service {
					n++
				}
			}
		}
		return n
	}
	var ended []func()
	for range 2 {
		h := &Handler{Services: []*Service{{Name: service, Addresses: []string{"http://127.0.0.1:1"}}}, Validate: modeObserve, Delay: caddy.Duration(time.Hour)}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		if err := h.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		ended = append(ended, func() {
			if err := h.Cleanup(); err != nil {
				t.Error(err)
			}
			cancel()
		})
	}
	ended[0]()
	if series() == 0 {
		t.Error("no series of a service that there is")
	}
	ended[1]()
	if n := series(); n > 0 {
		t.Errorf("%d series of a service that is gone", n)
	}
}

func TestEnforce(t *testing.T) {
	h := contractSite(t, "enforce-shop", "validate enforce\n validate_body_size 64B")
	const base = "/api/enforce-shop"
	for _, tc := range []struct {
		method, path, contentType, body string
		status                          int
		contains                        string // in the body of the answer
		result                          int
	}{
		{"GET", "/items/1", "", "", 200, "", resultValid},
		{"HEAD", "/items/1", "", "", 200, "", resultValid},
		{"GET", "/items/x", "", "", 400, `"errors":[{"detail":"must be of the type integer","in":"path","name":"id"}]`, resultParameters},
		{"GET", "/none", "", "", 404, `"status":404`, resultPath},
		{"PUT", "/items", "", "", 405, `"status":405`, resultMethod},
		{"OPTIONS", "/none", "", "", 200, "", resultUnchecked},
		{"POST", "/items", "application/json", "", 400, `"detail":"the body is missing"`, resultBody},
		{"POST", "/items", "text/plain", "x", 415, "application/json", resultContentType},
		{"POST", "/items", "application/json", `{"name":null}`, 200, `{"name":null}`, resultValid},
		{"POST", "/items", "application/json", `{"n":1}`, 400, `"pointer":"#/name"`, resultBody},
		{"POST", "/items", "application/json", `{"name":"a","n":"x"}`, 400, `"the body at /n must be of the type integer"`, resultBody},
		{"POST", "/items", "application/json", `{"name"`, 400, "is not JSON", resultBody},
		{"POST", "/items", "application/json", `{"n":"` + strings.Repeat("x", 100) + `"}`, 200, "xxx", resultUnchecked},
	} {
		before := count("enforce-shop", tc.result)
		w := send(h, tc.method, base+tc.path, strings.NewReader(tc.body), "Content-Type", tc.contentType)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.contains) {
			t.Errorf("%s %s %s: %d %s", tc.method, tc.path, tc.body, w.Code, w.Body)
		}
		if tc.status >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %v", tc.method, tc.path, w.Header())
		}
		if count("enforce-shop", tc.result) != before+1 {
			t.Errorf("%s %s %s: not counted as %s", tc.method, tc.path, tc.body, resultNames[tc.result])
		}
	}
	r := httptest.NewRequest(http.MethodPost, "http://gateway.test"+base+"/notes", strings.NewReader(`[]`))
	r.Header["Content-Type"] = []string{"text/plain", "application/json"}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("two types: %d %s", w.Code, w.Body)
	}
	if got := send(h, "PUT", base+"/items", nil).Header().Get("Allow"); got != "POST" {
		t.Errorf("Allow: %q", got)
	}
	// An operation that is deprecated says so where it refuses, too (RFC 9745).
	refused := send(h, "PATCH", base+"/old", strings.NewReader("x"), "Content-Type", "text/plain").Header()
	for name, want := range map[string]string{"Accept": "application/json", "Accept-Patch": "application/json", "Deprecation": "@0"} {
		if got := refused.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A body without a length passes whole, be it checked or too long to be; one that breaks
// off is the error that it would be.
func TestEnforceStreams(t *testing.T) {
	h := contractSite(t, "stream-shop", "validate enforce\n validate_body_size 64B")
	const path = "/api/stream-shop/items"
	for _, body := range []string{`{"name":"a"}`, `{"name":"` + strings.Repeat("y", 5000) + `"}`} {
		w := send(h, http.MethodPost, path, iotest.OneByteReader(strings.NewReader(body)), "Content-Type", "application/json")
		if w.Code != http.StatusOK || w.Body.String() != body {
			t.Errorf("%d bytes: %d %s", len(body), w.Code, w.Body)
		}
	}
	w := send(h, http.MethodPost, path, io.MultiReader(strings.NewReader(`{"na`), iotest.ErrReader(io.ErrUnexpectedEOF)), "Content-Type", "application/json")
	if w.Code != http.StatusBadGateway {
		t.Errorf("broken: %d %s", w.Code, w.Body)
	}
	// One with nothing in it is none, whatever its Content-Type.
	for _, tc := range []struct {
		path, body, contentType string
		status                  int
	}{
		{"/notes", "", "", http.StatusOK},
		{"/notes", "", "application/json", http.StatusOK},
		{"/notes", "{}", "", http.StatusUnsupportedMediaType},
		{"/items", "", "", http.StatusBadRequest},
		{"/items", "", "application/json", http.StatusBadRequest},
	} {
		w := send(h, http.MethodPost, "/api/stream-shop"+tc.path, iotest.OneByteReader(strings.NewReader(tc.body)), "Content-Type", tc.contentType)
		if w.Code != tc.status || tc.status == http.StatusBadRequest && !strings.Contains(w.Body.String(), "the body is missing") {
			t.Errorf("%+v: %d %s", tc, w.Code, w.Body)
		}
	}
	w = send(h, http.MethodPost, path, bytes.NewReader([]byte{0x1f, 0x8b}), "Content-Type", "application/json", "Content-Encoding", "gzip")
	if w.Code != http.StatusOK {
		t.Errorf("compressed: %d", w.Code)
	}
}

// A path without operations has no method: the field Allow is there nevertheless
// (RFC 9110 §15.5.6).
func TestMethodNotAllowedSaysAllow(t *testing.T) {
	b := newBackend(t, `{"openapi":"3.1.0","paths":{"/a":{}}}`)
	h := servertest.Handler(t, fmt.Sprintf(":80 {\n api_docs {\n service allow-shop %s\n validate enforce\n }\n echo_body\n}", b.address()))
	get(t, h, "/openapi.json")
	fetched(t, "allow-shop", fetch.OK)
	w := send(h, http.MethodGet, "/api/allow-shop/a", nil)
	if _, ok := w.Header()["Allow"]; w.Code != http.StatusMethodNotAllowed || !ok {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestObserve(t *testing.T) {
	b := newBackend(t, shop)
	h := servertest.Handler(t, fmt.Sprintf(":80 {\n api_docs {\n service observe2-shop %s {\n validate observe\n }\n validate enforce\n }\n echo_body\n}", b.address()))
	get(t, h, "/openapi.json")
	fetched(t, "observe2-shop", fetch.OK)
	if w := send(h, http.MethodGet, "/api/observe2-shop/items/x", nil); w.Code != http.StatusOK {
		t.Errorf("refused: %d", w.Code)
	}
	if count("observe2-shop", resultParameters) != 1 {
		t.Error("not counted")
	}
}

// Requests pass while there is no document, and where it has paths that cannot be read.
func TestEnforceWithoutDocument(t *testing.T) {
	h := servertest.Handler(t, ":80 {\n api_docs {\n service missing-shop http://127.0.0.1:1\n validate enforce\n }\n echo_body\n}")
	if w := send(h, http.MethodGet, "/api/missing-shop/x", nil); w.Code != http.StatusOK {
		t.Errorf("without a document: %d", w.Code)
	}
	b := newBackend(t, `{"openapi":"3.1.0","paths":{"/a":{"get":{}},"/b":7}}`)
	h = servertest.Handler(t, fmt.Sprintf(":80 {\n api_docs {\n service broken-shop %s\n validate enforce\n }\n echo_body\n}", b.address()))
	get(t, h, "/openapi.json")
	fetched(t, "broken-shop", fetch.OK)
	if w := send(h, http.MethodGet, "/api/broken-shop/b", nil); w.Code != http.StatusOK {
		t.Errorf("a path that could not be read: %d", w.Code)
	}
}

func TestCallReport(t *testing.T) {
	h := contractSite(t, "report-shop", "")
	for range 2 {
		send(h, http.MethodGet, "/api/report-shop/items/1", nil)
		send(h, http.MethodGet, "/api/report-shop/users/4711/secret-4f7a9b2c", nil)
	}
	send(h, http.MethodPost, "/api/report-shop/items", nil)
	for i := range 2 * maxUndocumented {
		send(h, http.MethodGet, "/api/report-shop/"+strings.Repeat("x", i%30)+strings.Repeat("/y", i/30), nil)
	}
	var report callReport
	for _, r := range callReports() {
		if r.Service == "report-shop" {
			report = r
		}
	}
	if len(report.Undocumented) != maxUndocumented || report.MoreUndocumented == 0 {
		t.Errorf("%d paths, %d more", len(report.Undocumented), report.MoreUndocumented)
	}
	if first := report.Undocumented[0]; first.Path != "/users/{}/{}" || first.Calls != 2 || first.Last == nil {
		t.Errorf("undocumented: %+v", first)
	}
	if len(report.NeverCalled) != 3 || report.NeverCalled[0].Path != "/notes" || report.NeverCalled[1].Path != "/old" || report.NeverCalled[2].Path != "/gone" {
		t.Errorf("never called: %+v", report.NeverCalled)
	}
	if len(report.Deprecated) != 1 || report.Deprecated[0].Sunset == "" || report.Deprecated[0].Calls != 1 {
		t.Errorf("deprecated: %+v", report.Deprecated)
	}
	w := httptest.NewRecorder()
	if err := serveCalls(w, httptest.NewRequest(http.MethodGet, callsPath, nil)); err != nil || !json.Valid(w.Body.Bytes()) {
		t.Errorf("admin: %v %s", err, w.Body)
	}
}
