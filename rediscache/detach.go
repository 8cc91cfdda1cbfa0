package rediscache

import (
	"context"
	"maps"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// detach returns a copy of the request for a goroutine of its own, that lives
// on when the client's request has ended. Caddy keeps maps in the context of a
// request that only its own goroutine may use, so the copy has its own: the
// variables as they are now, and those placeholders that handlers in front have
// set. It is nil where there is no server to run it for.
func (h *Handler) detach(r *http.Request) (*http.Request, context.CancelFunc) {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || h.ctx.Err() != nil {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(h.ctx)
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, r.Context().Value(http.LocalAddrContextKey))
	clone := r.Clone(ctx)
	clone.Body, clone.ContentLength, clone.TransferEncoding = http.NoBody, 0, nil
	if clone.Method != methodQuery { // which has its content from its target
		clone.Method = http.MethodGet
	}
	clone.Header.Del("Range")
	rfc9111.RemoveConditions(clone.Header)
	original, hasOriginal := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if hasOriginal && original.URL != nil {
		u := *original.URL
		original.URL = &u
		original.Header = nil
	}
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	vars = maps.Clone(vars)

	repl := caddy.NewReplacer()
	clone = caddyhttp.PrepareRequest(clone, repl, &discard{header: http.Header{}}, server)
	if fresh, ok := clone.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		maps.Copy(fresh, vars)
	}
	if hasOriginal {
		clone = clone.WithContext(context.WithValue(clone.Context(), caddyhttp.OriginalRequestCtxKey, original))
	}
	if was, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(func(key string) (any, bool) {
			if !settled(key) {
				return nil, false
			}
			return was.Get(key)
		})
		h.settle(r, was, repl)
	}
	return clone, cancel
}

// settle gives the copy the values of the placeholders that handlers behind
// name, where it has none of its own: `map` and other handlers provide them,
// and reckon them anew, from what only the request's goroutine may use, each time
// that they are asked.
func (h *Handler) settle(r *http.Request, was, repl *caddy.Replacer) {
	names := h.inFront(r).behind
	for _, v := range h.Key.Values {
		names = append(names[:len(names):len(names)], resolve.Placeholders(v)...)
	}
	for _, name := range names {
		if _, known := repl.Get(name); known {
			continue
		}
		if value, known := was.Get(name); known {
			repl.Set(name, value)
		}
	}
}

// settled reports whether a placeholder was set for good before the cache was
// reached, and reading it touches nothing but the locked table of its replacer.
func settled(key string) bool {
	for _, prefix := range []string{"http.auth.", "http.regexp.", "http.ratelimit."} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// discard is the client of a request that nobody waits for.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header       { return d.header }
func (*discard) Write(p []byte) (int, error) { return len(p), nil }
func (*discard) WriteHeader(int)             {}

func panicField(p any) zap.Field { return zap.Any("panic", p) }
