package caddyfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// apiPath is what the paths of all services begin with.
const apiPath = "/api/"

// complete takes from the environment what was not written, and checks what
// cannot be together.
func (g *gateway) complete() (err error) {
	if len(g.services) == 0 {
		if g.services, err = servicesOfEnvironment(); err != nil {
			return err
		}
	}
	if len(g.services) == 0 {
		return fmt.Errorf("no services: set %s, write %s", envServices, strings.TrimPrefix(formOfServices, "write it as ")+
			"; or give the directive lines `service <name> <url>`")
	}
	if g.features["jwt"].off && len(g.public) > 0 {
		return errors.New("public: with `jwt off` everything is public")
	}
	cors := g.features["cors"]
	switch written := cors.off || len(cors.segments) > 0; {
	case written && len(g.origins) > 0:
		return errors.New("allowed_origins: write the origins in the block of cors, or leave cors out")
	case !written && len(g.origins) == 0:
		g.origins, err = originsOfEnvironment()
	}
	return err
}

// expand returns the routes of the gateway.
func (g *gateway) expand(h httpcaddyfile.Helper) (caddyhttp.RouteList, error) {
	e := &expansion{h: h, file: g.file, line: g.line}
	routes := e.chain(slices.Concat(
		g.feature("guard", words("guard")),
		g.cors(),
		g.feature("health", words("health")),
	)...)
	var sites []caddyhttp.Route
	if !g.features["metrics"].off {
		sites = append(sites, e.handle(paths("/metrics"), e.chain(g.feature("metrics", words("metrics"))...)))
	}
	sites = append(sites,
		g.welcome(),
		e.handle(paths(apiPath+"*"), g.api(e)),
		notFound("there is nothing at this path"),
	)
	routes = append(routes, e.group(sites...)...)
	return routes, e.err
}

// feature returns the directives that the operator wrote for an option, or the
// default one.
func (g *gateway) feature(option string, standard ...statement) []caddyfile.Segment {
	f := g.features[option]
	switch {
	case f.off:
		return nil
	case len(f.segments) > 0:
		return f.segments
	}
	segments := make([]caddyfile.Segment, len(standard))
	for i, s := range standard {
		segments[i] = s.segment()
	}
	return segments
}

// cors is there when origins are. Credentials are allowed unless every origin
// is, because pages of the predecessor's clients may send them.
func (g *gateway) cors() []caddyfile.Segment {
	if len(g.origins) == 0 {
		return g.feature("cors")
	}
	block := []statement{words(append([]string{"allowed_origins"}, g.origins...)...)}
	if !slices.Contains(g.origins, "*") {
		block = append(block, words("allow_credentials"))
	}
	return []caddyfile.Segment{statement{words("cors").words, block}.segment()}
}

// api returns what happens to requests under /api/: who asks and how often is
// settled before it is said whether there is such a service.
func (g *gateway) api(e *expansion) caddyhttp.RouteList {
	auth := statement{words: []string{"jwt_auth"}}
	if jwt := g.features["jwt"]; !jwt.off && len(jwt.segments) == 0 {
		lines, err := authOfEnvironment()
		if err != nil {
			e.err = errors.Join(e.err, e.h.Errf("tentagate: %v", err))
			return nil
		}
		for _, line := range lines {
			auth.block = append(auth.block, words(line...))
		}
	}
	routes := e.chain(g.feature("jwt", auth)...)
	for i := range routes {
		if len(routes[i].MatcherSetsRaw) > 0 {
			e.err = errors.Join(e.err, e.h.Err("jwt: it takes no matcher: what needs no token is named with `public <matcher>`"))
		}
		if len(g.public) > 0 {
			routes[i].MatcherSetsRaw = []caddy.ModuleMap{{"not": caddyconfig.JSON(g.public, nil)}}
		}
	}
	routes = join(routes, e.chain(slices.Concat(
		g.feature("ratelimit", words("ratelimit", "100/1m")),
		g.cache(),
	)...))
	var services []caddyhttp.Route
	for _, s := range g.services {
		services = append(services, g.service(e, s))
	}
	services = append(services, notFound("Service not found"))
	return append(routes, e.group(services...)...)
}

// cache returns the http_cache directive. Whatever is said about it, answers to
// a user stay that user's own, unless the cache key is given.
func (g *gateway) cache() []caddyfile.Segment {
	perUser := statement{words: []string{"key"}, block: []statement{words("per_user")}}
	segments := g.feature("cache", statement{words: []string{"http_cache"}, block: []statement{words("ttl", "60s")}})
	for i, segment := range segments {
		if !optionsOf(segment)["key"] {
			segments[i] = withBlock(segment, perUser.segment())
		}
	}
	return segments
}

// service returns the route of one service.
func (g *gateway) service(e *expansion, s *service) caddyhttp.Route {
	base := apiPath + s.name
	segments := []caddyfile.Segment{words("uri", "strip_prefix", base).segment()}
	if s.prefix != "" {
		// A dollar sign would be a group of the expression.
		segments = append(segments, words("uri", "path_regexp", "^", strings.ReplaceAll(s.prefix, "$", "$$")).segment())
	}
	for _, breaker := range g.feature("circuit_breaker", statement{
		words: []string{"circuit_breaker"}, block: []statement{words("consecutive", "5"), words("open_for", "30s")},
	}) {
		name := breaker[0]
		name.Text = s.name
		segments = append(segments, slices.Insert(slices.Clone(breaker), 1, name))
	}
	segments = append(segments, s.proxy(base))
	return e.handle(paths(base, base+"/*"), e.chain(segments...))
}

// proxy returns the reverse_proxy directive of a service.
func (s *service) proxy(base string) caddyfile.Segment {
	proxy := statement{
		words: append([]string{"reverse_proxy"}, s.upstreams...),
		// For services that write links to themselves. It also overwrites what a
		// client sent.
		block: []statement{words("header_up", "X-Forwarded-Prefix", base)},
	}
	given := map[string]bool{}
	for _, option := range s.options {
		given[option.Directive()] = true
	}
	if len(s.upstreams) > 1 {
		for _, standard := range []statement{words("lb_policy", "round_robin"), words("lb_retries", "1"), words("fail_duration", "10s")} {
			if !given[standard.words[0]] {
				proxy.block = append(proxy.block, standard)
			}
		}
	}
	return withBlock(proxy.segment(), s.options...)
}

// notFound returns a route that answers 404.
func notFound(detail string) caddyhttp.Route {
	return caddyhttp.Route{HandlersRaw: []json.RawMessage{module(&Problem{Status: http.StatusNotFound, Detail: detail}, "problem")}}
}

// welcome returns the route of the gateway's own page.
func (g *gateway) welcome() caddyhttp.Route {
	links := map[string]string{}
	for option, path := range map[string]string{"health": "/health", "metrics": "/metrics"} {
		// With a block of its own, health may be elsewhere.
		if f := g.features[option]; !f.off && (option != "health" || len(f.segments) == 0) {
			links[option] = path
		}
	}
	body, err := json.Marshal(struct {
		Name    string            `json:"name"`
		Version string            `json:"version"`
		Links   map[string]string `json:"links"`
	}{"TentaGate", version(), links})
	if err != nil {
		panic(err) // texts alone are always encoded
	}
	matcher := paths("/")
	matcher["method"] = caddyconfig.JSON(caddyhttp.MatchMethod{http.MethodGet, http.MethodHead}, nil)
	return caddyhttp.Route{
		MatcherSetsRaw: []caddy.ModuleMap{matcher},
		HandlersRaw: []json.RawMessage{module(&caddyhttp.StaticResponse{
			Headers: http.Header{"Content-Type": {"application/json"}},
			Body:    string(body),
		}, "static_response")},
	}
}

// modulePath is the Go module of TentaGate.
const modulePath = "github.com/pythopus/tentagate"

// version returns the version of TentaGate in this binary, which may be the
// main module or, in a binary of xcaddy, one among others.
func version() string {
	const unknown = "devel"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	modules := append([]*debug.Module{&info.Main}, info.Deps...)
	for _, m := range modules {
		if m.Path != modulePath {
			continue
		}
		if m.Replace != nil && m.Replace.Version != "" {
			m = m.Replace
		}
		if m.Version != "" && m.Version != "(devel)" {
			return m.Version
		}
	}
	return unknown
}
