package rediscache

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	sites "github.com/pythopus/tentagate/internal/site"
)

// counted is a handler that counts how often its configuration is read.
type counted struct{ read atomic.Int64 }

func (*counted) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.counted", New: func() caddy.Module { return new(counted) }}
}

func (*counted) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { return nil }

func (c *counted) MarshalJSON() ([]byte, error) {
	c.read.Add(1)
	time.Sleep(time.Millisecond) // as a large one takes, so that requests come meanwhile
	return []byte("{}"), nil
}

// Reading a large configuration takes a while. Requests that come first, all at the
// same time, wait for one of them instead of reading it each.
func TestFirstRequestsReadTheConfigurationOnce(t *testing.T) {
	reads := func(requests int) int64 {
		behind, h := new(counted), new(Handler)
		c := &chains{finder: sites.NewFinder(caddy.Context{}, h)}
		server := &caddyhttp.Server{Routes: caddyhttp.RouteList{{Handlers: []caddyhttp.MiddlewareHandler{h, behind}}}}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.ServerCtxKey, server))
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range requests {
			wg.Go(func() { <-start; c.of(r) })
		}
		close(start)
		wg.Wait()
		return behind.read.Load()
	}
	if one, many := reads(1), reads(64); one == 0 || many != one {
		t.Errorf("the configuration was read %d times by one request, %d times by 64", one, many)
	}
}
