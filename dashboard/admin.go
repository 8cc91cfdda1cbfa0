package dashboard

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/resource"
)

// The endpoints of the admin API. The page forces the states of circuit breakers at that of
// the breakers.
const (
	adminPath   = "/tentagate/"
	adminEvents = "dashboard/events" // below adminPath
)

func init() {
	admin.RegisterAPI("dashboard",
		admin.Endpoint{Pattern: adminPath + "{$}", Serve: serveAdminPage, Operations: []admin.Operation{
			{Method: http.MethodGet, Path: adminPath, Summary: "The dashboard, a page for browsers", MediaType: "text/html"},
		}},
		admin.Endpoint{Pattern: adminPath + adminEvents, Serve: serveAdminEvents, Operations: []admin.Operation{{
			Method: http.MethodGet, Summary: "The events that the dashboard shows, one a second, until the configuration changes", MediaType: "text/event-stream",
			Fails: map[int]string{http.StatusServiceUnavailable: "Too many clients have the events already"},
		}}},
	)
}

var adminPage = sync.OnceValues(func() (*resource.Resource, error) { return newPage(adminEvents, true) })

func serveAdminPage(w http.ResponseWriter, r *http.Request) error {
	page, err := adminPage()
	if err != nil {
		return err
	}
	return servePage(w, r, page)
}

func serveAdminEvents(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return nil
	}
	var ended <-chan struct{} // never without a configuration
	if ctx := caddy.ActiveContext(); ctx.Context != nil {
		ended = ctx.Done()
	}
	if server, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(untilShutdown(server), cancel)()
		r = r.WithContext(ctx)
	}
	if !serveEvents(w, r, "", ended) {
		w.Header().Set("Retry-After", retryAfter)
		return admin.Error(http.StatusServiceUnavailable, errors.New(tooMany))
	}
	return nil
}

// servers has the contexts of untilShutdown by server.
var servers sync.Map

// untilShutdown returns a context that ends when a server is shut down. A server waits for its
// requests then, and one of the admin API is replaced at a reload.
func untilShutdown(server *http.Server) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	if known, ok := servers.LoadOrStore(server, ctx); ok {
		cancel()
		return known.(context.Context)
	}
	server.RegisterOnShutdown(func() {
		servers.Delete(server)
		cancel()
	})
	return ctx
}
