package parse

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// NamedRoute refuses a directive in a named route (`&(name) { … }`) of which Caddy
// would keep the first directive only: Caddy does that, without a word, where the
// directives become one route without a matcher. Authentication that is dropped like
// this would let everybody in.
func NamedRoute(h httpcaddyfile.Helper) error {
	if !h.IsNamedRoute() {
		return nil
	}
	name, directives := namedRoute(h)
	if len(directives) < 2 {
		return nil
	}
	count := map[string]int{}
	for _, d := range directives {
		count[d.Directive()]++
		if hasMatcher(d) {
			return nil // there are several routes, and Caddy keeps all
		}
	}
	if group := count["handle"]; group > 1 && group < len(directives) {
		return nil // handle blocks are a route of their own
	}
	if group := count["root"]; group > 1 && group < len(directives) {
		return nil
	}
	if group := count["rewrite"]; group > 0 && group < len(directives) {
		return nil
	}
	var names []string
	for _, d := range directives {
		names = append(names, d.Directive())
	}
	// Caddy adds the place of the route.
	return fmt.Errorf("named route %q: Caddy keeps only the first of its directives (%s), since none of them has a matcher: put them into one `handle { … }` or `route { … }` block inside &(%s)",
		name, strings.Join(names, ", "), name)
}

// hasMatcher reports whether a directive has a matcher, or consists of routes that
// have.
func hasMatcher(d caddyfile.Segment) bool {
	if slices.Contains([]string{"handle_path", "php_fastcgi", "try_files", "tentagate"}, d.Directive()) {
		return true
	}
	at := 1
	if d.Directive() == "circuit_breaker" {
		at = 2 // its name stands before the matcher
	}
	return len(d) > at && d[at].Line == d[0].Line && (strings.HasPrefix(d[at].Text, "@") || strings.HasPrefix(d[at].Text, "/"))
}

// namedRoute returns the name of the named route that is parsed, and its directives.
func namedRoute(h httpcaddyfile.Helper) (name string, directives []caddyfile.Segment) {
	segments := Segments(h)
	if len(segments) == 0 {
		return "", nil
	}
	d := caddyfile.NewDispenser(segments[0]) // the name and one block
	if !d.Next() {
		return "", nil
	}
	name = d.Val()
	for d.NextBlock(0) {
		if s := d.NextSegment(); !strings.HasPrefix(s.Directive(), "@") {
			directives = append(directives, s)
		}
	}
	return name, directives
}
