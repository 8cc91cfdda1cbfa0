package merge

import (
	"slices"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// schema writes a Schema Object.
func (b *builder) schema(v tree.Value) {
	component := b.component
	b.component = ""
	own := b.dialect && v.Get("$id").Text() != "" && !strings.HasPrefix(v.Get("$id").Text(), "#")
	b.w.Begin('{')
	b.schemaReference(v)
	if own {
		b.inside++
	}
	without := []string{"$ref", "$dynamicRef", "discriminator"}
	if b.dialect {
		without = append(without, "$anchor", "$dynamicAnchor")
		b.anchors(v)
	}
	if b.upgrade {
		if v.Get("$ref").Is(tree.String) {
			b.described(v) // in 3.0, nothing else beside a reference counts
			b.w.End('}')
			return
		}
		without = append(without, b.upgraded(v)...)
	}
	b.members(v, schema, without...)
	if d := v.Get("discriminator"); d.Exists() {
		b.w.Name("discriminator")
		b.discriminator(v, d, component)
	}
	if own {
		b.inside--
	}
	b.w.End('}')
}

// schemaReference writes the references that a schema is, or has.
func (b *builder) schemaReference(v tree.Value) {
	for _, keyword := range []string{"$ref", "$dynamicRef"} {
		ref := v.Get(keyword)
		switch {
		case !ref.Exists():
		case !ref.Is(tree.String) || keyword == "$dynamicRef" && !b.dialect:
			b.w.Name(keyword)
			b.w.Value(ref)
		case b.inside > 0 && strings.HasPrefix(ref.Text(), "#"):
			b.w.Member(keyword, ref.Text()) // relative to the $id around it
		default:
			if to := b.target(ref.Text()); to.ok {
				b.w.Member(keyword, to.text)
			} else {
				b.w.Member(unusedReference, ref.Text())
			}
		}
	}
}

func (b *builder) anchors(v tree.Value) {
	for _, keyword := range []string{"$anchor", "$dynamicAnchor"} {
		switch a := v.Get(keyword); {
		case a.Text() != "" && b.inside == 0:
			b.w.Member(keyword, b.anchor(a.Text()))
		case a.Exists():
			b.w.Name(keyword)
			b.w.Value(a)
		}
	}
}

func (b *builder) described(v tree.Value) {
	for _, member := range []string{"summary", "description"} {
		if text := v.Get(member); text.Is(tree.String) {
			b.w.Name(member)
			b.w.Value(text)
		}
	}
}

// upgraded writes what OpenAPI 3.1 says in another way than 3.0, and returns the
// names of the members that are said by it.
func (b *builder) upgraded(v tree.Value) (said []string) {
	if kind, nullable := v.Get("type"), v.Get("nullable"); kind.Is(tree.String) && nullable.Exists() {
		said = append(said, "nullable")
		if nullable.Is(tree.True) {
			said = append(said, "type")
			b.w.Open("type", '[')
			b.w.Value(kind)
			b.w.Text("null")
			b.w.End(']')
		}
	}
	for _, name := range []string{"inimum", "aximum"} {
		exclusive, bound := "exclusiveM"+name, "m"+name
		value := v.Get(exclusive)
		if value.Is(tree.True) || value.Is(tree.False) {
			said = append(said, exclusive)
		}
		if value.Is(tree.True) && v.Get(bound).Exists() {
			said = append(said, bound)
			b.w.Name(exclusive)
			b.w.Value(v.Get(bound))
		}
	}
	return said
}

// discriminator writes the Discriminator Object of a schema. Values that name a
// schema without a mapping get one, as the schema has another name now.
func (b *builder) discriminator(owner, d tree.Value, component string) {
	if !d.Is(tree.Object) {
		b.w.Value(d)
		return
	}
	mapping := d.Get("mapping")
	b.w.Begin('{')
	b.members(d, discriminator, "mapping", "defaultMapping")
	if to := d.Get("defaultMapping"); to.Is(tree.String) {
		b.w.Member("defaultMapping", b.mapped(to.Text()))
	}
	given, mentioned := map[string]bool{}, map[string]bool{}
	for value, to := range mapping.Members() {
		given[value], mentioned[b.mapped(to.Text())] = true, true
	}
	implied := b.implied(owner, component)
	if mapping.Exists() || len(implied) > 0 {
		b.w.Open("mapping", '{')
		for value, to := range mapping.Members() {
			b.w.Member(value, b.mapped(to.Text()))
		}
		for _, name := range implied {
			if to := fragment("components", "schemas", b.names["schemas"][name]); !given[name] && !mentioned[to] {
				b.w.Member(name, to)
			}
		}
		b.w.End('}')
	}
	b.w.End('}')
}

// mapped returns what a value of a mapping, the name of a schema or a reference,
// is in the merged document.
func (b *builder) mapped(to string) string {
	if merged, ok := b.names["schemas"][to]; ok {
		return fragment("components", "schemas", merged)
	}
	if strings.HasPrefix(to, "#") {
		return b.target(to).text
	}
	return to
}

// implied returns the names of the schemas that a discriminator may choose among:
// those of oneOf and anyOf, and those that have the schema in their allOf.
func (b *builder) implied(owner tree.Value, component string) (names []string) {
	for _, keyword := range []string{"oneOf", "anyOf"} {
		for item := range owner.Get(keyword).Items() {
			if name, ok := b.schemaName(item.Get("$ref").Text()); ok && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if component == "" {
		return names
	}
	if b.children == nil {
		b.findChildren()
	}
	for _, name := range b.children[component] {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// schemaName returns the name of the component that a reference leads to.
func (b *builder) schemaName(ref string) (string, bool) {
	name, ok := strings.CutPrefix(ref, "#/components/schemas/")
	name = tree.Unescape(name)
	_, known := b.names["schemas"][name]
	return name, ok && known
}

// maxChildren bounds how many schemas a discriminator gets by allOf.
const maxChildren = 1000

func (b *builder) findChildren() {
	b.children = map[string][]string{}
	for name, v := range b.root.Get("components").Get("schemas").Members() {
		for item := range v.Get("allOf").Items() {
			if parent, ok := b.schemaName(item.Get("$ref").Text()); ok && len(b.children[parent]) < maxChildren {
				b.children[parent] = append(b.children[parent], name)
			}
		}
	}
}
