package contract

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

const document = `
openapi: 3.1.0
info: {title: T, version: '1'}
servers: [{url: 'https://inner.example.com/v1'}]
paths:
  /: {get: {responses: {}}}
  /items: {get: {}, post: {deprecated: true, x-sunset: '2027-01-31', x-deprecated-at: '2026-11-01T00:00:00Z'}}
  /items/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer, minimum: 1}}]
    get: {deprecated: true, parameters: [{$ref: '#/components/parameters/fields'}]}
    head: {}
    query: {}
  /items/mine: {get: {}}
  /items/{id}/files/{name}.{kind}: {get: {}}
  /items/{a}/{b}: {get: {}}
  /a%20b/{x}: {get: {}}
  /shared: {$ref: '#/components/pathItems/shared'}
  x-not: {get: {}}
  /find:
    get:
      parameters:
        - {name: q, in: query, required: true, schema: {type: string, maxLength: 3}}
        - {name: n, in: query, schema: {type: [integer, 'null'], maximum: 5}}
        - {name: on, in: query, schema: {type: boolean}}
        - {name: ids, in: query, schema: {type: array, items: {type: integer}, maxItems: 2}}
        - {name: csv, in: query, explode: false, schema: {type: array, items: {type: string, enum: [a, b]}}}
        - {name: pipes, in: query, style: pipeDelimited, schema: {type: array, items: {type: integer}}}
        - {name: spaces, in: query, style: spaceDelimited, schema: {type: array, items: {type: integer}}}
        - {name: names, in: query, style: pipeDelimited, explode: true, schema: {type: array, items: {type: integer}}}
        - {name: filter, in: query, required: true, style: deepObject, schema: {type: object}}
        - {name: opt, in: query, schema: {anyOf: [{type: array, items: {type: integer}}, {type: 'null'}]}}
        - {name: texts, in: query, schema: {type: array, items: {anyOf: [{type: string}, {type: 'null'}]}}}
        - {name: mix, in: query, schema: {anyOf: [{type: array, items: {type: integer}}, {type: string, maxLength: 1}]}}
        - {name: X-Kind, in: header, required: true, schema: {enum: [x, y]}}
        - {name: Authorization, in: header, required: true, schema: {type: string}}
        - {name: sid, in: cookie, schema: {type: string, minLength: 2}}
    post:
      requestBody: {$ref: '#/components/requestBodies/item'}
components:
  parameters: {fields: {name: fields, in: query, schema: {type: string}}}
  requestBodies: {item: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/Item'}}, 'text/*': {}}}}
  pathItems: {shared: {put: {}}}
  schemas: {Item: {type: object, required: [name], properties: {name: {type: string}, n: {type: integer}, code: {type: string, pattern: '^[a-z]+$'}}}}
`

func parse(t testing.TB, text string, check bool) *Contract {
	t.Helper()
	doc, err := tree.Parse([]byte(text), tree.Standard())
	if err != nil {
		t.Fatal(err)
	}
	return New(doc.Root(), Options{Base: "/api/users", Check: check})
}

func TestFind(t *testing.T) {
	c := parse(t, document, false)
	if !c.Complete() || c.Checks() {
		t.Error("complete or checks")
	}
	for path, want := range map[string]string{
		"/v1/": "/v1/", "/v1": "", "/v1/items": "/v1/items", "/v1/items/": "", "/v1/items/7": "/v1/items/{id}", "/v1/items/mine": "/v1/items/mine",
		"/v1/items/7/files/a.b.c": "/v1/items/{id}/files/{name}.{kind}", "/v1/items/7/files/.c": "", "/v1/items/7/x": "/v1/items/{a}/{b}",
		"/v1/items/7/files": "/v1/items/{a}/{b}", "/v1/ITEMS": "", "/v1/a b/1": "/v1/a%20b/{x}", "/items": "", "/v1/shared": "/v1/shared", "/x-not": "",
	} {
		var m Match
		c.Find(&m, http.MethodGet, path, false)
		got := ""
		if m.Path != nil {
			got = m.Path.Template
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	var m Match
	if c.Find(&m, http.MethodGet, "/v1/items/a%2Fb", true); m.Path == nil || m.values[0] != "a/b" {
		t.Errorf("escaped: %+v", m)
	}
	c.Find(&m, "QUERY", "/v1/items/1", false)
	if m.Operation == nil || m.Path.Template != "/v1/items/{id}" {
		t.Errorf("QUERY: %+v", m.Path)
	}
	if m = (Match{}); m.Operation != nil {
		t.Error("not empty")
	}
	if c.Find(&m, http.MethodHead, "/v1/items", false); m.Operation == nil || m.Operation.Method != http.MethodGet {
		t.Error("HEAD of a path with GET")
	}
	m = Match{}
	if c.Find(&m, http.MethodDelete, "/v1/items", false); m.Operation != nil || m.Allow() != "GET, HEAD, POST" {
		t.Errorf("DELETE: %+v", m)
	}
	// Templates that overlap: the one that has the method, and the methods of all.
	if c.Find(&m, "QUERY", "/v1/items/mine", false); m.Operation == nil || m.Path.Template != "/v1/items/{id}" || m.values[0] != "mine" {
		t.Errorf("a method that only the second template has: %+v", m)
	}
	if c.Find(&m, http.MethodDelete, "/v1/items/mine", false); m.Operation != nil || m.Path.Template != "/v1/items/mine" || m.Allow() != "GET, HEAD, QUERY" {
		t.Errorf("a method that no template has: %+v, %s", m, m.Allow())
	}
	if n := testing.AllocsPerRun(100, func() { m = Match{}; c.Find(&m, http.MethodGet, "/v1/items/7", false) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDeprecated(t *testing.T) {
	c := parse(t, document, false)
	var m Match
	c.Find(&m, http.MethodPost, "/v1/items", false)
	if o := m.Operation; o.Deprecation != "@1793491200" || o.Sunset != "Sun, 31 Jan 2027 00:00:00 GMT" {
		t.Errorf("got %q, %q", o.Deprecation, o.Sunset)
	}
	m.Operation.Call(time.Unix(7, 0))
	c.Find(&m, http.MethodGet, "/v1/items/1", false)
	if o := m.Operation; o.Deprecation != "@0" || o.Sunset != "" {
		t.Errorf("got %q, %q", o.Deprecation, o.Sunset)
	}
	next := parse(t, document, true)
	next.TakeCalls(c)
	next.Find(&m, http.MethodPost, "/v1/items", false)
	if m.Operation.Calls.Load() != 1 || m.Operation.Last.Load() != 7 {
		t.Error("the calls are lost")
	}
}

func TestParameters(t *testing.T) {
	c := parse(t, document, true)
	for query, want := range map[string]string{
		"q=abc": "", "": "query q is missing", "q=abcd": "query q must have at most 3 characters", "q=1": "", "q=a&q=b": "query q is given more than once",
		"q=a&n=5": "", "q=a&n=6": "query n must be at most 5", "q=a&n=x": "query n must be of the type null or integer", "q=a&n=1.5": "query n must be of the type null or integer",
		"q=a&on=true": "", "q=a&on=yes": "query on must be of the type boolean",
		"q=a&ids=1&ids=2": "", "q=a&ids=1&ids=x": "query ids item 1 must be of the type integer", "q=a&ids=1&ids=2&ids=3": "query ids must have at most 2 items",
		"q=a&opt=1&opt=2": "", "q=a&opt=1&opt=x": "query opt fits none of the alternatives", "q=a&texts=1&texts=x": "", "q=a&mix=1&mix=abc": "",
		"q=a&n=%zz": "query  has a bad escape or a semicolon", "q=a;n=1": "query  has a bad escape or a semicolon",
		"q=a" + strings.Repeat("&ids=1", 2000): "query ids must have at most 2 items",
		"q=a&pipes=1|2&spaces=1%202+3":         "", "q=a&pipes=1%7Cx": "query pipes item 1 must be of the type integer", "q=a&spaces=1+x": "query spaces item 1 must be of the type integer",
		"q=a&names=1&names=2": "", "q=a&names=1|2": "query names item 0 must be of the type integer",
		"q=a&csv=a,b": "", "q=a&csv=a,c": "query csv item 1 is none of the values that are allowed",
	} {
		r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
		r.Header.Set("X-Kind", "x")
		check(t, c, r, "/v1/find", want)
	}
	r := httptest.NewRequest(http.MethodGet, "/?q=a", nil)
	r.AddCookie(&http.Cookie{Name: "sid", Value: "x"})
	check(t, c, r, "/v1/find", "header X-Kind is missing; cookie sid must have at least 2 characters")
	r.Header.Set("X-Kind", "z")
	check(t, c, r, "/v1/find", "header X-Kind is none of the values that are allowed; cookie sid must have at least 2 characters")
	// Cookies that net/http leaves out, but services read.
	for cookie, want := range map[string]string{`sid=\`: "cookie sid must have at least 2 characters", `sid="x"`: "cookie sid must have at least 2 characters", `sid="xy"`: "", `sid=xy; sid=x\`: "cookie sid is given more than once"} {
		r := httptest.NewRequest(http.MethodGet, "/?q=a", nil)
		r.Header.Set("X-Kind", "x")
		r.Header.Set("Cookie", cookie)
		check(t, c, r, "/v1/find", want)
	}
	check(t, c, httptest.NewRequest(http.MethodGet, "/", nil), "/v1/items/0", "path id must be at least 1")
	check(t, c, httptest.NewRequest(http.MethodGet, "/", nil), "/v1/items/x", "path id must be of the type integer")
	check(t, c, httptest.NewRequest(http.MethodGet, "/", nil), "/v1/items/3", "")
}

func check(t *testing.T, c *Contract, r *http.Request, path, want string) {
	t.Helper()
	var m Match
	c.Find(&m, r.Method, path, false)
	var got []string
	for _, f := range c.Parameters(&m, r) {
		got = append(got, f.In+" "+f.Name+" "+f.Detail)
	}
	if text := strings.Join(got, "; "); text != want {
		t.Errorf("%s?%s: got %q, want %q", path, r.URL.RawQuery, text, want)
	}
}

func TestBody(t *testing.T) {
	c := parse(t, document, true)
	var m Match
	c.Find(&m, http.MethodPost, "/v1/find", false)
	if b := c.Body(&m, "application/xml"); b.Accepted || !b.Required || b.Types != "application/json, text/*" {
		t.Errorf("XML: %+v", b)
	}
	if b := c.Body(&m, "text/csv"); !b.Accepted || b.JSON {
		t.Errorf("text: %+v", b)
	}
	b := c.Body(&m, "Application/JSON; charset=utf-8")
	if !b.Accepted || !b.JSON {
		t.Fatalf("JSON: %+v", b)
	}
	for text, want := range map[string]string{
		`{"name":"a","n":1}`: "", `{"n":1}`: "/name is missing", `{"name":"a","n":"1"}`: "/n must be of the type integer",
		`{"name":"a"`: " is not JSON: line 1, column 12: expected a comma", `{"name":"a","name":1}`: " has an object with a member more than once: name",
		"": " is not JSON", strings.Repeat("[", 600): " is not JSON",
	} {
		faults, complete := c.CheckBody(b, []byte(text))
		got := ""
		if len(faults) > 0 {
			got = faults[0].Pointer + " " + faults[0].Detail
		}
		if !complete || want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	// A long text is compared with its pattern, as many short ones are.
	for text, want := range map[string]bool{strings.Repeat("a", 900_000): true, strings.Repeat("a", 900_000) + "!": false} {
		if faults, complete := c.CheckBody(b, []byte(`{"name":"a","code":"`+text+`"}`)); !complete || want != (len(faults) == 0) {
			t.Errorf("a text of %d bytes: %v, %t", len(text), faults, complete)
		}
	}
	c.Find(&m, http.MethodGet, "/v1/find", false)
	if b := c.Body(&m, "application/json"); b.Described || b.Required {
		t.Errorf("GET: %+v", b)
	}
}

func FuzzFind(f *testing.F) {
	f.Add("/a/{b}.{c}/d", "/a/x.y/d")
	f.Add("/{a}{b}/}{/{}", "/%2F%/")
	f.Fuzz(func(t *testing.T, template, path string) {
		w := tree.NewWriter(0)
		w.Begin('{')
		w.Member("openapi", "3.1.0")
		w.Name("paths")
		w.Begin('{')
		w.Name(template)
		w.Raw([]byte(`{"get":{}}`))
		w.End('}')
		w.End('}')
		doc, err := tree.ParseJSON(w.Bytes(), tree.Standard())
		if err != nil {
			t.Fatal(err)
		}
		c := New(doc.Root(), Options{})
		var m Match
		c.Find(&m, http.MethodGet, path, true)
	})
}
