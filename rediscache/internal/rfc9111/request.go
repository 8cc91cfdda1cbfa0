package rfc9111

import (
	"net/http"
	"time"
)

// RequestDirectives are what a request asks of caches (RFC 9111 §5.2.1).
type RequestDirectives struct {
	NoStore, OnlyIfCached bool

	// NoCache, MaxAge and MinFresh ask for a fresher response, MaxStale and AnyStale
	// (max-stale without a bound) accept a staler one. They are zero unless the cache
	// honours them. MaxAge and MaxStale are -1 if the request does not have them.
	NoCache            bool
	MaxAge             time.Duration
	MinFresh, MaxStale time.Duration
	AnyStale           bool
}

// NoDirectives are those of a request that has none.
func NoDirectives() RequestDirectives { return RequestDirectives{MaxAge: -1, MaxStale: -1} }

// ReadRequestDirectives reads the Cache-Control and Pragma fields of a request.
func ReadRequestDirectives(h http.Header, honour bool) RequestDirectives {
	d := NoDirectives()
	if len(h["Cache-Control"]) == 0 && len(h["Pragma"]) == 0 {
		return d
	}
	given := ParseCacheControl(h)
	d.NoStore, d.OnlyIfCached = given.Has("no-store"), given.Has("only-if-cached")
	if !honour {
		return d
	}
	// Pragma counts where Cache-Control is not given (RFC 9111 §5.4).
	d.NoCache = given.Has("no-cache") || len(h["Cache-Control"]) == 0 && hasNoCachePragma(h)
	if v, ok := given.Seconds("max-age"); ok {
		d.MaxAge = v
	}
	d.MinFresh, _ = given.Seconds("min-fresh")
	for _, one := range given {
		if one.Name != "max-stale" {
			continue
		}
		if !one.Given {
			d.AnyStale = true
		} else if v, ok := parseSeconds(one.Value); ok && !one.Bad {
			d.MaxStale = v
		}
	}
	return d
}

// Accepts reports whether the request accepts a stored response as it is: fresh is
// for how long it is fresh, negative if it is stale. Whether it may be used stale at
// all is decided before.
func (d *RequestDirectives) Accepts(age, fresh time.Duration, mustRevalidate bool) bool {
	switch {
	case d.NoCache, d.MaxAge >= 0 && age >= d.MaxAge && !(age == 0 && d.MaxAge > 0):
		return false
	case fresh > 0:
		return fresh >= d.MinFresh
	}
	return !mustRevalidate && (d.AnyStale || d.MaxStale >= 0 && -fresh <= d.MaxStale)
}
