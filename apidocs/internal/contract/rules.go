package contract

import (
	"mime"
	"slices"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/jsonschema"
	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// rules are what an operation says of its requests, compiled.
type rules struct {
	parameters []parameter
	required   bool // the body is
	content    []mediaType

	known map[[2]string]bool // places and names of parameters
	reads int                // nodes of the document that may still be read
}

// The bounds of one operation. What is beyond them is not checked.
const (
	maxParameters = 1000
	maxMediaTypes = 100
	maxRuleReads  = 2_000_000 // nodes of the document
)

// parameter is one parameter of an operation.
type parameter struct {
	in, name string
	required bool
	explode  bool
	empty    bool               // may have no value
	schema   *jsonschema.Schema // nil: its value is not checked
	items    *jsonschema.Schema // of a list
	list     bool
	between  string // the items of a list that does not explode
}

// mediaType is a media type that the body may have, perhaps a range.
type mediaType struct {
	name   string // in lower case, without parameters
	schema tree.Value
}

// rulesOf returns the rules of an operation, which are compiled when it is first asked
// for.
func (c *Contract) rulesOf(o *Operation) *rules {
	o.once.Do(func() {
		r := &rules{known: map[[2]string]bool{}, reads: maxRuleReads}
		for _, list := range []tree.Value{o.value.Get("parameters"), o.shared} {
			for p := range list.Items() {
				p = resolve(c.document, p, &r.reads)
				if r.reads -= p.Size(); r.reads < 0 || len(r.parameters) >= maxParameters {
					break
				}
				c.addParameter(r, p)
			}
		}
		r.addBody(c.document, o.value.Get("requestBody"))
		r.known = nil
		o.rules = r
	})
	return o.rules
}

// addBody adds what the body may be. With more media types than are kept, none is
// refused.
func (r *rules) addBody(document, body tree.Value) {
	reads := maxRuleReads
	if body = resolve(document, body, &reads); !body.Is(tree.Object) {
		return
	}
	r.required = body.Get("required").Is(tree.True)
	for name, m := range body.Get("content").Members() {
		m = resolve(document, m, &reads)
		if len(r.content) >= maxMediaTypes || reads < 0 {
			r.content = nil
			return
		}
		r.content = append(r.content, mediaType{essence(name), m.Get("schema")})
	}
}

// The places of parameters.
const (
	inPath   = "path"
	inQuery  = "query"
	inHeader = "header"
	inCookie = "cookie"
)

// notParameters are header fields whose parameters are ignored (OpenAPI 3.1 §4.8.12.2.1).
var notParameters = []string{"accept", "content-type", "authorization"}

// separators are what is between the items of a list, by the styles that are checked.
var separators = map[string]string{"": ",", "form": ",", "simple": ",", "spaceDelimited": " ", "pipeDelimited": "|"}

// addParameter adds a parameter, unless one of the operation has its name.
func (c *Contract) addParameter(r *rules, v tree.Value) {
	p := parameter{in: v.Get("in").Text(), name: v.Get("name").Text(), required: v.Get("required").Is(tree.True), empty: v.Get("allowEmptyValue").Is(tree.True)}
	if p.name == "" || p.in == inHeader && slices.Contains(notParameters, strings.ToLower(p.name)) ||
		!slices.Contains([]string{inPath, inQuery, inHeader, inCookie}, p.in) ||
		r.known[[2]string{p.in, p.name}] {
		return
	}
	r.known[[2]string{p.in, p.name}] = true
	style := v.Get("style").Text()
	between, known := separators[style]
	p.between = between
	p.explode = (p.in == inQuery || p.in == inCookie) && p.between == ","
	if e := v.Get("explode"); e.Exists() {
		p.explode = e.Is(tree.True)
	}
	if schema := v.Get("schema"); schema.Exists() && known {
		p.schema = c.schemas.Of(schema)
		shape, items := p.schema.Shape()
		p.items, p.list = items, shape == jsonschema.List
		if shape == jsonschema.Mixed {
			p.schema = nil // a text may stand for an array or for something else
		} else if p.schema.IsObject() {
			p.schema = nil
			if p.in == inQuery && p.explode {
				p.required = false // its members are parameters of their own names
			}
		}
	} else if p.in == inQuery && style == "deepObject" {
		p.required = false // it is there under names such as filter[a]
	}
	r.parameters = append(r.parameters, p)
}

// essence returns a media type in lower case, without parameters.
func essence(text string) string {
	if t, _, err := mime.ParseMediaType(text); err == nil {
		return t
	}
	t, _, _ := strings.Cut(text, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// accepts returns the description of bodies of a media type, the most specific one.
func (r *rules) accepts(name string) (mediaType, bool) {
	group, _, _ := strings.Cut(name, "/")
	for _, want := range []string{name, group + "/*", "*/*", "*"} {
		for _, m := range r.content {
			if m.name == want {
				return m, true
			}
		}
	}
	return mediaType{}, false
}

// types returns the media types, for the field Accept.
func (r *rules) types() string {
	var names []string
	for _, m := range r.content {
		names = append(names, m.name)
	}
	return strings.Join(names, ", ")
}

// IsJSON reports whether bodies of a media type are JSON.
func IsJSON(name string) bool {
	return name == "application/json" || name == "text/json" || strings.HasSuffix(name, "+json")
}
