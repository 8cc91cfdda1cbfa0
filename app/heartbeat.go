package app

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/pythopus/tentagate/app/availability"
)

// heartbeatPeriod is the time between two announcements of this instance. An
// instance that has been silent for three periods is no longer counted.
const heartbeatPeriod = 2 * time.Second

// announce enters the instance with the server's time, so that the clocks of
// the gateways need not agree, drops the silent ones and counts the rest.
// KEYS[1] the set, ARGV[1] the instance, ARGV[2] the life of an entry in ms.
var announce = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
`)

// start begins the heartbeat. Later calls, from later configurations, do
// nothing.
func (rd *Redis) start() {
	rd.startOnce.Do(func() { rd.done.Go(rd.heartbeat) })
}

func (rd *Redis) heartbeat() {
	contacted := false
	for {
		contacted = rd.beat(rd.ctx, contacted) || contacted
		// Jitter keeps the instances of a rollout from beating in step.
		timer := time.NewTimer(heartbeatPeriod + rand.N(heartbeatPeriod/10))
		select {
		case <-timer.C:
		case <-rd.ctx.Done():
			timer.Stop()
			rd.leave()
			return
		}
	}
}

// beat announces this instance once, and reports whether that succeeded. The
// last known number of instances is kept while the server is unavailable.
func (rd *Redis) beat(ctx context.Context, contacted bool) bool {
	ctx, cancel := context.WithTimeout(ctx, heartbeatPeriod)
	defer cancel()
	key := rd.instancesKey()
	partition := rd.availability.Partition(key)
	began := time.Now()
	n, err := announce.Run(ctx, rd.background, []string{key}, instanceID(), (3 * heartbeatPeriod).Milliseconds()).Int64()
	if err != nil {
		partition.Lost(err)
		if availability.Classify(err) != availability.Canceled && !partition.Readable() {
			return false // logged with the change of state
		}
		if rd.logger.Core().Enabled(zap.DebugLevel) {
			rd.logger.Debug("heartbeat failed", zap.Error(err))
		}
		return false
	}
	rd.instances.Store(max(n, 1))
	partition.Report(availability.Call{Began: began, Write: true}, nil)
	if contacted {
		_ = rd.hot.Ping(ctx).Err() // keeps a connection open
		return true
	}
	rd.warm(ctx)
	rd.logger.Info("Redis reachable", zap.Int64("instances", n))
	return true
}

// warmConnections is how many connections are opened for the first requests.
const warmConnections = 16

// warm opens connections for requests. Without them the first ones, which may
// come all at once, would have to, within the little time that they have for
// Redis.
func (rd *Redis) warm(ctx context.Context) {
	var opened sync.WaitGroup
	for i := range warmConnections {
		key := rd.settings.prefix + ":warm:" + strconv.Itoa(i)
		opened.Go(func() { _ = rd.hot.Exists(ctx, key).Err() })
		opened.Go(func() {
			_, _ = rd.hot.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Exists(ctx, key)
				p.Exists(ctx, key)
				return nil
			})
		})
	}
	opened.Wait()
}

// leave takes this instance off the list, so that the others need not wait for
// its silence. While Redis is unreachable, they do.
func (rd *Redis) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), defaultDialTimeout)
	defer cancel()
	_ = rd.background.ZRem(ctx, rd.instancesKey(), instanceID()).Err()
}

func (rd *Redis) instancesKey() string { return rd.settings.prefix + ":instances" }
