package rediscache

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// maxRefreshes bounds the refreshes of a handler at a time. Who asks for what is stale gets it at
// once, so no limit on requests in flight bounds what is asked for on their behalf.
const maxRefreshes = 1000

// refresher asks origins in the background for what was sent stale.
type refresher struct {
	h       *Handler
	ctx     context.Context // of the configuration
	stop    context.CancelFunc
	running sync.WaitGroup
	count   atomic.Int64 // that are running
}

// start refreshes a stored response. If somebody asks for it already, that is enough. If too
// much is refreshed already, a later request has it refreshed.
func (b *refresher) start(r *http.Request, next caddyhttp.Handler, t *target, stored match) {
	if b.count.Load() >= maxRefreshes {
		return // before anything is copied
	}
	private := t.isPrivate(stored.key)
	c, leader := calls.Join(t.callKey(private))
	if !leader {
		return
	}
	detached, cancel := b.detach(r)
	if detached == nil {
		calls.HandOver(c)
		return
	}
	if b.count.Add(1) > maxRefreshes {
		b.count.Add(-1)
		cancel()
		calls.HandOver(c)
		return
	}
	x := &exchange{h: b.h, w: discard{}, r: detached, next: next, background: true}
	x.target, x.directives, x.hit = *t, rfc9111.NoDirectives(), stored
	x.calls.led = t.callHash(private)
	b.running.Go(func() {
		defer cancel()
		defer b.count.Add(-1)
		defer func() {
			if p := recover(); p != nil {
				b.h.logger.Error("panic while refreshing in the background", panicField(p))
			}
		}()
		refreshes.Inc()
		_ = x.lead(c, private)
	})
}

func panicField(p any) zap.Field { return zap.Any("panic", p) }

// detach returns a copy of the request for a goroutine of its own, which lives on
// when the client's request has ended. Caddy keeps maps in the context of a request
// that only its own goroutine may use, so the copy has its own: the variables as they
// are now, and those placeholders that handlers in front have set. It is nil where
// there is no server to run it for.
func (b *refresher) detach(r *http.Request) (*http.Request, context.CancelFunc) {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || b.ctx.Err() != nil {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(b.ctx)
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, r.Context().Value(http.LocalAddrContextKey))
	if failed := r.Context().Value(caddyhttp.ErrorCtxKey); failed != nil { // in handle_errors
		ctx = context.WithValue(ctx, caddyhttp.ErrorCtxKey, failed)
	}
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
	clone = caddyhttp.PrepareRequest(clone, repl, discard{}, server)
	if fresh, ok := clone.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		maps.Copy(fresh, vars)
	}
	requeststate.Of(clone) // a state of its own, made while that of r does not change
	if hasOriginal {
		clone = clone.WithContext(context.WithValue(clone.Context(), caddyhttp.OriginalRequestCtxKey, original))
	}
	if before, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(func(key string) (any, bool) {
			if !isFinal(key) {
				return nil, false
			}
			return before.Get(key)
		})
		b.copyPlaceholders(r, before, repl)
	}
	return clone, cancel
}

// copyPlaceholders gives the copy the values of the placeholders that handlers behind
// name, where it has none of its own: `map` and other handlers provide them, and
// compute them anew each time, from what only the request's goroutine may use.
func (b *refresher) copyPlaceholders(r *http.Request, from, to *caddy.Replacer) {
	names := b.h.keys.chains.of(r).placeholders
	for _, v := range b.h.Key.Values {
		names = append(slices.Clip(names), resolve.Placeholders(v)...)
	}
	for _, name := range names {
		// The copy takes the request for the original, which it may be a rewritten form of.
		original := strings.HasPrefix(name, "http.request.orig_")
		if _, known := to.Get(name); known && !original {
			continue
		}
		if value, known := from.Get(name); known {
			to.Set(name, value)
		}
	}
}

// isFinal reports whether a placeholder was set for good before the cache was reached,
// and reading it touches nothing but the locked table of its replacer.
func isFinal(key string) bool {
	for _, prefix := range []string{"http.auth.", "http.regexp.", "http.ratelimit."} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// discard is the client of a request that nobody waits for. Its header is empty.
type discard map[string][]string

func (d discard) Header() http.Header       { return http.Header(d) }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
