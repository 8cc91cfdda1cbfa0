package rediscache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/memory"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/redis"
	"github.com/pythopus/tentagate/rediscache/internal/stream"
)

// What the handlers of this process share, and what survives a reload: one
// memory tier, one table of invalidations, and for each Redis an exchange of
// invalidations and a second tier for each distinct setting.
var (
	locals     = caddy.NewUsagePool()
	exchanges  = caddy.NewUsagePool()
	redisTiers = caddy.NewUsagePool()
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

func newLocal() (caddy.Destructor, error) {
	l := &local{table: epoch.New(), memory: memory.New(memory.DefaultMaximum), budgets: map[*tiers]int64{}}
	l.budget.Limit = l.memory.Maximum
	// Memory is freed after everything was invalidated, here or at another
	// gateway.
	l.table.OnAll(func() {
		l.memory.Sweep(func(e *object.Entry) bool {
			for _, o := range e.Variants {
				if l.table.Check(e.Key, o) != object.Hard {
					return false
				}
			}
			return true
		})
	})
	return l, nil
}

// Destruct frees the memory tier.
func (l *local) Destruct() error {
	l.memory.Close()
	return nil
}

// setBudget notes the budget that a handler asks for; 0 ends it. The largest
// counts: the budget is the process', not a handler's.
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

// pooledEpochs is a redis.Epochs in a pool.
type pooledEpochs struct{ *redis.Epochs }

// Destruct ends the exchange.
func (e pooledEpochs) Destruct() error {
	e.Close()
	return nil
}

// pooledStore is a redis.Store in a pool.
type pooledStore struct{ *redis.Store }

// Destruct ends the tier.
func (s pooledStore) Destruct() error {
	s.Close()
	return nil
}

// tierSettings are what a handler asks of the tiers.
type tierSettings struct {
	// memory is the budget of the first tier in bytes, 0 for no first tier.
	memory int64
	// redis is nil for no second tier. Invalidations are shared all the same if
	// the app has a Redis.
	redis *redisSettings
}

// redisSettings are the settings of the second tier.
type redisSettings struct {
	budget   time.Duration // the longest that a look-up may take
	maxBody  int           // bytes
	compress bool
}

// tiers are what one handler keeps responses in.
type tiers struct {
	// memory is nil if the handler has no first tier, redis if it has no second.
	memory *memory.Store
	redis  *redis.Store
	// epochs and budget are never nil.
	epochs *invalidations
	budget *stream.Budget

	local    *local
	releases []func() error
}

// acquireTiers returns the tiers for a handler. It opens no connection. Whoever
// gets them releases them once.
func acquireTiers(a *app.App, s tierSettings) (*tiers, error) {
	t := &tiers{}
	val, _, err := locals.LoadOrNew(localKey, newLocal)
	if err != nil {
		return nil, err
	}
	t.local = val.(*local)
	t.budget = &t.local.budget
	t.release1(locals, localKey)
	if s.memory > 0 {
		t.memory = t.local.memory
		t.local.setBudget(t, s.memory)
	}
	t.epochs = &invalidations{Table: t.local.table}
	rd := a.Redis()
	if rd == nil {
		return t, nil
	}

	val, _, err = exchanges.LoadOrNew(rd.Key(), func() (caddy.Destructor, error) {
		return pooledEpochs{redis.NewEpochs(t.local.table, redis.EpochsOptions{Client: rd.Background(), Prefix: a.KeyPrefix()})}, nil
	})
	if err != nil {
		return nil, errors.Join(err, t.release())
	}
	t.epochs.exchange = val.(pooledEpochs).Epochs
	t.release1(exchanges, rd.Key())
	if s.redis == nil {
		return t, nil
	}

	key := fmt.Sprintf("%s|%+v", rd.Key(), *s.redis)
	val, _, err = redisTiers.LoadOrNew(key, func() (caddy.Destructor, error) {
		return pooledStore{redis.NewStore(redis.Options{
			Client: rd.Client(), Background: rd.Background(), Prefix: a.KeyPrefix(),
			Availability: rd.Availability(), Budget: s.redis.budget, MaxBody: s.redis.maxBody, Compress: s.redis.compress,
			Ready: inStep(t.epochs.exchange), Admit: t.epochs.exchange.Admit,
		})}, nil
	})
	if err != nil {
		return nil, errors.Join(err, t.release())
	}
	t.redis = val.(pooledStore).Store
	t.release1(redisTiers, key)
	return t, nil
}

// inStep does not wait: start has.
func inStep(e *redis.Epochs) func(context.Context) bool {
	return func(context.Context) bool { return e.Ready() }
}

func (t *tiers) release1(pool *caddy.UsagePool, key string) {
	t.releases = append(t.releases, func() error {
		_, err := pool.Delete(key)
		return err
	})
}

// startWait is how long the first requests wait for the invalidations of other
// gateways.
const startWait = 20 * time.Millisecond

// start begins what needs the network. The handler calls it with each request,
// for a configuration that is only validated must not reach out. The first
// requests wait a moment for what other gateways have invalidated.
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
	for i := len(t.releases) - 1; i >= 0; i-- {
		errs = append(errs, t.releases[i]())
	}
	t.releases = nil
	return errors.Join(errs...)
}

// invalidations are the process' table and the exchange with other gateways,
// if there is one.
type invalidations struct {
	*epoch.Table
	exchange *redis.Epochs
}

// Invalidate makes the scopes unusable here at once and at all other gateways.
func (i *invalidations) Invalidate(scopes ...object.Scope) {
	if i.exchange != nil {
		i.exchange.Invalidate(scopes...)
		return
	}
	i.Table.Invalidate(scopes...)
}

// Purge is Invalidate that tells of a scope that makes no sense, and whether
// the other gateways can know already.
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

// Interface guards
var (
	_ object.Epochs    = (*invalidations)(nil)
	_ caddy.Destructor = (*local)(nil)
	_ caddy.Destructor = pooledEpochs{}
	_ caddy.Destructor = pooledStore{}
)
