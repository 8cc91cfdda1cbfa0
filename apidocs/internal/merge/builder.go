package merge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// builder writes the parts of one document into those of the merged one.
type builder struct {
	merger  *Merger
	service Service
	root    tree.Value
	w       *tree.Writer // where is written to

	// upgrade: schemas of OpenAPI 3.0 are written as those of later versions.
	upgrade bool
	// dialect: schemas are of JSON Schema 2020-12, with identifiers and anchors.
	dialect bool

	components map[string]map[string]tree.Value // by kind and name
	names      map[string]map[string]string     // of components in the merged document, by kind and name
	paths      map[string]string                // in the merged document, by path
	operations map[string]string                // identifiers in the merged document, by identifier
	references map[string]target                // by the text of the reference
	children   map[string][]string              // names of schemas that have a schema in allOf, by its name
	ids        map[string]bool                  // $id of schemas; nil until one is asked for

	security  tree.Value // the requirement of the document
	path      string     // the path that is written, in the merged document
	component string     // the name of the schema that is written next, in the document
	inside    int        // schemas with an $id around what is written
	callbacks int        // callbacks and webhooks around what is written
	untagged  bool       // an operation has no tags

	written  map[string]bool // identifiers of operations
	count    int             // components, paths and operations that were named
	steps    int             // that are left for finding what references lead to
	problems []string
}

// What one document may have. The largest documents that are known have some
// thousand components and operations.
const (
	maxNamed      = 50_000 // components, paths and operations together
	maxName       = 300    // bytes of the name of one
	maxReferences = 50_000 // different references that are remembered
	maxSteps      = 50_000_000
)

// named counts something that gets a name in the merged document, and reports
// whether it may have one.
func (b *builder) named(what, name string) bool {
	switch {
	case len(name) > maxName:
		b.problem("%s %.100q: the name is longer than %d bytes", what, name, maxName)
		return false
	case b.count >= maxNamed:
		b.problem("more than %d components, paths and operations: the others are left out", maxNamed)
		return false
	}
	b.count++
	return true
}

func newBuilder(m *Merger, s Service, root tree.Value) *builder {
	version := VersionOf(root)
	return &builder{
		merger: m, service: s, root: root,
		upgrade:    strings.HasPrefix(version, "3.0") && !strings.HasPrefix(m.options.OpenAPI, "3.0"),
		dialect:    !strings.HasPrefix(version, "3.0"),
		components: map[string]map[string]tree.Value{}, names: map[string]map[string]string{}, paths: map[string]string{},
		operations: map[string]string{}, references: map[string]target{},
		security: root.Get("security"), written: map[string]bool{}, steps: maxSteps,
	}
}

// problem notes what is wrong with the document.
func (b *builder) problem(format string, args ...any) {
	if len(b.problems) >= maxProblems {
		return
	}
	if text := cut(fmt.Sprintf(format, args...), 300); !slices.Contains(b.problems, text) {
		b.problems = append(b.problems, text)
	}
}

// document writes all parts.
func (b *builder) document() {
	b.check()
	b.nameComponents()
	b.namePaths()
	b.writePaths()
	b.writeWebhooks()
	b.writeComponents()
	b.writeTags()
	b.writeExtras()
}

// check notes what the document lacks as a whole.
func (b *builder) check() {
	for _, name := range b.root.Repeated() {
		b.problem("an object has the member %.100q more than once: the last one counts", name)
	}
	info := b.root.Get("info")
	switch {
	case !info.Is(tree.Object):
		b.problem("info is missing")
	case info.Get("title").Text() == "":
		b.problem("info.title is missing")
	case !info.Get("version").Is(tree.String):
		b.problem("info.version is missing")
	}
	for _, member := range []string{"paths", "components", "webhooks"} {
		if v := b.root.Get(member); v.Exists() && !v.Is(tree.Object) {
			b.problem("%s is not an object", member)
		}
	}
	if !b.root.Get("paths").Exists() && (!b.dialect || !b.root.Get("components").Exists() && !b.root.Get("webhooks").Exists()) {
		b.problem("paths is missing")
	}
}

// nameComponents finds the names that the components have in the merged document.
func (b *builder) nameComponents() {
	all := b.root.Get("components")
	for _, kind := range componentKinds {
		names, values := map[string]string{}, map[string]tree.Value{}
		for name, v := range all.Get(kind).Members() {
			if kind == "securitySchemes" && !b.usable(v) {
				continue
			}
			if !b.named("components."+kind, name) {
				continue
			}
			legal := legalName(name)
			if legal != name {
				b.problem("components.%s: the name %.100q has characters that are not allowed", kind, name)
			}
			names[name] = b.merger.unique(kind, b.service.Name+"_"+legal)
			values[name] = v
		}
		b.names[kind], b.components[kind] = names, values
	}
}

// legalName returns the name with every character that names of components cannot
// have replaced.
func legalName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name)
}

// namePaths finds the paths that the document's have at the gateway, and the
// identifiers of their operations.
func (b *builder) namePaths() {
	base := b.base(b.root.Get("servers"))
	taken := map[string]bool{}
	for key, item := range b.root.Get("paths").Members() {
		path := key
		switch {
		case extension(path):
			continue
		case !item.Is(tree.Object):
			b.problem("paths %.100q is not an object", path)
			continue
		case hasDotSegment(path):
			b.problem("path %.100q has a dot segment", path)
			continue
		case !strings.HasPrefix(path, "/"):
			b.problem("path %.100q does not begin with a slash", path)
			path = "/" + path
		}
		if !b.named("path", path) {
			continue
		}
		under := base
		if servers := item.Get("servers"); servers.Is(tree.Array) && !servers.Empty() {
			under = b.base(servers)
		}
		merged := b.service.Base + under + path
		if taken[merged] {
			b.problem("path %.100q stands twice in the document", path)
			continue
		}
		taken[merged] = true
		b.paths[key] = merged
		for _, o := range operationsOf(item) {
			b.nameOperation(o)
		}
	}
	for _, item := range b.root.Get("webhooks").Members() {
		for _, o := range operationsOf(item) {
			b.nameOperation(o)
		}
	}
}

// operationsOf returns the operations of a path item.
func operationsOf(item tree.Value) (all []tree.Value) {
	for name, v := range item.Members() {
		switch {
		case slices.Contains(methods, name):
			all = append(all, v)
		case name == "additionalOperations":
			for _, o := range v.Members() {
				all = append(all, o)
			}
		}
	}
	return all
}

func (b *builder) nameOperation(o tree.Value) {
	id := o.Get("operationId").Text()
	if id == "" {
		return
	}
	if !b.named("operationId", id) {
		return
	}
	if _, again := b.operations[id]; again {
		b.problem("operationId %.100q is not unique", id)
		return
	}
	b.operations[id] = b.merger.unique(operations, b.service.Name+"_"+id)
}

func (b *builder) writePaths() {
	b.w = b.merger.paths
	for path, item := range b.root.Get("paths").Members() {
		merged, ok := b.paths[path]
		if !ok || b.unresolved(item, pathItem) || b.merger.full() {
			continue
		}
		b.path = merged
		b.w.Name(merged)
		b.value(item, pathItem)
	}
	b.path = ""
}

func (b *builder) writeWebhooks() {
	b.w = b.merger.webhooks
	b.callbacks++
	for name, item := range b.root.Get("webhooks").Members() {
		if item.Is(tree.Object) && b.named("webhook", name) && !b.unresolved(item, pathItem) {
			b.w.Name(b.service.Name + "_" + name)
			b.value(item, pathItem)
		}
	}
	b.callbacks--
}

func (b *builder) writeComponents() {
	for _, kind := range componentKinds {
		b.w = b.merger.writer(kind)
		for name, v := range b.root.Get("components").Get(kind).Members() {
			merged, ok := b.names[kind][name]
			if !ok || b.unresolved(v, componentShapes[kind]) || b.merger.full() {
				continue
			}
			if kind == "schemas" {
				b.component = name
			}
			b.w.Name(merged)
			b.value(v, componentShapes[kind])
		}
	}
	b.component = ""
}

// writeTags declares the document's tags, and that of operations without tags.
func (b *builder) writeTags() {
	b.w = b.merger.tags
	for t := range b.root.Get("tags").Items() {
		if t.Get("name").Text() == "" {
			b.problem("a tag without a name")
			continue
		}
		b.value(t, tag)
	}
	if b.untagged {
		b.merger.serviceTag(b.service.Name, cut(b.root.Get("info").Get("title").Text(), 200))
	}
}

// tagName returns the name of a tag in the merged document.
func (b *builder) tagName(name string) string { return b.service.Name + ": " + name }

// known are the members of a document that have a place in the merged one.
var known = []string{"paths", "components", "webhooks", "tags", "security", "servers"}

// writeExtras keeps what else is in the document, where references to it find it.
func (b *builder) writeExtras() {
	b.w = b.merger.extras
	b.w.Open(b.service.Name, '{')
	for name, v := range b.root.Members() {
		if !slices.Contains(known, name) {
			b.w.Name(name)
			b.value(v, loose)
		}
	}
	for _, parent := range []string{"paths", "components"} {
		b.writeExtensions(parent)
	}
	b.w.End('}')
}

// writeExtensions keeps the extensions of an object that is taken apart.
func (b *builder) writeExtensions(parent string) {
	begun := false
	for name, v := range b.root.Get(parent).Members() {
		if !extension(name) {
			continue
		}
		if !begun {
			begun = true
			b.w.Open(parent, '{')
		}
		b.w.Name(name)
		b.value(v, loose)
	}
	if begun {
		b.w.End('}')
	}
}
