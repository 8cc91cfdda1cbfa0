package caddyfile

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/parse"
)

// directiveName is the directive of the whole gateway.
const directiveName = "tentagate"

func init() {
	httpcaddyfile.RegisterDirective(directiveName, parseCaddyfile)
}

// off is the one value with which a part of the gateway is left out.
const off = "off"

// optionNames are the options of the directive, in the order of the
// documentation.
var optionNames = []string{
	"service", "public", "jwt", "ratelimit", "cache", "circuit_breaker", "allowed_origins", "cors", "guard", "health", "metrics",
}

// directives are those options that have the arguments and the block of a
// directive, or `off`.
var directives = map[string]string{
	"jwt": "jwt_auth", "ratelimit": "ratelimit", "cache": "http_cache", "circuit_breaker": "circuit_breaker",
	"cors": "cors", "guard": "guard", "health": "health", "metrics": "metrics",
}

// feature is what the operator wrote about a part of the gateway: nothing,
// `off`, or the directives that it has in place of the default one.
type feature struct {
	off      bool
	segments []caddyfile.Segment
}

// gateway is a `tentagate` directive as it was written.
type gateway struct {
	services []*service
	public   []caddy.ModuleMap // the matchers of requests that need no token
	origins  []string
	features map[string]*feature // by option
	file     string              // where the directive stands
	line     int
}

// parseCaddyfile reads the directive and returns what it expands to. Syntax:
//
//	tentagate {
//		service         <name> <url...> {
//			<options of reverse_proxy>
//		}
//		public          <matcher...>
//		jwt             off|[<secret>] {
//			<options of jwt_auth>
//		}
//		ratelimit       off|[<matcher>] [<limit>] {
//			<options of ratelimit>
//		}
//		cache           off|[<matcher>] [<ttl>] {
//			<options of http_cache>
//		}
//		circuit_breaker off|{
//			<options of circuit_breaker>
//		}
//		allowed_origins <origin...>
//		cors            off|[<origin...>] {
//			<options of cors>
//		}
//		guard           {
//			<options of guard>
//		}
//		health          off|{
//			<options of health>
//		}
//		metrics         off|{
//			<options of metrics>
//		}
//	}
//
// What is not given is taken from the environment or has a default. `service`,
// `public` and `ratelimit` may be repeated.
func parseCaddyfile(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	d := h.Dispenser
	d.Next() // the directive's name
	if h.BlockState != nil {
		if _, twice := h.BlockState[directiveName]; twice {
			return nil, d.Err("tentagate: given more than once: one directive is the gateway of a whole site")
		}
		h.BlockState[directiveName] = true
	}
	g := &gateway{features: map[string]*feature{}, file: d.File(), line: d.Line()}
	for option := range directives {
		g.features[option] = new(feature)
	}
	if err := g.unmarshal(h); err != nil {
		return nil, err
	}
	if err := g.complete(); err != nil {
		return nil, d.Errf("tentagate: %v", err)
	}
	routes, err := g.expand(h)
	if err != nil {
		return nil, err
	}
	// A Subroute value keeps the routes together, and in this order, without
	// another level around them.
	return []httpcaddyfile.ConfigValue{{Class: "route", Value: caddyhttp.Subroute{Routes: routes}}}, nil
}

// unmarshal reads the block.
func (g *gateway) unmarshal(h httpcaddyfile.Helper) error {
	d := h.Dispenser
	if err := parse.NoArgs(d); err != nil {
		return err
	}
	seen := parse.Seen{}
	for d.NextBlock(0) {
		switch option := d.Val(); option {
		case "service", "public", "ratelimit":
		default:
			if strings.HasPrefix(option, "@") {
				return d.Errf("%s: define a named matcher beside tentagate, not in it", option)
			}
			if err := seen.Once(d); err != nil {
				return err
			}
		}
		if err := g.unmarshalOption(h, d.NextSegment()); err != nil {
			return err
		}
	}
	return nil
}

// unmarshalOption reads one option from its own tokens.
func (g *gateway) unmarshalOption(h httpcaddyfile.Helper, segment caddyfile.Segment) (err error) {
	d := caddyfile.NewDispenser(segment)
	d.Next() // the option's name
	switch option := d.Val(); option {
	case "service":
		return g.unmarshalService(d)
	case "public":
		return g.unmarshalPublic(h, d)
	case "allowed_origins":
		if g.origins, err = parse.Args(d, 1, -1); err == nil {
			err = noBlock(d, option)
		}
		return err
	default:
		directive, ok := directives[option]
		if !ok {
			return parse.Unknown(d, optionNames...)
		}
		return g.features[option].unmarshal(d, option, directive, segment)
	}
}

// unmarshalService reads `service <name> <url...> { … }`.
func (g *gateway) unmarshalService(d *caddyfile.Dispenser) error {
	args, err := parse.Args(d, 2, -1)
	if err != nil {
		return err
	}
	s, err := newService(args[0], args[1:])
	if err == nil {
		g.services, err = addService(g.services, s)
	}
	if err != nil {
		return d.WrapErr(err)
	}
	for d.NextBlock(0) {
		s.options = append(s.options, d.NextSegment())
	}
	return nil
}

// unmarshalPublic reads `public <matcher...>`.
func (g *gateway) unmarshalPublic(h httpcaddyfile.Helper, d *caddyfile.Dispenser) error {
	count := 0
	for ; d.NextArg(); count++ {
		set, ok, err := h.WithDispenser(caddyfile.NewDispenser([]caddyfile.Token{d.Token()})).MatcherToken()
		if err != nil {
			return d.Errf("public: %v", err)
		}
		if !ok {
			return d.Errf("public: %q is not a matcher: accepted are a path such as /api/users/login and a named matcher such as @open", d.Val())
		}
		if len(set) == 0 {
			return d.Err("public: * would let everybody in everywhere: write `jwt off` if that is meant")
		}
		g.public = append(g.public, set)
	}
	if count == 0 {
		return d.Err("public: missing argument: it takes at least 1 matcher")
	}
	return noBlock(d, "public")
}

// unmarshal reads an option that stands for a directive.
func (f *feature) unmarshal(d *caddyfile.Dispenser, option, directive string, segment caddyfile.Segment) error {
	args := d.RemainingArgs()
	if len(args) == 1 && args[0] == off && option != "guard" {
		if len(f.segments) > 0 || f.off {
			return d.Errf("%s: off does not go with another %s", option, option)
		}
		f.off = true
		return noBlock(d, option+" off")
	}
	switch {
	case f.off:
		return d.Errf("%s: it was off before", option)
	case len(segment) == 1:
		return d.Errf("%s: missing value: %s", option, valuesOf(option))
	case len(args) > 0 && (option == "circuit_breaker" || option == "guard" || option == "health" || option == "metrics"):
		return d.Errf("%s: unexpected argument %q: %s", option, args[0], valuesOf(option))
	}
	renamed := append(caddyfile.Segment(nil), segment...)
	renamed[0].Text = directive
	f.segments = append(f.segments, renamed)
	return nil
}

// valuesOf says what an option takes.
func valuesOf(option string) string {
	switch option {
	case "guard":
		return "it takes a block"
	case "circuit_breaker", "health", "metrics":
		return "it takes off or a block"
	default:
		return "it takes off, or the values and the block of " + directives[option]
	}
}

// noBlock refuses a block where there is none to have.
func noBlock(d *caddyfile.Dispenser, what string) error {
	if d.NextBlock(0) {
		return d.Errf("%s: it takes no block", what)
	}
	return nil
}
