package cachekey

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// maxSearchRules bounds the paths whose No-Vary-Search is remembered.
const maxSearchRules = 4096

// SearchRules remember, by host and path, what responses said in No-Vary-Search. A
// rule that is forgotten costs hits, nothing else. The zero value is ready for use.
type SearchRules struct {
	count atomic.Int64
	mu    sync.RWMutex
	rules map[string]rfc9111.SearchVariance
}

// Get returns the rule for a path of a host.
func (s *SearchRules) Get(host, path string) (rfc9111.SearchVariance, bool) {
	if s.count.Load() == 0 {
		return rfc9111.SearchVariance{}, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.rules[host+path]
	return v, ok
}

// Learn keeps what the newest response says, if it says anything, and reports
// whether that changes the keys of the path.
func (s *SearchRules) Learn(host, path string, rule rfc9111.SearchVariance, given bool) (changed bool) {
	if !given && s.count.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := host + path
	before, had := s.rules[key]
	switch {
	case !given && !had, given && had && equal(before, rule):
		return false
	case !given:
		delete(s.rules, key)
	default:
		if s.rules == nil {
			s.rules = map[string]rfc9111.SearchVariance{}
		}
		for other := range s.rules {
			if len(s.rules) < maxSearchRules {
				break
			}
			delete(s.rules, other)
		}
		s.rules[key] = rule
	}
	s.count.Store(int64(len(s.rules)))
	return true
}

func equal(a, b rfc9111.SearchVariance) bool {
	return a.KeyOrder == b.KeyOrder && a.All == b.All && slices.Equal(a.Except, b.Except) && slices.Equal(a.Ignore, b.Ignore)
}
