package jwtauth

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pythopus/tentagate/internal/metrics"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/jwtauth/internal/dpop"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

var (
	verifications = metrics.Counters("jwt_verifications_total",
		"Requests by provider and outcome: ok, anonymous, or the reason of the refusal.", "provider", "outcome")
	refreshes = metrics.Counters("jwt_jwks_refresh_total",
		"Fetches of key sets by result: ok, unchanged, error.", "provider", "result")
	cacheRequests = metrics.Counters("jwt_token_cache_requests_total",
		"Look-ups in the cache of verified tokens by result: hit, refused (cached as invalid), miss.", "result")
	cacheHits, cacheRefused, cacheMisses = cacheRequests.WithLabelValues("hit"), cacheRequests.WithLabelValues("refused"), cacheRequests.WithLabelValues("miss")

	cacheEntriesDesc   = metrics.Desc("jwt_token_cache_entries", "Verified tokens in the cache.")
	cacheBytesDesc     = metrics.Desc("jwt_token_cache_bytes", "Estimated memory of the verified tokens in the cache.")
	cacheEvictionsDesc = metrics.Desc("jwt_token_cache_evictions_total",
		"Verified tokens that were evicted before they expired, to make room for others.")

	replayStore = metrics.Counters("jwt_dpop_replay_store_requests_total",
		"DPoP proofs written to Redis by result: ok, error.", "result")
	replayStoreOK, replayStoreError = replayStore.WithLabelValues("ok"), replayStore.WithLabelValues("error")

	proofsDesc      = metrics.Desc("jwt_dpop_proofs", "DPoP proofs that are remembered in memory.")
	proofsEarlyDesc = metrics.Desc("jwt_dpop_proofs_forgotten_early_total",
		"DPoP proofs that were forgotten to make room while they might have been used again.")

	revocationsDesc      = metrics.Desc("jwt_revocations", "Revocations that this gateway knows and that have not expired.")
	revocationsFreshDesc = metrics.Desc("jwt_revocations_fresh",
		"1 if the revocations can be read from Redis, or need none; 0 if not for 10 seconds.")

	ageDesc = metrics.Desc("jwt_jwks_age_seconds", "Time since the last successful fetch of a key set.", "source")
)

// collectors are all collectors of the feature.
func collectors() []prometheus.Collector {
	return []prometheus.Collector{
		verifications, refreshes, cacheRequests, replayStore,
		metrics.Collector(collectAges, ageDesc),
		metrics.Collector(collectCaches, cacheEntriesDesc, cacheBytesDesc, cacheEvictionsDesc),
		metrics.Collector(collectRevocations, revocationsDesc, revocationsFreshDesc),
		metrics.Collector(collectProofs, proofsDesc, proofsEarlyDesc),
	}
}

// outcomeOK is the outcome of a request whose token was accepted.
const outcomeOK = "ok"

// decided counts the outcome of a request, and notes it for the access log.
func decided(r *http.Request, provider, outcome string) {
	s := requeststate.Peek(r)
	if s != nil {
		s.Decisions.Auth, s.Decisions.Provider = outcome, provider
	}
	if s == nil || !s.DryRun {
		verifications.WithLabelValues(provider, outcome).Inc()
	}
}

// collectAges reads the ages of key sets. The label is a hash of the source's
// settings. A key set that was never fetched has no age: zero would mean that it is
// fresh.
func collectAges(ch chan<- prometheus.Metric) {
	remotes.Range(func(key string, r *keyset.Remote) bool {
		if age := r.Age(); age > 0 {
			metrics.SendGauge(ch, ageDesc, age.Seconds(), key[:16])
		}
		return true
	})
}

// collectCaches adds up the caches.
func collectCaches(ch chan<- prometheus.Metric) {
	entries, bytes, evictions := 0, int64(0), evictedBefore.Load()
	for _, c := range caches.Values() {
		n, size, evicted := c.good.Stats()
		entries += n
		bytes += size
		evictions += evicted
	}
	metrics.SendGauge(ch, cacheEntriesDesc, float64(entries))
	metrics.SendGauge(ch, cacheBytesDesc, float64(bytes))
	metrics.SendCounter(ch, cacheEvictionsDesc, float64(evictions))
}

// collectRevocations counts revocations. Without a deny list there are no series.
func collectRevocations(ch chan<- prometheus.Metric) {
	lists := denyLists.Values()
	n, fresh := 0, 1.0
	for _, l := range lists {
		n += l.Live()
		if !l.Fresh(l.Now()) {
			fresh = 0
		}
	}
	if len(lists) > 0 {
		metrics.SendGauge(ch, revocationsDesc, float64(n))
		metrics.SendGauge(ch, revocationsFreshDesc, fresh)
	}
}

// collectProofs counts proofs. Without dpop there are no series.
func collectProofs(ch chan<- prometheus.Metric) {
	all := replays.Values()
	n := 0
	for _, s := range all {
		n += s.memory.Len()
	}
	if len(all) > 0 {
		metrics.SendGauge(ch, proofsDesc, float64(n))
		metrics.SendCounter(ch, proofsEarlyDesc, float64(dpop.ForgottenEarly()))
	}
}

// observeReplays counts a proof that was written to Redis.
func observeReplays(err error) {
	if err != nil {
		replayStoreError.Inc()
		return
	}
	replayStoreOK.Inc()
}
