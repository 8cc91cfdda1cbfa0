// Package shared notices directives of one configuration that share something
// by its name (a zone of limits, a breaker, a namespace of the cache) but do not
// agree on its rules.
package shared

import (
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// configurations are those in use, by the app at their root.
var configurations sync.Map

type configuration struct {
	mu    sync.Mutex
	users map[thing]user
}

type thing struct{ kind, name string }

type user struct{ rules, place string }

// Differs notes that a directive shares what kind and name say, with rules, a
// text that is equal for equal rules. It reports whether a directive that was
// provisioned before in the same configuration has other rules, and its place.
// ctx is that of Provision; at is the place of the directive (see place.Of).
func Differs(ctx caddy.Context, kind, name, rules, at string) (other string, differs bool) {
	modules := ctx.Modules()
	if len(modules) == 0 {
		return "", false
	}
	key := any(modules[0])
	value, loaded := configurations.LoadOrStore(key, &configuration{users: make(map[thing]user)})
	if !loaded {
		ctx.OnCancel(func() { configurations.Delete(key) })
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

// Warn logs a warning with both places if a directive that shares the thing has
// other rules. The advice says what to do about it.
func Warn(ctx caddy.Context, kind, name, rules, at, advice string) {
	other, differs := Differs(ctx, kind, name, rules, at)
	if !differs {
		return
	}
	ctx.Logger().Warn("two directives share a "+kind+" but have different rules: "+advice,
		zap.String(kind, name), zap.String("first", Place(other)), zap.String("second", Place(at)))
}

// Place returns a place, or a text that stands for one that is not known.
func Place(at string) string {
	if at == "" {
		return "a directive without a place in a Caddyfile"
	}
	return at
}
