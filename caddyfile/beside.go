package caddyfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

// answering are the directives that answer requests, and those that only make
// sense after this one, in Caddy's default order.
var answering = []string{
	"redir", "invoke", "handle", "route", "abort", "error", "respond", "metrics", directiveName,
	"circuit_breaker", "reverse_proxy", "php_fastcgi", "file_server", "acme_server",
}

// level is one of the blocks around the directive.
type level struct {
	segments []caddyfile.Segment
	ours     int  // the directive, or the block in which it is
	written  bool // whether they run in the order in which they are written
}

// checkNeighbours refuses a directive beside this one, or beside a block that
// contains it, where one of the two would never be reached because the other
// answers every request. Doubtful cases are accepted.
func checkNeighbours(h httpcaddyfile.Helper) error {
	d := h.Dispenser
	order, ok := h.Option("order").([]string) // of the operator
	if !ok {
		order = answering
	}
	for _, l := range blocksAround(parse.Segments(h), false, d.File(), d.Line()) {
		ours := l.segments[l.ours]
		if ours.Directive() != directiveName && !transparent(ours) {
			continue // such as handle_errors
		}
		for i, other := range l.segments {
			name := other.Directive()
			switch {
			case name == "dashboard" && !conditional(other) && !slices.ContainsFunc(l.segments, authenticates):
				return d.Errf("tentagate: the dashboard at %s is open to everybody, as the jwt of tentagate does not apply to it: put basic_auth, forward_auth or jwt_auth beside it, or give it a site of its own",
					place.At(other[0].File, other[0].Line))
			case i == l.ours || !slices.Contains(answering, orderName(other)):
			case answersAll(ours) && l.before(l.ours, i, order):
				who := directiveName
				if ours.Directive() != directiveName {
					who = fmt.Sprintf("%s at %s, with tentagate in it,", ours.Directive(), place.At(ours[0].File, ours[0].Line))
				}
				return d.Errf("tentagate: %s at %s is never reached, because %s answers every request: put it into a `handle <matcher>` beside tentagate, or make it a `service` in it",
					name, place.At(other[0].File, other[0].Line), who)
			case answersAll(other) && l.before(i, l.ours, order):
				return d.Errf("tentagate: it is never reached, because %s at %s answers every request before it: give that a matcher, as in `%s /path/*`",
					name, place.At(other[0].File, other[0].Line), name)
			case catchesAll(ours) && catchesAll(other):
				first, second := l.segments[min(i, l.ours)][0], l.segments[max(i, l.ours)][0]
				caddy.Log().Named(directiveName).Warn("a handle block is never run: another one without a matcher is before it; give one of them a matcher",
					zap.String("at", place.At(second.File, second.Line)), zap.String("first", place.At(first.File, first.Line)))
			}
		}
	}
	return nil
}

// authenticates reports whether a directive may ask who the client is.
func authenticates(s caddyfile.Segment) bool {
	return slices.Contains([]string{"basic_auth", "forward_auth", "jwt_auth"}, s.Directive()) || transparent(s)
}

// before reports whether one of the level's directives certainly runs before
// another.
func (l level) before(first, second int, order []string) bool {
	if l.written {
		return first < second
	}
	one, other := orderName(l.segments[first]), orderName(l.segments[second])
	// Of several handle blocks, Caddy runs the one with the most specific matcher.
	at, behind := slices.Index(order, one), slices.Index(order, other)
	return at >= 0 && behind >= 0 && one != other && at < behind
}

// orderName returns the name by which a directive has its place.
func orderName(s caddyfile.Segment) string {
	if s.Directive() == "handle_path" {
		return "handle"
	}
	return s.Directive()
}

// transparent reports whether the directives in a block run where the block is.
func transparent(s caddyfile.Segment) bool {
	name := orderName(s)
	return name == "handle" || name == "route"
}

// answersAll reports whether a directive certainly answers every request that
// comes to it.
func answersAll(s caddyfile.Segment) bool {
	if conditional(s) {
		return false
	}
	switch s.Directive() {
	case directiveName, "redir", "abort", "error", "respond", "metrics", "reverse_proxy":
		return true
	case "file_server":
		return !optionsOf(s)["pass_thru"]
	}
	return transparent(s) && slices.ContainsFunc(linesOf(s), func(l line) bool { return answersAll(l.Segment) })
}

// catchesAll reports whether a directive is a handle block without a matcher. Of
// several, Caddy runs the first one only.
func catchesAll(s caddyfile.Segment) bool { return s.Directive() == "handle" && !conditional(s) }

// conditional reports whether a directive has a matcher, or may have had one:
// Caddy takes it out of the tokens of those that it has read before, which leaves
// the last token twice.
func conditional(s caddyfile.Segment) bool {
	if matcherOf(s) != "" || s.Directive() == "handle_path" {
		return true
	}
	if len(s) < 3 {
		return false
	}
	last, other := s[len(s)-1], s[len(s)-2]
	return last.Text == other.Text && last.Line == other.Line && last.File == other.File
}

// blocksAround returns the blocks around a line, from the outermost to the innermost.
func blocksAround(block []caddyfile.Segment, written bool, file string, at int) []level {
	ours := func(t caddyfile.Token) bool { return t.Text == directiveName && t.File == file && t.Line == at }
	for i, s := range block {
		here := level{block, i, written}
		switch {
		case ours(s[0]):
			return []level{here}
		case slices.ContainsFunc(s, ours):
			var inner []caddyfile.Segment
			for _, l := range linesOf(s) {
				inner = append(inner, l.Segment)
			}
			return append([]level{here}, blocksAround(inner, s.Directive() == "route", file, at)...)
		}
	}
	return nil
}

// checkMatchers refuses matchers in the directive whose paths no request of a
// service can have, and warns of a public path that names a service which is not
// there.
func (g *gateway) checkMatchers(h httpcaddyfile.Helper) error {
	for i, set := range g.public {
		if err := g.checkMatcher("public", g.publicAt[i], set); err != nil {
			return err
		}
	}
	for _, option := range []string{"ratelimit", "cache"} {
		for _, segment := range g.features[option].segments {
			if matcherOf(segment) == "" {
				continue
			}
			set, _, err := h.WithDispenser(caddyfile.NewDispenser(slices.Clone(segment[1:2]))).MatcherToken()
			if err != nil {
				// Where the line is read, the error would have the place of the directive.
				return fmt.Errorf("%s: %w, at %s", option, parse.MatcherHint(err), place.At(segment[1].File, segment[1].Line))
			}
			if err := g.checkMatcher(option, segment[1], set); err != nil {
				return err
			}
		}
	}
	return g.checkBypass()
}

// checkBypass checks the paths for which the cache is not used.
func (g *gateway) checkBypass() error {
	for _, segment := range g.features["cache"].segments {
		for _, line := range linesOf(segment) {
			if line.Directive() != "bypass" {
				continue
			}
			for _, token := range line.Segment[1:] {
				if token.Line != line.Segment[0].Line || !strings.HasPrefix(token.Text, "/") {
					continue
				}
				if err := g.checkMatcher("bypass", token, caddy.ModuleMap{"path": caddyconfig.JSON([]string{token.Text}, nil)}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkMatcher checks the paths of one matcher, if it looks at them.
func (g *gateway) checkMatcher(option string, token caddyfile.Token, set caddy.ModuleMap) error {
	var paths []string
	if json.Unmarshal(set["path"], &paths) != nil || len(paths) == 0 {
		return nil
	}
	unknown := ""
	for _, path := range paths {
		if before, query, ok := strings.Cut(path, "?"); ok && strings.Contains(query, "=") {
			return fmt.Errorf("%s: %q has a query, but paths are compared without one: write a named matcher with `path %s` and `query %s`, at %s",
				option, path, before, query, place.At(token.File, token.Line))
		}
		name, wrong := serviceOf(path)
		if wrong {
			continue
		}
		if name == "" || slices.ContainsFunc(g.services, func(s *service) bool { return strings.EqualFold(s.name, name) }) {
			return nil
		}
		unknown = name
	}
	at := place.At(token.File, token.Line)
	if unknown == "" {
		return fmt.Errorf("%s: %q can match nothing: the paths of services begin with %s and the service's name, as in %susers/login, at %s",
			option, token.Text, apiPath, apiPath, at)
	}
	caddy.Log().Named(directiveName).Warn(option+" names an unknown service and so matches nothing",
		zap.Strings("paths", paths), zap.String("service", unknown), zap.String("at", at))
	return nil
}

// coversAll reports whether a matcher is of paths alone, one of which all requests
// of services have.
func coversAll(set caddy.ModuleMap) bool {
	var paths []string
	if len(set) != 1 || json.Unmarshal(set["path"], &paths) != nil {
		return false
	}
	return slices.ContainsFunc(paths, func(path string) bool {
		text, wild := strings.CutSuffix(strings.ToLower(path), "*")
		return wild && strings.HasPrefix(apiPath, text)
	})
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
