package apidocs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
)

func init() {
	parse.Register(directive, parseCaddyfile)
}

// parseCaddyfile sets up the handler, with the named matchers of the site.
func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.unmarshal(h.Dispenser, func(token caddyfile.Token) (caddy.ModuleMap, error) {
		set, ok, err := h.WithDispenser(caddyfile.NewDispenser([]caddyfile.Token{token})).MatcherToken()
		if err == nil && (!ok || len(set) == 0) {
			err = fmt.Errorf("visible_to: %q is not a matcher: accepted are a named matcher such as @staff and a path", token.Text)
		}
		return set, err
	})
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	api_docs [<matcher>] {
//		ui        <path>|off
//		json      <path>|off
//		yaml      <path>|off
//		title     <text>
//		prefix    <path>
//		service   <name> [<url...>] {
//			spec       <url|file>|off
//			spec_path  <path>
//			visible_to <matcher...>
//			validate   observe|enforce|off
//		}
//		bearer
//		public    <path...>
//		ask_token
//		refresh   <duration>
//		delay     <duration>
//		timeout   <duration>
//		validate  observe|enforce|off
//		validate_body_size <size>
//	}
//
// `service` may be repeated. Named matchers need the directive in a site.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return h.unmarshal(d, func(caddyfile.Token) (caddy.ModuleMap, error) {
		return nil, errors.New("visible_to: matchers are only known in a site")
	})
}

// matcherReader returns the matcher that a token names.
type matcherReader func(token caddyfile.Token) (caddy.ModuleMap, error)

func (h *Handler) unmarshal(d *caddyfile.Dispenser, matcher matcherReader) error {
	d.Next() // the directive's name
	h.Position = place.Of(d)
	return parse.BlockAlone(d,
		pathOption("ui", &h.UI),
		pathOption("json", &h.JSON),
		pathOption("yaml", &h.YAML),
		parse.Value("title", &h.Title, parse.Text).NotOff(),
		parse.Value("prefix", &h.Prefix, parse.Text).NotOff(),
		parse.Func("service", func(d *caddyfile.Dispenser) error { return h.unmarshalService(d, matcher) }).Repeatable(),
		parse.Flag("bearer", &h.Bearer),
		parse.List("public", &h.Public),
		parse.Flag("ask_token", &h.AskToken),
		parse.Value("refresh", &h.Refresh, parse.Duration),
		parse.Value("delay", &h.Delay, parse.DurationOrOff),
		parse.Value("timeout", &h.Timeout, parse.Duration),
		parse.Value("validate", &h.Validate, readMode),
		parse.Value("validate_body_size", &h.ValidateBodySize, bodySize),
	)
}

// readMode accepts what validate may be.
var readMode = parse.OneOf(modeObserve, modeEnforce, off)

func bodySize(text string) (int64, error) {
	if parse.IsOff(text) {
		return 0, parse.Mend("%s: accepted are 1 to 16MiB; to validate nothing, write `validate off`", text)
	}
	size, err := parse.Size(text)
	if err == nil && (size < 1 || size > maxBodySize) {
		err = fmt.Errorf("%s: accepted are 1 to 16MiB", text)
	}
	if err != nil {
		return 0, err
	}
	return size, parse.NeedsUnit(text, size)
}

func pathOption(name string, to *string) parse.Option {
	return parse.Value(name, to, parse.TextOrOff).Then(func() error {
		if *to == off {
			return nil
		}
		return checkPath(name, *to)
	})
}

func (h *Handler) unmarshalService(d *caddyfile.Dispenser, matcher matcherReader) error {
	args, err := parse.Args(d, 1, -1)
	if err != nil {
		return err
	}
	if err := checkName(args[0]); err != nil {
		return d.WrapErr(err)
	}
	s := &Service{Name: args[0], Addresses: args[1:]}
	h.Services = append(h.Services, s)
	return parse.Block(d,
		parse.Value("spec", &s.Spec, parse.TextOrOff),
		parse.Value("spec_path", &s.SpecPath, parse.Text).Then(func() error {
			if !strings.HasPrefix(s.SpecPath, "/") {
				return errors.New("spec_path: it begins with a slash, such as /v3/api-docs")
			}
			return nil
		}),
		parse.Value("validate", &s.Validate, readMode),
		parse.Func("visible_to", func(d *caddyfile.Dispenser) error { return s.unmarshalVisible(d, matcher) }),
	)
}

func (s *Service) unmarshalVisible(d *caddyfile.Dispenser, matcher matcherReader) error {
	for d.NextArg() {
		set, err := matcher(d.Token())
		if err != nil {
			return d.WrapErr(err)
		}
		s.VisibleTo = append(s.VisibleTo, set)
	}
	if len(s.VisibleTo) == 0 {
		return d.Err("visible_to: missing argument: it takes at least 1 matcher")
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
