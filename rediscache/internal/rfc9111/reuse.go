package rfc9111

import "time"

// Reuse is what may be done with a stored response for a request.
type Reuse int

const (
	// Validate: ask the service whether it is still good, or for another.
	Validate Reuse = iota
	// UseFresh: send it.
	UseFresh
	// UseStale: send it although it is stale, for the request accepts that.
	UseStale
	// UseRefreshing: send it although it is stale, and refresh it meanwhile (RFC
	// 5861 §3).
	UseRefreshing
)

// Candidate is what decides about the use of a stored response.
type Candidate struct {
	Age, Lifetime, StaleWhileRevalidate time.Duration
	MustRevalidate, NoCache, Immutable  bool
	// Soft: it was invalidated, but may be used like one that has become stale
	// just now.
	Soft bool
}

// Fresh returns how long the response is still fresh; zero or less is stale.
func (s *Candidate) Fresh() time.Duration {
	fresh := s.Lifetime - s.Age
	if s.Soft {
		fresh = min(fresh, 0)
	}
	return fresh
}

// Decide says what may be done with the stored response (RFC 9111 §4).
func (s *Candidate) Decide(w *Wish) Reuse {
	fresh := s.Fresh()
	switch {
	case s.NoCache:
		return Validate
	case fresh > 0:
		// What does not change while it is fresh need not be validated for a
		// client that only reloads (RFC 8246 §2).
		if w.Accepts(s.Age, fresh, s.MustRevalidate) || w.MaxAge == 0 && !w.NoCache && s.Immutable {
			return UseFresh
		}
		return Validate
	case s.MustRevalidate || w.NoCache || w.MinFresh > 0 || w.MaxAge >= 0 && s.Age >= w.MaxAge:
		return Validate
	case !s.Soft && w.Accepts(s.Age, fresh, false):
		return UseStale
	case w.MaxAge < 0 && -fresh < s.StaleWhileRevalidate:
		return UseRefreshing
	}
	return Validate
}
