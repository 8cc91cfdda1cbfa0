package certstore

import (
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pythopus/tentagate/certstore/internal/seal"
	"github.com/pythopus/tentagate/certstore/internal/store"
	"github.com/pythopus/tentagate/internal/healthcheck"
	"github.com/pythopus/tentagate/internal/running"
)

// wrongKeyPeriod is how often the log says that the keys are wrong.
const wrongKeyPeriod = time.Minute

// observer logs and counts what a store tells. The store may outlive the
// configuration that it was made for, and so it does not use its logger.
type observer struct {
	mu     sync.Mutex
	logged time.Time // that the keys are wrong
}

func (o *observer) observe(e store.Event) {
	if e.Kind == store.Operation {
		operationSeconds.WithLabelValues(e.Name).Observe(e.Took.Seconds())
		if e.Err != nil {
			operationErrors.WithLabelValues(e.Name, reason(e.Err)).Inc()
		}
		return
	}
	log := running.Logger("caddy.storage.tentagate")
	switch e.Kind {
	case store.Unreachable:
		log.Warn("Redis unreachable; certificates in memory are served, none is obtained or renewed", zap.Error(e.Err))
	case store.Reachable:
		log.Info("Redis reachable again")
	case store.Waiting:
		log.Warn("waiting for Redis to load or store a certificate", zap.String("operation", e.Name), zap.Error(e.Err))
	case store.WrongKey:
		if o.due(time.Now()) {
			log.Error("certificates cannot be used: the configured key is wrong", zap.Error(e.Err))
		}
	case store.LockLost:
		locksLost.Inc()
		log.Warn("a lock was lost to another gateway; what it protects is no longer written", zap.String("lock", e.Name))
	case store.Fenced:
		log.Warn("not written: the lock was lost to another gateway", zap.String("key", e.Name))
	case store.Evicting:
		log.Error("Redis may evict certificates: set its maxmemory-policy to noeviction or volatile-lru, or give the storage a Redis of its own",
			zap.String("maxmemory_policy", e.Name))
	case store.Kept:
		log.Debug("Redis evicts no certificates", zap.String("maxmemory_policy", e.Name))
	case store.Reencrypted:
		logReencrypted(log, e)
	case store.Operation:
	}
}

func logReencrypted(log *zap.Logger, e store.Event) {
	if e.Err != nil {
		log.Warn("not all entries are encrypted with the first key yet; trying again", zap.Int("encrypted_now", e.Count), zap.Error(e.Err))
		return
	}
	log.Info("all entries are encrypted with the first key; the further keys can be removed once every gateway has it first",
		zap.Int("encrypted_now", e.Count))
}

// due reports whether the log is to say again that the keys are wrong.
func (o *observer) due(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.logged) < wrongKeyPeriod {
		return false
	}
	o.logged = now
	return true
}

// reason is the label for an error.
func reason(err error) string {
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return "unavailable"
	case errors.Is(err, store.ErrWrongKey):
		return "wrong_key"
	case errors.Is(err, store.ErrFenced):
		return "lock_lost"
	case errors.Is(err, seal.ErrCorrupt):
		return "corrupt"
	}
	return "other"
}

func init() {
	healthcheck.Provide("certificates:storage", func() (checks []healthcheck.Check) {
		stores.Range(func(_ string, s *shared) bool {
			checks = append(checks, check(s.Status()))
			return true
		})
		return checks
	})
}

// check is what the details of /health say. They may be public.
func check(s store.Status) healthcheck.Check {
	c := healthcheck.Check{ComponentType: "datastore", Status: healthcheck.Pass}
	switch {
	case errors.Is(s.Reason, store.ErrWrongKey):
		c.Status, c.Output = healthcheck.Warn, "the configured key is not that of the stored certificates"
	case s.Reason != nil:
		c.Status, c.Output = healthcheck.Warn, "Redis is unreachable: no certificate is obtained or renewed"
	case s.Evicting:
		c.Status, c.Output = healthcheck.Warn, "Redis may evict certificates: its maxmemory-policy is "+s.Policy
	}
	return c
}
