// Package shared warns of directives of one configuration that share something
// by name, such as a zone of limits, but have different rules for it.
package shared

import (
	"cmp"
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// configurations are those that are loaded, by the app at their root.
var configurations sync.Map

type configuration struct {
	mu    sync.Mutex
	users map[thing]user
}

// thing is something that directives share.
type thing struct{ kind, name string }

// user is the first directive that uses a thing.
type user struct{ rules, place string }

// differs notes that a directive uses a thing with rules, a text that is equal for
// equal rules. It reports whether a directive that was provisioned before in the
// same configuration has other rules, and where that one stands.
func differs(ctx caddy.Context, kind, name, rules, at string) (other string, different bool) {
	modules := ctx.Modules()
	if len(modules) == 0 {
		return "", false
	}
	key := any(modules[0])
	value, loaded := configurations.LoadOrStore(key, &configuration{users: make(map[thing]user)})
	if !loaded {
		// Not ctx.OnCancel: ctx is a copy, and Caddy calls the functions of its own.
		context.AfterFunc(ctx, func() { configurations.Delete(key) })
	}
	c := value.(*configuration)
	c.mu.Lock()
	defer c.mu.Unlock()
	first, known := c.users[thing{kind, name}]
	if !known {
		c.users[thing{kind, name}] = user{rules, at}
		return "", false
	}
	return first.place, first.rules != rules
}

// Warn logs a warning with both places if another directive of the configuration
// uses the same thing, as kind and name say, with other rules. rules is a text that
// is equal for equal rules, at is the place of the directive (see place.Of), and
// advice says what to do. ctx is that of Provision.
func Warn(ctx caddy.Context, kind, name, rules, at, advice string) {
	other, isDifferent := differs(ctx, kind, name, rules, at)
	if !isDifferent {
		return
	}
	ctx.Logger().Warn("two directives share a "+kind+" but have different rules: "+advice,
		zap.String(kind, name), zap.String("first", Place(other)), zap.String("second", Place(at)))
}

// Place returns a place, or a text for one that is not known.
func Place(at string) string {
	return cmp.Or(at, "a directive without a place in a Caddyfile")
}
