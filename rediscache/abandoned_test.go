package rediscache

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/pythopus/tentagate/internal/testkit"
)

// A client that leaves again and again has no more than so many requests go on.
func TestAbandonedRequestsAreBounded(t *testing.T) {
	testkit.Eventually(t, "the end of what earlier tests have abandoned", func() bool { return abandoned.Load() == 0 })
	const more = 5
	var running atomic.Int64
	finish := make(chan struct{})
	g := newGateway(t, "http_cache 60s", func(_ http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		select {
		case <-finish:
		case <-r.Context().Done():
		}
	})
	ctx, leave := context.WithCancel(t.Context())
	var all []<-chan struct{}
	for i := range maxAbandoned + more {
		all = append(all, g.begin(ctx, httptest.NewRecorder(), fmt.Sprint("/", i)))
	}
	testkit.Eventually(t, "all requests", func() bool { return running.Load() == maxAbandoned+more })
	leave()
	testkit.Eventually(t, "the end of those that are too many", func() bool { return running.Load() == maxAbandoned })
	testkit.Eventually(t, "a count of those that go on", func() bool { return abandoned.Load() == maxAbandoned })
	close(finish)
	for _, done := range all {
		ended(t, "a request", done)
	}
	testkit.Eventually(t, "an end of all", func() bool { return abandoned.Load() == 0 })
}
