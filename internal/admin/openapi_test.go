package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// thing is what the endpoints of the tests answer with.
type thing struct {
	Inner
	Name   string             `json:"name"`
	At     *time.Time         `json:"at,omitempty"`
	TTL    caddy.Duration     `json:"ttl"`
	Counts map[string]float64 `json:"counts,omitempty"`
	List   []Inner            `json:"list"`
	Hidden string             `json:"-"`
	hidden string
}

// Inner is a part of a thing.
type Inner struct {
	Number int  `json:"number"`
	Yes    bool `json:"yes"`
}

func init() {
	RegisterAPI("probe", Endpoint{
		Pattern: "/tentagate/probe/",
		Serve: func(w http.ResponseWriter, r *http.Request) error {
			switch r.URL.Path {
			case "/tentagate/probe/none":
				return Error(http.StatusNotFound, ErrUnknown("thing", "none", nil))
			case "/tentagate/probe/broken":
				return errors.New("broken")
			}
			return JSON(w, thing{hidden: "x"})
		},
		Operations: []Operation{
			{Method: http.MethodGet, Path: "/tentagate/probe/{name}", Summary: "A thing", Query: map[string]string{"key": "Its key"}, Answer: thing{}, Fails: map[int]string{404: "There is none"}},
			{Method: http.MethodPost, Path: "/tentagate/probe/{name}", Summary: "Makes a thing", Query: map[string]string{"also": "Another"}, Body: Inner{}},
		},
	})
}

// Errors are application/problem+json, and only the methods that are described are
// accepted.
func TestEndpoint(t *testing.T) {
	for _, tc := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "a", 200, `"name": ""`},
		{"HEAD", "a", 200, ``},
		{"POST", "a", 200, ``},
		{"GET", "none", 404, `"title":"Not Found","status":404,"detail":"no thing \"none\": no thing is in use"`},
		{"GET", "broken", 500, `"status":500,"detail":"broken"`},
		{"PUT", "a", 405, `"detail":"accepted methods: GET, HEAD, POST"`},
	} {
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, httptest.NewRequest(tc.method, "/tentagate/probe/"+tc.path, nil))
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d %v %s", tc.method, tc.path, w.Code, w.Header(), w.Body)
		}
		if problem := w.Header().Get("Content-Type") == "application/problem+json"; problem != (tc.status >= 400) {
			t.Errorf("%s %s: %v", tc.method, tc.path, w.Header())
		}
		if allow := w.Header().Get("Allow"); (allow == "GET, HEAD, POST") != (tc.status == 405) {
			t.Errorf("%s %s: Allow %q", tc.method, tc.path, allow)
		}
	}
}

// A request that may change something is refused if it has a parameter that the operation
// does not have, or a body of another type.
func TestEndpointChecks(t *testing.T) {
	for _, tc := range []struct {
		method, query, contentType string
		status                     int
		want                       string
	}{
		{"POST", "", "application/json; charset=utf-8", 200, ""},
		{"POST", "", "application/x-www-form-urlencoded", 200, ""}, // of curl -d
		{"POST", "", "text/plain", 415, `want application/json`},
		{"POST", "", "json", 415, `content type \"json\"`},
		{"POST", "?kye=1", "", 400, `no query parameter \"kye\": accepted are also`},
		{"POST", "?also=1", "", 200, ""},
		{"POST", "?key=1", "", 400, `no query parameter \"key\"`}, // of GET
		{"POST", "?also=%zz", "", 400, `invalid URL escape`},
		{"GET", "?kye=1", "text/plain", 200, ""},
	} {
		r := httptest.NewRequest(tc.method, "/tentagate/probe/a"+tc.query, nil)
		if tc.contentType != "" {
			r.Header.Set("Content-Type", tc.contentType)
		}
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("%s%s of the type %q: %d %s", tc.method, tc.query, tc.contentType, w.Code, w.Body)
		}
	}
}

func TestOperationsAreRequired(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an endpoint without operations is accepted")
		}
	}()
	RegisterAPI("undescribed", Endpoint{Pattern: "/tentagate/undescribed"})
}

func TestDocument(t *testing.T) {
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, openapiURI, nil))
	var document struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	if document.OpenAPI != "3.1.0" || document.Paths[openapiURI]["get"] == nil || document.Paths["/tentagate/probe/{name}"]["post"] == nil {
		t.Errorf("got %s", w.Body)
	}
	var got any
	if err := json.Unmarshal(document.Paths["/tentagate/probe/{name}"]["get"], &got); err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got)
	want := `{"operationId":"get_probe_name","parameters":[` +
		`{"in":"path","name":"name","required":true,"schema":{"type":"string"}},` +
		`{"description":"Its key","in":"query","name":"key","schema":{"type":"string"}}],` +
		`"responses":{"200":{"content":{"application/json":{"schema":{"properties":{` +
		`"at":{"format":"date-time","type":"string"},"counts":{"additionalProperties":{"type":"number"},"type":"object"},` +
		`"list":{"items":{"properties":{"number":{"type":"integer"},"yes":{"type":"boolean"}},"required":["number","yes"],"type":"object"},"type":"array"},` +
		`"name":{"type":"string"},"number":{"type":"integer"},` +
		`"ttl":{"description":"A duration such as 48h, or a number of nanoseconds","type":["string","integer"]},"yes":{"type":"boolean"}},` +
		`"required":["number","yes","name","ttl","list"],"type":"object"}}},"description":"OK"},` +
		`"404":{"content":{"application/problem+json":{"schema":{"$ref":"#/components/schemas/Problem"}}},"description":"There is none"},` +
		`"405":{"content":{"application/problem+json":{"schema":{"$ref":"#/components/schemas/Problem"}}},"description":"The endpoint does not accept the method"}},` +
		`"summary":"A thing"}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}
