package contract

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Frameworks write one path for each handler, with the names that it gives to parameters.
func TestTemplatesThatDifferByNames(t *testing.T) {
	c := parse(t, `{"openapi":"3.1.0","paths":{
		"/users/{id}":{"get":{"parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"integer"}}]}},
		"/users/{user_id}":{"post":{"parameters":[{"name":"user_id","in":"path","required":true,"schema":{"maxLength":2}}]},"get":{"deprecated":true}},
		"/f/{a}{b}":{"get":{}},"/f/{c}{}":{"put":{}}}}`, true)
	var m Match
	if c.Find(&m, http.MethodPost, "/users/7", false); m.Operation == nil {
		t.Fatalf("POST: %+v", m)
	}
	if c.Find(&m, http.MethodPut, "/users/7", false); m.Allow() != "GET, HEAD, POST" {
		t.Errorf("PUT: %s", m.Allow())
	}
	check(t, c, httptest.NewRequest(http.MethodPost, "/", nil), "/users/abc", "path user_id must have at most 2 characters")
	check(t, c, httptest.NewRequest(http.MethodGet, "/", nil), "/users/abc", "path id must be of the type integer")
	if c.Find(&m, http.MethodGet, "/users/7", false); m.Operation.Deprecation != "" {
		t.Error("of two operations with one method the first counts")
	}
	if n := len(c.Operations()); n != 4 || !c.Complete() {
		t.Errorf("%d operations", n)
	}
	if c.Find(&m, http.MethodPut, "/f/xy", false); m.Operation != nil || m.Allow() != "GET, HEAD" {
		t.Errorf("a literal {} is no parameter: %s", m.Allow())
	}
}

// A document with patterns that are compared to one another would take hours.
func TestManyPatterns(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"openapi":"3.1.0","paths":{"/x":{}`)
	for i := range 60_000 {
		fmt.Fprintf(&b, `,"/%da{b}":{"get":{}}`, i)
	}
	b.WriteString("}}")
	c := parse(t, b.String(), false)
	if c.Complete() || len(c.paths) != maxPaths {
		t.Errorf("complete: %v, %d paths", c.Complete(), len(c.paths))
	}
	var m Match
	if c.Find(&m, http.MethodGet, "/49000ax", false); !m.Unfinished || m.Path != nil {
		t.Errorf("the last pattern: %+v", m)
	}
	m = Match{}
	if c.Find(&m, http.MethodGet, "/100ax", false); m.Unfinished || m.Path == nil {
		t.Errorf("one of the first patterns: %+v", m)
	}
}

func TestNodesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"openapi":"3.1.0","paths":{"/x":{}`)
	for i := range 5_000 {
		fmt.Fprintf(&b, `,"/%d%s":{}`, i, strings.Repeat("/a", 100))
	}
	b.WriteString("}}")
	if c := parse(t, b.String(), false); c.Complete() || len(c.paths) > maxNodes/100 {
		t.Errorf("complete: %v, %d paths", c.Complete(), len(c.paths))
	}
}

// Each reference is looked for from the beginning of the document.
func TestReferencesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"openapi":"3.1.0","components":{"pathItems":{"a":{}`)
	for i := range 20_000 {
		fmt.Fprintf(&b, `,"p%d":{}`, i)
	}
	b.WriteString(`,"last":{"get":{}}}},"paths":{"/x":{}`)
	for i := range 20_000 {
		fmt.Fprintf(&b, `,"/%d":{"$ref":"#/components/pathItems/last"}`, i)
	}
	b.WriteString("}}")
	if c := parse(t, b.String(), false); c.Complete() || len(c.paths) > maxReads/20_000 {
		t.Errorf("complete: %v, %d paths", c.Complete(), len(c.paths))
	}
}

// What is no operation may be one that the service has.
func TestOperationsThatCannotBeRead(t *testing.T) {
	for _, item := range []string{
		`{"get":{},"put":null}`, `{"get":7}`, `{"additionalOperations":{"A B":{}}}`, `{"additionalOperations":{"` + strings.Repeat("A", 60) + `":{}}}`,
	} {
		if parse(t, `{"openapi":"3.1.0","paths":{"/a":`+item+`}}`, false).Complete() {
			t.Error(item)
		}
	}
	if c := parse(t, `{"openapi":"3.2.0","paths":{"/a":{"additionalOperations":{"LINK":{}}}}}`, false); !c.Complete() || c.paths[0].Operation("LINK") == nil {
		t.Error("LINK")
	}
}

// A path parameter that the template does not have could never be there.
func TestParameterNotInTemplate(t *testing.T) {
	c := parse(t, `{"openapi":"3.1.0","paths":{"/a/{id}":{"get":{"parameters":[{"name":"ID","in":"path","required":true,"schema":{"type":"integer"}}]}}}}`, true)
	check(t, c, httptest.NewRequest(http.MethodGet, "/", nil), "/a/1", "")
}

func TestRulesAreBounded(t *testing.T) {
	var parameters, types strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&parameters, `{"name":"p%d","in":"query","required":true},`, i)
		fmt.Fprintf(&types, `"a/b%d":{},`, i)
	}
	c := parse(t, `{"openapi":"3.1.0","paths":{"/a":{"post":{"parameters":[`+parameters.String()+`{}],"requestBody":{"content":{`+types.String()+`"a/a":{}}}}}}}`, true)
	var m Match
	c.Find(&m, http.MethodPost, "/a", false)
	if n := len(c.rulesOf(m.Operation).parameters); n != maxParameters {
		t.Errorf("%d parameters", n)
	}
	if c.Body(&m, "x/y").Described {
		t.Error("of more media types than are kept none is refused")
	}
}
