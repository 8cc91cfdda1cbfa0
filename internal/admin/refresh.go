package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// refreshTimeout is how long one request waits for all the fetches that it asks for.
	refreshTimeout = 30 * time.Second
	// parallelRefreshes is how many of them run at once.
	parallelRefreshes = 8
	// everything is what a request names for all that can be fetched again.
	everything = "all"
)

// Refreshable is something that can be fetched again.
type Refreshable struct {
	// Name of it, which need not be unique.
	Name string
	// Refresh fetches, and returns when that is done or the context ends.
	Refresh func(ctx context.Context)
}

// Refresh fetches again what the parameter refresh of a request's query names, or
// everything with `all`, and returns when that is done or after 30 seconds. kind is what
// the names are those of, for errors.
func Refresh(r *http.Request, kind string, list []Refreshable) error {
	name := r.URL.Query().Get("refresh")
	if name == "" {
		return Error(http.StatusBadRequest, fmt.Errorf("refresh: name a %s, or all: POST %s?refresh=all", kind, r.URL.Path))
	}
	var names []string
	var wanted []Refreshable
	for _, one := range list {
		names = append(names, one.Name)
		if name == everything || name == one.Name {
			wanted = append(wanted, one)
		}
	}
	if len(wanted) == 0 && name != everything {
		slices.Sort(names)
		return Error(http.StatusNotFound, ErrUnknown(kind, name, slices.Compact(names)))
	}
	ctx, cancel := context.WithTimeout(r.Context(), refreshTimeout)
	defer cancel()
	refreshEach(ctx, wanted)
	return nil
}

// refreshEach refreshes some at once, until the context ends.
func refreshEach(ctx context.Context, list []Refreshable) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, parallelRefreshes)
	for _, one := range list {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		running.Go(func() {
			defer func() { <-slots }()
			one.Refresh(ctx)
		})
	}
}
