// Package contract knows what the OpenAPI document of a service says of requests:
// which path template and operation a request is for, whether that operation is
// deprecated, and whether parameters and body are as described.
package contract

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/jsonschema"
	"github.com/pythopus/tentagate/apidocs/internal/merge"
	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// Contract is the document of one service. It does not change.
type Contract struct {
	root  node
	paths []*Path
	// complete: nothing of the document's paths was left out, so that a path that is
	// not found is one that the document does not have.
	complete bool
	schemas  *jsonschema.Schemas // nil unless requests are to be checked
	document tree.Value
}

// Path is a path template of the document.
type Path struct {
	// Template is the path behind that of the service at the gateway.
	Template   string
	operations []*Operation
}

// Options say how the document is read.
type Options struct {
	// Base is the path of the service at the gateway, Prefix what the gateway puts in
	// front of paths when it asks the service.
	Base, Prefix string
	// Check: requests are to be checked. The document stays in memory then.
	Check bool
}

// The bounds of one document; see also those of package merge.
const (
	maxOperations = 50_000
	maxPaths      = 50_000
	maxNodes      = 200_000    // of the tree of templates
	maxReads      = 20_000_000 // nodes of the document
	maxTemplate   = 500        // bytes
	maxMethods    = 100        // of one path
	maxMethod     = 50         // bytes
)

// bounds are what is left of them.
type bounds struct{ operations, paths, nodes, reads int }

// New returns the contract of a document in OpenAPI 3.
func New(root tree.Value, o Options) *Contract {
	c := &Contract{complete: true}
	if o.Check {
		c.document, c.schemas = root, jsonschema.New(root, strings.HasPrefix(merge.VersionOf(root), "3.0"))
	}
	left := bounds{maxOperations, maxPaths, maxNodes, maxReads}
	base := merge.ServerPath(root.Get("servers"), o.Base, o.Prefix)
	for name, item := range root.Get("paths").Members() {
		if strings.HasPrefix(name, "x-") {
			continue
		}
		if left.paths--; left.paths < 0 || left.operations <= 0 || left.nodes <= 0 {
			c.complete = false
			break
		}
		resolved := resolve(root, item, &left.reads)
		left.reads -= resolved.Size()
		if !resolved.Is(tree.Object) || left.reads < 0 {
			c.complete = false
			continue
		}
		under := base
		if servers := item.Get("servers"); servers.Is(tree.Array) && !servers.Empty() {
			under = merge.ServerPath(servers, o.Base, o.Prefix)
		}
		if len(name) > maxTemplate || len(under) > maxTemplate {
			c.complete = false
			continue
		}
		c.add(under+"/"+strings.TrimPrefix(name, "/"), resolved, &left)
	}
	if !o.Check {
		for _, p := range c.paths {
			p.forget() // would keep the document in memory
		}
	}
	return c
}

// add puts a path into the tree. The operations of templates that differ by the names of
// parameters alone are those of one path, as frameworks write one path for each handler.
func (c *Contract) add(template string, item tree.Value, left *bounds) {
	at := c.root.insert(template, &left.nodes)
	if at == nil {
		c.complete = false
		return
	}
	if at.path == nil {
		at.path = &Path{Template: template}
		c.paths = append(c.paths, at.path)
	}
	names := parameterNames(template)
	shared := item.Get("parameters")
	add := func(method string, v tree.Value) {
		if !v.Is(tree.Object) || !isMethod(method) || len(at.path.operations) >= maxMethods || left.operations <= 0 {
			c.complete = false
			return
		}
		if at.path.own(method) == nil {
			left.operations--
			at.path.operations = append(at.path.operations, newOperation(at.path, method, names, v, shared))
		}
	}
	for name, v := range item.Members() {
		switch {
		case slices.Contains(merge.Methods(), name):
			add(strings.ToUpper(name), v)
		case name == "additionalOperations":
			for method, o := range v.Members() {
				add(method, o)
			}
		}
	}
}

// parameterNames returns the names of the parameters in a template.
func parameterNames(template string) (names []string) {
	for text := range strings.SplitSeq(template, "/") {
		s := parseSegment(text)
		names = append(names, s.names...)
	}
	return names
}

// isMethod reports whether a text can be a method (RFC 9110 §9.1).
func isMethod(text string) bool {
	return text != "" && len(text) <= maxMethod && !strings.ContainsFunc(text, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c)
	})
}

// Allow returns the methods of the operations that are there for the path of the request,
// for the field Allow.
func (m *Match) Allow() string {
	var methods []string
	for _, p := range m.without {
		for _, o := range p.operations {
			methods = append(methods, o.Method)
			if o.Method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
		}
	}
	slices.Sort(methods)
	return strings.Join(slices.Compact(methods), ", ")
}

// forget lets go of the document.
func (p *Path) forget() {
	for _, o := range p.operations {
		o.value, o.shared = tree.Value{}, tree.Value{}
	}
}

func (p *Path) own(method string) *Operation {
	for _, o := range p.operations {
		if o.Method == method {
			return o
		}
	}
	return nil
}

// Operation returns that of a method, or nil. A path with GET has HEAD.
func (p *Path) Operation(method string) *Operation {
	if o := p.own(method); o != nil || method != http.MethodHead {
		return o
	}
	return p.own(http.MethodGet)
}

// maxHops is how many references may lead to one another.
const maxHops = 16

// resolve follows the references of an object within the document. It takes from steps
// the number of nodes that it passes, and finds nothing once there are none left.
func resolve(root, v tree.Value, steps *int) tree.Value {
	for range maxHops {
		ref := v.Get("$ref")
		if !ref.Is(tree.String) {
			return v
		}
		pointer, ok := strings.CutPrefix(ref.Text(), "#")
		if !ok {
			return tree.Value{}
		}
		if decoded, err := url.PathUnescape(pointer); err == nil {
			pointer = decoded
		}
		v = root.Find(pointer, steps)
	}
	return tree.Value{}
}

// Match is what was found for a request.
type Match struct {
	// Path is nil if the document has none for the request.
	Path *Path
	// Operation is nil if no path for the request has one of the method.
	Operation *Operation
	// Unfinished: the search took too long. The document may have the path.
	Unfinished bool

	values  []string // of the parameters in the path
	room    [6]string
	without []*Path // that do not have the method
}

// Find looks for the operation of a request: rest is its path behind that of the
// service, and begins with a slash.
func (c *Contract) Find(m *Match, method, rest string, escaped bool) {
	f := finder{method: method, escaped: escaped, values: m.room[:0]}
	m.Path = f.find(&c.root, strings.TrimPrefix(rest, "/"))
	m.values, m.without, m.Operation, m.Unfinished = f.values, f.without, nil, f.steps > maxSteps
	switch {
	case m.Path != nil:
		m.Operation = m.Path.Operation(method)
	case len(m.without) > 0:
		m.Path = m.without[0]
	}
}

// Complete reports whether a path that is not found is one that the document does not
// have, rather than one that could not be read.
func (c *Contract) Complete() bool { return c.complete }

// Checks reports whether requests can be checked.
func (c *Contract) Checks() bool { return c.schemas != nil }

// Operations returns all operations.
func (c *Contract) Operations() (all []*Operation) {
	for _, p := range c.paths {
		all = append(all, p.operations...)
	}
	return all
}

// unescapeSegment decodes a segment; one that cannot be stays as it is.
func unescapeSegment(text string) string {
	if strings.IndexByte(text, '%') < 0 {
		return text
	}
	if decoded, err := url.PathUnescape(text); err == nil {
		return decoded
	}
	return text
}
