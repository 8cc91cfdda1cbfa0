package parse

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// Register registers a directive as httpcaddyfile.RegisterHandlerDirective does, with
// errors about its matcher that name the line.
func Register(name string, setup httpcaddyfile.UnmarshalHandlerFunc) {
	register(name, setup, nil)
}

func register(name string, setup httpcaddyfile.UnmarshalHandlerFunc, check func(h httpcaddyfile.Helper, matcher caddy.ModuleMap) error) {
	httpcaddyfile.RegisterDirective(name, func(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
		if !h.Next() {
			return nil, h.ArgErr()
		}
		matcher, err := Matcher(h)
		if err != nil {
			return nil, err
		}
		if check != nil {
			if err := check(h, matcher); err != nil {
				return nil, err
			}
		}
		handler, err := setup(h)
		if err != nil {
			return nil, err
		}
		return h.NewRoute(matcher, handler), nil
	})
}

// Matcher takes the matcher off the line of a directive, if it has one. The dispenser
// stands on the directive's name, and then at the beginning.
func Matcher(h httpcaddyfile.Helper) (caddy.ModuleMap, error) {
	head := Head(h.Dispenser)
	name := head.Val()
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, head.Errf("%s: %w", name, MatcherHint(err))
	}
	if matcher == nil {
		return nil, misplaced(head)
	}
	return matcher, nil
}

// misplaced refuses a matcher behind the values of a directive. The dispenser stands on
// the directive's name.
func misplaced(head *caddyfile.Dispenser) error {
	ahead := *head
	for i, arg := range ahead.RemainingArgs() {
		if i > 0 && (strings.HasPrefix(arg, "@") || strings.HasPrefix(arg, "/")) {
			return head.Errf("%s: %q is a matcher, which comes first: write `%s %s …`", head.Val(), arg, head.Val(), arg)
		}
	}
	return nil
}

// MatcherHint adds to Caddy's error about a matcher that nobody has defined where that
// is to be done.
func MatcherHint(err error) error {
	if _, name, ok := strings.Cut(err.Error(), "unrecognized matcher name: @"); ok {
		return fmt.Errorf("%w: define it in the site, such as `@%s path /live/*`", err, name)
	}
	return err
}
