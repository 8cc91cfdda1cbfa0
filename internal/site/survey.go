package site

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Reads returns what responses of the handlers after the place depend on. filtered: the
// key does not have the whole query, so that it may differ between requests of one key.
func (p *Place) Reads(filtered bool) *Reads {
	s := &survey{server: p.server, values: map[string]bool{}, sent: map[string]bool{}, made: map[string]map[string]bool{}, matchers: map[string]deciding{}, invoked: map[string]bool{}}
	for _, w := range p.ways {
		w.after(func(route caddyhttp.Route) bool { return s.route(route) })
	}
	if len(p.ways) == 0 {
		s.unknown = p.alone != ""
	}
	if slices.ContainsFunc(p.ways, (*way).isOfErrors) {
		s.values["http.error.status_code"] = true // which file_server, too, answers with there
	}
	if len(p.ways) > 1 && slices.ContainsFunc(p.ways, func(w *way) bool { return w.changesMatched(p.server) }) {
		s.unknown = true // it cannot be told any more which way a request has come
	}
	return s.result(filtered)
}

// survey collects what Reads has.
type survey struct {
	server   *caddyhttp.Server
	values   map[string]bool
	sent     map[string]bool // named where request fields are made, and those
	matchers map[string]deciding
	invoked  map[string]bool
	// made are the placeholders of which request fields are made for services.
	made           map[string]map[string]bool
	authenticators []caddyhttp.MiddlewareHandler
	trusted        []string // addresses and networks of proxies

	unknown, asks, query, rewrites, changes bool
	// fields: there are matchers that look at what handlers behind can change;
	// path: those that look at the path too; captures: those that set `{re.*}`.
	fields, path bool
	captures     map[string]bool
}

func (s *survey) result(filtered bool) *Reads {
	x := &Reads{Unknown: s.unknown || s.path && s.rewrites, Asks: s.asks, Query: s.query, Changes: s.changes, Authenticators: s.authenticators}
	for _, text := range s.trusted {
		if prefix, err := caddyhttp.CIDRExpressionToPrefix(text); err == nil {
			x.Trusted = append(x.Trusted, prefix)
		}
	}
	for field, of := range s.made {
		for name := range of {
			if !equal(name, filtered) {
				if x.made == nil {
					x.made = map[string][]string{}
				}
				x.made[field] = append(x.made[field], name)
			}
		}
	}
	for name := range s.values {
		switch {
		case strings.HasPrefix(name, "http.request.uri.query.") || strings.HasPrefix(name, "http.request.orig_uri.query."):
			x.Query = true
		case strings.HasPrefix(name, "http.regexp."):
			for field := range s.captures {
				s.values[field] = true
			}
		}
		if mutable(name) {
			s.fields = true
		}
	}
	if s.fields {
		// What decides may have been made of these.
		for name := range s.sent {
			s.values[name] = true
		}
		x.Unknown = x.Unknown || s.asks
	}
	for name := range s.values {
		if strings.HasSuffix(name, "*") && !equal(name, filtered) {
			x.Unknown = true // it stands for several
		}
		if !equal(name, filtered) {
			x.values = append(x.values, name)
		}
	}
	slices.Sort(x.values)
	for _, m := range s.matchers {
		x.matchers = append(x.matchers, m)
	}
	slices.SortFunc(x.matchers, func(a, b deciding) int { return cmp.Compare(a.name, b.name) })
	return x
}

// mutable reports whether later handlers may change the value of a placeholder, as
// authentication does.
func mutable(name string) bool {
	for _, prefix := range []string{"http.request.remote", "http.request.tls", "http.request.host", "http.request.uri", "http.request.orig_", "http.request.local", "http.request.method", "http.request.scheme", "http.request.port", "http.request.proto", "http.reverse_proxy.", "http.error.", "http.matchers.", "env.", "system.", "time.", "file."} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return name != "http.vars.client_ip" && name != "http.vars.root"
}

// equal reports whether a placeholder has the same value for all requests with
// one scheme, host, path, query and method, or one that clients cannot influence.
func equal(name string, filtered bool) bool {
	for _, prefix := range []string{"http.request.uri", "http.request.orig_uri"} {
		if strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, prefix+".path") {
			return !filtered
		}
	}
	for _, prefix := range []string{
		"http.request.host", "http.request.method", "http.request.orig_method", "http.request.scheme", "http.request.port", "http.request.uri.path", "http.request.orig_uri.path",
		"http.request.uuid", "http.request.duration", "http.request.body", "http.reverse_proxy.upstream.", "http.reverse_proxy.duration", "http.reverse_proxy.retries",
		"http.response.", "http.error.id", "http.error.trace", "http.cache.", "http.shutting_down", "env.", "system.", "time.", "file.",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// route reads a route, and reports whether no request goes on behind it.
func (s *survey) route(route caddyhttp.Route) (ends bool) {
	for _, set := range route.MatcherSets {
		for _, m := range set {
			s.matcher(m)
		}
	}
	for _, h := range route.Handlers {
		s.handler(h)
		if endsAt(h) {
			return len(route.MatcherSets) == 0 && route.Group == ""
		}
	}
	return false
}

// names adds the placeholders in the configuration of something.
func (s *survey) names(of any, to map[string]bool) {
	c := &canonical{}
	c.value(reflect.ValueOf(of))
	for _, found := range placeholder.FindAllSubmatch(c.b, -1) {
		to[string(found[1])] = true
	}
}

func (s *survey) matcher(m any) {
	id := strings.TrimPrefix(moduleID(m), "http.matchers.")
	one := deciding{matcher: m}
	if not, ok := m.(*caddyhttp.MatchNot); ok {
		for _, set := range not.MatcherSets {
			for _, inner := range set {
				s.matcher(inner)
			}
		}
		return
	}
	s.names(m, s.values)
	switch id {
	case "host", "path", "path_regexp", "method", "file":
		return
	case "query":
		s.query = true
		return
	case "header":
		s.fields = true
	case "header_regexp":
		s.fields, one.sets = true, true
		for _, key := range keysOf(m) {
			s.capture("http.request.header." + key)
		}
	case "remote_ip", "client_ip", "tls", "protocol":
	case "vars", "vars_regexp":
		for _, key := range keysOf(m) {
			if name := strings.Trim(key, "{}"); name != key {
				s.values[name] = true
			} else {
				s.values["http.vars."+key] = true
			}
		}
		return
	case "expression":
		s.fields = true
		var text string
		switch m := m.(type) {
		case *caddyhttp.MatchExpression:
			text = m.Expr
		case caddyhttp.MatchExpression:
			text = m.Expr
		}
		calls := matcherCall.MatchString(quoted.ReplaceAllString(text, `""`))
		if !calls {
			return // its placeholders are all that it looks at
		}
		s.path, s.query, one.sets = true, true, true
		s.capture("")
	default: // another's
		s.fields, s.path, one.sets = true, true, true
	}
	one.name = digest(id + canonicalText(m))
	s.matchers[one.name] = one
}

// capture notes what `{re.*}` may be made of.
func (s *survey) capture(name string) {
	if s.captures == nil {
		s.captures = map[string]bool{}
	}
	if name != "" {
		s.captures[name] = true
	}
}

var (
	quoted      = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'(?:[^'\\\\]|\\\\.)*'|`[^`]*`")
	matcherCall = regexp.MustCompile(`(?:^|[^.\w])[a-z_]\w*\s*\(`)
)

// keysOf returns the keys of a matcher that is a map.
func keysOf(m any) []string {
	v := reflect.Indirect(reflect.ValueOf(m))
	if v.Kind() != reflect.Map {
		return nil
	}
	var list []string
	for _, key := range sortedKeys(v) {
		list = append(list, keyText(key))
	}
	return list
}

func (s *survey) handler(h caddyhttp.MiddlewareHandler) {
	switch h := h.(type) {
	case *caddyhttp.Subroute:
	case *caddyhttp.Invoke:
		if s.invoked[h.Name] {
			return
		}
		s.invoked[h.Name] = true
	case *headers.Handler:
		s.headers(h, false)
	case *reverseproxy.Handler:
		s.names(h.Upstreams, s.values)
		s.names(h.DynamicUpstreams, s.values)
		s.names(h.Transport, s.values)
		s.names(h.Rewrite, s.values)
		s.headers(h.Headers, true)
		s.trusted = append(s.trusted, h.TrustedProxies...)
		if !settles(h.Headers, forwardedFor) {
			s.makes(forwardedFor, "{http.request.remote.host}") // reverse_proxy appends it
		}
		s.asks = s.asks || h.Rewrite != nil && len(h.HandleResponse) > 0
		s.changes = s.changes || len(h.HandleResponse) > 0
	default:
		switch id := moduleID(h); strings.TrimPrefix(id, "http.handlers.") {
		case "guard", "jwt_auth_otherwise", "tracing":
			s.changes = true
		case "ratelimit", "cors", "circuit_breaker", "http_cache", "health", "log_append", "log_name", "log_skip", "metrics", "encode", "push":
			// They admit or refuse requests, or only observe.
		case "path_routes", "services":
			// They depend on the path alone.
		case "authentication", "jwt_auth":
			s.asks, s.changes = true, true
			s.authenticators = append(s.authenticators, h)
		case "templates":
			s.unknown = true // they may read whatever there is
		case "rewrite":
			s.rewrites = true
			s.names(h, s.values)
		case "vars", "map", "static_response", "error", "file_server", "request_body", "api_docs", "telemetry":
			s.names(h, s.values)
		default:
			s.names(h, s.values)
			s.changes = true
		}
	}
	inside(s.server, h, func(_ string, routes caddyhttp.RouteList) {
		for _, route := range routes {
			s.route(route)
		}
	})
}
