package merge

import (
	"net/url"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// maxHops is how many references may lead to one another.
const maxHops = 32

// target is what a reference says in the merged document.
type target struct {
	text string
	ok   bool
}

// target returns what a reference of the document says in the merged one. It is not
// ok if it leads nowhere, or out of the document: nothing else is ever fetched.
func (b *builder) target(ref string) target {
	t, seen := b.references[ref]
	if !seen {
		t = b.find(ref)
		if len(b.references) < maxReferences {
			b.references[ref] = t
		}
	}
	return t
}

func (b *builder) find(ref string) target {
	pointer, local := strings.CutPrefix(ref, "#")
	switch {
	case !local:
		ok := b.identifier(ref)
		if !ok {
			b.problem("$ref %.200q leads out of the document and is not followed", ref)
		}
		return target{ref, ok}
	case pointer != "" && pointer[0] != '/':
		return target{"#" + b.anchor(pointer), b.dialect}
	}
	if decoded, err := url.PathUnescape(pointer); err == nil {
		pointer = decoded
	}
	text, value := b.follow(pointer)
	if !value.Exists() || text == "" {
		b.problem("$ref %.200q leads nowhere", ref)
		return target{ref, false}
	}
	if b.endless(ref, value) {
		b.problem("$ref %.200q leads back to itself", ref)
		return target{ref, false}
	}
	return target{text, true}
}

// follow returns where the value of a pointer is in the merged document, and the
// value.
func (b *builder) follow(pointer string) (string, tree.Value) {
	tokens := strings.SplitN(strings.TrimPrefix(pointer, "/"), "/", 4)
	first := tokens[0]
	switch {
	case first == "components" && len(tokens) >= 3:
		kind, name := tokens[1], tree.Unescape(tokens[2])
		merged, ok := b.names[kind][name]
		if !ok {
			return "", tree.Value{}
		}
		rest := tail(tokens, 3)
		return fragment("components", kind, merged) + fragmentTail(rest), b.components[kind][name].Find(rest, &b.steps)
	case first == "paths" && len(tokens) >= 2:
		path := tree.Unescape(tokens[1])
		merged, ok := b.paths[path]
		if !ok {
			return "", tree.Value{}
		}
		rest := tail(tokens, 2)
		return fragment("paths", merged) + fragmentTail(rest), b.root.Get("paths").Find("/"+tokens[1]+rest, &b.steps)
	case first == "webhooks" && len(tokens) >= 2:
		return fragment("webhooks", b.service.Name+"_"+tree.Unescape(tokens[1])) + fragmentTail(tail(tokens, 2)), b.root.Find(pointer, &b.steps)
	case first == "" || first == "components" || first == "paths" || first == "webhooks" || first == "tags" || first == "servers" || first == "security":
		return "", tree.Value{}
	}
	return fragment(extrasName, b.service.Name) + fragmentTail(pointer), b.root.Find(pointer, &b.steps)
}

// tail returns the pointer that the tokens behind the first n are.
func tail(tokens []string, n int) string {
	if len(tokens) <= n {
		return ""
	}
	return "/" + strings.Join(tokens[n:], "/")
}

// fragment returns the reference to a value by the names on the way to it.
func fragment(names ...string) string {
	var s strings.Builder
	s.WriteByte('#')
	for _, name := range names {
		s.WriteByte('/')
		s.WriteString(encode(tree.Escape(name)))
	}
	return s.String()
}

// fragmentTail returns the end of a reference for the end of a pointer.
func fragmentTail(pointer string) string {
	if pointer == "" {
		return ""
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, token := range tokens {
		tokens[i] = encode(token)
	}
	return "/" + strings.Join(tokens, "/")
}

// encode returns a token as it stands in the fragment of a URI.
func encode(token string) string {
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"%<>\\^`{|}[]#", c) >= 0 {
			return strings.ReplaceAll(url.PathEscape(token), "%7E", "~")
		}
	}
	return token
}

// endless reports whether a chain of references has no end.
func (b *builder) endless(ref string, v tree.Value) bool {
	for range maxHops {
		next := v.Get("$ref").Text()
		if next == "" || next[0] != '#' {
			return false
		}
		if next == ref {
			return true
		}
		pointer, err := url.PathUnescape(next[1:])
		if err != nil {
			return false
		}
		if v = b.root.Find(pointer, &b.steps); !v.Exists() {
			return false
		}
	}
	return true
}

// anchor returns the name of an anchor in the merged document.
func (b *builder) anchor(name string) string {
	if c := b.service.Name[0]; c >= '0' && c <= '9' {
		return "_" + b.service.Name + "_" + name
	}
	return b.service.Name + "_" + name
}

// identifier reports whether a reference names a schema of the document by its
// $id.
func (b *builder) identifier(ref string) bool {
	if !b.dialect {
		return false
	}
	if b.ids == nil {
		b.ids = map[string]bool{}
		b.collect(b.root)
	}
	base, _, _ := strings.Cut(ref, "#")
	return b.ids[base]
}

func (b *builder) collect(v tree.Value) {
	for name, member := range v.Members() {
		if name == "$id" && member.Text() != "" && len(b.ids) < maxReferences {
			b.ids[strings.TrimSuffix(member.Text(), "#")] = true
		}
		b.collect(member)
	}
	for item := range v.Items() {
		b.collect(item)
	}
}

// unresolved reports whether a value is a reference that leads nowhere, and whose
// place nothing else can take. It is then left out.
func (b *builder) unresolved(v tree.Value, s *shape) bool {
	if !s.reference || s == response {
		return false
	}
	ref := v.Get("$ref")
	return ref.Is(tree.String) && !b.target(ref.Text()).ok
}

// reference writes a Reference Object.
func (b *builder) reference(v tree.Value, s *shape) {
	ref := v.Get("$ref").Text()
	to := b.target(ref)
	b.w.Begin('{')
	if !to.ok {
		// A response must be there, and say something.
		b.w.Member("description", "")
		b.w.Member(unusedReference, ref)
		b.w.End('}')
		return
	}
	b.w.Member("$ref", to.text)
	b.members(v, s, "$ref")
	b.w.End('}')
}
