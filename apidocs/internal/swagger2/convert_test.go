package swagger2

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

const petshop = `
swagger: '2.0'
info: {title: Shop, version: '1'}
host: shop.example.com
basePath: /v2
schemes: [https]
consumes: [application/json]
produces: [application/json, application/xml]
x-kept: 1
tags: [{name: pets}]
security: [{key: []}]
paths:
  /pets/{id}:
    parameters:
      - {name: id, in: path, required: true, type: integer, format: int64, minimum: 1, description: Which}
      - {$ref: '#/parameters/trace'}
    get:
      operationId: getPet
      parameters:
        - {name: fields, in: query, type: array, items: {type: string, collectionFormat: csv}}
        - {name: tags, in: query, type: array, items: {type: string}, collectionFormat: multi}
      responses:
        '200': {description: ok, schema: {$ref: '#/definitions/Pet'}, headers: {X-Left: {type: integer, description: Left}}, examples: {application/json: {id: 1}}}
        '404': {$ref: '#/responses/gone'}
    put:
      parameters: [{$ref: '#/parameters/pet'}]
      responses: {'204': {description: done}}
    post:
      consumes: [multipart/form-data]
      parameters:
        - {name: photo, in: formData, type: file, required: true}
        - {name: note, in: formData, type: string, maxLength: 9}
      responses: {default: {schema: {type: file}}}
parameters:
  trace: {name: X-Trace, in: header, type: string}
  pet: {name: pet, in: body, required: true, schema: {$ref: '#/definitions/Pet'}}
responses:
  gone: {description: gone}
definitions:
  Pet:
    type: object
    discriminator: kind
    properties: {kind: {type: string}, owner: {$ref: '#/definitions/Pet'}, born: {type: string, x-nullable: true}}
    example: {$ref: '#/definitions/Pet'}
securityDefinitions:
  key: {type: apiKey, in: header, name: X-Key}
  plain: {type: basic}
  login: {type: oauth2, flow: accessCode, authorizationUrl: 'https://a', tokenUrl: 'https://t', scopes: {read: Read}}
`

func convert(t *testing.T, text string) (tree.Value, []string) {
	t.Helper()
	doc, err := tree.Parse([]byte(text), tree.Standard())
	if err != nil {
		t.Fatal(err)
	}
	if !Is(doc.Root()) {
		t.Fatal("not recognised")
	}
	converted, problems, err := Convert(doc.Root())
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(converted) {
		t.Fatalf("not JSON: %s", converted)
	}
	result, err := tree.ParseJSON(converted, tree.Standard())
	if err != nil {
		t.Fatal(err)
	}
	return result.Root(), problems
}

func TestConvert(t *testing.T) {
	root, problems := convert(t, petshop)
	for pointer, want := range map[string]string{
		"/openapi": `"3.0.4"`, "/swagger": "", "/host": "", "/servers": `[{"url":"/v2"}]`, "/x-kept": "1", "/security": `[{"key":[]}]`,
		"/paths/~1pets~1{id}/parameters/0": `{"name":"id","in":"path","required":true,"description":"Which","schema":{"type":"integer","format":"int64","minimum":1}}`,
		"/paths/~1pets~1{id}/parameters/1": `{"$ref":"#/components/parameters/trace"}`,
		"/paths/~1pets~1{id}/get/parameters/0": `{"name":"fields","in":"query","style":"form","explode":false,` +
			`"schema":{"type":"array","items":{"type":"string"}}}`,
		"/paths/~1pets~1{id}/get/parameters/1/explode": "true",
		"/paths/~1pets~1{id}/get/responses/200": `{"description":"ok","headers":{"X-Left":{"description":"Left","schema":{"type":"integer"}}},` +
			`"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Pet"},"example":{"id":1}},"application/xml":{"schema":{"$ref":"#/components/schemas/Pet"}}}}`,
		"/paths/~1pets~1{id}/get/responses/404": `{"$ref":"#/components/responses/gone"}`,
		"/paths/~1pets~1{id}/put/requestBody":   `{"$ref":"#/components/requestBodies/pet"}`,
		"/paths/~1pets~1{id}/post/requestBody": `{"content":{"multipart/form-data":{"schema":{"type":"object","properties":{` +
			`"photo":{"type":"string","format":"binary"},"note":{"type":"string","maxLength":9}},"required":["photo"]}}},"required":true}`,
		"/paths/~1pets~1{id}/post/consumes":                                           "",
		"/paths/~1pets~1{id}/post/responses/default/description":                      `""`,
		"/paths/~1pets~1{id}/post/responses/default/content/application~1json/schema": `{"type":"string","format":"binary"}`,
		"/components/requestBodies/pet/content/application~1json/schema":              `{"$ref":"#/components/schemas/Pet"}`,
		"/components/requestBodies/pet/required":                                      "true",
		"/components/parameters/pet":                                                  "",
		"/components/parameters/trace":                                                `{"name":"X-Trace","in":"header","schema":{"type":"string"}}`,
		"/components/schemas/Pet/discriminator":                                       `{"propertyName":"kind"}`,
		"/components/schemas/Pet/properties/owner":                                    `{"$ref":"#/components/schemas/Pet"}`,
		"/components/schemas/Pet/properties/born":                                     `{"type":"string","nullable":true}`,
		"/components/schemas/Pet/example":                                             `{"$ref":"#/definitions/Pet"}`,
		"/components/securitySchemes/key":                                             `{"type":"apiKey","in":"header","name":"X-Key"}`,
		"/components/securitySchemes/plain":                                           `{"type":"http","scheme":"basic"}`,
		"/components/securitySchemes/login/flows/authorizationCode/tokenUrl":          `"https://t"`,
		"/components/securitySchemes/login/flows/authorizationCode/scopes":            `{"read":"Read"}`,
	} {
		if got := string(root.Pointer(pointer).Raw()); got != want {
			t.Errorf("%s: got %s, want %s", pointer, got, want)
		}
	}
	if len(problems) != 1 || problems[0] != "a response without a description" {
		t.Errorf("problems: %q", problems)
	}
}

func TestConvertOdd(t *testing.T) {
	root, problems := convert(t, `{"swagger":"2.0","paths":{"x-a":1,"/b":3,"/c":{"parameters":[{"in":"body","name":"b","schema":{}}],`+
		`"post":{"parameters":[{"in":"formData","name":"f","type":"string"},{"$ref":"#/parameters/none"},{"in":"query","name":"q","type":"array","collectionFormat":"tsv"}],"responses":{"x-r":1}}}},`+
		`"definitions":{"D":{"properties":1,"items":[{"$ref":"#/definitions/D"}],"allOf":{"type":"file"}},"E":true},"securityDefinitions":{"o":{"type":"oauth2","flow":"odd"}}}`)
	if got := string(root.Pointer("/paths/~1c/post/requestBody/content/application~1json/schema").Raw()); got != "{}" {
		t.Errorf("the body of the path: %s", got)
	}
	if got := string(root.Pointer("/components/schemas/D/items").Raw()); got != `[{"$ref":"#/components/schemas/D"}]` {
		t.Errorf("items: %s", got)
	}
	all := strings.Join(problems, "\n")
	for _, want := range []string{"formData beside one in body", `collectionFormat "tsv"`, `flow "odd"`} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in %s", want, all)
		}
	}
}

// A schema is written for each media type: the result is bounded nevertheless.
func TestConvertTooLong(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for _, rest := range []string{
		`"paths":{"/a":{"get":{"responses":{"200":{"description":"","schema":{"title":"` + big + `"}}}}}}`,
		`"parameters":{"p":{"in":"body","name":"b","description":"` + big + `"}},"paths":{"/a":{"get":{}}` + manyPaths(100) + `}`,
	} {
		doc, err := tree.Parse([]byte(`{"swagger":"2.0","produces":["a/a"`+numbered(99)+`],`+rest+`}`), tree.Standard())
		if err != nil {
			t.Fatal(err)
		}
		if converted, _, err := Convert(doc.Root()); err == nil {
			t.Errorf("%d bytes", len(converted))
		}
	}
}

func manyPaths(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"/p%d":{"post":{"consumes":["a/a"],"parameters":[{"$ref":"#/parameters/p"}]}}`, i)
	}
	return b.String()
}

func TestMediaTypesAreBounded(t *testing.T) {
	root, problems := convert(t, `{"swagger":"2.0","produces":["a/a"`+numbered(300)+`],"paths":{"/a":{"get":{"responses":{"200":{"description":"","schema":{}}}}}}}`)
	n := 0
	for range root.Pointer("/paths/~1a/get/responses/200/content").Members() {
		n++
	}
	if n != maxMediaTypes || len(problems) != 1 {
		t.Errorf("%d media types, problems %q", n, problems)
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"a/b%d"`, i)
	}
	return b.String()
}

func FuzzConvert(f *testing.F) {
	f.Add([]byte(petshop))
	f.Add([]byte(`{"swagger":"2.0","paths":{"/a":{"get":{"parameters":[{"in":"body"}],"responses":{"200":{"schema":{"items":[]}}}}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		limits := tree.Standard()
		limits.Bytes = 64 << 10
		doc, err := tree.Parse(text, limits)
		if err != nil || !doc.Root().Is(tree.Object) {
			return
		}
		if converted, _, err := Convert(doc.Root()); err == nil && !json.Valid(converted) {
			t.Errorf("not JSON: %s", converted)
		}
	})
}
