package dashboard

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/dashboard/internal/snapshot"
	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/internal/explain/past"
	"github.com/pythopus/tentagate/internal/running"
)

const (
	// maxStreams is how many pages may be open at once, at all dashboards of the process. The
	// handlers have fewer, so that the admin endpoint has some left.
	maxStreams, maxHandlerStreams = 16, 12
	// maxOfClient is how many a client address may have open at the handlers.
	maxOfClient = 4
	// maxAge is how long a stream lasts. The page connects again, and is authenticated again.
	maxAge = 10 * time.Minute
	// interval is the time between two events.
	interval = time.Second
	// writeTimeout is how long a client may take to accept an event.
	writeTimeout = 10 * time.Second
	// callsEvery is how many events have the same report of calls, as making one takes the longest.
	callsEvery = 10
)

// watched makes the events of all dashboards.
var watched = newHub()

func newHub() *snapshot.Hub {
	g := new(gatherer)
	return &snapshot.Hub{Limit: maxStreams, ClientLimit: maxHandlerStreams, PerClient: maxOfClient, Interval: interval, Begin: g.engine.Forget, Make: g.event}
}

// gatherer reads what snapshots are made of.
type gatherer struct {
	engine snapshot.Engine

	mu    sync.Mutex
	calls json.RawMessage // guarded by mu
	since int             // events since calls were read; guarded by mu
}

// logger outlives configurations.
var logger = running.Logger("tentagate.dashboard")

// event returns a snapshot of the running configuration as JSON, which has no line breaks, or
// nil if it cannot be made. A panic of a feature that is asked for its status is logged.
func (g *gatherer) event(now time.Time) (text []byte) {
	defer func() {
		if v := recover(); v != nil {
			logger.Error("making an event", zap.Any("panic", v), zap.Stack("stack"))
			text = nil
		}
	}()
	status := snapshot.StatusPart(admin.Status("process", "config", "services", "breakers", "redis", "keys", "docs", "checks", "traffic"))
	if calls := g.reportOfCalls(); calls != nil {
		status["calls"] = calls
	}
	text, err := json.Marshal(g.engine.Take(now, gather(), status, failedLately(now)))
	if err != nil {
		logger.Error("making an event", zap.Error(err))
		return nil
	}
	return text
}

// failedLately returns the requests that failed within the last seconds.
func failedLately(now time.Time) (list []snapshot.Failed) {
	for _, f := range past.Failures(now.Add(-snapshot.Lately)) {
		list = append(list, snapshot.Failed(f))
	}
	return list
}

// gather returns the metrics of the running configuration. What a collector fails to collect
// is missing.
func gather() []*dto.MetricFamily {
	ctx := caddy.ActiveContext()
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return nil
	}
	families, err := registry.Gather()
	if err != nil {
		logger.Debug("gathering metrics", zap.Error(err))
	}
	return families
}

// reportOfCalls returns the report of api_docs about calls, nil where there is none.
func (g *gatherer) reportOfCalls() json.RawMessage {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since%callsEvery == 0 {
		g.calls, _ = admin.Get("/tentagate/docs/calls")
	}
	g.since++
	return g.calls
}

// serveEvents sends an event a second until the client leaves, the configuration ends, the
// process exits or the stream is too old. It reports false, and answers nothing, if too many
// clients watch already. client is the address of a handler's client, and empty at the admin
// endpoint.
func serveEvents(w http.ResponseWriter, r *http.Request, client string, ended <-chan struct{}) bool {
	stream, ok := watched.Watch(client)
	if !ok {
		return false
	}
	defer stream.Close()
	h, rc := w.Header(), http.NewResponseController(w)
	h.Set("Content-Type", "text/event-stream")
	// Events are small, and must not wait for others.
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	// The server's timeouts are for requests and answers that end. Where deadlines cannot be
	// set, the stream ends with them, and the page connects again.
	_ = rc.SetReadDeadline(time.Time{})
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return true
	}
	age := time.NewTimer(maxAge)
	defer age.Stop()
	for {
		select {
		case <-r.Context().Done():
			return true
		case <-ended:
			return true
		case <-age.C:
			return true
		case event := <-stream.Events():
			// Servers are shut down before the configuration ends.
			if event != nil && !send(w, rc, event) || caddy.Exiting() {
				return true
			}
		}
	}
}

// send writes one event. It reports whether the client is still there.
func send(w http.ResponseWriter, rc *http.ResponseController, event []byte) bool {
	_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	for _, part := range [][]byte{[]byte("data: "), event, []byte("\n\n")} {
		if _, err := w.Write(part); err != nil {
			return false
		}
	}
	return rc.Flush() == nil
}

const (
	// tooMany is the detail of the answer to a client for whom there is no stream.
	tooMany = "too many dashboards are open already (16 at the gateway, 12 at its handlers, or 4 of one address): close one, or try again later"
	// retryAfter is when it may try again, in seconds.
	retryAfter = "10"
)
