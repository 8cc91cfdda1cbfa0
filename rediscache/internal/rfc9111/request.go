package rfc9111

import (
	"net/http"
	"time"
)

// Wish is what a request asks of caches (RFC 9111 §5.2.1).
type Wish struct {
	NoStore, OnlyIfCached bool

	// NoCache, MaxAge, MinFresh and MaxStale ask for a fresher answer than
	// there may be, or content themselves with a staler one. They are zero
	// unless such wishes are honoured. MaxAge is -1 if it is not given, as is
	// MaxStale; AnyStale is a max-stale without a bound.
	NoCache            bool
	MaxAge             time.Duration
	MinFresh, MaxStale time.Duration
	AnyStale           bool
}

// ReadWish reads the Cache-Control and Pragma fields of a request.
func ReadWish(h http.Header, honour bool) Wish {
	w := Wish{MaxAge: -1, MaxStale: -1}
	if len(h["Cache-Control"]) == 0 && len(h["Pragma"]) == 0 {
		return w
	}
	d := ParseCacheControl(h)
	w.NoStore, w.OnlyIfCached = d.Has("no-store"), d.Has("only-if-cached")
	if !honour {
		return w
	}
	// Pragma counts where Cache-Control is not given (RFC 9111 §5.4).
	w.NoCache = d.Has("no-cache") || len(h["Cache-Control"]) == 0 && hasNoCachePragma(h)
	if v, ok := d.Seconds("max-age"); ok {
		w.MaxAge = v
	}
	w.MinFresh, _ = d.Seconds("min-fresh")
	for _, one := range d {
		if one.Name != "max-stale" {
			continue
		}
		if !one.Given {
			w.AnyStale = true
		} else if v, ok := ParseSeconds(one.Value); ok && !one.Bad {
			w.MaxStale = v
		}
	}
	return w
}

// Accepts reports whether a stored response may be used for the request as it
// is: fresh is how long it still is fresh, negative if it is stale. Whether it
// may be used stale at all is decided before.
func (w *Wish) Accepts(age, fresh time.Duration, mustRevalidate bool) bool {
	switch {
	case w.NoCache, w.MaxAge >= 0 && age >= w.MaxAge && !(age == 0 && w.MaxAge > 0):
		return false
	case fresh > 0:
		return fresh >= w.MinFresh
	}
	return !mustRevalidate && (w.AnyStale || w.MaxStale >= 0 && -fresh <= w.MaxStale)
}
