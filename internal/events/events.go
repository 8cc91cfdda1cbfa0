// Package events tells the handlers of Caddy's events app what happened to the gateway.
package events

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/pythopus/tentagate/internal/running"
)

const (
	// maxWaiting bounds the events that wait because a handler is slow.
	maxWaiting = 256
	// warnEvery is the least time between two warnings of events that were dropped.
	warnEvery = time.Minute
)

type event struct {
	origin caddy.Context
	name   string
	data   map[string]any
}

// queue has the events that were not delivered yet. There is a goroutine while there are
// any.
var queue struct {
	sync.Mutex
	waiting    []event
	delivering bool
	current    string    // the event that handlers have
	since      time.Time // when they got it
	drops
}

// drops are the events that were dropped since the last warning.
type drops struct {
	dropped int
	warned  time.Time
}

// take returns how many events a warning is due for: none if there was one a short time
// ago, unless it is the last.
func (d *drops) take(now time.Time, last bool) (n int) {
	if d.dropped == 0 || !last && now.Sub(d.warned) < warnEvery {
		return 0
	}
	n, d.dropped, d.warned = d.dropped, 0, now
	return n
}

// Emit delivers an event to the handlers of the running configuration, one event at a time
// and in the order of the calls. It returns at once: handlers run in another goroutine, and
// while more than 256 events wait for a slow one, further events are dropped, which is
// logged at most once a minute.
//
// origin is the context of the module that the event is of; it may be of a configuration that
// has ended, or be empty. data must not be changed afterwards.
func Emit(origin caddy.Context, name string, data map[string]any) {
	queue.Lock()
	defer queue.Unlock()
	if len(queue.waiting) >= maxWaiting {
		queue.dropped++
		now := time.Now()
		if n := queue.take(now, false); n > 0 {
			// The log may be slow, and the caller has a request to handle.
			go warn(n, zap.String("handling", queue.current), zap.Duration("for", now.Sub(queue.since)))
		}
		return
	}
	queue.waiting = append(queue.waiting, event{origin, name, data})
	if !queue.delivering {
		queue.delivering = true
		go deliver()
	}
}

// deliver delivers events until none waits.
func deliver() {
	for {
		e, dropped, ok := next()
		if dropped > 0 {
			warn(dropped)
		}
		if !ok {
			return
		}
		e.deliver()
	}
}

// next returns the event to deliver, and for how many that were dropped a warning is due.
func next() (e event, dropped int, ok bool) {
	queue.Lock()
	defer queue.Unlock()
	now := time.Now()
	dropped = queue.take(now, len(queue.waiting) == 0)
	if len(queue.waiting) == 0 {
		queue.delivering, queue.waiting = false, nil
		return e, dropped, false
	}
	e = queue.waiting[0]
	queue.waiting[0] = event{}
	queue.waiting, queue.current, queue.since = queue.waiting[1:], e.name, now
	return e, dropped, true
}

func warn(dropped int, fields ...zap.Field) {
	logger().Warn("events were dropped: a handler of the events app is too slow", append(fields, zap.Int("events", dropped))...)
}

// deliver calls the handlers. Those of a configuration that is only being loaded may not
// have been subscribed yet, so that the active one is asked.
func (e *event) deliver() {
	defer func() {
		if panicked := recover(); panicked != nil {
			logger().Error("a handler of the events app panicked", zap.String("event", e.name), zap.Any("panic", panicked))
		}
	}()
	active := caddy.ActiveContext()
	loaded, err := active.AppIfConfigured("events")
	if err != nil {
		return // no handler can be subscribed
	}
	app, ok := loaded.(*caddyevents.App)
	if !ok || !app.ShouldEmit(e.name) {
		return
	}
	ctx := e.origin
	ctx.Context = active.Context
	app.Emit(ctx, e.name, e.data)
}

func logger() *zap.Logger { return running.Logger("tentagate.events") }
