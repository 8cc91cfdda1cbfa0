package jwtauth

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/jwtauth/internal/dpop"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

var (
	verifications = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "jwt",
		Name:      "verifications_total",
		Help:      "Requests by provider and outcome: ok, anonymous, or the reason of the refusal.",
	}, []string{"provider", "outcome"})
	refreshes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "jwt",
		Name:      "jwks_refresh_total",
		Help:      "Fetches of key sets by result: ok, unchanged, error.",
	}, []string{"provider", "result"})
	cacheRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "jwt",
		Name:      "token_cache_requests_total",
		Help:      "Look-ups in the cache of verified tokens by result: hit, refused (remembered to be bad), miss.",
	}, []string{"result"})
	cacheHits, cacheRefused, cacheMisses = cacheRequests.WithLabelValues("hit"), cacheRequests.WithLabelValues("refused"), cacheRequests.WithLabelValues("miss")

	cacheEntriesDesc = prometheus.NewDesc("tentagate_jwt_token_cache_entries",
		"Verified tokens that are remembered.", nil, nil)
	cacheBytesDesc = prometheus.NewDesc("tentagate_jwt_token_cache_bytes",
		"Memory of the verified tokens that are remembered, as estimated.", nil, nil)
	cacheEvictionsDesc = prometheus.NewDesc("tentagate_jwt_token_cache_evictions_total",
		"Verified tokens that were forgotten before they expired, to make room for others.", nil, nil)

	replayStore = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tentagate",
		Subsystem: "jwt",
		Name:      "dpop_replay_store_requests_total",
		Help:      "DPoP proofs told to Redis by result: ok, error.",
	}, []string{"result"})
	replayStoreOK, replayStoreError = replayStore.WithLabelValues("ok"), replayStore.WithLabelValues("error")

	proofsDesc = prometheus.NewDesc("tentagate_jwt_dpop_proofs",
		"DPoP proofs that are remembered in memory.", nil, nil)
	proofsEarlyDesc = prometheus.NewDesc("tentagate_jwt_dpop_proofs_forgotten_early_total",
		"DPoP proofs that were forgotten to make room while they might have been used again.", nil, nil)

	revocationsDesc = prometheus.NewDesc("tentagate_jwt_revocations",
		"Revocations that this gateway knows and that have not expired.", nil, nil)
	revocationsFreshDesc = prometheus.NewDesc("tentagate_jwt_revocations_fresh",
		"1 if the revocations can be read from Redis, or need none; 0 if not for 10 seconds.", nil, nil)

	ageDesc = prometheus.NewDesc("tentagate_jwt_jwks_age_seconds",
		"Time since a key set was last fetched well.", []string{"source"}, nil)
)

func collectors() []prometheus.Collector {
	return []prometheus.Collector{verifications, refreshes, cacheRequests, replayStore, ageCollector{}, cacheCollector{}, revocationCollector{}, proofCollector{}}
}

func count(provider, outcome string) { verifications.WithLabelValues(provider, outcome).Inc() }

// ageCollector reads the ages when it is asked. The label is a hash of the
// source's settings. A key set that was never fetched has no age: zero would
// say that it is fresh.
type ageCollector struct{}

func (ageCollector) Describe(ch chan<- *prometheus.Desc) { ch <- ageDesc }

func (ageCollector) Collect(ch chan<- prometheus.Metric) {
	remotes.Range(func(key string, r *keyset.Remote) bool {
		if age := r.Age(); age > 0 {
			ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, age.Seconds(), key[:16])
		}
		return true
	})
}

// cacheCollector adds up the caches when it is asked.
type cacheCollector struct{}

func (cacheCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- cacheEntriesDesc
	ch <- cacheBytesDesc
	ch <- cacheEvictionsDesc
}

func (cacheCollector) Collect(ch chan<- prometheus.Metric) {
	entries, bytes, evictions := 0, int64(0), evictedBefore.Load()
	for _, c := range caches.Values() {
		n, size, evicted := c.good.Stats()
		entries += n
		bytes += size
		evictions += evicted
	}
	ch <- prometheus.MustNewConstMetric(cacheEntriesDesc, prometheus.GaugeValue, float64(entries))
	ch <- prometheus.MustNewConstMetric(cacheBytesDesc, prometheus.GaugeValue, float64(bytes))
	ch <- prometheus.MustNewConstMetric(cacheEvictionsDesc, prometheus.CounterValue, float64(evictions))
}

// revocationCollector counts when it is asked. Without a deny list there is
// nothing to tell.
type revocationCollector struct{}

func (revocationCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- revocationsDesc
	ch <- revocationsFreshDesc
}

func (revocationCollector) Collect(ch chan<- prometheus.Metric) {
	lists := denyLists.Values()
	n, fresh := 0, 1.0
	for _, l := range lists {
		n += l.Live()
		if !l.Fresh(l.Now()) {
			fresh = 0
		}
	}
	if len(lists) > 0 {
		ch <- prometheus.MustNewConstMetric(revocationsDesc, prometheus.GaugeValue, float64(n))
		ch <- prometheus.MustNewConstMetric(revocationsFreshDesc, prometheus.GaugeValue, fresh)
	}
}

// proofCollector counts when it is asked. Without dpop there is nothing to tell.
type proofCollector struct{}

func (proofCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- proofsDesc
	ch <- proofsEarlyDesc
}

func (proofCollector) Collect(ch chan<- prometheus.Metric) {
	all := replays.Values()
	n := 0
	for _, s := range all {
		n += s.memory.Len()
	}
	if len(all) > 0 {
		ch <- prometheus.MustNewConstMetric(proofsDesc, prometheus.GaugeValue, float64(n))
		ch <- prometheus.MustNewConstMetric(proofsEarlyDesc, prometheus.CounterValue, float64(dpop.ForgottenEarly()))
	}
}

// observeReplays counts what became of a proof that was told to Redis.
func observeReplays(err error) {
	if err != nil {
		replayStoreError.Inc()
		return
	}
	replayStoreOK.Inc()
}
