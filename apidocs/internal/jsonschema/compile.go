package jsonschema

import (
	"math"
	"slices"
	"strconv"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// Of returns the schema that a value of the document is.
func (s *Schemas) Of(v tree.Value) *Schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compile(v)
}

// compile is Of with mu held. References are followed later, so that it ends.
func (s *Schemas) compile(v tree.Value) *Schema {
	if !v.Exists() {
		return nil
	}
	if known, ok := s.compiled[v.ID()]; ok {
		return known
	}
	c := &Schema{minLength: -1, maxLength: -1, minItems: -1, maxItems: -1, minProps: -1, maxPro: -1}
	s.compiled[v.ID()] = c
	switch {
	case v.Is(tree.False):
		c.never = true
	case v.Is(tree.True):
	case !v.Is(tree.Object):
		c.unknown = true
	default:
		c.readOnly, c.nullable = v.Get("readOnly").Is(tree.True), v.Get("nullable").Is(tree.True)
		if ref := v.Get("$ref"); ref.Is(tree.String) {
			c.ref = &reference{schemas: s, text: ref.Text()}
			if s.old {
				return c
			}
		}
		for name, member := range v.Members() {
			s.keyword(c, v, name, member)
		}
		if c.nullable && c.types != 0 {
			c.types |= typeNull
		}
	}
	return c
}

// silent are keywords that assert nothing, or only beside others.
var silent = []string{
	"$ref", "$defs", "definitions", "$schema", "$comment", "title", "description", "summary", "default", "example", "examples", "readOnly",
	"writeOnly", "deprecated", "externalDocs", "xml", "discriminator", "format", "contentEncoding", "contentMediaType", "contentSchema", "nullable",
	"then", "else", "$anchor", "collectionFormat",
}

// keyword compiles one member of a schema.
func (s *Schemas) keyword(c *Schema, schema tree.Value, name string, v tree.Value) {
	switch name {
	case "type":
		c.types = typesOf(v)
		c.unknown = c.unknown || c.types == 0
	case "enum":
		if v.Is(tree.Array) {
			c.enum = slices.Collect(v.Items())
		}
	case "const":
		c.constant = v
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		c.bound(schema, name, v)
	case "multipleOf":
		if f, ok := float(v); ok && f > 0 {
			c.multipleOf = f
		}
	case "minLength":
		c.minLength = count(v)
	case "maxLength":
		c.maxLength = count(v)
	case "minItems":
		c.minItems = count(v)
	case "maxItems":
		c.maxItems = count(v)
	case "minProperties":
		c.minProps = count(v)
	case "maxProperties":
		c.maxPro = count(v)
	case "uniqueItems":
		c.unique = v.Is(tree.True)
	case "pattern":
		c.pattern = expression(v.Text())
		c.unknown = c.unknown || c.pattern == nil
	default:
		s.applicator(c, schema, name, v)
	}
}

// applicator compiles a keyword that has schemas.
func (s *Schemas) applicator(c *Schema, schema tree.Value, name string, v tree.Value) {
	switch name {
	case "items":
		if v.Is(tree.Array) { // of older drafts
			c.prefix = s.list(v)
		} else {
			c.items = s.compile(v)
		}
	case "prefixItems":
		c.prefix = s.list(v)
	case "properties":
		c.properties = s.members(v)
	case "patternProperties":
		for pattern, member := range v.Members() {
			if e := expression(pattern); e != nil {
				c.patterns = append(c.patterns, patternSchema{e, s.compile(member)})
			} else {
				c.unknown = true
				c.patterns = append(c.patterns, patternSchema{})
			}
		}
	case "additionalProperties":
		c.additional = s.compile(v)
	case "propertyNames":
		c.names = s.compile(v)
	case "required":
		for item := range v.Items() {
			if item.Is(tree.String) {
				c.required = append(c.required, item.Text())
			}
		}
	case "dependentRequired":
		c.dependent = map[string][]string{}
		for member, names := range v.Members() {
			for item := range names.Items() {
				c.dependent[member] = append(c.dependent[member], item.Text())
			}
		}
	case "allOf":
		c.allOf = s.list(v)
	case "anyOf":
		c.anyOf = s.list(v)
	case "oneOf":
		c.oneOf = s.list(v)
	case "not":
		c.not = s.compile(v)
	case "if":
		c.when, c.then, c.otherwise = s.compile(v), s.compile(schema.Get("then")), s.compile(schema.Get("else"))
	default:
		if !slices.Contains(silent, name) && (len(name) < 2 || name[:2] != "x-") {
			c.unknown = true
		}
	}
}

func (s *Schemas) list(v tree.Value) (all []*Schema) {
	for item := range v.Items() {
		all = append(all, s.compile(item))
	}
	return all
}

func (s *Schemas) members(v tree.Value) map[string]*Schema {
	all := map[string]*Schema{}
	for name, member := range v.Members() {
		all[name] = s.compile(member)
	}
	return all
}

// typesOf reads the member type.
func typesOf(v tree.Value) (t types) {
	add := func(name string) {
		for _, n := range typeNames {
			if n.name == name {
				t |= n.is
			}
		}
	}
	add(v.Text())
	for item := range v.Items() {
		add(item.Text())
	}
	return t
}

func (c *Schema) bound(schema tree.Value, name string, v tree.Value) {
	f, ok := float(v)
	if !ok {
		return // exclusiveMinimum: true of OpenAPI 3.0 is read with minimum
	}
	b := &bound{f, len(name) > len("minimum")}
	to := &c.maximum
	if name == "minimum" || name == "exclusiveMinimum" {
		to = &c.minimum
		b.exclusive = b.exclusive || schema.Get("exclusiveMinimum").Is(tree.True)
	} else {
		b.exclusive = b.exclusive || schema.Get("exclusiveMaximum").Is(tree.True)
	}
	// Of minimum and exclusiveMinimum the narrower one counts.
	if old := *to; old != nil && (old.value == f && old.exclusive || (to == &c.minimum && old.value > f) || (to == &c.maximum && old.value < f)) {
		return
	}
	*to = b
}

// float reads a number.
func float(v tree.Value) (float64, bool) {
	if !v.Is(tree.Number) {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v.Raw()), 64)
	return f, err == nil
}

// count reads a number of characters, items or properties; -1 is none.
func count(v tree.Value) int {
	f, ok := float(v)
	if !ok || f < 0 || f > math.MaxInt32 {
		return -1
	}
	return int(f)
}
