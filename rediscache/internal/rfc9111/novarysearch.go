package rfc9111

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// SearchVariance is what a No-Vary-Search field says of the query of the URL
// (draft-ietf-httpbis-no-vary-search): which parameters change the response. The
// zero value is the default, that all do, in their order.
type SearchVariance struct {
	// KeyOrder: the order of parameters of different names does not matter.
	KeyOrder bool
	// All parameters do not matter, but those in Except.
	All    bool
	Except []string
	// Ignore are the parameters that do not matter.
	Ignore []string
}

// NoVarySearch reads the field. What is malformed is as if it were not there.
// Both spellings of exceptions are read: `except=("a")` and the older `params,
// except=("a")`.
func NoVarySearch(h http.Header) (v SearchVariance, given bool) {
	values := h["No-Vary-Search"]
	if len(values) == 0 {
		return v, false
	}
	dict, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return v, false
	}
	var none SearchVariance
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		switch name {
		case "key-order":
			b, ok := boolOf(member)
			if !ok {
				return none, false
			}
			v.KeyOrder = b
		case "params":
			if b, ok := boolOf(member); ok {
				v.All = b
				continue
			}
			list, ok := stringsOf(member)
			if !ok {
				return none, false
			}
			v.Ignore = list
		case "except":
			list, ok := stringsOf(member)
			if !ok {
				return none, false
			}
			v.All, v.Except = true, list
		}
	}
	if v.All && v.Ignore != nil {
		return none, false
	}
	if !v.All && !v.KeyOrder && len(v.Ignore) == 0 {
		return none, false
	}
	return v, true
}

func boolOf(member httpsfv.Member) (value, ok bool) {
	item, ok := member.(httpsfv.Item)
	if !ok {
		return false, false
	}
	value, ok = item.Value.(bool)
	return value, ok
}

func stringsOf(member httpsfv.Member) ([]string, bool) {
	list, ok := member.(httpsfv.InnerList)
	if !ok {
		return nil, false
	}
	names := []string{}
	for _, item := range list.Items {
		s, ok := item.Value.(string)
		if !ok {
			return nil, false
		}
		name, err := url.QueryUnescape(s)
		if err != nil {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// Query returns the part of a query that selects the response, in one form for
// all queries that select the same.
func (v SearchVariance) Query(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = plain(name), plain(value)
		if v.All && !slices.Contains(v.Except, name) || slices.Contains(v.Ignore, name) {
			continue
		}
		kept = append(kept, url.QueryEscape(name)+"="+url.QueryEscape(value))
	}
	if v.KeyOrder {
		slices.SortStableFunc(kept, func(a, b string) int {
			a, _, _ = strings.Cut(a, "=")
			b, _, _ = strings.Cut(b, "=")
			return strings.Compare(a, b)
		})
	}
	return strings.Join(kept, "&")
}

func plain(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}
