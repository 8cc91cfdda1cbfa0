package swagger2

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// The places of parameters that are bodies in OpenAPI 3.
const (
	inBody = "body"
	inForm = "formData"
)

const (
	urlEncoded = "application/x-www-form-urlencoded"
	multipart  = "multipart/form-data"
)

// schemaMembers are the members of a parameter or header that its schema has in
// OpenAPI 3.
var schemaMembers = []string{
	"type", "format", "items", "default", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern",
	"maxItems", "minItems", "uniqueItems", "enum", "multipleOf", "x-nullable",
}

// parameters writes the list of parameters, unless it is empty.
func (c *converter) parameters(list []tree.Value) {
	if len(list) == 0 {
		return
	}
	c.w.Open("parameters", '[')
	for _, p := range list {
		if ref := p.Get("$ref"); ref.Is(tree.String) {
			c.writeReference(reference(ref.Text()))
		} else {
			c.parameter(p)
		}
	}
	c.w.End(']')
}

func (c *converter) parameter(p tree.Value) {
	c.w.Begin('{')
	c.others(p, append(slices.Clone(schemaMembers), "collectionFormat", "schema")...)
	if p.Get("type").Text() == "array" {
		c.style(p)
	}
	c.w.Name("schema")
	c.schemaOf(p)
	c.w.End('}')
}

// style writes how the items of a list are separated.
func (c *converter) style(p tree.Value) {
	in, format := p.Get("in").Text(), p.Get("collectionFormat").Text()
	switch format {
	case "", "csv":
		if in == "query" {
			c.exploded("form", false)
		}
	case "multi":
		c.exploded("form", true)
	case "ssv":
		c.exploded("spaceDelimited", false)
	case "pipes":
		c.exploded("pipeDelimited", false)
	default:
		c.problem("collectionFormat %.50q has no equivalent in OpenAPI 3", format)
	}
}

func (c *converter) exploded(style string, explode bool) {
	c.w.Member("style", style)
	c.w.Name("explode")
	c.w.Raw(strconv.AppendBool(nil, explode))
}

// schemaOf writes the schema of a parameter, header or item, whose members are those
// of the schema.
func (c *converter) schemaOf(p tree.Value) {
	c.w.Begin('{')
	for name, member := range p.Members() {
		if slices.Contains(schemaMembers, name) {
			c.keyword(name, member)
		}
	}
	c.w.End('}')
}

// bodyOrReference writes the body that a parameter is.
func (c *converter) bodyOrReference(p tree.Value, consumes []string) {
	if name, ok := strings.CutPrefix(p.Get("$ref").Text(), "#/parameters/"); ok && slices.Equal(consumes, c.consumes) {
		c.writeReference("#/components/requestBodies/" + name)
		return
	}
	c.body(c.resolved(p), consumes)
}

func (c *converter) body(p tree.Value, consumes []string) {
	c.w.Begin('{')
	c.others(p, "in", "name", "schema")
	if name := p.Get("name").Text(); name != "" {
		c.w.Member("x-parameter-name", name)
	}
	c.content(p.Get("schema"), tree.Value{}, consumes)
	c.w.End('}')
}

// form writes the body that parameters in formData are.
func (c *converter) form(list []tree.Value, consumes []string) {
	types := slices.DeleteFunc(slices.Clone(consumes), func(t string) bool { return t != urlEncoded && t != multipart })
	if slices.ContainsFunc(list, func(p tree.Value) bool { return p.Get("type").Text() == "file" }) {
		types = []string{multipart}
	} else if len(types) == 0 {
		types = []string{urlEncoded}
	}
	c.w.Begin('{')
	c.w.Open("content", '{')
	for _, t := range types {
		c.w.Open(t, '{')
		c.w.Name("schema")
		c.formSchema(list)
		c.w.End('}')
	}
	c.w.End('}')
	if slices.ContainsFunc(list, isRequired) {
		c.w.Name("required")
		c.w.Raw([]byte("true"))
	}
	c.w.End('}')
}

func isRequired(p tree.Value) bool { return p.Get("required").Is(tree.True) }

func (c *converter) formSchema(list []tree.Value) {
	var required []string
	seen := map[string]bool{}
	c.w.Begin('{')
	c.w.Member("type", "object")
	c.w.Open("properties", '{')
	for _, p := range list {
		if c.full() {
			return
		}
		name := p.Get("name").Text()
		c.w.Open(name, '{')
		for member, v := range p.Members() {
			if slices.Contains(schemaMembers, member) || member == "description" || strings.HasPrefix(member, "x-") {
				c.keyword(member, v)
			}
		}
		c.w.End('}')
		if isRequired(p) && !seen[name] {
			seen[name] = true
			required = append(required, name)
		}
	}
	c.w.End('}')
	if len(required) > 0 {
		c.w.Open("required", '[')
		for _, name := range required {
			c.w.Text(name)
		}
		c.w.End(']')
	}
	c.w.End('}')
}

// content writes the media types of a body with their schema and examples.
func (c *converter) content(schema, examples tree.Value, types []string) {
	for name := range examples.Members() {
		if len(types) >= maxMediaTypes {
			c.problem("more than %d media types in one response: the others are left out", maxMediaTypes)
			break
		}
		if !slices.Contains(types, name) {
			types = append(slices.Clone(types), name)
		}
	}
	if len(types) == 0 {
		types = []string{"application/json"}
	}
	c.w.Open("content", '{')
	for _, t := range types {
		if c.full() {
			return
		}
		c.w.Open(t, '{')
		if schema.Exists() {
			c.w.Name("schema")
			c.schema(schema)
		}
		if example := examples.Get(t); example.Exists() {
			c.w.Name("example")
			c.w.Value(example)
		}
		c.w.End('}')
	}
	c.w.End('}')
}

func (c *converter) response(r tree.Value, produces []string) {
	if ref := r.Get("$ref"); ref.Is(tree.String) {
		c.writeReference(reference(ref.Text()))
		return
	}
	c.w.Begin('{')
	c.others(r, "schema", "headers", "examples")
	if !r.Get("description").Is(tree.String) {
		c.problem("a response without a description")
		c.w.Member("description", "")
	}
	if headers := r.Get("headers"); headers.Is(tree.Object) {
		c.w.Name("headers")
		c.object(headers, func(_ string, h tree.Value) {
			c.w.Begin('{')
			c.others(h, append(slices.Clone(schemaMembers), "collectionFormat")...)
			c.w.Name("schema")
			c.schemaOf(h)
			c.w.End('}')
		})
	}
	if r.Get("schema").Exists() || r.Get("examples").Is(tree.Object) {
		c.content(r.Get("schema"), r.Get("examples"), produces)
	}
	c.w.End('}')
}
