package merge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// parse reads a document in YAML or JSON.
func parse(t testing.TB, text string) tree.Value {
	t.Helper()
	doc, err := tree.Parse([]byte(text), tree.Standard())
	if err != nil {
		t.Fatal(err)
	}
	return doc.Root()
}

// merged is the merged document, as far as a test looks at it.
type merged struct {
	t        *testing.T
	root     tree.Value
	text     string
	problems []string
}

// merge merges one document of the service users.
func merge(t *testing.T, o Options, text string) *merged {
	t.Helper()
	return mergeAll(t, o, map[string]string{"users": text}, "users")
}

func mergeAll(t *testing.T, o Options, documents map[string]string, names ...string) *merged {
	t.Helper()
	var versions []string
	for _, name := range names {
		versions = append(versions, VersionOf(parse(t, documents[name])))
	}
	o.Title, o.Version, o.OpenAPI = "All", "1", Highest(versions...)
	m := New(o)
	result := &merged{t: t}
	for _, name := range names {
		result.problems = append(result.problems, m.Add(Service{Name: name, Base: "/api/" + name}, parse(t, documents[name]))...)
	}
	b := m.Bytes()
	if !json.Valid(b) {
		t.Fatalf("not JSON: %s", b)
	}
	result.root, result.text = parse(t, string(b)), string(b)
	return result
}

// at checks that the value of a pointer is the JSON, or missing where it is "".
func (m *merged) at(pointer, want string) {
	m.t.Helper()
	if got := string(m.root.Pointer(pointer).Raw()); got != want {
		m.t.Errorf("%s: got %s, want %s", pointer, got, want)
	}
}

func (m *merged) hasProblem(part string) {
	m.t.Helper()
	if !strings.Contains(strings.Join(m.problems, "\n"), part) {
		m.t.Errorf("problems %q: %q is missing", m.problems, part)
	}
}

const head = "openapi: 3.1.0\ninfo: {title: Users, version: '2'}\n"

func TestNames(t *testing.T) {
	m := merge(t, Options{}, head+`
x-shared: {deep: {type: string}}
tags: [{name: people, description: All, x-order: 1}, {name: young, parent: people}]
paths:
  /users/{id}:
    x-kept: {any: 1}
    parameters: [{$ref: '#/components/parameters/id'}]
    get:
      operationId: getUser
      tags: [people]
      responses:
        '200': {$ref: '#/components/responses/User'}
        '404': {$ref: '#/paths/~1users~1{id}/delete/responses/404'}
        default: {description: d, links: {next: {operationId: getUser, parameters: {id: $response.body#/id}}, self: {operationRef: '#/paths/~1users~1%7Bid%7D/get'}}}
    delete:
      responses: {'404': {description: gone}}
components:
  schemas:
    User: {type: object, properties: {$ref: {type: string}, example: {$ref: '#/components/schemas/Name'}, x-p: {$ref: '#/x-shared/deep'}, friend: {$ref: '#/components/schemas/User/properties/example'}}, example: {$ref: '#/components/schemas/User'}, default: {$ref: x}, enum: [{$ref: y}]}
    Name: {type: string, x-like: {$ref: '#/components/schemas/User'}}
    List<User>: {type: array, items: {$ref: '#/components/schemas/User'}}
    Uses: {$ref: '#/components/schemas/List%3CUser%3E'}
  parameters: {id: {name: id, in: path, required: true, schema: {$ref: '#/components/schemas/Name'}}}
  responses: {User: {description: u, content: {application/json: {schema: {$ref: '#/components/schemas/User'}, examples: {one: {value: {$ref: '#/components/schemas/User'}}}}}}}
  examples: {Ann: {value: {name: Ann}}}
  headers:
    Sample: {example: {$ref: '#/components/examples/Ann'}}
    None: {example: {$ref: '#/components/examples/None'}}
    More: {example: [{$ref: '#/components/examples/Ann', and: more}, {$ref: '#/components/examples/Ann'}]}
webhooks:
  created: {post: {operationId: onCreated, responses: {'200': {description: ok}}}}
`)
	m.at("/openapi", `"3.1.2"`)
	m.at("/servers", `[{"url":"/"}]`)
	m.at("/paths/~1api~1users~1users~1{id}/parameters", `[{"$ref":"#/components/parameters/users_id"}]`)
	get := "/paths/~1api~1users~1users~1{id}/get"
	m.at("/paths/~1api~1users~1users~1{id}/x-kept", `{"any":1}`)
	m.at(get+"/operationId", `"users_getUser"`)
	m.at(get+"/tags", `["users: people"]`)
	m.at("/paths/~1api~1users~1users~1{id}/delete/tags", `["users"]`)
	m.at(get+"/responses/200", `{"$ref":"#/components/responses/users_User"}`)
	m.at(get+"/responses/404", `{"$ref":"#/paths/~1api~1users~1users~1%7Bid%7D/delete/responses/404"}`)
	m.at(get+"/responses/default/links/next", `{"operationId":"users_getUser","parameters":{"id":"$response.body#/id"}}`)
	m.at(get+"/responses/default/links/self", `{"operationRef":"#/paths/~1api~1users~1users~1%7Bid%7D/get"}`)
	user := "/components/schemas/users_User"
	m.at(user+"/properties/$ref", `{"type":"string"}`)
	m.at(user+"/properties/example", `{"$ref":"#/components/schemas/users_Name"}`)
	m.at(user+"/properties/friend", `{"$ref":"#/components/schemas/users_User/properties/example"}`)
	m.at(user+"/properties/x-p", `{"$ref":"#/x-tentagate-services/users/x-shared/deep"}`)
	m.at(user+"/example", `{"$ref":"#/components/schemas/User"}`)
	m.at(user+"/default", `{"$ref":"x"}`)
	m.at(user+"/enum", `[{"$ref":"y"}]`)
	m.at("/components/schemas/users_Name/x-like", `{"$ref":"#/components/schemas/users_User"}`)
	m.at("/components/schemas/users_Uses", `{"$ref":"#/components/schemas/users_List_User_"}`)
	m.at("/components/responses/users_User/content/application~1json/examples/one/value", `{"$ref":"#/components/schemas/User"}`)
	m.at("/components/headers/users_Sample/example", `{"$ref":"#/components/examples/users_Ann"}`)
	m.at("/components/headers/users_None/example", `{"$ref":"#/components/examples/None"}`)
	m.at("/components/headers/users_More/example", `[{"$ref":"#/components/examples/Ann","and":"more"},{"$ref":"#/components/examples/Ann"}]`)
	m.at("/tags", `[{"name":"users: people","description":"All","x-order":1},{"name":"users: young","parent":"users: people"},{"name":"users","description":"Users"}]`)
	m.at("/webhooks/users_created/post/operationId", `"users_onCreated"`)
	m.at("/x-tentagate-services/users/x-shared", `{"deep":{"type":"string"}}`)
	m.at("/security", "")
	m.hasProblem(`the name "List<User>" has characters that are not allowed`)
	if len(m.problems) != 1 {
		t.Errorf("problems: %q", m.problems)
	}
}

// Names of different services stay different whatever they are.
func TestCollisions(t *testing.T) {
	part := head + "paths: {/x: {get: {operationId: %s, responses: {'200': {description: ok, content: {a/b: {schema: {$ref: '#/components/schemas/%[1]s'}}}}}}}}\ncomponents: {schemas: {%[1]s: {title: %s}}}\n"
	m := mergeAll(t, Options{}, map[string]string{"a": fmt.Sprintf(part, "b_c", "one"), "a_b": fmt.Sprintf(part, "c", "two")}, "a", "a_b")
	m.at("/components/schemas/a_b_c", `{"title":"one"}`)
	m.at("/components/schemas/a_b_c_2", `{"title":"two"}`)
	m.at("/paths/~1api~1a_b~1x/get/responses/200/content/a~1b/schema/$ref", `"#/components/schemas/a_b_c_2"`)
	m.at("/paths/~1api~1a~1x/get/operationId", `"a_b_c"`)
	m.at("/paths/~1api~1a_b~1x/get/operationId", `"a_b_c_2"`)
}

func TestReferencesThatLeadNowhere(t *testing.T) {
	m := merge(t, Options{}, head+`
paths:
  /a:
    parameters: [{$ref: '#/components/parameters/none'}, {$ref: 'https://evil.example/p'}, {name: p, in: query}]
    get:
      requestBody: {$ref: 'other.yaml#/b'}
      responses: {'200': {$ref: '#/components/responses/none'}, '201': {$ref: '#/components/responses/a'}}
  /b: {$ref: 'paths/b.yaml'}
components:
  responses: {a: {$ref: '#/components/responses/b'}, b: {$ref: '#/components/responses/a'}}
  schemas:
    A: {$ref: 'http://169.254.169.254/latest'}
    B: {properties: {x: {$ref: '#/components/schemas/A/properties/no'}, y: {$ref: '#'}, z: {$ref: ''}}}
    C: {$ref: '#/components/schemas/C'}
`)
	m.at("/paths/~1api~1users~1a/parameters", `[{"name":"p","in":"query"}]`)
	m.at("/paths/~1api~1users~1a/get/requestBody", "")
	m.at("/paths/~1api~1users~1a/get/responses/200", `{"description":"","x-unresolved-ref":"#/components/responses/none"}`)
	m.at("/paths/~1api~1users~1a/get/responses/201/description", `""`)
	m.at("/paths/~1api~1users~1b", "")
	m.at("/components/schemas/users_A", `{"x-unresolved-ref":"http://169.254.169.254/latest"}`)
	m.at("/components/schemas/users_C", `{"x-unresolved-ref":"#/components/schemas/C"}`)
	if strings.Contains(m.text, `"$ref":"http`) || strings.Contains(m.text, `"$ref":"other`) || strings.Contains(m.text, `"$ref":"paths`) {
		t.Errorf("a reference leads out of the document: %s", m.text)
	}
	m.hasProblem("leads out of the document")
	m.hasProblem("leads nowhere")
	m.hasProblem("leads back to itself")
}

func TestSecurity(t *testing.T) {
	text := head + `
security: [{key: []}]
paths:
  /a: {get: {responses: {}}, put: {security: [], responses: {}}, post: {security: [{oauth: [write], key: []}, {basic: []}, {}], responses: {}}}
  /open: {get: {responses: {}}, put: {security: [{oauth: []}], responses: {}}}
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
    oauth: {type: oauth2, flows: {implicit: {authorizationUrl: 'https://id/', scopes: {}}}}
    basic: {type: http, scheme: basic}
    field: {type: apiKey, in: header, name: authorization}
`
	m := merge(t, Options{Bearer: true, Public: func(path string) bool { return path == "/api/users/open" }}, text)
	m.at("/security", `[{"bearer":[]}]`)
	m.at("/paths/~1api~1users~1a/get/security", `[{"bearer":[],"users_key":[]}]`)
	m.at("/paths/~1api~1users~1a/put/security", "")
	m.at("/paths/~1api~1users~1a/post/security", `[{"bearer":[],"users_key":[]},{"bearer":[]}]`)
	m.at("/paths/~1api~1users~1open/get/security", `[{"users_key":[]}]`)
	m.at("/paths/~1api~1users~1open/put/security", `[]`)
	m.at("/components/securitySchemes/users_oauth", "")
	m.at("/components/securitySchemes/users_field", "")
	m.at("/components/securitySchemes/users_key/name", `"X-Key"`)
	m.at("/components/securitySchemes/bearer/scheme", `"bearer"`)

	m = merge(t, Options{}, text)
	m.at("/security", "")
	m.at("/paths/~1api~1users~1a/get/security", `[{"users_key":[]}]`)
	m.at("/paths/~1api~1users~1a/put/security", `[]`)
	m.at("/paths/~1api~1users~1a/post/security", `[{"users_oauth":["write"],"users_key":[]},{"users_basic":[]},{}]`)
	m.at("/components/securitySchemes/users_basic/scheme", `"basic"`)
}

func TestServers(t *testing.T) {
	for servers, want := range map[string]string{
		"[]":                                   "/api/users/p",
		"[{url: /}]":                           "/api/users/p",
		"[{url: 'https://users.example/v1/'}]": "/api/users/v1/p",
		"[{url: 'v1'}]":                        "/api/users/v1/p",
		"[{url: /api/users}]":                  "/api/users/p",
		"[{url: /api/users/v2}]":               "/api/users/v2/p",
		"[{url: /api/usersx}]":                 "/api/users/api/usersx/p",
		"[{url: /inner/v3}]":                   "/api/users/v3/p",
		"[{url: 'https://{h}/{v}', variables: {h: {default: a.b}, v: {default: v9}}}]": "/api/users/v9/p",
		"[{url: /a/../b}]":                           "/api/users/p",
		"[{url: 'http://[::1'}]":                     "/api/users/p",
		"[{url: /one}, {url: /two}]":                 "/api/users/one/p",
		"[{url: /" + strings.Repeat("x", 300) + "}]": "/api/users/p",
		"[3]": "/api/users/p",
	} {
		m := New(Options{OpenAPI: "3.1.0"})
		m.Add(Service{Name: "users", Base: "/api/users", Prefix: "/inner"}, parse(t, head+"servers: "+servers+"\npaths: {/p: {get: {servers: [{url: /x}], responses: {}}}}"))
		root := parse(t, string(m.Bytes()))
		if !root.Get("paths").Get(want).Exists() {
			t.Errorf("%s: got %s, want %s", servers, root.Get("paths").Raw(), want)
		}
		if root.Get("paths").Get(want).Get("get").Get("servers").Exists() {
			t.Errorf("%s: the operation has servers", servers)
		}
	}
	m := merge(t, Options{}, head+"servers: [{url: /v1}]\npaths: {/p: {servers: [{url: /v2}], get: {responses: {}}}}")
	m.at("/paths/~1api~1users~1v2~1p/servers", "")
}

// A document of OpenAPI 3.0 beside one of 3.1 is written as 3.1 has it.
func TestUpgrade(t *testing.T) {
	old := `
openapi: 3.0.3
info: {title: Old, version: '1'}
paths: {/a: {get: {responses: {}}}}
components:
  schemas:
    A: {type: string, nullable: true, minimum: 1, exclusiveMinimum: true, maximum: 9, exclusiveMaximum: false}
    B: {type: string, nullable: false}
    C: {nullable: true, allOf: [{$ref: '#/components/schemas/A'}]}
    D: {$ref: '#/components/schemas/A', description: d, required: [x]}
`
	m := mergeAll(t, Options{}, map[string]string{"old": old, "new": head + "paths: {}"}, "old", "new")
	m.at("/components/schemas/old_A", `{"type":["string","null"],"exclusiveMinimum":1,"maximum":9}`)
	m.at("/components/schemas/old_B", `{"type":"string"}`)
	m.at("/components/schemas/old_C", `{"nullable":true,"allOf":[{"$ref":"#/components/schemas/old_A"}]}`)
	m.at("/components/schemas/old_D", `{"$ref":"#/components/schemas/old_A","description":"d"}`)
	m = mergeAll(t, Options{}, map[string]string{"old": old}, "old")
	m.at("/openapi", `"3.0.4"`)
	m.at("/components/schemas/old_A/nullable", `true`)
	m.at("/components/schemas/old_D/required", `["x"]`)
}

func TestDiscriminators(t *testing.T) {
	m := merge(t, Options{}, head+`
paths: {}
components:
  schemas:
    Pet: {oneOf: [{$ref: '#/components/schemas/Cat'}, {$ref: '#/components/schemas/Dog'}], discriminator: {propertyName: kind, mapping: {dog: Dog, d2: '#/components/schemas/Dog', far: 'https://x/y'}}}
    Cat: {type: object}
    Dog: {type: object}
    Base: {type: object, discriminator: {propertyName: kind}}
    Child: {allOf: [{$ref: '#/components/schemas/Base'}]}
`)
	m.at("/components/schemas/users_Pet/discriminator", `{"propertyName":"kind","mapping":{"dog":"#/components/schemas/users_Dog","d2":"#/components/schemas/users_Dog","far":"https://x/y","Cat":"#/components/schemas/users_Cat"}}`)
	m.at("/components/schemas/users_Base/discriminator", `{"propertyName":"kind","mapping":{"Child":"#/components/schemas/users_Child"}}`)
}

func TestDialect(t *testing.T) {
	m := merge(t, Options{}, head+`
paths: {}
components:
  schemas:
    Tree: {$id: 'https://example.com/tree', $anchor: inner, properties: {next: {$ref: '#/properties/x'}, x: true}}
    Uses: {$ref: 'https://example.com/tree#/properties/x'}
    Node: {$dynamicAnchor: node, items: {$dynamicRef: '#node'}}
    Named: {$anchor: here, properties: {a: {$ref: '#here'}}}
`)
	m.at("/components/schemas/users_Tree/properties/next", `{"$ref":"#/properties/x"}`)
	m.at("/components/schemas/users_Tree/$anchor", `"inner"`)
	m.at("/components/schemas/users_Uses", `{"$ref":"https://example.com/tree#/properties/x"}`)
	m.at("/components/schemas/users_Node", `{"$dynamicAnchor":"users_node","items":{"$dynamicRef":"#users_node"}}`)
	m.at("/components/schemas/users_Named/properties/a", `{"$ref":"#users_here"}`)
}

// Callbacks and webhooks are requests of the service: nothing of the gateway's is
// asked of them.
func TestCallbacks(t *testing.T) {
	m := merge(t, Options{Bearer: true}, head+`
security: [{k: []}]
paths: {/a: {post: {callbacks: {done: {'{$request.body#/url}': {post: {operationId: cb, security: [{k: []}], responses: {}}}}}, responses: {}}}}
components: {securitySchemes: {k: {type: apiKey, in: query, name: k}}}
`)
	m.at("/paths/~1api~1users~1a/post/callbacks/done/{$request.body#~1url}/post", `{"operationId":"users_cb","responses":{}}`)
}

func TestBadDocuments(t *testing.T) {
	m := merge(t, Options{}, `{"openapi":"3.0.0","openapi":"3.0.1","info":3,"tags":[{"x":1},5],"security":[{"none":[]}],"components":[],"webhooks":3,
		"paths":{"a":{"get":{}},"/b":7,"/a":{"get":{"deprecated":true}},"/c":{"get":{"operationId":"x","responses":{}},"put":{"operationId":"x","responses":{}},"post":null,"parameters":{}}}}`)
	for _, want := range []string{
		`the member "openapi" more than once`, "info is missing", "components is not an object", "webhooks is not an object", `path "a" does not begin with a slash`,
		`"/b" is not an object`, `"/a" stands twice`, `operationId "x" is not unique`, "an operation without responses", "a tag without a name", `no scheme "none"`,
	} {
		m.hasProblem(want)
	}
	m.at("/paths/~1api~1users~1c/get/operationId", `"users_x"`)
	m.at("/paths/~1api~1users~1c/put/operationId", `"users_x_2"`)
	m.at("/paths/~1api~1users~1a/get/responses", `{"default":{"description":""}}`)
}

// A path that a browser would ask of another service is not one of this.
func TestDotSegments(t *testing.T) {
	for _, path := range []string{"/../orders/pay", "/a/%2e%2E/%2e./orders", `/..\\..\\orders`, "/a/.", "..", "/a/."} {
		m := merge(t, Options{}, head+`paths: {"`+path+`": {get: {responses: {}}}, "/..a/.b": {get: {responses: {}}}}`)
		m.hasProblem("has a dot segment")
		if n := strings.Count(m.text, `"/api/users`); n != 1 {
			t.Errorf("%s: %s", path, m.text)
		}
	}
	for _, server := range []string{"/..", "http://a/%2e%2e/orders"} {
		m := merge(t, Options{}, head+"servers: [{url: '"+server+"'}]\npaths: {/a: {get: {responses: {}}}}")
		m.hasProblem("has a dot segment")
		m.at("/paths/~1api~1users~1a/get/responses", `{}`)
	}
}

func TestUnknownServiceAndSize(t *testing.T) {
	m := New(Options{Title: "All", Version: "1", OpenAPI: "3.1.0", Bearer: true, Size: 4000})
	m.AddUnknown(Service{Name: "plain", Base: "/api/plain", Notes: []string{"connection refused"}})
	if problems := m.Add(Service{Name: "users", Base: "/api/users"}, parse(t, head+"paths: {/big: {get: {description: '"+strings.Repeat("x", 5000)+"', responses: {}}}}")); len(problems) != 1 || !strings.Contains(problems[0], "larger than 4000 bytes") {
		t.Errorf("problems: %q", problems)
	}
	root := parse(t, string(m.Bytes()))
	for _, path := range []string{"/api/plain/{path}", "/api/users/{path}"} {
		if !root.Get("paths").Get(path).Get("delete").Exists() {
			t.Errorf("%s is missing", path)
		}
	}
	if root.Get("paths").Get("/api/users/big").Exists() || !strings.Contains(root.Pointer("/info/description").Text(), "connection refused") {
		t.Errorf("got %s", root.Raw())
	}
}

func TestHighest(t *testing.T) {
	for _, tc := range []struct{ versions, want string }{{"", "3.0.4"}, {"3.0.0", "3.0.4"}, {"3.0.0 3.1", "3.1.2"}, {"3.2.0 3.1.0", "3.2.0"}, {"2.0 4.0", "3.0.4"}} {
		if got := Highest(strings.Fields(tc.versions)...); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.versions, got, tc.want)
		}
	}
	if Supported("3.10.0") || Supported("2.0") || !Supported("3.2.0") {
		t.Error("Supported")
	}
}

// Text from a document is text on the page.
func TestAboutIsPlain(t *testing.T) {
	m := merge(t, Options{}, `{"openapi":"3.1.0","info":{"title":"<script>*x*\n# h","version":"1"},"paths":{}}`)
	if got := m.root.Pointer("/info/description").Text(); !strings.Contains(got, `**\<script\>\*x\* \# h 1**`) {
		t.Errorf("got %s", got)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte(head+"paths: {/a: {get: {responses: {}}}}"), []byte(`{"openapi":"3.0.0","components":{"schemas":{"A":{"$ref":"#/components/schemas/A"}}}}`))
	f.Add([]byte(`{"openapi":"3.2.0","paths":{"/":{"additionalOperations":{"COPY":{"security":[{"a":[]}]}}}},"components":{"securitySchemes":{"a":{"type":"apiKey"}}}}`), []byte(`{}`))
	f.Add([]byte(`{"openapi":"3.0.0","components":{"schemas":{"A":{"type":"a","nullable":true,"exclusiveMinimum":true,"discriminator":{"mapping":{"x":1}}}}}}`), []byte(head+`components: {schemas: {A: {$id: a, $ref: '#x', $anchor: b, $defs: {x: {$dynamicRef: '#/a'}}}}}`))
	limits := tree.Limits{Bytes: 1 << 16, Depth: 50, Nodes: 10_000, Digits: 100}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var roots []tree.Value
		var versions []string
		for _, text := range [][]byte{a, b} {
			doc, err := tree.Parse(text, limits)
			if err != nil {
				return
			}
			roots = append(roots, doc.Root())
			versions = append(versions, VersionOf(doc.Root()))
		}
		m := New(Options{Title: "All", Version: "1", OpenAPI: Highest(versions...), Bearer: len(a)%2 == 0})
		for i, root := range roots {
			m.Add(Service{Name: "s" + string(rune('0'+i)), Base: "/api/s"}, root)
		}
		text := m.Bytes()
		if !json.Valid(text) {
			t.Fatalf("not JSON: %s", text)
		}
		if len(text) > 60*(len(a)+len(b))+10_000 {
			t.Fatalf("%d bytes became %d", len(a)+len(b), len(text))
		}
		again, err := tree.ParseJSON(text, tree.Standard())
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Repeated) > 0 && bytes.Count(text, []byte("$")) == 0 {
			t.Fatalf("members %q are there twice in %s", again.Repeated, text)
		}
	})
}

func BenchmarkMerge(b *testing.B) {
	text, err := os.ReadFile(os.Getenv("OPENAPI_DOCUMENT"))
	if err != nil {
		b.Skip("OPENAPI_DOCUMENT names no document")
	}
	doc, err := tree.ParseJSON(text, tree.Standard())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m := New(Options{OpenAPI: "3.1.0", Bearer: true})
		problems := m.Add(Service{Name: "users", Base: "/api/users"}, doc.Root())
		b.Log(len(m.Bytes()), problems)
	}
}
