// Package swagger2 converts documents of Swagger 2.0 to OpenAPI 3.0.
package swagger2

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// version is the one of OpenAPI that documents are converted to.
const version = "3.0.4"

// maxProblems is how many problems of one document are reported.
const maxProblems = 20

// Is reports whether a document is written in Swagger 2.0.
func Is(root tree.Value) bool {
	v := root.Get("swagger")
	return v.Text() == "2.0" || string(v.Raw()) == "2.0" || string(v.Raw()) == "2"
}

// Convert returns the document in OpenAPI 3.0, in JSON, and what is wrong with it.
// Members that neither version has are kept. Of the servers only the path is: the
// gateway knows where the service is. It fails if the result is longer than four times
// what a document may have: a schema is written again for each media type.
func Convert(root tree.Value) (converted []byte, problems []string, err error) {
	c := &converter{root: root, w: tree.NewWriter(len(root.Raw())), limit: 4 * tree.Standard().Bytes}
	c.consumes, c.produces = c.mediaTypes(root.Get("consumes")), c.mediaTypes(root.Get("produces"))
	c.document()
	if c.full() {
		return nil, c.problems, fmt.Errorf("longer than %d bytes: its schemas are repeated for each media type", c.limit)
	}
	return c.w.Bytes(), c.problems, nil
}

// converter writes one document in OpenAPI 3.0.
type converter struct {
	root     tree.Value
	w        *tree.Writer
	limit    int // of the result, in bytes
	problems []string
	// byName are the parameters of the document, once one was looked for.
	byName map[string]tree.Value
	// The media types of operations that name none.
	consumes, produces []string
}

func (c *converter) problem(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(c.problems) < maxProblems && !slices.Contains(c.problems, text) {
		c.problems = append(c.problems, text)
	}
}

// full reports whether the result is too long. What is written then does not count.
func (c *converter) full() bool { return c.w.Len() > c.limit }

// maxMediaTypes is how many media types of one operation are used.
const maxMediaTypes = 100

// mediaTypes returns the media types of a list.
func (c *converter) mediaTypes(list tree.Value) (all []string) {
	for item := range list.Items() {
		if text := item.Text(); text != "" && !slices.Contains(all, text) {
			if len(all) == maxMediaTypes {
				c.problem("more than %d media types in one list: the others are left out", maxMediaTypes)
				break
			}
			all = append(all, text)
		}
	}
	return all
}

// moved are the members of a document that have another place in OpenAPI 3.
var moved = []string{
	"swagger", "host", "basePath", "schemes", "consumes", "produces", "paths", "definitions", "parameters", "responses", "securityDefinitions",
}

func (c *converter) document() {
	c.w.Begin('{')
	c.w.Member("openapi", version)
	c.others(c.root, moved...)
	if base := c.root.Get("basePath").Text(); base != "" {
		c.w.Open("servers", '[')
		c.w.Begin('{')
		c.w.Member("url", base)
		c.w.End('}')
		c.w.End(']')
	}
	c.w.Name("paths")
	c.object(c.root.Get("paths"), func(name string, v tree.Value) {
		if strings.HasPrefix(name, "x-") {
			c.w.Value(v)
			return
		}
		c.pathItem(v)
	})
	c.components()
	c.w.End('}')
}

// others writes the members of an object but those named.
func (c *converter) others(v tree.Value, without ...string) {
	for name, member := range v.Members() {
		if !slices.Contains(without, name) && !c.full() {
			c.w.Name(name)
			c.w.Value(member)
		}
	}
}

// object writes an object whose members are written by a function.
func (c *converter) object(v tree.Value, write func(name string, v tree.Value)) {
	c.w.Begin('{')
	for name, member := range v.Members() {
		if c.full() {
			return
		}
		c.w.Name(name)
		write(name, member)
	}
	c.w.End('}')
}

func (c *converter) components() {
	c.w.Open("components", '{')
	c.w.Name("schemas")
	c.object(c.root.Get("definitions"), func(_ string, v tree.Value) { c.schema(v) })
	c.w.Open("parameters", '{')
	for name, p := range c.root.Get("parameters").Members() {
		if in := p.Get("in").Text(); in != inBody && in != inForm {
			c.w.Name(name)
			c.parameter(p)
		}
	}
	c.w.End('}')
	c.w.Open("requestBodies", '{')
	for name, p := range c.root.Get("parameters").Members() {
		if p.Get("in").Text() == inBody {
			c.w.Name(name)
			c.body(p, c.consumes)
		}
	}
	c.w.End('}')
	c.w.Name("responses")
	c.object(c.root.Get("responses"), func(_ string, v tree.Value) { c.response(v, c.produces) })
	c.w.Name("securitySchemes")
	c.object(c.root.Get("securityDefinitions"), func(_ string, v tree.Value) { c.securityScheme(v) })
	c.w.End('}')
}

// methods are the members of a path item that are operations.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch"}

func (c *converter) pathItem(v tree.Value) {
	if !v.Is(tree.Object) {
		c.w.Value(v)
		return
	}
	// A body that all operations of the path have is a part of each.
	var shared, rest []tree.Value
	for p := range v.Get("parameters").Items() {
		if in := c.resolved(p).Get("in").Text(); in == inBody || in == inForm {
			shared = append(shared, p)
		} else {
			rest = append(rest, p)
		}
	}
	c.w.Begin('{')
	for name, member := range v.Members() {
		switch {
		case name == "parameters":
		case slices.Contains(methods, name) && member.Is(tree.Object):
			c.w.Name(name)
			c.operation(member, shared)
		default:
			c.w.Name(name)
			c.w.Value(member)
		}
	}
	c.parameters(rest)
	c.w.End('}')
}

func (c *converter) operation(v tree.Value, shared []tree.Value) {
	consumes, produces := c.mediaTypes(v.Get("consumes")), c.mediaTypes(v.Get("produces"))
	if !v.Get("consumes").Exists() {
		consumes = c.consumes
	}
	if !v.Get("produces").Exists() {
		produces = c.produces
	}
	var plain, form []tree.Value
	var body tree.Value
	for _, p := range slices.Concat(shared, slices.Collect(v.Get("parameters").Items())) {
		switch c.resolved(p).Get("in").Text() {
		case inBody:
			body = p
		case inForm:
			form = append(form, c.resolved(p))
		default:
			plain = append(plain, p)
		}
	}
	c.w.Begin('{')
	c.others(v, "consumes", "produces", "schemes", "parameters", "responses")
	c.parameters(plain)
	switch {
	case body.Exists() && len(form) > 0:
		c.problem("an operation has parameters in formData beside one in body: they are left out")
		fallthrough
	case body.Exists():
		c.w.Name("requestBody")
		c.bodyOrReference(body, consumes)
	case len(form) > 0:
		c.w.Name("requestBody")
		c.form(form, consumes)
	}
	c.w.Name("responses")
	c.object(v.Get("responses"), func(name string, r tree.Value) {
		if strings.HasPrefix(name, "x-") {
			c.w.Value(r)
			return
		}
		c.response(r, produces)
	})
	c.w.End('}')
}

// resolved returns the parameter that a reference leads to, or what it is given.
func (c *converter) resolved(p tree.Value) tree.Value {
	if name, ok := strings.CutPrefix(p.Get("$ref").Text(), "#/parameters/"); ok {
		if c.byName == nil {
			c.byName = maps.Collect(c.root.Get("parameters").Members())
		}
		return c.byName[tree.Unescape(name)]
	}
	return p
}

// places are where the parts of a document of Swagger 2 are in OpenAPI 3.
var places = []struct{ from, to string }{
	{"#/definitions/", "#/components/schemas/"},
	{"#/parameters/", "#/components/parameters/"},
	{"#/responses/", "#/components/responses/"},
	{"#/securityDefinitions/", "#/components/securitySchemes/"},
}

// reference returns a reference as it is in OpenAPI 3.
func reference(ref string) string {
	for _, p := range places {
		if rest, ok := strings.CutPrefix(ref, p.from); ok {
			return p.to + rest
		}
	}
	return ref
}

// writeReference writes an object that is a reference alone.
func (c *converter) writeReference(ref string) {
	c.w.Begin('{')
	c.w.Member("$ref", ref)
	c.w.End('}')
}
