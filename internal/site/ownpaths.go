package site

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// CheckOwnPaths returns an error if no request for the paths that the handler being
// provisioned answers can reach it, because of its matcher or that of a block around it.
// A path that ends in a slash stands for all below it. mark is found in the handler's JSON
// and, among handlers that are still to be provisioned in the same list of routes, in it
// first. Doubtful cases are accepted.
func CheckOwnPaths(ctx caddy.Context, mark string, own ...string) error {
	matchers := ""
	for _, routes := range routesAround(ctx) {
		at, handler := find(routes, []byte(mark))
		if at < 0 {
			continue
		}
		before := caddyhttp.Route{HandlersRaw: routes[at].HandlersRaw[:handler]}
		if rewrites(before) || slices.ContainsFunc(routes[:at], rewrites) {
			return nil
		}
		if gateway, _ := find(routes, []byte(GatewayMark)); mark != GatewayMark && gateway >= 0 {
			return nil // it is a part of tentagate, which has other paths too
		}
		if patterns := excluding(routes[at].MatcherSets, own); matchers == "" && len(patterns) > 0 {
			matchers = strings.Join(patterns, " ")
		}
	}
	if matchers == "" {
		return nil
	}
	return fmt.Errorf("no request for %s reaches it: its matcher, or that of a block around it, is for %s", strings.Join(own, ", "), matchers)
}

// GatewayMark is the mark of the handler that the directive tentagate expands to.
const GatewayMark = `"handler":"path_routes"`

// Mark returns the mark of a handler with the position for CheckOwnPaths.
func Mark(position string) string { return `"position":` + strconv.Quote(position) }

// excluding returns the patterns by which the matchers refuse all of the paths, or nil.
func excluding(sets caddyhttp.MatcherSets, own []string) (patterns []string) {
	for _, set := range sets {
		refused := false
		for _, m := range set {
			var paths caddyhttp.MatchPath
			switch m := m.(type) {
			case caddyhttp.MatchPath:
				paths = m
			case *caddyhttp.MatchPath:
				paths = *m
			default:
				continue
			}
			if !slices.ContainsFunc(paths, func(pattern string) bool {
				return slices.ContainsFunc(own, func(path string) bool { return mayMatch(pattern, path) })
			}) {
				refused, patterns = true, append(patterns, paths...)
				break
			}
		}
		if !refused {
			return nil
		}
	}
	return patterns
}

// mayMatch reports whether a pattern of Caddy's path matcher may match a path, or one below
// it if it ends in a slash.
func mayMatch(pattern, path string) bool {
	pattern, path = strings.ToLower(pattern), strings.ToLower(path)
	base, wild := strings.CutSuffix(pattern, "*")
	if strings.ContainsAny(base, `*?[\%{`) || strings.Contains(base, "//") {
		return true // not compared as it stands
	}
	below := strings.HasSuffix(path, "/")
	switch {
	case wild && below:
		return strings.HasPrefix(base, path) || strings.HasPrefix(path, base)
	case wild:
		return strings.HasPrefix(path, base)
	case below:
		return strings.HasPrefix(base, path)
	}
	return base == path
}

// rewrites reports whether a route may change the path of a request.
func rewrites(route caddyhttp.Route) bool {
	for _, raw := range route.HandlersRaw {
		if bytes.Contains(raw, []byte(`"handler":"rewrite"`)) {
			return true
		}
	}
	for _, handler := range route.Handlers {
		subroute, ok := handler.(*caddyhttp.Subroute)
		if moduleID(handler) == "http.handlers.rewrite" || ok && slices.ContainsFunc(subroute.Routes, rewrites) {
			return true
		}
	}
	return false
}
