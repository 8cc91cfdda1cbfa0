package apidocs

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pythopus/tentagate/apidocs/internal/fetch"
	"github.com/pythopus/tentagate/internal/servertest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// users is a document of a service.
const users = `{"openapi":"3.1.0","info":{"title":"Users","version":"7"},"paths":{"/users/{id}":{"get":{"operationId":"getUser","responses":{"200":{"description":"ok"}}}}}}`

// backend is a service with a document that a test can change.
type backend struct {
	*httptest.Server
	document atomic.Value // string; "" is 404
	asked    atomic.Int32
	same     atomic.Int32 // answers 304
}

func newBackend(t *testing.T, document string) *backend {
	t.Helper()
	b := new(backend)
	b.document.Store(document)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		text := b.document.Load().(string)
		etag := fmt.Sprintf("\"%d\"", len(text))
		switch {
		case text == "" || r.URL.Path != "/inner/openapi.json":
			http.NotFound(w, r)
		case r.Header.Get("If-None-Match") == etag:
			b.same.Add(1)
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", etag)
			_, _ = io.WriteString(w, text)
		}
	}))
	t.Cleanup(b.Close)
	return b
}

// address is that of the service, whose paths begin with /inner.
func (b *backend) address() string { return b.URL + "/inner" }

// get asks a handler.
func get(t *testing.T, h http.Handler, path string, fields ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://gateway.test"+path, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fetched waits until the document of a service was fetched with a result.
func fetched(t *testing.T, service, result string) {
	t.Helper()
	testkit.Eventually(t, "the document of "+service+" is "+result, func() bool {
		for _, s := range sources.Values() {
			if s.service == service && s.Status().Result == result {
				return true
			}
		}
		return false
	})
}

func TestMergedDocument(t *testing.T) {
	b := newBackend(t, users)
	h := servertest.Handler(t, fmt.Sprintf(`:80 {
		api_docs {
			title "All of it"
			service merged-users %s
			service merged-plain http://127.0.0.1:1 {
				spec off
			}
			bearer
		}
		respond "next"
	}`, b.address()))
	get(t, h, "/openapi.json") // begins to fetch, as nothing starts the configuration here
	fetched(t, "merged-users", fetch.OK)
	r := get(t, h, "/openapi.json")
	var document struct {
		OpenAPI string
		Info    struct{ Title, Version, Description string }
		Paths   map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(body(t, r)), &document); err != nil {
		t.Fatal(err)
	}
	if document.Info.Title != "All of it" || document.OpenAPI != "3.1.2" || document.Paths["/api/merged-users/users/{id}"] == nil || document.Paths["/api/merged-plain/{path}"] == nil {
		t.Errorf("got %+v", document)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Vary": "Accept-Encoding",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	etag := r.Header.Get("Etag")
	if r = get(t, h, "/openapi.json", "If-None-Match", `"x", W/`+etag); r.StatusCode != http.StatusNotModified || body(t, r) != "" {
		t.Errorf("with its tag: %d", r.StatusCode)
	}
	r = get(t, h, "/openapi.json", "Accept-Encoding", "br, gzip")
	z, err := gzip.NewReader(r.Body)
	if err != nil || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Etag") == etag {
		t.Fatalf("compressed: %v, %v", err, r.Header)
	}
	if text, _ := io.ReadAll(z); !json.Valid(text) {
		t.Errorf("compressed: %s", text)
	}
	r = get(t, h, "/openapi.yaml")
	if text := body(t, r); r.Header.Get("Content-Type") != "application/yaml" || !strings.HasPrefix(text, "openapi: \"3.1.2\"\ninfo:\n  title: All of it\n") {
		t.Errorf("YAML: %s", text)
	}
	if text := body(t, get(t, h, "/other")); text != "next" {
		t.Errorf("another path: %s", text)
	}
	request := httptest.NewRequest(http.MethodPost, "http://gateway.test/openapi.json", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request)
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" || !strings.Contains(w.Body.String(), `"status":405`) {
		t.Errorf("POST: %d %s", w.Code, w.Body)
	}
}

func TestPage(t *testing.T) {
	h := servertest.Handler(t, `:80 {
		api_docs {
			ui /intern/help
			json /intern/all.json
			yaml off
			title "<b>{env.HOME}"
			service page-plain {
				spec off
			}
		}
	}`)
	r := get(t, h, "/intern/help")
	page := body(t, r)
	for _, want := range []string{"<title>&lt;b&gt;", `src="help/swagger-ui-bundle.js"`, `data-document="all.json"`} {
		if !strings.Contains(strings.ReplaceAll(page, "./", ""), want) {
			t.Errorf("%s is missing in %s", want, page)
		}
	}
	csp := r.Header.Get("Content-Security-Policy")
	if strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") || strings.Contains(page, "<script>") || strings.Contains(page, "style=") {
		t.Errorf("policy %q", csp)
	}
	for name, contentType := range map[string]string{"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "init.js": "text/javascript", "page.css": "text/css", "favicon.png": "image/png", "LICENSE.txt": "text/plain"} {
		r := get(t, h, "/intern/help/"+name)
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), contentType) || r.Header.Get("Etag") == "" || len(body(t, r)) < 100 {
			t.Errorf("%s: %d %v", name, r.StatusCode, r.Header)
		}
	}
	if !strings.Contains(body(t, get(t, h, "/intern/help/LICENSE.txt")), "Apache License") {
		t.Error("the licence is missing")
	}
	if r := get(t, h, "/intern/help/"); r.StatusCode != http.StatusPermanentRedirect || r.Header.Get("Location") != "../help" {
		t.Errorf("with a slash: %d %q", r.StatusCode, r.Header.Get("Location"))
	}
	for _, path := range []string{"/docs", "/openapi.json", "/openapi.yaml", "/intern/help/index.html", "/intern/help/../help/page.html"} {
		if text := body(t, get(t, h, path)); text != "" {
			t.Errorf("%s is answered: %s", path, text)
		}
	}
}

func TestRelative(t *testing.T) {
	for _, tc := range []struct{ from, to, want string }{
		{"/docs", "/docs", "./docs"}, {"/docs/", "/docs", "../docs"}, {"/docs", "/openapi.json", "./openapi.json"}, {"/a/b", "/c/d", "../c/d"}, {"/a", "/b/c/d", "b/c/d"},
	} {
		if got := relative(tc.from, tc.to); got != tc.want {
			t.Errorf("%s to %s: got %s, want %s", tc.from, tc.to, got, tc.want)
		}
	}
}

// A service that only some may see is not in the document of the others.
func TestVisibleTo(t *testing.T) {
	h := servertest.Handler(t, `:80 {
		@staff header X-Staff yes
		api_docs {
			service seen-by-all {
				spec off
			}
			service seen-by-staff {
				spec off
				visible_to @staff
			}
		}
	}`)
	all, staff := get(t, h, "/openapi.json"), get(t, h, "/openapi.json", "X-Staff", "yes")
	if text := body(t, all); strings.Contains(text, "seen-by-staff") || !strings.Contains(text, "seen-by-all") {
		t.Errorf("others: %s", text)
	}
	if text := body(t, staff); !strings.Contains(text, "seen-by-staff") || !strings.Contains(text, "seen-by-all") {
		t.Errorf("staff: %s", text)
	}
	if got := all.Header.Get("Cache-Control"); got != "private, no-cache" || all.Header.Get("Etag") == staff.Header.Get("Etag") {
		t.Errorf("Cache-Control %q", got)
	}
	if !strings.Contains(body(t, get(t, h, "/docs")), `data-token="optional"`) {
		t.Error("the page has no field for a token")
	}
}

// A document that breaks, or is gone, stays as it was; the page says so, without
// addresses.
func TestLastGoodDocument(t *testing.T) {
	b := newBackend(t, users)
	config := fmt.Sprintf(`:80 {
		api_docs {
			service kept-users %s
			refresh 1s
		}
	}`, b.address())
	h := servertest.Handler(t, config)
	get(t, h, "/openapi.json")
	fetched(t, "kept-users", fetch.OK)
	fetched(t, "kept-users", fetch.Unchanged)
	if b.same.Load() == 0 {
		t.Error("the service was not asked with the tag")
	}
	b.document.Store("<html>")
	fetched(t, "kept-users", fetch.Failed)
	text := body(t, get(t, h, "/openapi.json"))
	if !strings.Contains(text, "/api/kept-users/users/{id}") || !strings.Contains(text, "this is an older one") || strings.Contains(text, "127.0.0.1") {
		t.Errorf("got %s", text)
	}
	// Another configuration has it at once.
	again := servertest.Handler(t, config)
	if text := body(t, get(t, again, "/openapi.json")); !strings.Contains(text, "/api/kept-users/users/{id}") {
		t.Errorf("after a reload: %s", text)
	}
	status := documentStatuses()
	for _, s := range status {
		if s.Service == "kept-users" && (s.Result != fetch.Failed || s.Error == "" || s.Title != "Users") {
			t.Errorf("status: %+v", s)
		}
	}
}

// A reload that changes when documents are fetched, or adds an address, has the document
// at once, and requests are validated by it. One that removes the document's address, or
// names another server, does not have it.
func TestReloadKeepsDocument(t *testing.T) {
	b := newBackend(t, users)
	config := func(options string) http.Handler {
		return servertest.Handler(t, fmt.Sprintf(":80 {\n api_docs {\n service reloaded-users %s\n validate enforce\n }\n respond ok\n}", options))
	}
	get(t, config(b.address()), "/openapi.json")
	fetched(t, "reloaded-users", fetch.OK)
	b.document.Store("") // there is none any more
	for _, options := range []string{b.address() + "\n refresh 1h", "http://127.0.0.1:1/inner " + b.address(), b.address() + "\n delay 1h"} {
		h := config(options)
		if r := get(t, h, "/api/reloaded-users/other"); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: a request is not validated: %d", options, r.StatusCode)
		}
		if text := body(t, get(t, h, "/openapi.json")); !strings.Contains(text, "/api/reloaded-users/users/{id}") {
			t.Errorf("%s: %s", options, text)
		}
	}
	for _, address := range []string{"http://127.0.0.1:1/inner", newBackend(t, "").address()} {
		if r := get(t, config(address), "/api/reloaded-users/other"); r.StatusCode != http.StatusOK {
			t.Errorf("%s has the document of another address: %d", address, r.StatusCode)
		}
	}
}

// A document that stays unusable has the same error after each fetch.
func TestErrorsDoNotGrow(t *testing.T) {
	b := newBackend(t, "<html>")
	get(t, servertest.Handler(t, fmt.Sprintf(":80 {\n api_docs {\n service broken-users %s\n }\n}", b.address())), "/openapi.json")
	for _, s := range sources.Values() {
		if s.service != "broken-users" {
			continue
		}
		first := s.Status().Err
		for range 2 { // the same text, and 304
			s.Refresh(t.Context())
		}
		if last := s.Status().Err; first == nil || last == nil || last.Error() != first.Error() || strings.Count(last.Error(), "http://") != 1 {
			t.Errorf("first %v, then %v", first, last)
		}
	}
}

func TestSpecFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(file, []byte("openapi: 3.0.1\ninfo: {title: Filed, version: '1'}\npaths: {/f: {get: {responses: {}}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := servertest.Handler(t, fmt.Sprintf(`:80 {
		api_docs {
			service filed-users {
				spec %s
			}
		}
	}`, file))
	get(t, h, "/openapi.json")
	fetched(t, "filed-users", fetch.OK)
	if text := body(t, get(t, h, "/openapi.json")); !strings.Contains(text, "/api/filed-users/f") {
		t.Errorf("got %s", text)
	}
}

func TestBadConfiguration(t *testing.T) {
	for config, want := range map[string]string{
		"":                                                  "no services: give it lines `service <name> <url>`",
		"service a/b":                                       `service name "a/b": accepted are`,
		"service a\n service A":                             "service A: given more than once",
		"service a\n ui docs":                               `ui: "docs" is not a path: it begins with a slash, or is off`,
		"service a\n ui /docs/":                             "ends with a slash",
		"service a\n ui /":                                  "ends with a slash",
		"service a\n ui /d\n json /d":                       `json: "/d" is the path of ui`,
		"service a\n json off":                              "set `ui off` too",
		"service a\n ui /a/../docs":                         "has a dot segment",
		"service a\n ui /API/a":                             `ui: "/API/a" is a path of the service a`,
		"service a\n yaml /api/a/x.yaml":                    "is a path of the service a",
		"service docs\n prefix /":                           `ui: "/docs" is a path of the service docs`,
		"service a\n json /docs/init.js":                    `json: "/docs/init.js" is a file of the page`,
		"service a\n yaml /a*":                              "is not a plain path",
		"service a\n prefix api":                            `prefix: "api": it begins and ends with a slash`,
		"service a\n public /x":                             "public: it has no effect without bearer",
		"service a\n bearer\n public x":                     `public: "x" is not a path`,
		"service a\n bearer\n public /*/x":                  "is not a path",
		"service a\n refresh 10ms":                          "refresh: 10ms: accepted are 1s to 7d",
		"service a\n refresh 169h":                          "refresh: 169h0m0s: accepted are 1s to 7d",
		"service a\n timeout 301s":                          "timeout: 5m1s: accepted are 1s to 5m",
		"service a\n timeout off":                           "is not a duration",
		"service a\n title \"\"":                            "title: an empty value",
		"service a\n title {env.NONE_SUCH}":                 "{env.NONE_SUCH} is empty",
		"service a ftp://x":                                 `"ftp://x" is not a URL of a service: accepted are`,
		"service a http://u:secret@x":                       "user name or password in it",
		"service a http://x?q":                              "no query",
		"service a http://x https://y":                      "same scheme and path",
		"service a {\n spec http://u:secret@[\n }":          "user name or password in it",
		"service a {\n spec ftp://x\n }":                    "spec: \"ftp://x\" is not a URL",
		"service a {\n spec {env.NONE_SUCH}\n }":            "{env.NONE_SUCH} is empty",
		"service a {\n spec_path x\n }":                     "spec_path: it begins with a slash",
		"service a {\n spec_path /x\n }":                    "spec_path: the service has no address",
		"service a http://x {\n spec /f\n spec_path /x\n }": "no effect beside spec",
		"service a {\n visible_to\n }":                      "visible_to: missing argument",
		"service a {\n visible_to @none\n }":                "@none",
		"service a {\n visible_to x\n }":                    `"x" is not a matcher`,
		"service a\n validate on":                           "validate: ",
		"service a {\n validate on\n }":                     "validate: ",
		"service a\n validate_body_size 0":                  "accepted are 1 to 16MiB",
		"service a\n validate_body_size 17MiB":              "accepted are 1 to 16MiB",
		"service a\n validate_body_size 5":                  "5 bytes is very small: write a unit, such as 5MiB",
		"service a\n titles x":                              "did you mean title?",
	} {
		_, err := servertest.Load(t, ":80 {\n api_docs {\n "+config+"\n }\n}")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q", config, err, want)
		}
		if err != nil && config != "" && !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%s: no line in %v", config, err)
		}
	}
}
