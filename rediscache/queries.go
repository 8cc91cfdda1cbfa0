package rediscache

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// maxQueryRules bounds the paths whose No-Vary-Search is remembered.
const maxQueryRules = 4096

// queryRules remember, by host and path, what responses said in No-Vary-Search.
// A rule that is forgotten costs hits, nothing else.
type queryRules struct {
	n     atomic.Int64
	mu    sync.RWMutex
	rules map[string]rfc9111.SearchVariance
}

func ruleKey(host, path string) string { return host + path }

// of returns the rule for a path.
func (q *queryRules) of(host, path string) (rfc9111.SearchVariance, bool) {
	if q.n.Load() == 0 {
		return rfc9111.SearchVariance{}, false
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	v, ok := q.rules[ruleKey(host, path)]
	return v, ok
}

// learn keeps what the newest response says, and reports whether that changes
// the keys of the path.
func (q *queryRules) learn(host, path string, v rfc9111.SearchVariance, given bool) bool {
	if !given && q.n.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	key := ruleKey(host, path)
	was, had := q.rules[key]
	switch {
	case !given && !had, given && had && sameRule(was, v):
		return false
	case !given:
		delete(q.rules, key)
	default:
		if q.rules == nil {
			q.rules = map[string]rfc9111.SearchVariance{}
		}
		for other := range q.rules {
			if len(q.rules) < maxQueryRules {
				break
			}
			delete(q.rules, other)
		}
		q.rules[key] = v
	}
	q.n.Store(int64(len(q.rules)))
	return true
}

func sameRule(a, b rfc9111.SearchVariance) bool {
	return a.KeyOrder == b.KeyOrder && a.All == b.All && slices.Equal(a.Except, b.Except) && slices.Equal(a.Ignore, b.Ignore)
}
