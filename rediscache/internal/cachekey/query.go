package cachekey

import (
	"net/url"
	"slices"
	"strings"
)

// QueryFilter says which query parameters are part of the key.
type QueryFilter struct {
	// Allow are the only parameters that count, Deny those that do not. A name that
	// ends in `*` stands for all that begin so. Nil: all count.
	Allow, Deny []string
	// Sort: the order of parameters with different names does not matter.
	Sort bool
}

// Drops reports whether parameters are left out.
func (f *QueryFilter) Drops() bool { return f.Allow != nil || f.Deny != nil }

// Changes reports whether Apply may change a query.
func (f *QueryFilter) Changes() bool { return f.Drops() || f.Sort }

// Apply returns the part of the query that is part of the key.
func (f *QueryFilter) Apply(query string) string {
	if query == "" || !f.Changes() {
		return query
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if f.Allow != nil && !listed(f.Allow, name) || listed(f.Deny, name) {
			continue
		}
		kept = append(kept, pair)
	}
	if f.Sort {
		slices.SortStableFunc(kept, func(a, b string) int {
			a, _, _ = strings.Cut(a, "=")
			b, _, _ = strings.Cut(b, "=")
			return strings.Compare(a, b)
		})
	}
	return strings.Join(kept, "&")
}

func listed(list []string, name string) bool {
	for _, l := range list {
		if prefix, ok := strings.CutSuffix(l, "*"); ok && strings.HasPrefix(name, prefix) || l == name {
			return true
		}
	}
	return false
}
