package site

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// unmatched returns the matcher because of which no request matches, such as
// `path {env.UNSET}`, or "". Doubtful cases match.
func unmatched(sets caddyhttp.MatcherSets) (matcher string) {
	for _, set := range sets {
		matcher = ""
		for _, m := range set {
			if matcher = neverMatches(m); matcher != "" {
				break
			}
		}
		if matcher == "" {
			return ""
		}
	}
	return matcher
}

// protocols are the values that Caddy's protocol matcher knows.
var protocols = []string{
	"grpc", "https", "http", "http/1.0", "http/1.0+", "http/1.1", "http/1.1+", "http/2", "http/2+", "http/3", "http/3+",
}

// noPath and noHost are what can be no path and no host.
var (
	noPath = regexp.MustCompile(`^$|^[a-zA-Z0-9]`)
	noHost = regexp.MustCompile(`^$|^[^:]+:[0-9]+$`)
)

// neverMatches returns what is wrong with a matcher that no request matches, or "".
func neverMatches(matcher any) string {
	if v := reflect.ValueOf(matcher); v.Kind() == reflect.Pointer && !v.IsNil() {
		matcher = v.Elem().Interface()
	}
	switch m := matcher.(type) {
	case caddyhttp.MatchPath:
		if text, ok := all(m, noPath.MatchString); ok {
			return fmt.Sprintf("path %s (a path begins with / or *)", text)
		}
	case caddyhttp.MatchHost:
		if text, ok := all(m, noHost.MatchString); ok {
			return fmt.Sprintf("host %s (a host has a name, and no port)", text)
		}
	case caddyhttp.MatchProtocol:
		if !slices.Contains(protocols, string(m)) {
			return fmt.Sprintf("protocol %s (accepted are %s)", string(m), strings.Join(protocols, ", "))
		}
	}
	return ""
}

// all reports whether all values are wrong, and returns them as they are written.
func all(values []string, wrong func(string) bool) (text string, ok bool) {
	repl := caddy.NewReplacer()
	var shown []string
	for _, value := range values {
		resolved := repl.ReplaceKnown(value, "")
		if !wrong(resolved) {
			return "", false
		}
		if resolved == "" && value != "" {
			value += ` = ""`
		}
		shown = append(shown, value)
	}
	return strings.Join(shown, " "), len(values) > 0
}

// CheckVariables returns an error if matchers compare a request with a variable that has
// no value: a client that sends nothing may then meet them, as with
// `header X-Key {env.UNSET}`. An empty host is none, and an expression may be there to
// find out that a variable is empty, so these are accepted.
func CheckVariables(sets caddyhttp.MatcherSets) error {
	for _, set := range sets {
		for _, m := range set {
			if not, ok := m.(*caddyhttp.MatchNot); ok {
				for _, inner := range not.MatcherSets {
					if err := CheckVariables(caddyhttp.MatcherSets{inner}); err != nil {
						return err
					}
				}
				continue
			}
			id := strings.TrimPrefix(moduleID(m), "http.matchers.")
			if id == "host" || id == "expression" {
				continue
			}
			for _, found := range placeholder.FindAllStringSubmatch(canonicalText(m), -1) {
				name := found[1]
				if !strings.HasPrefix(name, "env.") && !strings.HasPrefix(name, "file.") {
					continue
				}
				if value, _ := caddy.NewReplacer().GetString(name); strings.TrimSpace(value) == "" {
					return fmt.Errorf("the matcher %s: {%s} is empty, so that other requests match than should: give it a value, or remove the matcher", id, name)
				}
			}
		}
	}
	return nil
}
