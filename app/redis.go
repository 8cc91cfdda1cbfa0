package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/app/resp"
	"github.com/pythopus/tentagate/internal/events"
	"github.com/pythopus/tentagate/internal/pool"
)

func init() {
	// go-redis writes lines of its own to standard error, one per failed dial. The
	// loss of a server is logged once.
	redis.SetLogger(redisLogger{})
}

// redisLogger passes go-redis' own messages to Caddy's log at debug level.
type redisLogger struct{}

func (redisLogger) Printf(_ context.Context, format string, v ...any) {
	if c := caddy.Log().Named("tentagate.redis").Check(zap.DebugLevel, "go-redis"); c != nil {
		c.Write(zap.String("message", fmt.Sprintf(format, v...)))
	}
}

// connections are the open connections by the hash of their settings. They
// survive a reload that does not change the settings.
var connections = pool.New((*Redis).close)

// Redis is a connection to the Redis that gateways share. It exists whether or
// not the server answers; go-redis dials when there is something to send, and
// again after a failure.
type Redis struct {
	settings   *redisSettings
	hot        redis.UniversalClient
	background redis.UniversalClient
	options    redis.UniversalOptions // with user name and password
	closers    []func() error

	availability *availability.Engine

	startOnce sync.Once
	ctx       context.Context // until close
	cancel    context.CancelFunc
	done      sync.WaitGroup
	instances atomic.Int64
	logger    *zap.Logger
}

func acquireRedis(s *redisSettings, logger *zap.Logger) (*pool.Ref[*Redis], error) {
	return connections.Acquire(s.key, func() (*Redis, error) { return newRedis(s, logger) })
}

// Connect returns the connection for the settings of a feature that has a Redis of
// its own, and what releases it. It opens none yet. The connection is nil if the
// address is {env.REDIS_URL} and that is not set.
func Connect(c *RedisConfig, logger *zap.Logger) (rd *Redis, release func(), err error) {
	settings, err := c.resolve()
	if err != nil || settings == nil {
		return nil, func() {}, err
	}
	ref, err := acquireRedis(settings, logger)
	if err != nil {
		return nil, func() {}, err
	}
	return ref.Value, func() { _ = ref.Release() }, nil
}

func newRedis(s *redisSettings, logger *zap.Logger) (*Redis, error) {
	rd := &Redis{settings: s, logger: logger}
	rd.ctx, rd.cancel = context.WithCancel(context.Background())
	rd.instances.Store(1)

	hot := s.options
	if s.entra != nil {
		provider, err := newEntraProvider(s.entra, logger)
		if err != nil {
			return nil, err
		}
		hot.StreamingCredentialsProvider = provider
		rd.closers = append(rd.closers, provider.Close)
	}
	background := hot
	rd.options = hot

	hot.ReadTimeout = cmp.Or(hot.ReadTimeout, defaultTimeout)
	hot.DialTimeout = cmp.Or(hot.DialTimeout, defaultDialTimeout)
	hot.WriteTimeout = hot.ReadTimeout
	hot.PoolTimeout = hot.ReadTimeout
	// A request has one try: a second would double the wait, and a command that
	// was written may have been carried out.
	hot.MaxRetries = -1
	hot.DialerRetries = 1
	hot.ContextTimeoutEnabled = true
	hot.PipelinePoolSize = 8
	// No idle connections kept: they would be dialled while a configuration is
	// only being validated.

	background.ReadTimeout = 3 * time.Second
	background.WriteTimeout = 3 * time.Second
	background.DialTimeout = 3 * time.Second
	background.PoolSize = 4
	background.MaxRetries = 1
	background.DialerRetries = 1
	background.ContextTimeoutEnabled = true

	rd.hot = newClient(&hot)
	rd.background = newClient(&background)
	rd.hot.AddHook(latencyHook{})
	rd.availability = availability.New(availability.Options{
		Client: rd.hot, Prefix: s.prefix, Budget: s.budget, OnChange: rd.changed, OnReason: rd.logReason,
	})
	rd.availability.Subscribe(availability.Subscriber{Name: "connections", Restore: func(ctx context.Context, _ *availability.Partition) error {
		rd.warm(ctx)
		return nil
	}})
	return rd, nil
}

// changed logs that the availability has changed, and makes it an event.
func (rd *Redis) changed(c availability.Change) {
	rd.emit(c)
	rd.logChange(c)
}

// logChange logs that Redis, or a node of the Cluster, was lost or is back.
func (rd *Redis) logChange(c availability.Change) {
	var fields []zap.Field
	if name := c.Partition.Name(); name != "" {
		fields = append(fields, zap.String("node", name))
	}
	if len(c.Late) > 0 {
		fields = append(fields, zap.Strings("not_caught_up", c.Late))
	}
	switch {
	case errors.Is(c.Reason, availability.ErrJoined):
		rd.logger.Info("new Redis node; it is used when the features have caught up", fields...)
	case c.State == availability.Unavailable:
		rd.logger.Warn("Redis unreachable; features use their configured fallback", append(fields, zap.Error(c.Reason))...)
	case c.State == availability.ReadOnly:
		rd.logger.Warn("Redis refuses writes; features use their configured fallback", append(fields, zap.Error(c.Reason))...)
	case c.Removed:
		rd.logger.Info("Redis node left the Cluster", fields...)
	case c.From == availability.ReadOnly:
		rd.logger.Info("Redis accepts writes again", fields...)
	default:
		rd.logger.Info("Redis reachable again", fields...)
	}
}

// logReason logs that Redis, or a node of the Cluster, is still lost for another reason.
func (rd *Redis) logReason(c availability.Change) {
	fields := []zap.Field{zap.Error(c.Reason)}
	if name := c.Partition.Name(); name != "" {
		fields = append(fields, zap.String("node", name))
	}
	if c.State == availability.ReadOnly {
		rd.logger.Warn("Redis still refuses writes, with another error", fields...)
		return
	}
	rd.logger.Warn("Redis still unreachable, with another error", fields...)
}

// emit makes the change an event.
func (rd *Redis) emit(c availability.Change) {
	data := map[string]any{"redis": rd.Key(), "node": c.Partition.Name(), "state": c.State.String()}
	switch {
	case c.Removed || errors.Is(c.Reason, availability.ErrJoined):
		return // the Cluster has changed, not the availability of a node
	case c.State == availability.Available:
		events.Emit(caddy.Context{}, "redis_available", data)
	default:
		if c.Reason != nil {
			data["error"] = c.Reason.Error()
		}
		events.Emit(caddy.Context{}, "redis_unavailable", data)
	}
}

// newClient makes the client for the topology that the options describe.
func newClient(o *redis.UniversalOptions) redis.UniversalClient {
	o.Dialer = resp.Checked(redis.NewDialer(&redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig}))
	// Plain Redis has no maintenance notifications; asking for them costs a
	// round trip at each new connection.
	off := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch {
	case o.MasterName != "":
		return redis.NewFailoverClient(o.Failover())
	case o.IsClusterMode:
		cluster := o.Cluster()
		cluster.MaintNotificationsConfig = off
		// A moved slot is followed; anything else fails at once.
		cluster.MaxRedirects = 3
		return redis.NewClusterClient(cluster)
	default:
		single := o.Simple()
		single.MaintNotificationsConfig = off
		return redis.NewClient(single)
	}
}

// Client returns the client for the path of a request: short timeouts, no
// retries, deadlines of the context honoured.
func (rd *Redis) Client() redis.UniversalClient { return rd.hot }

// Background returns a client of the same server with long timeouts, for
// subscriptions, administration and other work that no request waits for.
func (rd *Redis) Background() redis.UniversalClient { return rd.background }

// NewClient returns a further client of the same server, for work that neither
// competes with requests for connections nor has their timeouts. Each of its calls
// takes at most timeout, has one try, and honours the deadline of its context. The
// caller closes the client, and retains the connection until then.
func (rd *Redis) NewClient(timeout time.Duration, poolSize int) redis.UniversalClient {
	o := rd.options
	o.ReadTimeout, o.WriteTimeout, o.DialTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	o.PoolSize = poolSize
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	return newClient(&o)
}

// Key returns an identifier that is the same for connections with the same
// settings. It reveals nothing of them.
func (rd *Redis) Key() string { return rd.settings.key }

// KeyPrefix returns what begins every key.
func (rd *Redis) KeyPrefix() string { return rd.settings.prefix }

// Cluster reports whether the server is a Redis Cluster, where one command may
// only use keys of one hash slot.
func (rd *Redis) Cluster() bool { return rd.settings.cluster }

// Instances returns how many gateways share this Redis and key prefix, this one
// included, by their heartbeats. It is at least 1.
func (rd *Redis) Instances() int { return int(rd.instances.Load()) }

// Availability says which parts of the server can be used, and takes reports of
// how calls ended. Every feature uses it.
func (rd *Redis) Availability() *availability.Engine { return rd.availability }

// Up reports whether the server answered since the start, and all of it is
// available.
func (rd *Redis) Up() bool { return rd.availability != nil && rd.availability.Up() }

// Usable reports whether the server answered since the start, and some of it is
// available: a Cluster that has lost a node can be used.
func (rd *Redis) Usable() bool { return rd.availability != nil && rd.availability.Usable() }

// Retain keeps the connection open until release is called, for work that has
// to reach the server when a configuration ends: Caddy cleans modules up in no
// particular order.
func (rd *Redis) Retain() (release func()) {
	// The pool has it: the caller got it from an app that is in use.
	ref, _ := connections.Acquire(rd.settings.key, func() (*Redis, error) { return rd, nil })
	return func() { _ = ref.Release() }
}

// close closes the connection when no configuration uses it any more.
func (rd *Redis) close() error {
	rd.cancel()
	rd.done.Wait()
	rd.availability.Close()
	for _, closer := range rd.closers {
		_ = closer()
	}
	return errors.Join(rd.hot.Close(), rd.background.Close())
}
