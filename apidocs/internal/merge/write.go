package merge

import (
	"slices"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// value writes a value of a shape.
func (b *builder) value(v tree.Value, s *shape) {
	switch {
	case s.data:
		b.w.Value(v)
	case s == sample:
		b.sample(v)
	case v.Is(tree.Array):
		b.list(v, s)
	case !v.Is(tree.Object):
		b.w.Value(v)
	case s == loose:
		b.loose(v)
	case s.reference && v.Get("$ref").Is(tree.String):
		b.reference(v, s)
	case s.write != nil:
		s.write(b, v)
	default:
		b.object(v, s)
	}
}

// sample writes the value of an example, which is data. Some documents have a reference in
// its place nevertheless, and so do tools: one to an example of the document follows it.
func (b *builder) sample(v tree.Value) {
	if name, ok := strings.CutPrefix(v.Get("$ref").Text(), "#/components/examples/"); ok && v.Size() == 3 { // the object, a name and a text
		if merged, known := b.names["examples"][tree.Unescape(name)]; known {
			b.w.Begin('{')
			b.w.Member("$ref", fragment("components", "examples", merged))
			b.w.End('}')
			return
		}
	}
	b.w.Value(v)
}

func (b *builder) list(v tree.Value, s *shape) {
	each := loose
	if s.list {
		each = s.each
	}
	b.w.Begin('[')
	for item := range v.Items() {
		if !b.unresolved(item, each) {
			b.value(item, each)
		}
	}
	b.w.End(']')
}

// object writes an object as its shape says, but the members named.
func (b *builder) object(v tree.Value, s *shape, without ...string) {
	b.w.Begin('{')
	b.members(v, s, without...)
	b.w.End('}')
}

func (b *builder) members(v tree.Value, s *shape, without ...string) {
	for name, member := range v.Members() {
		inner := s.of(name)
		if inner == dropped || slices.Contains(without, name) || b.unresolved(member, inner) {
			continue
		}
		if inner == callback || s == callback && inner == pathItem {
			b.callbacks++
		}
		b.w.Name(name)
		b.value(member, inner)
		if inner == callback || s == callback && inner == pathItem {
			b.callbacks--
		}
	}
}

// of returns the shape of a member.
func (s *shape) of(name string) *shape {
	if inner, ok := s.fields[name]; ok {
		return inner
	}
	if s.each != nil && !s.list && !(s.extensions && extension(name)) {
		return s.each
	}
	return loose
}

// loose writes an object of which nothing is known.
func (b *builder) loose(v tree.Value) {
	b.w.Begin('{')
	for name, member := range v.Members() {
		b.w.Name(name)
		if name == "$ref" && member.Is(tree.String) {
			if to := b.target(member.Text()); to.ok {
				b.w.Text(to.text)
				continue
			}
		}
		b.value(member, loose)
	}
	b.w.End('}')
}

// operation writes an operation: with the names of the merged document, and with
// what the gateway asks of its clients.
func (b *builder) operation(v tree.Value) {
	b.w.Begin('{')
	if b.merger.full() {
		b.w.End('}') // nothing of the document is kept
		return
	}
	if b.callbacks == 0 || !v.Get("tags").Empty() {
		b.w.Open("tags", '[')
		if v.Get("tags").Empty() {
			b.untagged = true
			b.w.Text(b.service.Name)
		}
		for t := range v.Get("tags").Items() {
			if t.Text() != "" {
				b.w.Text(b.tagName(t.Text()))
			}
		}
		b.w.End(']')
	}
	if id := v.Get("operationId").Text(); id != "" {
		b.w.Member("operationId", b.operationName(id))
	}
	b.members(v, operation, "operationId")
	if !v.Get("responses").Is(tree.Object) && !b.dialect {
		b.problem("%s: an operation without responses", b.path)
		b.w.Name("responses")
		b.w.Raw([]byte(`{"default":{"description":""}}`))
	}
	b.requirements(v.Get("security"))
	b.w.End('}')
}

// operationName returns the identifier of an operation that is written, which is
// another one for each.
func (b *builder) operationName(id string) string {
	merged, ok := b.operations[id]
	if !ok || b.written[id] { // of a callback or a component, or not unique
		merged = b.merger.unique(operations, b.service.Name+"_"+cut(id, maxName))
	}
	if !ok && len(b.operations) < maxNamed {
		b.operations[id] = merged
	}
	b.written[id] = true
	return merged
}

// link writes a Link Object, whose operation has another name in the merged
// document.
func (b *builder) link(v tree.Value) {
	b.w.Begin('{')
	if id := v.Get("operationId"); id.Is(tree.String) {
		merged, ok := b.operations[id.Text()]
		if !ok {
			b.problem("a link leads to an operation %.100q that is not there", id.Text())
			merged = id.Text()
		}
		b.w.Member("operationId", merged)
	}
	if ref := v.Get("operationRef"); ref.Is(tree.String) {
		if to := b.target(ref.Text()); to.ok {
			b.w.Member("operationRef", to.text)
		} else {
			b.w.Member("x-unresolved-operation-ref", ref.Text())
		}
	}
	b.members(v, link, "operationId", "operationRef")
	b.w.End('}')
}

func (b *builder) tag(v tree.Value) {
	b.w.Begin('{')
	b.w.Member("name", b.tagName(v.Get("name").Text()))
	if parent := v.Get("parent").Text(); parent != "" {
		b.w.Member("parent", b.tagName(parent))
	}
	b.members(v, tag, "name", "parent")
	b.w.End('}')
}
