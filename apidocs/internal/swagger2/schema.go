package swagger2

import "github.com/pythopus/tentagate/apidocs/internal/tree"

func (c *converter) schema(v tree.Value) {
	if !v.Is(tree.Object) {
		c.w.Value(v)
		return
	}
	c.w.Begin('{')
	for name, member := range v.Members() {
		c.keyword(name, member)
	}
	c.w.End('}')
}

// keyword writes one member of a schema.
func (c *converter) keyword(name string, v tree.Value) {
	switch {
	case c.full():
	case name == "$ref" && v.Is(tree.String):
		c.w.Member(name, reference(v.Text()))
	case name == "type" && v.Text() == "file":
		c.w.Member("type", "string")
		c.w.Member("format", "binary")
	case name == "x-nullable" && (v.Is(tree.True) || v.Is(tree.False)):
		c.w.Name("nullable")
		c.w.Value(v)
	case name == "discriminator" && v.Is(tree.String):
		c.w.Open(name, '{')
		c.w.Member("propertyName", v.Text())
		c.w.End('}')
	case name == "collectionFormat":
	case name == "properties" || name == "definitions" || name == "patternProperties":
		c.w.Name(name)
		if !v.Is(tree.Object) {
			c.w.Value(v)
			return
		}
		c.object(v, func(_ string, s tree.Value) { c.schema(s) })
	case name == "items" || name == "additionalProperties" || name == "not" || name == "allOf" || name == "anyOf" || name == "oneOf":
		c.w.Name(name)
		c.schemas(v)
	default:
		c.w.Name(name)
		c.w.Value(v)
	}
}

// schemas writes a schema, or a list of them.
func (c *converter) schemas(v tree.Value) {
	if !v.Is(tree.Array) {
		c.schema(v)
		return
	}
	c.w.Begin('[')
	for item := range v.Items() {
		c.schema(item)
	}
	c.w.End(']')
}
