package caddyfile

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/place"
)

// generated is the file name of generated tokens. For Caddy, a token of another file
// begins a new line, so that they can be mixed with those of the operator.
const generated = "tentagate"

// statement is a line of a Caddyfile, perhaps with a block.
type statement struct {
	words []string
	block []statement
}

func words(words ...string) statement { return statement{words: words} }

// segment returns the statement as tokens. They are never text, so a value
// cannot become more than one word, nor a brace.
func (s statement) segment() caddyfile.Segment {
	line := 1
	return s.appendTo(nil, &line)
}

func (s statement) appendTo(tokens caddyfile.Segment, line *int) caddyfile.Segment {
	add := func(text string) {
		tokens = append(tokens, caddyfile.Token{File: generated, Line: *line, Text: text})
	}
	for _, word := range s.words {
		add(word)
	}
	if len(s.block) > 0 {
		add("{")
		*line++
		for _, inner := range s.block {
			tokens = inner.appendTo(tokens, line)
		}
		add("}")
	}
	*line++
	return tokens
}

// withBlock appends segments to the block of a segment, which may have none.
func withBlock(segment caddyfile.Segment, more ...caddyfile.Segment) caddyfile.Segment {
	result := slices.Clone(segment)
	closing := caddyfile.Token{File: generated, Text: "}"}
	if n := len(result) - 1; hasBlock(segment) {
		closing, result = result[n], result[:n]
	} else {
		// The brace belongs to the line of the directive: it takes everything but
		// the text from the name.
		opening := result[0]
		opening.Text = "{"
		result = append(result, opening)
	}
	line := result[len(result)-1].Line
	for _, m := range more {
		shift := 0
		if m[0].File == generated {
			shift = line + 1 - m[0].Line
		}
		for _, token := range m {
			token.Line += shift
			result = append(result, token)
		}
		line = result[len(result)-1].Line
	}
	if closing.File == generated {
		closing.Line = line + 1
	}
	return append(result, closing)
}

// hasBlock reports whether the segment has a block that is not empty.
func hasBlock(segment caddyfile.Segment) bool {
	d := caddyfile.NewDispenser(segment)
	d.Next()
	d.RemainingArgs()
	return d.NextBlock(0)
}

// expansion makes routes of directives.
type expansion struct {
	h    httpcaddyfile.Helper
	file string
	line int
	err  error
}

// parse returns the routes of one directive, which its own parser makes.
func (e *expansion) parse(segment caddyfile.Segment) caddyhttp.RouteList {
	if e.err != nil {
		return nil
	}
	// Caddy's errors end with the place of the surrounding tokens, so these have the
	// place of the tentagate directive.
	around := func(text string, line int) caddyfile.Token {
		return caddyfile.Token{File: e.file, Line: line, Text: text}
	}
	// A handler has its place in the file; generated ones have that of the tentagate
	// directive.
	segment = slices.Clone(segment)
	for i, first := 0, segment[0]; i < len(segment) && first.File == generated && segment[i].File == generated && segment[i].Line == first.Line; i++ {
		segment[i].File, segment[i].Line = e.file, e.line
	}
	end := e.line
	if last := segment[len(segment)-1]; last.File == e.file {
		end = last.Line + last.NumLineBreaks() + 1
	}
	tokens := slices.Concat(
		caddyfile.Segment{around(directiveName, e.line), around("{", e.line)},
		segment,
		caddyfile.Segment{around("}", end)},
	)
	handler, err := httpcaddyfile.ParseSegmentAsSubroute(e.h.WithDispenser(caddyfile.NewDispenser(tokens)))
	if err != nil {
		e.err = onePlace(err)
		return nil
	}
	routes := handler.(*caddyhttp.Subroute).Routes
	own := append([]byte(`"position":`), caddyconfig.JSON(place.At(e.file, e.line), nil)...)
	for _, route := range routes {
		for i, raw := range route.HandlersRaw {
			route.HandlersRaw[i] = generatedPosition.ReplaceAllLiteral(raw, own)
		}
	}
	return routes
}

// placeAtEnd is the place that Caddy adds to an error of parsing.
var placeAtEnd = regexp.MustCompile(`, at ([^,\n]+):\d+(?: import chain \['[^\]\n]*'\])?$`)

// onePlace removes the second place from an error that has two: the first is where the
// mistake is, unless that line was generated, and the second where the block ends.
func onePlace(err error) error {
	text := err.Error()
	outer := placeAtEnd.FindString(text)
	rest := strings.TrimSuffix(text, outer)
	inner := placeAtEnd.FindStringSubmatch(rest)
	switch {
	case outer == "" || inner == nil:
		return err
	case inner[1] == generated:
		return errors.New(strings.TrimSuffix(rest, inner[0]) + outer)
	}
	return errors.New(rest)
}

// generatedPosition is the position of generated handlers. An error about them names
// the tentagate directive.
var generatedPosition = regexp.MustCompile(`"position":"` + generated + `:\d+"`)

// chain returns the routes of several directives, one after the other.
func (e *expansion) chain(segments ...caddyfile.Segment) (routes caddyhttp.RouteList) {
	for _, segment := range segments {
		routes = join(routes, e.parse(segment))
	}
	return routes
}

// exclusive returns the routes of several directives of which the first that
// matches is taken, with the one that has no matcher at the end.
func (e *expansion) exclusive(segments ...caddyfile.Segment) caddyhttp.RouteList {
	var matched, plain caddyhttp.RouteList
	for _, segment := range segments {
		routes := e.parse(segment)
		if matcherOf(segment) == "" {
			plain = append(plain, routes...)
		} else {
			matched = append(matched, routes...)
		}
	}
	if len(matched) == 0 || e.err != nil {
		return plain
	}
	return e.group(append(matched, plain...)...)
}

// join appends routes to others. Handlers of neighbours that are both for every
// request come into one route.
func join(routes, more caddyhttp.RouteList) caddyhttp.RouteList {
	for _, route := range more {
		if n := len(routes) - 1; n >= 0 && always(routes[n]) && always(route) {
			routes[n].HandlersRaw = append(routes[n].HandlersRaw, route.HandlersRaw...)
			continue
		}
		routes = append(routes, route)
	}
	return routes
}

func always(route caddyhttp.Route) bool {
	return len(route.MatcherSetsRaw) == 0 && route.Group == "" && !route.Terminal
}

// handle returns a route that does what `handle <matcher> { … }` does, once it
// is in a group with others.
func (e *expansion) handle(matcher caddy.ModuleMap, routes caddyhttp.RouteList) caddyhttp.Route {
	var route caddyhttp.Route
	if matcher != nil {
		route.MatcherSetsRaw = []caddy.ModuleMap{matcher}
	}
	if len(routes) == 1 && always(routes[0]) {
		route.HandlersRaw = routes[0].HandlersRaw
	} else {
		route.HandlersRaw = []json.RawMessage{module(&caddyhttp.Subroute{Routes: routes}, "subroute")}
	}
	return route
}

// group makes routes exclude each other: the first that matches is taken.
func (e *expansion) group(routes ...caddyhttp.Route) caddyhttp.RouteList {
	values := make([]httpcaddyfile.ConfigValue, len(routes))
	for i, route := range routes {
		values[i].Value = route
	}
	e.h.GroupRoutes(values)
	for i := range routes {
		routes[i] = values[i].Value.(caddyhttp.Route)
	}
	return routes
}

// module returns a handler's JSON.
func module(handler any, name string) json.RawMessage {
	return caddyconfig.JSONModuleObject(handler, "handler", name, nil)
}

// handler returns the route of one handler for every request.
func handler(h any, name string) caddyhttp.RouteList {
	return caddyhttp.RouteList{{HandlersRaw: []json.RawMessage{module(h, name)}}}
}

// paths returns a matcher of paths.
func paths(paths ...string) caddy.ModuleMap {
	return caddy.ModuleMap{"path": caddyconfig.JSON(caddyhttp.MatchPath(paths), nil)}
}
