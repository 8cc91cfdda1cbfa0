package admin

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/version"
)

// openapiURI is the endpoint of the description of all endpoints.
const openapiURI = "/tentagate/openapi.json"

// Operation describes a method of an endpoint, for the admin API's own OpenAPI
// document.
type Operation struct {
	Method string
	// Path may have parameters, such as `/tentagate/breakers/{name}`. Default: the
	// pattern of the endpoint.
	Path    string
	Summary string
	// Query are the query parameters, by name, with what they mean.
	Query map[string]string
	// Body and Answer are of the types that are read and sent as JSON; nil is none.
	Body, Answer any
	// MediaType of an answer that is not JSON, such as text/html.
	MediaType string
	// Fails are the statuses of errors, with what they mean, beside the 405 that every
	// endpoint has.
	Fails map[int]string
}

var (
	operationsMu sync.Mutex
	operations   []Operation // guarded by operationsMu
)

// describe adds the operations of an endpoint to the OpenAPI document.
func describe(e Endpoint) {
	if len(e.Operations) == 0 {
		panic("admin: the endpoint " + e.Pattern + " has no operations")
	}
	operationsMu.Lock()
	defer operationsMu.Unlock()
	for _, o := range e.Operations {
		o.Path = cmp.Or(o.Path, e.Pattern)
		operations = append(operations, o)
	}
}

func init() {
	RegisterAPI("openapi", Endpoint{Pattern: openapiURI, Serve: serveOpenAPI, Operations: []Operation{
		{Method: http.MethodGet, Summary: "The OpenAPI document of the admin API", Answer: map[string]any{}},
	}})
}

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) error { return JSON(w, document()) }

type object = map[string]any

// refusal is the answer with an error (RFC 9457).
type refusal struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// document returns the OpenAPI document.
func document() object {
	operationsMu.Lock()
	defer operationsMu.Unlock()
	paths := map[string]object{}
	for _, o := range operations {
		if paths[o.Path] == nil {
			paths[o.Path] = object{}
		}
		paths[o.Path][strings.ToLower(o.Method)] = o.describe()
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "TentaGate admin API", "version": cmp.Or(version.Of(), "devel"),
			"description": "What TentaGate adds to the admin API of Caddy.",
		},
		"paths":      paths,
		"components": object{"schemas": object{"Problem": schema(reflect.TypeFor[refusal]())}},
	}
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

func (o *Operation) describe() object {
	parameters := []object{}
	for _, found := range pathParameter.FindAllStringSubmatch(o.Path, -1) {
		parameters = append(parameters, object{"name": found[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, name := range slices.Sorted(maps.Keys(o.Query)) {
		parameters = append(parameters, object{"name": name, "in": "query", "description": o.Query[name], "schema": object{"type": "string"}})
	}
	responses := object{}
	switch {
	case o.MediaType != "":
		responses["200"] = object{"description": "OK", "content": content(o.MediaType, object{"type": "string"})}
	case o.Answer == nil:
		responses["204"] = object{"description": "Done"}
	default:
		responses["200"] = object{"description": "OK", "content": content("application/json", schema(reflect.TypeOf(o.Answer)))}
	}
	fails := map[int]string{http.StatusMethodNotAllowed: "The endpoint does not accept the method"}
	maps.Copy(fails, o.Fails)
	for status, meaning := range fails {
		responses[strconv.Itoa(status)] = object{"description": meaning, "content": content("application/problem+json", object{"$ref": "#/components/schemas/Problem"})}
	}
	description := object{"summary": o.Summary, "operationId": operationID(o), "parameters": parameters, "responses": responses}
	if o.Body != nil {
		description["requestBody"] = object{"required": true, "content": content("application/json", schema(reflect.TypeOf(o.Body)))}
	}
	return description
}

// operationID makes `get_breakers_name` of `GET /tentagate/breakers/{name}`.
func operationID(o *Operation) string {
	path := strings.NewReplacer("/", "_", "{", "", "}", "", ".", "_").Replace(strings.Trim(strings.TrimPrefix(o.Path, "/tentagate"), "/"))
	return strings.ToLower(o.Method) + "_" + cmp.Or(path, "page")
}

func content(mediaType string, schema object) object {
	return object{mediaType: object{"schema": schema}}
}

// schema returns the JSON Schema of what encoding/json makes of a type.
func schema(t reflect.Type) object {
	switch {
	case t == nil, t == reflect.TypeFor[json.RawMessage](), t.Kind() == reflect.Interface:
		return object{}
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[caddy.Duration]():
		return object{"type": []string{"string", "integer"}, "description": "A duration such as 48h, or a number of nanoseconds"}
	case t == reflect.TypeFor[statusExample]():
		return statusSchema()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schema(t.Elem())}
	case reflect.Struct:
		properties, required := object{}, []string{}
		fields(t, properties, &required)
		return object{"type": "object", "properties": properties, "required": required}
	default:
		return object{"type": "integer"}
	}
}

// fields adds the members of a struct, and of those that are embedded in it.
func fields(t reflect.Type, properties object, required *[]string) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			fields(f.Type, properties, required)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		properties[name] = schema(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}
