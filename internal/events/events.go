// Package events tells the handlers of Caddy's events app what happened to the gateway.
package events

import (
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// maxWaiting bounds the events that wait because a handler is slow.
const maxWaiting = 256

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
	dropped    int
}

// Emit delivers an event to the handlers of the running configuration, one event at a time
// and in the order of the calls. It returns at once: handlers run in another goroutine, and
// while more than 256 events wait for a slow one, further events are dropped, which is
// logged.
//
// origin is the context of the module that the event is of; it may be of a configuration that
// has ended, or be empty. data must not be changed afterwards.
func Emit(origin caddy.Context, name string, data map[string]any) {
	queue.Lock()
	defer queue.Unlock()
	if len(queue.waiting) >= maxWaiting {
		queue.dropped++
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
		queue.Lock()
		dropped := queue.dropped
		queue.dropped = 0
		if len(queue.waiting) == 0 {
			queue.delivering, queue.waiting = false, nil
			queue.Unlock()
			return
		}
		e := queue.waiting[0]
		queue.waiting[0] = event{}
		queue.waiting = queue.waiting[1:]
		queue.Unlock()
		if dropped > 0 {
			logger().Warn("events were dropped: a handler of the events app is too slow", zap.Int("events", dropped))
		}
		e.deliver()
	}
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

func logger() *zap.Logger { return caddy.Log().Named("tentagate.events") }
