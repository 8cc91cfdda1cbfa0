// Package certstore is the storage module `tentagate`: certificates, private
// keys and ACME accounts in Redis, encrypted, for all replicas of a gateway.
package certstore

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/redis/go-redis/v9"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/certstore/internal/seal"
	"github.com/pythopus/tentagate/certstore/internal/store"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/parse"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/running"
)

// Bounds of the options.
const (
	leastTimeout = 100 * time.Millisecond
	mostTimeout  = 30 * time.Second
	leastLease   = 2 * time.Second
	mostLease    = 5 * time.Minute
)

// poolSize is the most connections to one server. A start with many certificates
// loads them at once.
const poolSize = 16

func init() {
	caddy.RegisterModule(&Storage{})
}

// Storage keeps what Caddy stores (certificates, private keys, ACME accounts,
// challenges, OCSP staples) in Redis. All gateways with the same Redis, key prefix
// and keys share their certificates: one of them obtains or renews a certificate,
// any of them answers the challenge.
//
// Values are encrypted with AES-256-GCM, and names are hidden: Redis shows neither
// keys nor hosts. A lock has a short lease, which its holder renews; one that lost
// its lock cannot write what the lock protects.
//
//	{
//		storage tentagate {
//			redis {env.CERTIFICATES_REDIS_URL}
//			key {file./run/secrets/certificate-key}
//		}
//	}
type Storage struct {
	// The Redis for certificates. Default: that of the app `tentagate`. One for
	// caching may evict certificates; Caddy's `storage` commands need it here.
	RedisConfig *app.RedisConfig `json:"redis,omitempty"`

	// Encryption keys: each is the placeholder of a file or an environment variable,
	// `{file./run/secrets/certificate-key}` or `{env.CERTIFICATE_KEY}`, that holds
	// one or, separated by commas, several keys of 32 random bytes in hexadecimal or
	// base64. The first encrypts, all decrypt. Required.
	Keys []string `json:"keys,omitempty" secret:"true"`

	// The longest that one operation may take. Default: 2s. Accepted: 100ms to 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// After how long the lock of a gateway that is gone is free. Default: 15s.
	// Accepted: 2s to 5m.
	LockLease caddy.Duration `json:"lock_lease,omitempty"`

	// Where the Caddyfile has this option; errors name it.
	Position string `json:"position,omitempty"`

	ctx caddy.Context
	ref *pool.Ref[*shared]
}

// CaddyModule returns the Caddy module information.
func (*Storage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.storage.tentagate",
		New: func() caddy.Module { return new(Storage) },
	}
}

// shared is a store with its connection. It outlives a reload that does not change
// the settings, and, as long as a lock is held, the configuration.
type shared struct {
	*store.Store
	redis   string // identifies the connection
	client  redis.UniversalClient
	release func()
}

var stores = pool.New(func(s *shared) error {
	s.Close()
	err := s.client.Close()
	s.release()
	return err
})

// Provision prepares the storage. It opens no connection.
func (s *Storage) Provision(ctx caddy.Context) error {
	s.ctx = ctx
	metrics.Register(ctx.GetMetricsRegistry(), collectors()...)
	return place.Error(ctx, "storage tentagate", s.Position, s.provision(ctx))
}

func (s *Storage) provision(ctx caddy.Context) error {
	if err := s.validate(); err != nil {
		return err
	}
	ring, err := s.ring()
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	a, err := app.Get(ctx)
	if err != nil {
		return err
	}
	rd, release, err := s.connect(ctx, a)
	if err != nil {
		return err
	}
	defer release()
	key := fmt.Sprint(rd.Key(), ring.IDs(), s.Timeout, s.LockLease)
	s.ref, err = stores.Acquire(key, func() (*shared, error) { return s.open(key, rd, ring), nil })
	if err == nil {
		a.OnStart(s.ref.Value.Start)
	}
	return err
}

func (s *Storage) validate() error {
	return cmp.Or(
		parse.Between("timeout", cmp.Or(time.Duration(s.Timeout), leastTimeout), leastTimeout, mostTimeout),
		parse.Between("lock_lease", cmp.Or(time.Duration(s.LockLease), leastLease), leastLease, mostLease),
	)
}

// ring reads the keys.
func (s *Storage) ring() (seal.Ring, error) {
	if len(s.Keys) == 0 {
		return nil, errors.New("it is required: the placeholder of a file or variable with 32 random bytes in base64, such as {file./run/secrets/certificate-key}")
	}
	for _, text := range s.Keys {
		if !strings.HasPrefix(text, "{file.") && !strings.HasPrefix(text, "{env.") || !strings.HasSuffix(text, "}") {
			return nil, errors.New("write it as {file./path/to/file} or {env.NAME}: what is written in the configuration itself is no secret")
		}
	}
	texts, err := resolve.SecretList("key", s.Keys)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "key: "))
	}
	return seal.NewRing(texts)
}

// errNoRedis also stands for Caddy's storage commands, which load this module
// without the rest of the configuration.
var errNoRedis = errors.New("it needs a Redis: give `redis <address>` in its block (Caddy's storage commands know no other), " +
	"set REDIS_URL or REDIS_URL_FILE, or configure the global option tentagate { redis <address> }")

// connect returns the connection, held until release.
func (s *Storage) connect(ctx caddy.Context, a *app.App) (rd *app.Redis, release func(), err error) {
	if s.RedisConfig == nil {
		if a.Redis() == nil {
			return nil, nil, errNoRedis
		}
		return a.Redis(), a.Redis().Retain(), nil
	}
	rd, release, err = app.Connect(s.RedisConfig, running.Logger("caddy.storage.tentagate"))
	if err == nil && rd == nil {
		err = errors.New("redis: {env.REDIS_URL} is not set, and certificates need a Redis")
	}
	return rd, release, err
}

// open makes the store of a pool's key.
func (s *Storage) open(key string, rd *app.Redis, ring seal.Ring) *shared {
	timeout := cmp.Or(time.Duration(s.Timeout), store.DefaultTimeout)
	client := rd.NewClient(timeout, poolSize)
	return &shared{
		redis: rd.Key(), client: client, release: rd.Retain(),
		Store: store.New(store.Options{
			Client: client, Prefix: rd.KeyPrefix(), Keys: ring, Timeout: timeout, Lease: time.Duration(s.LockLease),
			Observe: new(observer).observe,
			Retain: func() func() {
				ref, _ := stores.Acquire(key, func() (*shared, error) { return nil, errors.New("the storage is closed") })
				return func() { _ = ref.Release() }
			},
		}),
	}
}

// CertMagicStorage returns the storage for certmagic. What begins to manage
// certificates has the context of the configuration, and waits for Redis.
func (s *Storage) CertMagicStorage() (certmagic.Storage, error) {
	return s.ref.Value.View(s.ctx.Context), nil
}

// Cleanup ends the use of the store.
func (s *Storage) Cleanup() error { return s.ref.Release() }

// Interface guards
var (
	_ caddy.Provisioner      = (*Storage)(nil)
	_ caddy.CleanerUpper     = (*Storage)(nil)
	_ caddy.StorageConverter = (*Storage)(nil)
)
