package contract

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/jsonschema"
	"github.com/pythopus/tentagate/apidocs/internal/tree"
	"github.com/pythopus/tentagate/internal/cookies"
)

// Fault is why a request is not as the document says.
type Fault struct {
	// In is path, query, header, cookie or body.
	In string
	// Name of the parameter; "" for a body.
	Name string
	// Pointer is the JSON pointer (RFC 6901) to the value at fault in a body.
	Pointer string
	// Detail says what is wrong. It repeats nothing of the request but names.
	Detail string
}

// maxFaults is how many faults of one request are found.
const maxFaults = 10

// Parameters returns what is wrong with the parameters of a request.
func (c *Contract) Parameters(m *Match, r *http.Request) (faults []Fault) {
	rules := c.rulesOf(m.Operation)
	var query url.Values
	for i := range rules.parameters {
		p := &rules.parameters[i]
		if p.in == inQuery && query == nil {
			var err error
			// Without the pairs that cannot be read the service might see another query.
			if query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
				return []Fault{{In: inQuery, Detail: "has a bad escape or a semicolon"}}
			}
		}
		values, ok := p.values(m, r, query)
		if detail := p.check(values, ok); detail != "" && len(faults) < maxFaults {
			faults = append(faults, Fault{In: p.in, Name: p.name, Detail: detail})
		}
	}
	return faults
}

// values returns what the request has for the parameter.
func (p *parameter) values(m *Match, r *http.Request, query url.Values) (values []string, ok bool) {
	switch p.in {
	case inPath:
		for i, name := range m.Operation.names {
			if name == p.name && i < len(m.values) {
				return []string{m.values[i]}, true
			}
		}
		return nil, true // the template has no such parameter: no request could have it
	case inQuery:
		values, ok = query[p.name]
	case inHeader:
		values = r.Header.Values(p.name)
		ok = len(values) > 0
	case inCookie:
		for value := range cookies.Named(r.Header, p.name) {
			values, ok = append(values, unquoted(value)), true
		}
	}
	return values, ok
}

// unquoted returns the value of a cookie without the quotes that may be around it.
func unquoted(value string) string {
	if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
		return value[1 : n-1]
	}
	return value
}

// check returns what is wrong with the values, or "".
func (p *parameter) check(values []string, ok bool) string {
	switch {
	case !ok && p.required:
		return "is missing"
	case !ok || len(values) == 0 || p.schema == nil || p.empty && len(values) == 1 && values[0] == "":
		return ""
	case p.list:
		return p.checkList(values)
	case len(values) > 1 && p.in != inHeader:
		return "is given more than once"
	}
	return p.checkText(strings.Join(values, ", "))
}

// maxTrials is for how many items of a list it is tried whether they are strings.
const maxTrials = 200

// checkList checks a list, whose items are separated unless each has the name of the
// parameter.
func (p *parameter) checkList(values []string) string {
	var items []string
	for _, v := range values {
		if p.explode && p.in == inQuery {
			items = append(items, v)
			continue
		}
		items = append(items, strings.Split(v, p.between)...)
	}
	w := tree.NewWriter(64)
	w.Begin('[')
	for i, item := range items {
		if item = strings.TrimSpace(item); isLiteral(item) && !p.takesText(item, i < maxTrials) {
			w.Raw([]byte(item))
		} else {
			w.Text(item)
		}
	}
	w.End(']')
	_, fault := checkJSON(p.schema, w.Bytes())
	if fault.Detail != "" && fault.Pointer != "" {
		return "item " + fault.Pointer[1:] + " " + fault.Detail
	}
	return fault.Detail
}

// takesText reports whether an item of a list, which could be a number, a boolean or null,
// is to be checked as a string.
func (p *parameter) takesText(item string, try bool) bool {
	if !try || p.items == nil {
		return p.items.TakesStrings()
	}
	w := tree.NewWriter(len(item) + 2)
	w.Text(item)
	result, _ := checkJSON(p.items, w.Bytes())
	return result != jsonschema.Invalid
}

// checkText checks one value, which may stand for a string or, written so, for a number
// or a boolean.
func (p *parameter) checkText(text string) string {
	w := tree.NewWriter(len(text) + 2)
	w.Text(text)
	asText, textFault := checkJSON(p.schema, w.Bytes())
	if asText != jsonschema.Invalid {
		return ""
	}
	if !isLiteral(text) {
		return textFault.Detail
	}
	asLiteral, fault := checkJSON(p.schema, []byte(text))
	switch {
	case asLiteral != jsonschema.Invalid:
		return ""
	case p.schema.TakesStrings():
		return textFault.Detail
	}
	return fault.Detail
}

// isLiteral reports whether a text is a number, a boolean or null in JSON.
func isLiteral(text string) bool {
	if text == "" || text[0] == '"' || text[0] == '{' || text[0] == '[' {
		return false
	}
	_, err := tree.ParseJSON([]byte(text), bodyLimits(len(text)))
	return err == nil
}

func checkJSON(s *jsonschema.Schema, text []byte) (jsonschema.Result, jsonschema.Fault) {
	doc, err := tree.ParseJSON(text, bodyLimits(len(text)))
	if err != nil {
		return jsonschema.Unknown, jsonschema.Fault{}
	}
	return s.Check(doc.Root(), steps(doc, len(text)))
}

// maxNesting is how far arrays and objects of a body may be in one another.
const maxNesting = 500

func bodyLimits(n int) tree.Limits {
	return tree.Limits{Bytes: n, Depth: maxNesting, Nodes: n + 1, Digits: n}
}

// steps bounds the work of checking a value of that many bytes: by its size, as there are
// documents whose alternatives take exponential time. The bytes are for the patterns of
// long texts.
func steps(doc *tree.Tree, bytes int) int { return min(10_000+100*doc.Len()+bytes/4, 2_000_000) }

// Body says how the body of a request is to be.
type Body struct {
	// Described: the document says how bodies of the operation are.
	Described bool
	// Required: there must be one.
	Required bool
	// Accepted: the media type is one of those that the document has. Types are these.
	Accepted bool
	Types    string
	// JSON: it can be checked by CheckBody.
	JSON bool

	schema tree.Value
}

// Body returns how the body of a request is to be, which has the media type.
func (c *Contract) Body(m *Match, contentType string) Body {
	rules := c.rulesOf(m.Operation)
	b := Body{Described: len(rules.content) > 0, Required: rules.required, Types: rules.types()}
	name := essence(contentType)
	var found mediaType
	if found, b.Accepted = rules.accepts(name); b.Accepted && IsJSON(name) {
		b.schema, b.JSON = found.schema, true
	}
	return b
}

// CheckBody checks a body in JSON. complete is false if it was not checked as a whole:
// the schema has something that is not known, or it took too long.
func (c *Contract) CheckBody(b Body, text []byte) (faults []Fault, complete bool) {
	doc, err := tree.ParseJSON(text, bodyLimits(len(text)))
	if err != nil {
		return []Fault{{In: "body", Detail: "is not JSON: " + err.Error()}}, true
	}
	// Readers differ in which of two members with one name counts.
	for _, name := range doc.Repeated {
		faults = append(faults, Fault{In: "body", Detail: "has an object with a member more than once: " + cut(name)})
	}
	if len(faults) > 0 || !b.schema.Exists() {
		return faults, true
	}
	result, fault := c.schemas.Of(b.schema).Check(doc.Root(), steps(doc, len(text)))
	if result == jsonschema.Invalid {
		return []Fault{{In: "body", Pointer: fault.Pointer, Detail: fault.Detail}}, true
	}
	return nil, result == jsonschema.Valid
}

func cut(name string) string {
	if len(name) > 50 {
		name = strings.ToValidUTF8(name[:50], "") + "…"
	}
	return name
}
