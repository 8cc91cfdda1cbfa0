package caddyfile

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

// directiveName is the directive of the whole gateway.
const directiveName = "tentagate"

func init() {
	httpcaddyfile.RegisterDirective(directiveName, parseCaddyfile)
}

// off is the value that disables a part of the gateway.
const off = "off"

// optionNames are the options of the directive, in the order of the
// documentation.
var optionNames = []string{
	"service", "public", "jwt", "ratelimit", "limits", "cache", "circuit_breaker", "response_header_timeout", "allowed_origins", "cors",
	"guard", "health", "metrics", "docs",
}

// directives are those options that have the arguments and the block of a
// directive, or `off`.
var directives = map[string]string{
	"jwt": "jwt_auth", "ratelimit": "ratelimit", "cache": "http_cache", "circuit_breaker": "circuit_breaker",
	"cors": "cors", "guard": "guard", "health": "health", "metrics": "metrics", "docs": "api_docs",
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
	publicAt []caddyfile.Token // where each of them is
	origins  []string
	originAt caddyfile.Token     // where they are written, if they are
	features map[string]*feature // by option
	bounded  map[string]string   // the options of limits, as they were written
	site     string              // part of the names of what has a state
	file     string              // where the directive stands
	line     int

	readers map[string][]string // who may read the metrics and the documents, by option

	headerTimeout     time.Duration // 0: none
	headerTimeoutText string        // as it was written
}

// parseCaddyfile reads the directive and returns what it expands to. Syntax:
//
//	tentagate [<name>] {
//		service         <name> <url...> {
//			discover dns [<interval>]
//			<options of reverse_proxy>
//		}
//		public          <matcher...>
//		jwt             off|[<secret>] {
//			<options of jwt_auth>
//		}
//		ratelimit       off|[<matcher>] [<limit>] {
//			<options of ratelimit>
//		}
//		limits          off|{
//			max_body_size <size>|off
//			body_timeout  <duration>|off
//			body_rate     <bytes per second>|off
//			in_flight     <number>|off
//			refusals      <count>/<period>|off
//		}
//		cache           off|[<matcher>] [<ttl>] {
//			<options of http_cache>
//		}
//		circuit_breaker off|{
//			<options of circuit_breaker>
//		}
//		response_header_timeout <duration>|off
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
//		metrics         off|[<network...>|any] {
//			<options of metrics>
//		}
//		docs            off|[<network...>|any] {
//			<options of api_docs>
//		}
//	}
//
// What is not given is taken from the environment or has a default; an option
// that is written changes that option alone. `service`, `public`, `ratelimit`
// and, with matchers, `cache` may be repeated. The name is part of the names of
// circuits and limits; without one it is the site's host name.
func parseCaddyfile(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	d := h.Dispenser
	d.Next() // the directive's name
	if _, again := parse.First(h, directiveName, place.Of(d)); again {
		return nil, d.Err("tentagate: given more than once in one block: the first answers every request. Move the services into it, or put each directive into its own `handle` or site")
	}
	if err := checkNeighbours(h); err != nil {
		return nil, err
	}
	g := &gateway{features: map[string]*feature{}, readers: map[string][]string{}, file: d.File(), line: d.Line()}
	for option := range directives {
		g.features[option] = new(feature)
	}
	head := parse.Head(d)
	if err := g.unmarshal(h); err != nil {
		return nil, err
	}
	if err := g.complete(); err != nil {
		return nil, head.Errf("tentagate: %v", err)
	}
	if err := g.checkMatchers(h); err != nil {
		return nil, err
	}
	g.nameSite(h)
	routes, err := g.expand(h.WithDispenser(head))
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
	args, err := parse.Args(d, 0, 1)
	if err != nil {
		return err
	}
	if len(args) == 1 && args[0] == off {
		return d.Err("tentagate: off is not a name: leave the directive out")
	}
	if len(args) == 1 {
		if name := args[0]; checkServiceName(name) != nil || name[0] <= '9' {
			return d.Errf("tentagate: unexpected argument %q: it takes none, or a name: 1 to %d letters, digits, dashes, underscores and dots, a letter first",
				name, maxServiceName)
		}
		g.site = args[0]
	}
	var options []parse.Option
	for _, name := range optionNames {
		option := parse.Func(name, func(d *caddyfile.Dispenser) error {
			return g.unmarshalOption(h, d.NextSegment())
		})
		switch name {
		case "service", "public", "ratelimit", "cache":
			option = option.Repeatable()
		}
		options = append(options, option)
	}
	return parse.Block(d, options...)
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
		if g.origins, err = parse.Args(d, 1, -1); err != nil {
			return err
		}
		if len(g.origins) == 1 && parse.IsOff(g.origins[0]) {
			return d.WrapErr(parse.Mend("allowed_origins: %q is no origin: to allow none, write `cors off`", g.origins[0]))
		}
		if err = checkOrigins(g.origins); err != nil {
			return d.Errf("allowed_origins: %v", err)
		}
		g.originAt = segment[0]
		return noBlock(d, option)
	case "limits":
		return g.unmarshalLimits(d)
	case "response_header_timeout":
		if g.headerTimeoutText, err = parse.OneArg(d); err != nil {
			return err
		}
		if g.headerTimeout, err = headerTimeout(g.headerTimeoutText); err != nil {
			return d.Errf("response_header_timeout: %v", err)
		}
		return noBlock(d, option)
	default:
		directive := directives[option]
		if args := argsOf(segment); len(args) == 1 && switchedOff(option, args[0]) {
			return d.WrapErr(parse.Mend("%s: %q: to disable it, write `%s off`", option, args[0], option))
		}
		if option == "metrics" || option == "docs" {
			if segment, err = g.unmarshalReaders(option, segment); err != nil {
				return d.Errf("%s: %v", option, err)
			}
			if len(segment) == 1 && len(g.readers[option]) > 0 {
				return nil // all else is as without the line
			}
		}
		return g.features[option].unmarshal(d, option, directive, segment)
	}
}

// switchedOff reports whether a text was meant to switch an option off, and is not the
// word for it.
func switchedOff(option, text string) bool {
	if option == "guard" {
		return false // it is always there
	}
	return isOff(option, text) && text != off || slices.Contains([]string{"none", "false", "no", "disabled"}, text)
}

// isOff reports whether a text stands for off. A time of zero is a ttl of the cache:
// only what responses state themselves counts.
func isOff(option, text string) bool {
	if option == "cache" {
		return text == off || text == "0%"
	}
	return parse.IsOff(text)
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
	head := parse.Head(d)
	for d.NextBlock(0) {
		if segment := d.NextSegment(); segment.Directive() == "discover" {
			err = s.unmarshalDiscover(segment)
		} else {
			s.options = append(s.options, segment)
		}
		if err != nil {
			return err
		}
	}
	return s.checkDiscovered(head)
}

// unmarshalPublic reads `public <matcher...>`.
func (g *gateway) unmarshalPublic(h httpcaddyfile.Helper, d *caddyfile.Dispenser) error {
	count := 0
	for ; d.NextArg(); count++ {
		set, ok, err := h.WithDispenser(caddyfile.NewDispenser([]caddyfile.Token{d.Token()})).MatcherToken()
		if err != nil {
			return d.Errf("public: %w", parse.MatcherHint(err))
		}
		if !ok {
			return d.Errf("public: %q is not a matcher: accepted are a path such as /api/users/login and a named matcher such as @open", d.Val())
		}
		if len(set) == 0 || coversAll(set) {
			return d.Errf("public: %s would allow every request without a token: write `jwt off` if this is intended", d.Val())
		}
		g.public, g.publicAt = append(g.public, set), append(g.publicAt, d.Token())
	}
	if count == 0 {
		return d.Err("public: missing argument: it takes at least 1 matcher")
	}
	return noBlock(d, "public")
}

// exceptions are how some requests are left out, for `off` behind a matcher.
var exceptions = map[string]string{
	"cache":     "write `bypass <matcher>` in its block for requests that are not answered from the cache",
	"jwt":       "write `public <matcher>` for requests that need no token",
	"ratelimit": "write `vars <matcher> cost 0` in the site and `cost {vars.cost}` in its block for requests that do not count",
}

// unmarshal reads an option that stands for a directive.
func (f *feature) unmarshal(d *caddyfile.Dispenser, option, directive string, segment caddyfile.Segment) error {
	args := d.RemainingArgs()
	segment = withoutEmptyBlocks(segment)
	if len(args) == 1 && slices.Contains([]string{"on", "true", "yes", "enabled"}, args[0]) {
		return d.Errf("%s: %q: it is on by default: remove the line, or set options: %s", option, args[0], valuesOf(option))
	}
	if len(args) == 1 && args[0] == off && option != "guard" {
		if len(f.segments) > 0 || f.off {
			return d.WrapErr(parse.Mend("%s: off cannot be combined with another %s", option, option))
		}
		f.off = true
		return noBlock(d, option+" off")
	}
	switch {
	case len(args) == 2 && isOff(option, args[1]) && exceptions[option] != "":
		return d.Errf("%s: %s: it is switched off for all requests or for none: %s", option, strings.Join(args, " "), exceptions[option])
	case f.off:
		return d.Errf("%s: already set to off", option)
	case len(segment) == 1:
		return d.Errf("%s: missing value: %s", option, valuesOf(option))
	case len(args) > 0 && (option == "circuit_breaker" || option == "guard" || option == "health"):
		return d.Errf("%s: unexpected argument %q: %s", option, args[0], valuesOf(option))
	}
	renamed := slices.Clone(segment)
	renamed[0].Text = directive
	if option == "cache" {
		for _, other := range f.segments {
			if matcher := matcherOf(renamed); matcher == matcherOf(other) {
				return d.Errf("cache: given more than once for %s", cmp.Or(matcher, "everything"))
			}
		}
	}
	f.segments = append(f.segments, renamed)
	return nil
}

// withoutEmptyBlocks leaves out blocks that have nothing in them.
func withoutEmptyBlocks(segment caddyfile.Segment) caddyfile.Segment {
	result := slices.Clone(segment)
	for i := len(result) - 2; i >= 0; i-- {
		if result[i].Text == "{" && result[i+1].Text == "}" && result[i].Line != result[i+1].Line {
			result = slices.Delete(result, i, i+2)
			i = min(i, len(result)-1)
		}
	}
	return result
}

// valuesOf says what an option takes.
func valuesOf(option string) string {
	switch option {
	case "guard":
		return "it takes a block"
	case "circuit_breaker", "health":
		return "it takes off or a block"
	case "metrics", "docs":
		return "it takes off, or who may read them, such as private_ranges, 10.0.0.0/8 or any, and a block"
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
