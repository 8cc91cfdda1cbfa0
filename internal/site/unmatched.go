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
