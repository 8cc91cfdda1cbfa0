package caddyfile

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/version"
	"github.com/pythopus/tentagate/telemetry"
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
		return errors.New("public: it has no effect with `jwt off`")
	}
	if err := g.completeTimeout(); err != nil {
		return err
	}
	return g.completeOrigins()
}

// completeOrigins finds the origins for CORS that are not in a cors block.
func (g *gateway) completeOrigins() (err error) {
	cors := g.features["cors"]
	named := cors.off
	if len(cors.segments) > 0 {
		named = len(argsOf(cors.segments[0])) > 0 || optionsOf(cors.segments[0])["allowed_origins"]
	}
	switch {
	case cors.off && len(g.origins) > 0:
		return errors.New("allowed_origins: cors is off: remove one of the lines")
	case named && len(g.origins) > 0:
		return errors.New("allowed_origins: also set in cors: set the origins in one place")
	case !named && len(g.origins) == 0:
		if g.origins, err = originsOfEnvironment(); err != nil {
			return err
		}
	}
	if !named && len(cors.segments) > 0 && len(g.origins) == 0 {
		return fmt.Errorf("cors: no origins: write `allowed_origins <origin...>`, or set %s", envOrigins)
	}
	return nil
}

// expand returns the routes of the gateway.
func (g *gateway) expand(h httpcaddyfile.Helper) (caddyhttp.RouteList, error) {
	if err := g.checkOnce(h); err != nil {
		return nil, err
	}
	docs, err := g.apiDocs()
	if err != nil {
		return nil, h.Errf("tentagate: %v", err)
	}
	e := &expansion{h: h, file: g.file, line: g.line}
	routes := join(handler(g.telemetry(), "telemetry"), e.chain(slices.Concat(
		g.feature("guard", words("guard")),
		g.cors(),
		g.health(),
	)...))
	routes = join(routes, handler(&PathRoutes{Path: apiPath, Routes: g.api(e, docs)}, "path_routes"))
	var sites []caddyhttp.Route
	if !g.features["metrics"].off {
		sites = append(sites, e.handle(paths("/metrics"), join(g.onlyFor(g.readers["metrics"]), e.chain(g.feature("metrics", words("metrics"))...))))
	}
	if docs != nil {
		sites = append(sites, g.docsRoutes(e, docs)...)
	}
	sites = append(sites,
		g.welcome(),
		notFound("there is nothing at this path"),
	)
	routes = append(routes, e.group(sites...)...)
	return routes, e.err
}

// checkOnce refuses a directive beside this one that it contains too, if requests
// would pass both.
func (g *gateway) checkOnce(h httpcaddyfile.Helper) error {
	for option, written := range map[string][]caddyfile.Segment{"cors": g.cors(), "cache": g.caches(), "docs": g.feature("docs", words(directives["docs"]))} {
		if len(written) == 0 {
			continue
		}
		if first, again := parse.First(h, directives[option], place.At(g.file, g.line)); again {
			return h.Errf("tentagate: %s at %s is in the same block, but tentagate has its own: write its options as `%s` in tentagate, or there `%s off`",
				directives[option], first, option, option)
		}
	}
	return nil
}

// telemetry returns the handler that observes all requests.
func (g *gateway) telemetry() *telemetry.Handler {
	h := &telemetry.Handler{Path: apiPath, Site: g.site}
	for _, s := range g.services {
		h.Services = append(h.Services, s.name)
	}
	return h
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
	segment, given := words("cors").segment(), map[string]bool{}
	if g.originAt.File != "" {
		segment[0].File, segment[0].Line = g.originAt.File, g.originAt.Line
	}
	if written := g.features["cors"].segments; len(written) > 0 {
		segment, given = written[0], optionsOf(written[0])
	}
	standard := []statement{words(append([]string{"allowed_origins"}, g.origins...)...)}
	if !slices.Contains(g.origins, "*") {
		standard = append(standard, words("allow_credentials"))
	}
	return []caddyfile.Segment{withDefaults(segment, given, standard...)}
}

// api returns the routes of requests under /api/. The client is authenticated and its
// limits are checked before it learns whether there is such a service.
func (g *gateway) api(e *expansion, docs caddyfile.Segment) caddyhttp.RouteList {
	auth, err := g.auth()
	if err != nil {
		e.err = errors.Join(e.err, e.h.Errf("tentagate: %v", err))
		return nil
	}
	bounds, err := g.limits()
	if err != nil {
		e.err = errors.Join(e.err, e.h.Errf("tentagate: %v", err))
		return nil
	}
	before := join(g.bodies(e, bounds), e.chain(g.addresses(bounds)...))
	routes := e.chain(auth...)
	for i := range routes {
		if len(routes[i].MatcherSetsRaw) > 0 {
			d := caddyfile.NewDispenser(auth[0])
			d.Next()
			e.err = errors.Join(e.err, d.Err("jwt: it takes no matcher: exempt requests with `public <matcher>`"))
		}
		if len(g.public) > 0 {
			routes[i].MatcherSetsRaw = []caddy.ModuleMap{{"not": caddyconfig.JSON(g.public, nil)}}
		}
	}
	routes = join(before, routes)
	routes = join(routes, e.chain(g.ratelimits()...))
	if docs != nil {
		routes = join(routes, e.chain(contract(docs)))
	}
	routes = join(routes, e.exclusive(g.caches()...))
	services := make(map[string]caddyhttp.RouteList, len(g.services))
	for _, s := range g.services {
		services[s.name] = g.service(e, s)
	}
	return join(routes, handler(&Services{Path: apiPath, Services: services}, "services"))
}

// auth returns the jwt_auth directive, completed from the environment.
func (g *gateway) auth() ([]caddyfile.Segment, error) {
	jwt := g.features["jwt"]
	if jwt.off {
		return nil, nil
	}
	segment := words("jwt_auth").segment()
	if len(jwt.segments) > 0 {
		segment = jwt.segments[0]
	}
	given := optionsOf(segment)
	if given["provider"] {
		return []caddyfile.Segment{segment}, nil
	}
	if len(argsOf(segment)) > 0 {
		given["secret"] = true
	}
	lines, err := authOfEnvironment(given, valueOf(segment, "jwks"))
	if err != nil {
		return nil, err
	}
	var standard []statement
	for _, line := range lines {
		standard = append(standard, words(line...))
	}
	return []caddyfile.Segment{withDefaults(segment, given, standard...)}, nil
}

// service returns the routes of one service.
func (g *gateway) service(e *expansion, s *service) caddyhttp.RouteList {
	base := apiPath + s.name
	segments := []caddyfile.Segment{
		// For services that write links to themselves; it overwrites what a client
		// sent. With header_up, reverse_proxy would copy every request's header.
		words("request_header", "X-Forwarded-Prefix", base).segment(),
		words("uri", "strip_prefix", base).segment(),
	}
	if s.prefix != "" {
		// A dollar sign would be a group of the expression.
		segments = append(segments, words("uri", "path_regexp", "^", strings.ReplaceAll(s.prefix, "$", "$$")).segment())
	}
	segments = append(segments, g.breaker(s)...)
	return e.chain(append(segments, g.proxy(s))...)
}

// notFound returns a route that answers 404.
func notFound(detail string) caddyhttp.Route {
	return handler(&Problem{Status: http.StatusNotFound, Detail: detail}, "problem")[0]
}

// welcome returns the route of the gateway's own page.
func (g *gateway) welcome() caddyhttp.Route {
	links := map[string]string{}
	// Metrics are not for everybody.
	if f := g.features["health"]; !f.off {
		links["health"] = cmp.Or(writtenValue(f, "path"), "/health")
	}
	if ui := cmp.Or(writtenValue(g.features["docs"], "ui"), docsPages[0].path); g.readsDocs() && ui != off {
		links["docs"] = ui
	}
	body, err := json.Marshal(struct {
		Name    string            `json:"name"`
		Version string            `json:"version"`
		Links   map[string]string `json:"links"`
	}{"TentaGate", cmp.Or(version.Of(), "devel"), links})
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
