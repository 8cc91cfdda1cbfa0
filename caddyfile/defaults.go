package caddyfile

import (
	"cmp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// The rule for what is written and what is not: an option that is written
// changes that option, and every other keeps its default. A line with a matcher
// is for what it matches, beside the default for everything.

// The lines that a part of the gateway has in its block unless they are written.
var (
	breakerDefaults = []statement{words("consecutive", "5"), words("open_for", "30s")}
	cacheDefaults   = []statement{words("ttl", "60s"), words("invalidate_on_write", "segments", "2")}
	defaultLimit    = words("limit", "100/1m")
)

// line is an option in a block.
type line struct {
	caddyfile.Segment
	at int // the place of its first token in the segment around it
}

// linesOf returns the options in the segment's block.
func linesOf(segment caddyfile.Segment) (lines []line) {
	d := caddyfile.NewDispenser(segment)
	d.Next()
	at := 2 + len(d.RemainingArgs()) // the name, the arguments and the brace
	for d.NextBlock(0) {
		s := d.NextSegment()
		for at+len(s) < len(segment) && (segment[at].Text != s[0].Text || segment[at].Line != s[0].Line || segment[at].File != s[0].File) {
			at++ // past a block with nothing in it, which the dispenser leaves out
		}
		lines = append(lines, line{s, at})
		at += len(s)
	}
	return lines
}

// argsOf returns what stands behind the name on the line of the segment.
func argsOf(segment caddyfile.Segment) []string {
	d := caddyfile.NewDispenser(segment)
	d.Next()
	return d.RemainingArgs()
}

// optionsOf returns the names of the options in the segment's block.
func optionsOf(segment caddyfile.Segment) map[string]bool {
	names := map[string]bool{}
	for _, l := range linesOf(segment) {
		name := l.Directive()
		if name == "ttl" && len(l.Segment) > 2 {
			continue // of one status, beside the one of all
		}
		names[name] = true
	}
	return names
}

// withDefaults appends to the block of a segment those lines whose option it
// does not have.
func withDefaults(segment caddyfile.Segment, given map[string]bool, standard ...statement) caddyfile.Segment {
	var missing []caddyfile.Segment
	for _, s := range standard {
		if !given[s.words[0]] {
			missing = append(missing, s.segment())
		}
	}
	if len(missing) == 0 {
		return segment
	}
	return withBlock(segment, missing...)
}

// replaceLine returns the segment with another one in the place of a line.
func replaceLine(segment caddyfile.Segment, old line, with caddyfile.Segment) caddyfile.Segment {
	return slices.Concat(segment[:old.at], with, segment[old.at+len(old.Segment):])
}

// matcherOf returns the matcher on the line of a directive, or nothing where it
// is for everything.
func matcherOf(segment caddyfile.Segment) string {
	if args := argsOf(segment); len(args) > 0 && (args[0][:min(1, len(args[0]))] == "/" || strings.HasPrefix(args[0], "@")) {
		return args[0]
	}
	return ""
}

// valuesBehindMatcher returns the arguments of a directive without its matcher.
func valuesBehindMatcher(segment caddyfile.Segment) []string {
	args := argsOf(segment)
	if len(args) > 0 && (args[0] == "*" || matcherOf(segment) != "") {
		return args[1:]
	}
	return args
}

// ratelimits returns the limits: the default for everything unless a line
// without a matcher has limits of its own, and those that were written.
func (g *gateway) ratelimits() []caddyfile.Segment {
	f := g.features["ratelimit"]
	if f.off {
		return nil
	}
	return g.zoned(g.completeLimits(slices.Clone(f.segments)))
}

// zoned names the zones of lines that have none, by what they are for: not by
// their order, which another line changes, and never as another site's.
func (g *gateway) zoned(segments []caddyfile.Segment) []caddyfile.Segment {
	taken := map[string]bool{}
	for i, segment := range segments {
		matcher := matcherOf(segment)
		if optionsOf(segment)["zone"] || matcher == "" && g.site == "" {
			continue
		}
		name := strings.Trim(strings.Map(func(c rune) rune {
			if c < 0x80 && (isAlphanumeric(byte(c)) || c == '_') {
				return c
			}
			return '-'
		}, matcher), "-")
		zone := g.zoneName(cmp.Or(name, "default"))
		if !taken[zone] {
			segments[i] = withBlock(segment, words("zone", zone).segment())
		}
		taken[zone] = true
	}
	return segments
}

// completeLimits adds the default to the lines that were written.
func (g *gateway) completeLimits(segments []caddyfile.Segment) []caddyfile.Segment {
	plain := -1 // the first line that is for everything
	for i, segment := range segments {
		if matcherOf(segment) != "" {
			continue
		}
		if plain < 0 {
			plain = i
		}
		if hasLimit(segment) {
			return segments
		}
	}
	if plain < 0 {
		return slices.Insert(segments, 0, words("ratelimit", defaultLimit.words[1]).segment())
	}
	segments[plain] = withBlock(segments[plain], defaultLimit.segment())
	return segments
}

// hasLimit reports whether a ratelimit line says how much everybody may do, be
// it in a tier for all whose tier is not named.
func hasLimit(segment caddyfile.Segment) bool {
	if len(valuesBehindMatcher(segment)) > 0 {
		return true
	}
	for _, l := range linesOf(segment) {
		switch l.Directive() {
		case "limit":
			return true
		case "tier":
			if optionsOf(l.Segment)["*"] {
				return true
			}
		}
	}
	return false
}

// caches returns the http_cache directives: those with a matcher, and one for
// everything else. Whatever is said about it, answers to a user stay that
// user's own, unless that is switched off.
func (g *gateway) caches() []caddyfile.Segment {
	f := g.features["cache"]
	if f.off {
		return nil
	}
	segments := slices.Clone(f.segments)
	if !slices.ContainsFunc(segments, func(s caddyfile.Segment) bool { return matcherOf(s) == "" }) {
		segments = append(segments, words("http_cache").segment())
	}
	for i, segment := range segments {
		given := optionsOf(segment)
		if len(valuesBehindMatcher(segment)) > 0 {
			given["ttl"] = true
		}
		segments[i] = perUser(withDefaults(segment, given, cacheDefaults...))
	}
	return segments
}

// perUser completes the key of a cache.
func perUser(segment caddyfile.Segment) caddyfile.Segment {
	for _, key := range linesOf(segment) {
		if key.Directive() != "key" {
			continue
		}
		for _, option := range linesOf(key.Segment) {
			switch {
			case option.Directive() != "per_user":
			case len(option.Segment) == 2 && option.Segment[1].Text == off:
				return replaceLine(segment, key, replaceLine(key.Segment, option, nil))
			default:
				return segment
			}
		}
		return replaceLine(segment, key, withBlock(key.Segment, words("per_user").segment()))
	}
	return withBlock(segment, statement{words: []string{"key"}, block: []statement{words("per_user")}}.segment())
}

// breaker returns the circuit_breaker directive of a service, if it has one.
func (g *gateway) breaker(s *service) []caddyfile.Segment {
	f := g.features["circuit_breaker"]
	if f.off {
		return nil
	}
	segment := words("circuit_breaker").segment()
	if len(f.segments) > 0 {
		segment = f.segments[0]
	}
	segment = withDefaults(segment, optionsOf(segment), breakerDefaults...)
	name := segment[0]
	name.Text = g.stateName(s.name)
	return []caddyfile.Segment{slices.Insert(slices.Clone(segment), 1, name)}
}
