package caddyfile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/nearby"
)

// docsDelay is how long after the start the services are asked for their documents,
// unless somebody reads them earlier: services often start with the gateway.
const docsDelay = "10s"

// docsPages are the options of api_docs with a path, and its default.
var docsPages = [...]struct{ option, path string }{{"ui", "/docs"}, {"json", "/openapi.json"}, {"yaml", "/openapi.yaml"}}

// apiDocs returns the directive api_docs with the services of the gateway, or nothing.
func (g *gateway) apiDocs() (caddyfile.Segment, error) {
	written := g.feature("docs", words(directives["docs"]))
	if len(written) == 0 {
		return nil, nil
	}
	segment := written[0]
	given := optionsOf(segment)
	if err := g.checkDocs(segment, given); err != nil {
		return nil, fmt.Errorf("docs: %w", err)
	}
	segment, described, err := g.describedServices(segment)
	if err != nil {
		return nil, err
	}
	standard := []statement{words("delay", docsDelay)}
	if !g.features["jwt"].off {
		standard = append(standard, words("bearer"))
		if public := g.publicPaths(); len(public) > 0 {
			standard = append(standard, words(append([]string{"public"}, public...)...))
		}
	}
	segment = withDefaults(segment, given, standard...)
	for _, s := range g.services {
		if !described[s.name] {
			segment = withBlock(segment, words(append([]string{"service", s.name}, s.urls()...)...).segment())
		}
	}
	return segment, nil
}

// checkDocs refuses options that have no effect here, or not the one that they name.
func (g *gateway) checkDocs(docs caddyfile.Segment, given map[string]bool) error {
	if given["prefix"] {
		return fmt.Errorf("prefix: the services are at %s: leave it out", apiPath)
	}
	if given["ask_token"] && g.features["jwt"].off {
		return errors.New("ask_token: jwt is off: no token is verified")
	}
	taken := map[string]string{}
	if !g.features["metrics"].off {
		taken["/metrics"] = "the metrics"
	}
	if health := g.features["health"]; !health.off {
		for option, path := range map[string]string{"path": "/health", "live_path": "/livez", "ready_path": "/readyz"} {
			taken[strings.ToLower(cmp.Or(writtenValue(health, option), path))] = "health"
		}
	}
	for _, page := range docsPages {
		path := cmp.Or(valueOf(docs, page.option), page.path)
		switch lower := strings.ToLower(path); { // as Caddy compares paths
		case taken[lower] != "":
			return fmt.Errorf("%s: %q is the path of %s: write another, or off", page.option, path, taken[lower])
		case strings.HasPrefix(lower, apiPath):
			return fmt.Errorf("%s: %q is below %s, where the services are: write another, or off", page.option, path, apiPath)
		}
	}
	return nil
}

// describedServices gives the services that the operator wrote in the block their
// addresses, and returns their names.
func (g *gateway) describedServices(segment caddyfile.Segment) (caddyfile.Segment, map[string]bool, error) {
	described := map[string]bool{}
	for _, l := range slices.Backward(linesOf(segment)) { // from the end: the places of earlier lines stay
		args := argsOf(l.Segment)
		if l.Directive() != "service" || len(args) == 0 {
			continue
		}
		i := slices.IndexFunc(g.services, func(s *service) bool { return s.name == args[0] })
		switch {
		case i < 0:
			return nil, nil, fmt.Errorf("docs: service %s: the gateway has no such service", args[0])
		case len(args) > 1:
			return nil, nil, fmt.Errorf("docs: service %s: it takes no address: it is that of the service; write `spec <url>` for a document elsewhere", args[0])
		}
		described[args[0]] = true
		addresses := make(caddyfile.Segment, 0, 2)
		for _, url := range g.services[i].urls() {
			token := l.Segment[1]
			token.Text = url
			addresses = append(addresses, token)
		}
		segment = replaceLine(segment, l, slices.Insert(slices.Clone(l.Segment), 2, addresses...))
	}
	return segment, described, nil
}

// urls are the addresses with the path in front of those of requests.
func (s *service) urls() []string {
	urls := slices.Clone(s.upstreams)
	for i := range urls {
		urls[i] += s.prefix
	}
	return urls
}

// publicPaths are those paths that need no token and can be named in a document.
func (g *gateway) publicPaths() (paths []string) {
	for _, token := range g.publicAt {
		if strings.HasPrefix(token.Text, "/") && !strings.Contains(strings.TrimSuffix(token.Text, "*"), "*") {
			paths = append(paths, token.Text)
		}
	}
	return paths
}

// docsRoutes returns the route of the page and of the document, if there are any.
func (g *gateway) docsRoutes(e *expansion, docs caddyfile.Segment) []caddyhttp.Route {
	var served []string
	for _, page := range docsPages {
		switch path := cmp.Or(valueOf(docs, page.option), page.path); {
		case path == off:
		case page.option == "ui":
			served = append(served, path, path+"/*")
		default:
			served = append(served, path)
		}
	}
	if len(served) == 0 {
		return nil
	}
	routes := join(g.onlyFor(g.readers["docs"]), g.docsAuth(e, docs))
	routes = append(join(routes, e.chain(docs)), notFound("there is nothing at this path"))
	return []caddyhttp.Route{e.handle(paths(served...), routes)}
}

// docsAuth returns what verifies the token of a request for the documents, if they need
// one, or if it decides what they show. The page itself needs none: it asks for it.
func (g *gateway) docsAuth(e *expansion, docs caddyfile.Segment) caddyhttp.RouteList {
	needed := optionsOf(docs)["ask_token"]
	used := slices.ContainsFunc(linesOf(docs), func(l line) bool { return l.Directive() == "service" && optionsOf(l.Segment)["visible_to"] })
	if g.features["jwt"].off || !needed && !used {
		return nil
	}
	auth, err := g.auth()
	if err != nil {
		return nil // api reports it
	}
	if !needed {
		auth[0] = withDefaults(auth[0], optionsOf(auth[0]), words("optional"))
	}
	var documents []string
	for _, page := range docsPages {
		if path := cmp.Or(valueOf(docs, page.option), page.path); page.option != "ui" && path != off {
			documents = append(documents, path)
		}
	}
	routes := e.chain(auth...)
	for i := range routes {
		routes[i].MatcherSetsRaw = []caddy.ModuleMap{paths(documents...)}
	}
	return routes
}

// contract returns api_docs without its pages: behind what authenticates and counts
// requests, it knows their routes and validates them.
func contract(docs caddyfile.Segment) caddyfile.Segment {
	for _, page := range docsPages {
		for _, l := range linesOf(docs) {
			if l.Directive() == page.option {
				docs = replaceLine(docs, l, nil)
				break
			}
		}
		docs = withBlock(docs, words(page.option, off).segment())
	}
	return docs
}

// valueOf returns the value of an option in the segment's block, or "".
func valueOf(segment caddyfile.Segment, option string) string {
	for _, l := range linesOf(segment) {
		if args := argsOf(l.Segment); l.Directive() == option && len(args) == 1 {
			return args[0]
		}
	}
	return ""
}

// writtenValue returns the value of an option that the operator wrote for a feature, or "".
func writtenValue(f *feature, option string) string {
	if len(f.segments) == 0 {
		return ""
	}
	return valueOf(f.segments[0], option)
}

// readsDocs reports whether everybody may read the documents.
func (g *gateway) readsDocs() bool {
	readers := g.readers["docs"]
	return !g.features["docs"].off && len(readers) > 0 && readers[0] == nearby.Any
}
