// Package policy decides what an authenticated client may do, by the claims of
// its token.
package policy

import (
	"slices"
	"strings"
)

// Requirement is a claim that must have one of some values.
type Requirement struct {
	// Path of the claim; dots lead into objects, unless a claim has the whole
	// path as its name.
	Path string `json:"path,omitempty"`
	// Values, one of which the claim must have, or one of its items if it is an
	// array. `*` in a value stands for any run of characters, `\*` for itself.
	// Numbers are compared exactly, by their value: 1.0 is 1. A single `*` accepts
	// any value, objects included, but an empty array. An empty list accepts
	// whatever is there, with a warning.
	Values []string `json:"values,omitempty"`
	// Where the Caddyfile has a matcher; errors name it. Default: none.
	Position string `json:"position,omitempty"`
}

// Scopes are scopes that the token must have (RFC 6749 §3.3).
type Scopes struct {
	// All asks for every scope, and not just one of them.
	All bool `json:"all,omitempty"`
	// Values are the scopes.
	Values []string `json:"values,omitempty"`
	// Where the Caddyfile has a matcher; errors name it. Default: none.
	Position string `json:"position,omitempty"`
}

// Lookup returns the claim at a path.
func Lookup(claims map[string]any, path string) (any, bool) {
	if value, ok := claims[path]; ok {
		return value, true
	}
	first, rest, found := strings.Cut(path, ".")
	for ; found; first, rest, found = cutNext(first, rest) {
		if inner, ok := claims[first].(map[string]any); ok {
			if value, ok := Lookup(inner, rest); ok {
				return value, true
			}
		}
	}
	return nil, false
}

// cutNext moves the cut to the next dot, for claims with dots in their names.
func cutNext(first, rest string) (string, string, bool) {
	more, tail, found := strings.Cut(rest, ".")
	return first + "." + more, tail, found
}

// Met reports whether the claims meet the requirement.
func (r *Requirement) Met(claims map[string]any) bool {
	value, ok := Lookup(claims, r.Path)
	if !ok || value == nil {
		return false
	}
	if len(r.Values) == 0 {
		return true
	}
	anything := len(r.Values) == 1 && r.Values[0] == "*"
	items, isArray := value.([]any)
	if !isArray {
		items = []any{value}
	}
	for _, item := range items {
		if anything {
			return true
		}
		if _, nested := item.([]any); nested {
			continue
		}
		text, ok := Text(item)
		if !ok {
			continue
		}
		for _, want := range r.Values {
			if matches(want, text) || isNumber(item) && equalNumbers(want, text) {
				return true
			}
		}
	}
	return false
}

// matches compares a text with an accepted value, in which * is any run of
// characters and \* an asterisk.
func matches(value, text string) bool {
	if !strings.Contains(value, "*") {
		return value == text
	}
	first := true
	for {
		part, rest, more := cutAsterisk(value)
		if !more {
			return !first && strings.HasSuffix(text, part) || first && text == part
		}
		at := strings.Index(text, part)
		if at < 0 || first && at > 0 {
			return false
		}
		text, value, first = text[at+len(part):], rest, false
	}
}

// cutAsterisk cuts at the first asterisk that stands for other characters.
func cutAsterisk(value string) (part, rest string, found bool) {
	for i := range len(value) {
		if value[i] == '*' && (i == 0 || value[i-1] != '\\') {
			return strings.ReplaceAll(value[:i], `\*`, "*"), value[i+1:], true
		}
	}
	return strings.ReplaceAll(value, `\*`, "*"), "", false
}

// Met reports whether the token has the scopes: in `scope`, separated by
// spaces (RFC 8693 §4.2), or in `scope` or `scp` as an array or text.
func (s *Scopes) Met(claims map[string]any) bool {
	granted := granted(claims)
	return met(s.All, s.Values, func(scope string) bool { return slices.Contains(granted, scope) })
}

// met reports whether the client has one of the values, or all; none are needed
// where there are none.
func met(all bool, values []string, has func(value string) bool) bool {
	for _, want := range values {
		if has(want) != all {
			return !all
		}
	}
	return all || len(values) == 0
}

// granted returns the scopes of a token.
func granted(claims map[string]any) []string {
	var granted []string
	for _, name := range []string{"scope", "scp"} {
		switch v := claims[name].(type) {
		case string:
			granted = append(granted, strings.Fields(v)...)
		case []any:
			for _, item := range v {
				if text, ok := item.(string); ok {
					granted = append(granted, text)
				}
			}
		}
	}
	return granted
}

// defaultRoleClaims are where roles are looked for if nothing else is configured.
// `groups` is not among them: who may name a group could else name a role.
var defaultRoleClaims = []string{"roles", "realm_access.roles"}

// Roles are roles that the client must have.
type Roles struct {
	// All asks for every role, and not just one of them.
	All bool `json:"all,omitempty"`
	// Values are the roles.
	Values []string `json:"values,omitempty"`
}

// Met reports whether the claims at the paths give the roles. A claim is one
// role as text, or several in an array; a role may have spaces in its name. No
// paths are defaultRoleClaims.
func (r *Roles) Met(claims map[string]any, paths []string) bool {
	if len(paths) == 0 {
		paths = defaultRoleClaims
	}
	return met(r.All, r.Values, func(role string) bool { return hasRole(claims, paths, role) })
}

func hasRole(claims map[string]any, paths []string, want string) bool {
	for _, path := range paths {
		value, _ := Lookup(claims, path)
		switch v := value.(type) {
		case string:
			if v == want {
				return true
			}
		case []any:
			if slices.Contains(v, any(want)) {
				return true
			}
		}
	}
	return false
}
