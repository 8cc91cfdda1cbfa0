package parse

import (
	"reflect"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pythopus/tentagate/internal/place"
)

// RegisterOnce is Register for a handler that is for all requests of a block at most
// once.
func RegisterOnce(name string, setup httpcaddyfile.UnmarshalHandlerFunc) {
	register(name, setup, func(h httpcaddyfile.Helper, matcher caddy.ModuleMap) error { return Once(h, name, matcher) })
}

// Once refuses a directive that the same block has already, both times for all
// requests. The dispenser stands at the beginning, as Matcher leaves it.
func Once(h httpcaddyfile.Helper, name string, matcher caddy.ModuleMap) error {
	if len(matcher) > 0 {
		return nil
	}
	head := *h.Dispenser
	head.Next()
	if first, second := First(h, name, place.Of(&head)); second {
		return head.Errf("%s: given more than once in one block, and first at %s: write the options into one directive, or give each a matcher", name, first)
	}
	return nil
}

// First notes where a block of the Caddyfile has something. If it has that already,
// it returns the first place, and true.
func First(h httpcaddyfile.Helper, what, at string) (first string, again bool) {
	if h.BlockState == nil {
		return "", false
	}
	// A block inside another begins with a copy of what that one knows, and all
	// sites begin with the same.
	here := strconv.FormatUint(uint64(reflect.ValueOf(h.BlockState).Pointer()), 16)
	if reflect.ValueOf(h.BlockState).Pointer() == reflect.ValueOf(h.State).Pointer() {
		if keys := Keys(h); len(keys) > 0 {
			here += " " + keys[0].File + ":" + strconv.Itoa(keys[0].Line)
		}
	}
	key := "tentagate.once." + what
	if seen, ok := h.BlockState[key].(seenAt); ok && seen.block == here {
		return seen.at, true
	}
	h.BlockState[key] = seenAt{here, at}
	return "", false
}

// seenAt is a block, and a place in it.
type seenAt struct{ block, at string }
