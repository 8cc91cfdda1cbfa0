package rfc9111

import "time"

// Reuse is what may be done with a stored response for a request.
type Reuse int

const (
	// Validate: ask the origin whether it is still good, or for another.
	Validate Reuse = iota
	// UseFresh: send it.
	UseFresh
	// UseStale: send it although it is stale, since the request accepts that.
	UseStale
	// UseWhileRevalidating: send it although it is stale, and validate it meanwhile
	// (RFC 5861 §3).
	UseWhileRevalidating
)

// Candidate is a stored response that may answer a request.
type Candidate struct {
	Age, Lifetime, StaleWhileRevalidate time.Duration
	MustRevalidate, NoCache, Immutable  bool
	// Soft: it was invalidated, but may be used as if it had just become stale.
	Soft bool
}

// Fresh returns for how long the response is still fresh; zero or less is stale.
func (c *Candidate) Fresh() time.Duration {
	fresh := c.Lifetime - c.Age
	if c.Soft {
		fresh = min(fresh, 0)
	}
	return fresh
}

// Evaluate returns what may be done with the stored response (RFC 9111 §4).
func (c *Candidate) Evaluate(d *RequestDirectives) Reuse {
	fresh := c.Fresh()
	switch {
	case c.NoCache:
		return Validate
	case fresh > 0:
		// What does not change while it is fresh need not be validated for a
		// client that only reloads (RFC 8246 §2).
		if d.Accepts(c.Age, fresh, c.MustRevalidate) || d.MaxAge == 0 && !d.NoCache && c.Immutable {
			return UseFresh
		}
		return Validate
	case c.MustRevalidate || d.NoCache || d.MinFresh > 0 || d.MaxAge >= 0 && c.Age >= d.MaxAge:
		return Validate
	case !c.Soft && d.Accepts(c.Age, fresh, false):
		return UseStale
	case d.MaxAge < 0 && -fresh < c.StaleWhileRevalidate:
		return UseWhileRevalidating
	}
	return Validate
}
