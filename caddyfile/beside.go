package caddyfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/place"
)

// behind are the directives that stand behind this one unless the operator
// orders them otherwise. Beside it they are never asked.
var behind = []string{"reverse_proxy", "php_fastcgi", "file_server", "acme_server"}

// checkNeighbours refuses what stands in the block of the directive and would
// never be asked, since the directive answers every request.
func checkNeighbours(h httpcaddyfile.Helper) error {
	d := h.Dispenser
	neighbours, written := neighboursOf(h, d.File(), d.Line())
	order, _ := h.Option("order").([]string) // of the operator
	for _, n := range neighbours {
		name := n.Directive()
		if !slices.Contains(behind, name) || written && before(n, d.Token()) ||
			!written && slices.Index(order, name) < slices.Index(order, directiveName) {
			continue
		}
		return d.Errf("tentagate: %s at %s is never asked, since tentagate answers every request: put it into a `handle <matcher>` beside tentagate, or make it a `service` in it",
			name, place.At(n[0].File, n[0].Line))
	}
	return nil
}

// before reports whether a segment begins before a token of the same file.
func before(s caddyfile.Segment, t caddyfile.Token) bool {
	return s[0].File == t.File && s[0].Line < t.Line
}

// neighboursOf returns the directives in the innermost block around a line, and
// whether they are asked in the order in which they are written.
func neighboursOf(h httpcaddyfile.Helper, file string, at int) (neighbours []caddyfile.Segment, written bool) {
	// Caddy has no other way to ask for it.
	block := reflect.ValueOf(h).FieldByName("parentBlock")
	if !block.IsValid() {
		return nil, false
	}
	segments := block.FieldByName("Segments")
	if !segments.IsValid() || segments.Kind() != reflect.Slice {
		return nil, false
	}
	var site []caddyfile.Segment
	for i := range segments.Len() {
		if tokens := tokensOf(segments.Index(i)); len(tokens) > 0 {
			site = append(site, tokens)
		}
	}
	return blockAround(site, false, file, at)
}

// tokensOf copies tokens that can be read but not taken.
func tokensOf(segment reflect.Value) (tokens caddyfile.Segment) {
	for i := range segment.Len() {
		t := segment.Index(i)
		tokens = append(tokens, caddyfile.Token{
			File: t.FieldByName("File").String(), Line: int(t.FieldByName("Line").Int()), Text: t.FieldByName("Text").String(),
		})
	}
	return tokens
}

func blockAround(block []caddyfile.Segment, written bool, file string, at int) ([]caddyfile.Segment, bool) {
	for _, s := range block {
		if s.Directive() == directiveName && s[0].File == file && s[0].Line == at {
			return block, written
		}
		if !slices.ContainsFunc(s, func(t caddyfile.Token) bool { return t.Text == directiveName && t.File == file && t.Line == at }) {
			continue
		}
		var inner []caddyfile.Segment
		for _, l := range linesOf(s) {
			inner = append(inner, l.Segment)
		}
		return blockAround(inner, s.Directive() == "route", file, at)
	}
	return nil, false
}

// checkPublic refuses a path that no request of a service can have, and warns
// of one that names a service which is not there.
func (g *gateway) checkPublic() error {
	for _, path := range g.publicPaths {
		switch name, wrong := serviceOf(path.Text); {
		case wrong:
			return fmt.Errorf("public: %q can match nothing: the paths of services begin with %s and the service's name, as in %susers/login, at %s",
				path.Text, apiPath, apiPath, place.At(path.File, path.Line))
		case name != "" && !slices.ContainsFunc(g.services, func(s *service) bool { return strings.EqualFold(s.name, name) }):
			caddy.Log().Named(directiveName).Warn("public names a service that there is not, so that it matches nothing",
				zap.String("path", path.Text), zap.String("service", name), zap.String("at", place.At(path.File, path.Line)))
		}
	}
	return nil
}

// serviceOf returns the name of the service that a path is about, if it is
// about one, and whether it is about none that there could be.
func serviceOf(path string) (name string, wrong bool) {
	if strings.HasPrefix(path, "//") || strings.ContainsAny(path, "%{") {
		return "", false // not compared as it stands
	}
	text, wild := path, false
	if i := strings.IndexAny(path, "*?[\\"); i >= 0 {
		text, wild = path[:i], true
	}
	text = strings.ToLower(text)
	if len(text) < len(apiPath) {
		return "", !wild || !strings.HasPrefix(apiPath, text)
	}
	rest, ok := strings.CutPrefix(text, apiPath)
	if !ok {
		return "", true
	}
	name, _, whole := strings.Cut(rest, "/")
	if !whole && wild {
		return "", false
	}
	return name, name == ""
}
