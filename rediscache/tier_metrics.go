package rediscache

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/rediscache/internal/memory"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/redis"
)

// purges counts what operators invalidated, by scope.
var purges = metrics.Counters("http_cache_purges_total", "Invalidations by the admin API or PURGE requests, by scope.", "scope")

func countPurge(s object.Scope) {
	kind := "group"
	switch {
	case s.All:
		kind = "all"
	case s.URL != "":
		kind = "url"
	case s.Prefix != "":
		kind = "prefix"
	case s.Host != "":
		kind = "host"
	case s.Tag != "":
		kind = "tag"
	}
	purges.WithLabelValues(kind).Inc()
}

// totals are the statistics of all tiers of the process.
type totals struct {
	memory   memory.Stats
	arriving int64
	redis    redis.Stats
	epochs   redis.EpochsStats
}

// tierSeries are the series of the tiers.
var tierSeries = []tierSerie{
	tierGauge("memory_bytes", "Bytes stored in the memory tier.",
		func(t *totals) int64 { return t.memory.Bytes }),
	tierGauge("memory_maximum_bytes", "Size limit of the memory tier in bytes.",
		func(t *totals) int64 { return t.memory.Maximum }),
	tierGauge("arriving_bytes", "Bytes of responses that are arriving and will be stored, in addition to the memory tier.",
		func(t *totals) int64 { return t.arriving }),
	tierGauge("memory_entries", "Keys stored in the memory tier.",
		func(t *totals) int64 { return t.memory.Entries }),
	tierCounter("memory_evictions_total", "Entries evicted from the memory tier or not admitted to it.",
		func(t *totals) int64 { return t.memory.Evictions }),
	tierCounter("memory_evicted_bytes_total", "Bytes evicted from the memory tier or not admitted to it.",
		func(t *totals) int64 { return t.memory.EvictedBytes }),
	tierCounter("redis_hits_total", "Look-ups in the Redis tier that found something.",
		func(t *totals) int64 { return t.redis.Hits }),
	tierCounter("redis_misses_total", "Look-ups in the Redis tier that found nothing.",
		func(t *totals) int64 { return t.redis.Misses }),
	tierCounter("redis_skipped_total", "Look-ups in the Redis tier skipped because it was unavailable or invalidations may have been missed.",
		func(t *totals) int64 { return t.redis.Skipped }),
	tierCounter("redis_errors_total", "Look-ups in the Redis tier that failed.",
		func(t *totals) int64 { return t.redis.Errors }),
	tierCounter("redis_late_total", "Look-ups in the Redis tier that exceeded their time budget.",
		func(t *totals) int64 { return t.redis.Late }),
	tierCounter("redis_corrupt_total", "Values in Redis that were corrupt or of another version.",
		func(t *totals) int64 { return t.redis.Corrupt }),
	tierCounter("redis_writes_total", "Responses written to the Redis tier.",
		func(t *totals) int64 { return t.redis.Writes }),
	tierCounter("redis_write_errors_total", "Writes to the Redis tier that failed.",
		func(t *totals) int64 { return t.redis.WriteErrors }),
	tierCounter("redis_dropped_writes_total", "Writes to the Redis tier dropped because the queue was full or Redis was unavailable.",
		func(t *totals) int64 { return t.redis.Dropped }),
	tierGauge("redis_queued_bytes", "Bytes waiting to be written to the Redis tier.",
		func(t *totals) int64 { return t.redis.QueuedBytes }),
	tierGauge("redis_away", "1 while Redis is considered unavailable.",
		func(t *totals) int64 { return int64(metrics.Bool(t.redis.Away)) }),
	tierCounter("invalidations_learned_total", "Invalidations received from other gateways.",
		func(t *totals) int64 { return t.epochs.Learned }),
	tierGauge("invalidations_pending", "Invalidations not yet sent to the other gateways.",
		func(t *totals) int64 { return t.epochs.Pending }),
	tierCounter("invalidation_log_restored_total", "Times that the invalidation log in Redis was found incomplete and was restored.",
		func(t *totals) int64 { return t.epochs.Lost }),
}

// tierSerie is one series: its value is part of the totals.
type tierSerie struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*totals) int64
}

func tierGauge(name, help string, value func(*totals) int64) tierSerie {
	return tierSerie{metrics.Desc("http_cache_"+name, help), prometheus.GaugeValue, value}
}

func tierCounter(name, help string, value func(*totals) int64) tierSerie {
	return tierSerie{metrics.Desc("http_cache_"+name, help), prometheus.CounterValue, value}
}

// tierCollector reads the statistics of the tiers when metrics are collected. There is
// one per process, whatever the number of handlers.
func tierCollector() prometheus.Collector {
	descriptions := make([]*prometheus.Desc, len(tierSeries))
	for i, s := range tierSeries {
		descriptions[i] = s.desc
	}
	return metrics.Collector(collectTiers, descriptions...)
}

// collectTiers sends the current values, summed over what the running handlers use.
func collectTiers(ch chan<- prometheus.Metric) {
	now := currentStats()
	t := totals{arriving: now.Arriving}
	if now.Memory != nil {
		t.memory = *now.Memory
	}
	for _, r := range now.Redis {
		t.redis.Hits += r.Hits
		t.redis.Misses += r.Misses
		t.redis.Skipped += r.Skipped
		t.redis.Errors += r.Errors
		t.redis.Late += r.Late
		t.redis.Corrupt += r.Corrupt
		t.redis.Writes += r.Writes
		t.redis.WriteErrors += r.WriteErrors
		t.redis.Dropped += r.Dropped
		t.redis.QueuedBytes += r.QueuedBytes
		t.redis.Away = t.redis.Away || r.Away
	}
	for _, e := range now.Invalidation {
		t.epochs.Learned += e.Learned
		t.epochs.Pending += e.Pending
		t.epochs.Lost += e.Lost
	}
	for _, s := range tierSeries {
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, float64(s.value(&t)))
	}
}
