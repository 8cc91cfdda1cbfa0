// Package merge makes one OpenAPI document of those of several services, as the
// gateway in front of them has it.
package merge

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// Options are what the merged document has of its own.
type Options struct {
	// Title and Version of the merged document.
	Title, Version string
	// OpenAPI is the version that it is written in: the highest of its parts, see
	// Highest.
	OpenAPI string
	// Bearer: requests need a bearer token. Schemes of the services that use the
	// Authorization field are left out: the field is the gateway's.
	Bearer bool
	// Public reports whether a path, with its templates, needs no token. Nil: none.
	Public func(path string) bool
	// Size bounds the merged document, in bytes. Default: 64 MiB.
	Size int
}

// Service is what the merged document says of one service.
type Service struct {
	// Name of the service. Names of components, operations and tags begin with it.
	Name string
	// Base is the path of the service at the gateway, such as /api/users.
	Base string
	// Prefix is the path that the gateway puts in front when it asks the service.
	Prefix string
	// Notes are what the reader is to know of the document, such as its problems.
	Notes []string
}

// maxProblems is how many problems of one document are reported.
const maxProblems = 50

// bearerName is the name of the gateway's security scheme. Names of the services'
// schemes have an underscore in them.
const bearerName = "bearer"

// extrasName is the member with what has no other place in the merged document.
const extrasName = "x-tentagate-services"

// Merger collects the parts of a merged document.
type Merger struct {
	options    Options
	about      strings.Builder // the description of the merged document
	tags       *tree.Writer
	paths      *tree.Writer
	webhooks   *tree.Writer
	extras     *tree.Writer
	components map[string]*tree.Writer
	taken      map[string]map[string]int // names by kind of component, and of operations
}

// operations is the kind under which the names of operations are taken.
const operations = "operations"

// New returns a merger without services.
func New(options Options) *Merger {
	options.Size = cmp.Or(options.Size, 64<<20)
	return &Merger{
		options: options, tags: tree.NewWriter(0), paths: tree.NewWriter(0), webhooks: tree.NewWriter(0), extras: tree.NewWriter(0),
		components: map[string]*tree.Writer{}, taken: map[string]map[string]int{},
	}
}

// writer returns where components of a kind are collected.
func (m *Merger) writer(kind string) *tree.Writer {
	w, ok := m.components[kind]
	if !ok {
		w = tree.NewWriter(0)
		m.components[kind] = w
	}
	return w
}

// unique returns the name, with a number behind it if it is taken.
func (m *Merger) unique(kind, name string) string {
	taken, ok := m.taken[kind]
	if !ok {
		taken = map[string]int{}
		m.taken[kind] = taken
	}
	free := name
	for taken[free] > 0 {
		taken[name]++
		free = fmt.Sprintf("%s_%d", name, taken[name])
	}
	taken[free] = 1
	return free
}

// size returns the number of bytes that were collected.
func (m *Merger) size() int {
	n := m.about.Len() + m.tags.Len() + m.paths.Len() + m.webhooks.Len() + m.extras.Len()
	for _, w := range m.components {
		n += w.Len()
	}
	return n
}

// full reports whether the merged document is larger than it may be.
func (m *Merger) full() bool { return m.size() > m.options.Size }

// mark is a state of the merger to go back to.
type mark struct {
	tags, paths, webhooks, extras tree.Mark
	components                    map[string]tree.Mark
}

func (m *Merger) mark() mark {
	s := mark{m.tags.Mark(), m.paths.Mark(), m.webhooks.Mark(), m.extras.Mark(), map[string]tree.Mark{}}
	for kind, w := range m.components {
		s.components[kind] = w.Mark()
	}
	return s
}

func (m *Merger) back(to mark) {
	m.tags.Back(to.tags)
	m.paths.Back(to.paths)
	m.webhooks.Back(to.webhooks)
	m.extras.Back(to.extras)
	for kind, w := range m.components {
		w.Back(to.components[kind]) // the beginning, for a kind that is new
	}
}

// Add adds the document of a service, which is in OpenAPI 3, and returns what is
// wrong with it. What cannot be used is left out.
func (m *Merger) Add(s Service, root tree.Value) (problems []string) {
	before := m.mark()
	b := newBuilder(m, s, root)
	b.document()
	if m.full() {
		m.back(before)
		problem := fmt.Sprintf("the merged document would be larger than %d bytes: this one is left out", m.options.Size)
		s.Notes = append(s.Notes, problem)
		m.AddUnknown(s)
		return []string{problem}
	}
	m.describe(s, root)
	return b.problems
}

// AddUnknown adds a service without a document: all that is known of it is where it
// is.
func (m *Merger) AddUnknown(s Service) {
	m.describe(s, tree.Value{})
	w := m.paths
	w.Open(s.Base+"/{path}", '{')
	w.Name("parameters")
	w.Raw([]byte(`[{"name":"path","in":"path","required":true,"description":"The path at the service. It may have several segments.","schema":{"type":"string"}}]`))
	for _, method := range []string{"get", "put", "post", "delete", "patch"} {
		w.Open(method, '{')
		w.Member("summary", "Any path of the service")
		w.Member("operationId", m.unique(operations, s.Name+"_"+method))
		w.Open("tags", '[')
		w.Text(s.Name)
		w.End(']')
		if method != "get" && method != "delete" {
			w.Name("requestBody")
			w.Raw([]byte(`{"content":{"*/*":{"schema":{}}}}`))
		}
		w.Name("responses")
		w.Raw([]byte(`{"default":{"description":"What the service answers"}}`))
		if m.options.Bearer && m.options.Public != nil && m.options.Public(s.Base+"/{path}") {
			w.Name("security")
			w.Raw([]byte("[]"))
		}
		w.End('}')
	}
	w.End('}')
	m.serviceTag(s.Name, "No document describes this service.")
}

// serviceTag declares the tag of operations that have none.
func (m *Merger) serviceTag(name, description string) {
	m.tags.Begin('{')
	m.tags.Member("name", name)
	if description != "" {
		m.tags.Member("description", description)
	}
	m.tags.End('}')
}

// Bytes returns the merged document in JSON.
func (m *Merger) Bytes() []byte {
	w := tree.NewWriter(m.size() + 4096)
	w.Begin('{')
	w.Member("openapi", m.options.OpenAPI)
	w.Open("info", '{')
	w.Member("title", m.options.Title)
	w.Member("version", m.options.Version)
	if m.about.Len() > 0 {
		w.Member("description", m.about.String())
	}
	w.End('}')
	w.Name("servers")
	w.Raw([]byte(`[{"url":"/"}]`))
	if m.options.Bearer {
		w.Name("security")
		w.Raw([]byte(`[{"` + bearerName + `":[]}]`))
	}
	part(w, "tags", m.tags, '[', ']', false)
	part(w, "paths", m.paths, '{', '}', true)
	part(w, "webhooks", m.webhooks, '{', '}', false)
	m.writeComponents(w)
	part(w, extrasName, m.extras, '{', '}', false)
	w.End('}')
	return w.Bytes()
}

func (m *Merger) writeComponents(w *tree.Writer) {
	if m.options.Bearer {
		s := m.writer("securitySchemes")
		s.Name(bearerName)
		s.Raw([]byte(`{"type":"http","scheme":"bearer","bearerFormat":"JWT","description":"The token that the gateway checks."}`))
	}
	begun := false
	for _, kind := range componentKinds {
		part := m.components[kind]
		if part == nil || part.Len() == 0 {
			continue
		}
		if !begun {
			w.Open("components", '{')
			begun = true
		}
		w.Open(kind, '{')
		w.Raw(part.Bytes())
		w.End('}')
	}
	if begun {
		w.End('}')
	}
}

// part writes a member whose value was collected, if there is anything.
func part(w *tree.Writer, name string, collected *tree.Writer, begin, end byte, always bool) {
	if collected.Len() == 0 && !always {
		return
	}
	w.Name(name)
	w.Begin(begin)
	if collected.Len() > 0 {
		w.Raw(collected.Bytes())
	}
	w.End(end)
}
