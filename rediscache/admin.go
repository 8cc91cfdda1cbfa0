package rediscache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/pythopus/tentagate/internal/admin"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/memory"
	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/redis"
)

func init() {
	admin.RegisterStatus("cache", currentStats, printStats)
	admin.RegisterAPI("cache",
		admin.Endpoint{Pattern: purgeURI, Serve: servePurge, Operations: []admin.Operation{{
			Method: http.MethodPost, Summary: "Invalidates stored responses", Body: purgeRequest{}, Answer: purgeResult{},
			Fails: map[int]string{http.StatusBadRequest: "The request is malformed", http.StatusNotFound: "No http_cache is running"},
		}}},
		admin.Endpoint{Pattern: statsURI, Serve: serveStats, Operations: []admin.Operation{
			{Method: http.MethodGet, Summary: "Statistics of the cache", Answer: cacheStats{}},
		}},
		admin.Endpoint{Pattern: storedURI, Serve: serveStored, Operations: []admin.Operation{{
			Method: http.MethodGet, Summary: "What is stored for a URL in the memory of this gateway",
			Query: map[string]string{"url": "The URL with its query; http and https are the same. Required"}, Answer: storedAnswer{},
			Fails: map[int]string{http.StatusBadRequest: "url is missing or malformed", http.StatusNotFound: "No http_cache is running"},
		}}},
	)
}

const (
	// purgeURI and statsURI are the endpoints of the admin API.
	purgeURI = "/tentagate/cache/purge"
	statsURI = "/tentagate/cache/stats"

	// purgeWait is how long a purge waits for Redis.
	purgeWait = time.Second
	// maxPurgeBody bounds the body of a purge request.
	maxPurgeBody = 64 << 10
)

// purgeRequest is the body of a purge.
type purgeRequest struct {
	object.Scope

	// Tags are several tags at once.
	Tags []string `json:"tags,omitempty"`
}

var errOneThing = errors.New("exactly one of url, prefix, host, tag, tags and all must be given")

// scopes returns what to invalidate: one thing, or several tags.
func (p purgeRequest) scopes() ([]object.Scope, error) {
	var scopes []object.Scope
	if one := p.Scope != (object.Scope{Soft: p.Soft}); one && len(p.Tags) > 0 {
		return nil, errOneThing
	} else if one || len(p.Tags) == 0 {
		scopes = append(scopes, p.Scope)
	}
	for _, tag := range p.Tags {
		scopes = append(scopes, object.Scope{Tag: tag, Soft: p.Soft})
	}
	for _, s := range scopes {
		if strings.ContainsFunc(s.Tag, unicode.IsControl) {
			return nil, fmt.Errorf("tag %q: a tag has no line breaks and other control characters", s.Tag)
		}
		if list := splitTags(nil, s.Tag); s.Tag != "" && (len(list) != 1 || list[0] != s.Tag) {
			return nil, fmt.Errorf("tag %q: a tag has no blanks and commas; several are given one by one", s.Tag)
		}
		if s.Group != "" || s.Origin != "" {
			return nil, fmt.Errorf("%w: only services can invalidate groups", errOneThing)
		}
	}
	if _, err := epoch.Marks(scopes...); err != nil {
		return nil, err
	}
	return scopes, nil
}

// purgeResult is the answer to a purge.
type purgeResult struct {
	// Purged is true: this gateway does not use the responses any more.
	Purged bool `json:"purged"`
	// Shared tells whether other gateways know: "yes", "no" without Redis, or
	// "pending" while Redis is down: they learn of it when it is back.
	Shared string `json:"shared"`
}

// servePurge invalidates stored responses. The body of the `POST` is one of
// `{"url": "https://example.com/a?b=c"}`, `{"prefix": "https://example.com/a/"}`,
// `{"host": "example.com"}`, `{"tag": "product-7"}` (several:
// `{"tags": ["a", "b"]}`) and `{"all": true}`; with `"soft": true` responses become
// stale instead of unusable. The scheme of a URL does not matter.
func servePurge(w http.ResponseWriter, r *http.Request) error {
	var request purgeRequest
	if err := admin.ReadJSON(r, maxPurgeBody, &request, `{"url": "https://example.com/a"}, or prefix, host, tag, tags or all`); err != nil {
		return err
	}
	scopes, err := request.scopes()
	if err != nil {
		return admin.Error(http.StatusBadRequest, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), purgeWait)
	defer cancel()
	result, err := purgeAll(ctx, scopes)
	if err != nil {
		return admin.Error(http.StatusNotFound, err)
	}
	return admin.JSON(w, result)
}

var errNoCache = errors.New("no http_cache is running here")

// purgeAll invalidates the scopes in all tiers of this process.
func purgeAll(ctx context.Context, scopes []object.Scope) (purgeResult, error) {
	result := purgeResult{Shared: "no"}
	for _, l := range locals.Values() {
		l.table.Invalidate(scopes...)
		result.Purged = true
	}
	if !result.Purged {
		return result, errNoCache
	}
	for _, e := range exchanges.Values() {
		if result.Shared == "no" {
			result.Shared = "yes"
		}
		if shared, _ := e.Purge(ctx, scopes...); !shared {
			result.Shared = "pending"
		}
	}
	for _, s := range scopes {
		countPurge(s)
	}
	return result, nil
}

// cacheStats is the answer of the stats endpoint.
type cacheStats struct {
	// Memory is the first tier.
	Memory *memory.Stats `json:"memory,omitempty"`
	// Arriving is the number of bytes of responses that are being received.
	Arriving int64 `json:"arriving_bytes"`
	// Redis are the second tiers, one for each set of settings.
	Redis []redis.Stats `json:"redis,omitempty"`
	// Invalidation is the exchange with other gateways, one for each Redis.
	Invalidation []redis.EpochsStats `json:"invalidation,omitempty"`
}

// serveStats returns the statistics of both tiers.
func serveStats(w http.ResponseWriter, _ *http.Request) error { return admin.JSON(w, currentStats()) }

func currentStats() cacheStats {
	var s cacheStats
	for _, l := range locals.Values() {
		m := l.memory.Stats()
		s.Memory, s.Arriving = &m, l.budget.Used()
	}
	for _, store := range redisTiers.Values() {
		s.Redis = append(s.Redis, store.Stats())
	}
	for _, e := range exchanges.Values() {
		s.Invalidation = append(s.Invalidation, e.Stats())
	}
	return s
}

func printStats(w io.Writer, s cacheStats) error {
	if s.Memory == nil {
		_, err := fmt.Fprintln(w, "no http_cache is running")
		return err
	}
	fmt.Fprintln(w, "TIER\tENTRIES\tUSED\tMAXIMUM\tHITS\tMISSES\tEVICTIONS\tERRORS")
	fmt.Fprintf(w, "memory\t%d\t%s\t%s\t-\t-\t%d\t-\n", s.Memory.Entries, bytesText(s.Memory.Bytes), bytesText(s.Memory.Maximum), s.Memory.Evictions)
	for _, r := range s.Redis {
		fmt.Fprintf(w, "redis\t-\t-\t-\t%d\t%d\t-\t%d\n", r.Hits, r.Misses, r.Errors+r.WriteErrors)
	}
	for _, e := range s.Invalidation {
		if !e.Ready {
			fmt.Fprintln(w, "invalidations of other gateways may have been missed: what is in Redis is not used until they are known")
		}
	}
	return nil
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
