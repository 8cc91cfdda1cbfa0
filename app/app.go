// Package app is the `tentagate` Caddy app: what TentaGate's features share,
// above all the connection to Redis.
package app

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/running"
)

// defaultKeyPrefix begins every key of TentaGate in Redis unless the operator
// chooses another.
const defaultKeyPrefix = "tentagate"

func init() {
	caddy.RegisterModule(&App{})
}

// App holds what TentaGate's handlers share. With Redis configured, any number
// of gateways that use the same Redis and key prefix act as one; without it
// everything is kept in the memory of this process.
//
// A configuration that does not mention the app at all takes the connection
// from the environment variable REDIS_URL, or from the file that REDIS_URL_FILE
// names, if one is set. A configuration that has the app, but no `redis` in it,
// keeps everything in memory.
//
//	{
//		tentagate {
//			redis {env.REDIS_URL} {
//				budget 50ms
//			}
//		}
//	}
type App struct {
	// The Redis that all gateways share. Default: none, everything is kept in
	// memory.
	RedisConfig *RedisConfig `json:"redis,omitempty"`

	// Settings that a feature defines once for several of its handlers, by the
	// name of the option and the name of the setting, such as
	// `jwt_provider` → `main`. Default: none.
	SharedOptions map[string]map[string]json.RawMessage `json:"shared,omitempty"`

	// given is true if the configuration has this app.
	given      bool
	redis      *Redis
	connection *pool.Ref[*Redis]
	logger     *zap.Logger
	onStart    []func()
	loaded     time.Time // when Start ended
}

// instanceID names this process among the gateways that share a Redis. It is
// made new at each start: a file would need a writable disk.
var instanceID = sync.OnceValue(rand.Text)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "tentagate",
		New: func() caddy.Module { return new(App) },
	}
}

// UnmarshalJSON reads the app's configuration as strictly as Caddy reads every
// module's, and notes that there is one.
func (a *App) UnmarshalJSON(data []byte) error {
	type plain App
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode((*plain)(a)); err != nil {
		return err
	}
	a.given = true
	return nil
}

// Provision prepares the connection to Redis. It opens none.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	running.Starting(ctx)
	if !a.given && a.RedisConfig == nil {
		a.RedisConfig = ofEnvironment()
	}
	metrics.Register(ctx.GetMetricsRegistry(), collectors()...)
	if err := a.checkShared(ctx); err != nil {
		unprovisioned.Store(&err)
		return err
	}
	if a.RedisConfig == nil {
		return nil
	}
	settings, err := a.RedisConfig.resolve()
	if err == nil && settings != nil {
		a.connection, err = acquireRedis(settings, running.Logger("tentagate"))
	}
	if a.connection != nil {
		a.redis = a.connection.Value
	}
	if err == nil {
		return nil
	}
	err = place.Error(ctx, a.RedisConfig.option(), a.RedisConfig.Position, err)
	unprovisioned.Store(&err)
	return err
}

// unprovisioned is the last error of Provision. Caddy returns it to the handlers
// that ask for the app as a text, which has lost the place.
var unprovisioned atomic.Pointer[error]

// OnStart has f called when the configuration starts, which one that is only
// validated never does. It is for Provision, and f returns at once.
func (a *App) OnStart(f func()) { a.onStart = append(a.onStart, f) }

// Start begins to announce this instance to the others, and does what features
// asked for.
func (a *App) Start() error {
	for _, f := range a.onStart {
		f()
	}
	if a.redis != nil {
		a.redis.start()
	}
	if warning := a.Warning(); warning != "" {
		warned.Do(func() { a.logger.Warn(warning) })
	}
	a.loaded = time.Now()
	return nil
}

// warned has the warning logged once in the process, not at each reload.
var warned sync.Once

// Warning says what is probably wrong with the configuration of Redis, for the log
// and the details of the health; mostly it is empty. Pods of Kubernetes are rarely
// alone, and share nothing without Redis.
func (a *App) Warning() string {
	if a.redis != nil || os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return ""
	}
	return "no Redis in Kubernetes: with more than one replica each has its own limits, cache and revoked tokens; set REDIS_URL or REDIS_URL_FILE"
}

// Stop does nothing: the connection outlives a reload, and is closed by Cleanup when the
// last configuration that uses it is gone.
func (*App) Stop() error { return nil }

// Cleanup releases the connection.
func (a *App) Cleanup() error {
	if a.redis == nil {
		return nil
	}
	a.redis = nil
	return a.connection.Release()
}

// Get returns the app for use by a handler. It provisions a default one where
// the configuration has none. In a context without a configuration, as unit
// tests make it, everything is in memory.
func Get(ctx caddy.Context) (*App, error) {
	// Whichever features a server has, it takes no request from a body.
	framing.Install(ctx)
	val, err := ctx.AppIfConfigured("tentagate")
	if errors.Is(err, caddy.ErrNotConfigured) {
		val, err = provisionDefault(ctx)
	}
	if err != nil {
		// It is an error of the app, not of the handler that happens to load it.
		if own := unprovisioned.Load(); own != nil && strings.HasSuffix(err.Error(), (*own).Error()) {
			err = *own
		}
		return nil, err
	}
	return val.(*App), nil
}

// provisionDefault loads the app where the configuration does not name it.
func provisionDefault(ctx caddy.Context) (val any, err error) {
	defer func() {
		// Context.App panics in a context without a configuration, and the
		// context has no way to ask.
		if recover() != nil {
			val, err = &App{given: true}, nil
		}
	}()
	return ctx.App("tentagate")
}

// Redis returns the shared connection, or nil if everything is in memory.
func (a *App) Redis() *Redis { return a.redis }

// KeyPrefix returns what begins every key in Redis.
func (a *App) KeyPrefix() string {
	if a.redis != nil {
		return a.redis.KeyPrefix()
	}
	return defaultKeyPrefix
}

// InstanceID returns a random name of this process, the same for its whole
// life.
func (*App) InstanceID() string { return instanceID() }

// Shared returns the setting that the global option `option` defined under the
// name key, as the JSON of the value that its parser returned.
func (a *App) Shared(option, key string) (json.RawMessage, bool) {
	raw, ok := a.SharedOptions[option][key]
	return raw, ok
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
	_ json.Unmarshaler   = (*App)(nil)
)
