package app

import (
	"context"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/metrics"
)

var (
	commandSeconds = metrics.Histogram("redis_command_duration_seconds", "Time that commands and pipelines on the path of a request took, failures included.",
		.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25)
	commandErrors = metrics.Counter("redis_command_errors_total", "Commands and pipelines on the path of a request that got no answer.")
)

func collectors() []prometheus.Collector {
	return []prometheus.Collector{
		commandSeconds, commandErrors,
		metrics.Collector(collectPools, upDesc, partsDesc, instancesDesc, connsDesc, idleDesc, hitsDesc, missesDesc, timeoutsDesc),
		metrics.Collector(collectCertificates, notBeforeDesc, notAfterDesc),
	}
}

// latencyHook times the commands of the hot client.
type latencyHook struct{}

func (latencyHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

func (latencyHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		observe(began, err)
		return err
	}
}

func (latencyHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		observe(began, err)
		return err
	}
}

func observe(began time.Time, err error) {
	commandSeconds.Observe(time.Since(began).Seconds())
	if err == nil {
		return
	}
	// An error reply (a missing key, NOSCRIPT) is an answer.
	if _, replied := err.(redis.Error); !replied {
		commandErrors.Inc()
	}
}

func poolDesc(name, help string) *prometheus.Desc {
	return metrics.Desc("redis_"+name, help, "redis")
}

var (
	upDesc        = poolDesc("up", "Whether Redis is available, all of it (1), or not (0).")
	partsDesc     = metrics.Desc("redis_partitions", "Redis servers, or masters of the Cluster, by state.", "redis", "state")
	instancesDesc = poolDesc("instances", "Gateways that share this Redis and key prefix, by their heartbeats.")
	connsDesc     = poolDesc("pool_connections", "Open connections of the hot path.")
	idleDesc      = poolDesc("pool_idle_connections", "Idle connections of the hot path.")
	hitsDesc      = poolDesc("pool_hits_total", "Times that a free connection was found.")
	missesDesc    = poolDesc("pool_misses_total", "Times that no free connection was found.")
	timeoutsDesc  = poolDesc("pool_timeouts_total", "Times that no connection was free in time.")
)

// collectPools reads the open connections when metrics are collected, so that nothing
// has to be kept in step with them.
func collectPools(ch chan<- prometheus.Metric) {
	connections.Range(func(_ string, rd *Redis) bool {
		send := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, t, v, rd.Key())
		}
		up := rd.Up()
		send(upDesc, prometheus.GaugeValue, metrics.Bool(up))
		counts := map[availability.State]int{}
		for _, s := range rd.availability.Status() {
			counts[s.State]++
		}
		for _, s := range []availability.State{availability.Available, availability.ReadOnly, availability.Unavailable} {
			metrics.SendGauge(ch, partsDesc, float64(counts[s]), rd.Key(), s.String())
		}
		send(instancesDesc, prometheus.GaugeValue, float64(rd.Instances()))
		if rd.Cluster() && !up {
			return true // reading the nodes of a lost Cluster would wait for it
		}
		stats := rd.hot.PoolStats()
		send(connsDesc, prometheus.GaugeValue, float64(stats.TotalConns))
		send(idleDesc, prometheus.GaugeValue, float64(stats.IdleConns))
		send(hitsDesc, prometheus.CounterValue, float64(stats.Hits))
		send(missesDesc, prometheus.CounterValue, float64(stats.Misses))
		send(timeoutsDesc, prometheus.CounterValue, float64(stats.Timeouts))
		return true
	})
}
