package rediscache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/app/replog"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/memory"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/redis"
	"github.com/pythopus/tentagate/rediscache/internal/stream"
)

// What the handlers of this process share, and what survives a reload: one memory
// tier, one table of invalidations, and for each Redis an exchange of invalidations
// with other gateways and a Redis tier for each distinct setting.
var (
	locals     = pool.New((*local).close)
	exchanges  = pool.New(func(e *redis.Epochs) error { e.Close(); return nil })
	redisTiers = pool.New(func(s *redis.Store) error { s.Close(); return nil })
)

// localKey is the key of the one value in locals.
const localKey = "local"

// local is what this process has of its own.
type local struct {
	table  *epoch.Table
	memory *memory.Store
	budget stream.Budget // of what arrives

	mu      sync.Mutex
	budgets map[*tiers]int64
}

func newLocal() (*local, error) {
	l := &local{table: epoch.New(), memory: memory.New(memory.DefaultMaximum), budgets: map[*tiers]int64{}}
	l.budget.Limit = l.memory.Maximum
	// Memory is freed after everything was invalidated, here or at another
	// gateway.
	l.table.OnAll(func() {
		l.memory.Sweep(func(e *object.Entry) bool {
			for _, o := range e.Variants {
				if l.table.Check(o) != object.Hard {
					return false
				}
			}
			return true
		})
	})
	return l, nil
}

// close frees the memory tier.
func (l *local) close() error {
	l.memory.Close()
	return nil
}

// setBudget notes the size of the memory tier that a handler asks for; 0 ends it. The
// largest counts: the tier is the process's, not a handler's.
func (l *local) setBudget(t *tiers, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 {
		l.budgets[t] = n
	} else {
		delete(l.budgets, t)
	}
	largest := int64(0)
	for _, b := range l.budgets {
		largest = max(largest, b)
	}
	if largest > 0 {
		l.memory.SetMaximum(largest)
	}
}

// tierSettings are what a handler asks of the tiers.
type tierSettings struct {
	// memory is the size of the memory tier in bytes, 0 for none.
	memory int64
	// redis is nil for no Redis tier. Invalidations are shared all the same if the app
	// has a Redis.
	redis *redisSettings
}

// redisSettings are the settings of the Redis tier.
type redisSettings struct {
	budget   time.Duration // the longest that a look-up may take
	maxBody  int           // bytes
	compress bool
}

// tiers are where one handler stores responses.
type tiers struct {
	// memory is nil if the handler has no memory tier, redis if it has no Redis tier.
	memory *memory.Store
	redis  *redis.Store
	// epochs and budget are never nil.
	epochs *invalidations
	budget *stream.Budget

	local    *local
	releases []func() error
}

// acquireTiers returns the tiers for a handler, who releases them once. It opens no
// connection.
func acquireTiers(a *app.App, s tierSettings) (*tiers, error) {
	t := &tiers{}
	own, err := locals.Acquire(localKey, newLocal)
	if err != nil {
		return nil, err
	}
	t.releases = append(t.releases, own.Release)
	t.local = own.Value
	t.budget = &t.local.budget
	if s.memory > 0 {
		t.memory = t.local.memory
		t.local.setBudget(t, s.memory)
	}
	t.epochs = &invalidations{Table: t.local.table}
	rd := a.Redis()
	if rd == nil {
		return t, nil
	}

	exchange, err := exchanges.Acquire(rd.Key(), func() (*redis.Epochs, error) {
		return redis.NewEpochs(t.local.table, replog.Options{Client: rd.Background(), Availability: rd.Availability()}, a.KeyPrefix()), nil
	})
	if err != nil {
		return nil, errors.Join(err, t.release())
	}
	t.releases = append(t.releases, exchange.Release)
	t.epochs.exchange, t.epochs.budget = exchange.Value, rd.Availability().Budget()
	if s.redis == nil {
		return t, nil
	}

	key := fmt.Sprintf("%s|%+v", rd.Key(), *s.redis)
	store, err := redisTiers.Acquire(key, func() (*redis.Store, error) {
		return redis.NewStore(redis.Options{
			Client: rd.Client(), Background: rd.Background(), Prefix: a.KeyPrefix(),
			Availability: rd.Availability(), Budget: s.redis.budget, MaxBody: s.redis.maxBody, Compress: s.redis.compress,
			Ready: t.epochs.exchange.Ready, Admit: t.epochs.exchange.Admit,
		}), nil
	})
	if err != nil {
		return nil, errors.Join(err, t.release())
	}
	t.releases = append(t.releases, store.Release)
	t.redis = store.Value
	return t, nil
}

// startWait is how long the first requests wait for the invalidations of other
// gateways.
const startWait = 20 * time.Millisecond

// start begins what needs the network. The handler calls it with each request, since a
// configuration that is only validated must not open connections. The first requests
// wait a moment for the invalidations of other gateways.
func (t *tiers) start() {
	e := t.epochs.exchange
	if e == nil || e.Tried() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	e.Await(ctx)
}

// release gives the tiers back, the last acquired first.
func (t *tiers) release() error {
	var errs []error
	t.local.setBudget(t, 0)
	for _, v := range slices.Backward(t.releases) {
		errs = append(errs, v())
	}
	t.releases = nil
	return errors.Join(errs...)
}

// invalidations are the process's table and the exchange with other gateways,
// if there is one.
type invalidations struct {
	*epoch.Table
	exchange *redis.Epochs
	budget   time.Duration // the longest that a request waits for the exchange
}

// Invalidate makes the scopes unusable here at once and at all other gateways. What
// it waits for Redis is charged to the budget of the request.
func (i *invalidations) Invalidate(r *http.Request, scopes ...object.Scope) {
	if i.exchange == nil {
		i.Table.Invalidate(scopes...)
		return
	}
	ctx, end := availability.Limit(redisContext(r), i.budget)
	defer end()
	i.exchange.Invalidate(ctx, scopes...)
}

// Purge is Invalidate that returns an error for an invalid scope, and whether the
// other gateways can know already.
func (i *invalidations) Purge(ctx context.Context, scopes ...object.Scope) (shared bool, err error) {
	if i.exchange != nil {
		return i.exchange.Purge(ctx, scopes...)
	}
	marks, err := epoch.Marks(scopes...)
	if err != nil {
		return false, err
	}
	i.Bump(marks)
	return false, nil
}
