// Package registry has the circuits of the process by name, with their rules,
// metrics, events and administration. The handler, the transport and the slot
// share it.
package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
)

// Defaults of the rules.
const (
	defaultRatio       = .5
	defaultMinRequests = 20
	defaultWindow      = 10 * time.Second
	defaultOpenFor     = 30 * time.Second
	defaultOpenMax     = 5 * time.Minute
	defaultProbes      = 3
	defaultProbing     = 30 * time.Second
)

// Bounds of the rules.
const (
	maxRequests = 1_000_000
	maxTime     = 366 * 24 * time.Hour
)

// MaxKeys is how many circuits one name may have at most.
const MaxKeys = 1_000_000

// Rules say when a circuit opens and closes.
//
// With none of `ratio`, `consecutive` and `slow_ratio` given, it opens when half
// of at least 20 requests in 10 seconds failed.
type Rules struct {
	// How long results count. Default: 10s.
	Window caddy.Duration `json:"window,omitempty"`

	// Share of failures, above 0 to 1, at which the circuit opens. Default: 0.5 if
	// no other rule is given, else off.
	Ratio float64 `json:"ratio,omitempty"`

	// Never open by the share of failures, even if no other rule is given.
	// Default: false.
	NoRatio bool `json:"no_ratio,omitempty"`

	// How many requests the window must have before shares count. Default: 20.
	MinRequests int `json:"min_requests,omitempty"`

	// How many failures in a row open the circuit. Default: 0, off.
	Consecutive int `json:"consecutive,omitempty"`

	// Share of slow answers, above 0 to 1, at which the circuit opens. Default: 0,
	// off.
	SlowRatio float64 `json:"slow_ratio,omitempty"`

	// Time to the response header above which an answer is slow, without the time
	// spent waiting for the client's upload. Required with `slow_ratio`.
	SlowOver caddy.Duration `json:"slow_over,omitempty"`

	// What counts as a failure: status codes (`502`), classes (`4xx`, `5xx`),
	// `transport`, `timeout` and `abort`. Default: 5xx transport timeout abort.
	Failure []string `json:"failure,omitempty"`

	// The first open time; it doubles with each failed probe. Default: 30s.
	OpenFor caddy.Duration `json:"open_for,omitempty"`

	// The longest open time. Default: 5m, or `open_for` if that is more.
	OpenMax caddy.Duration `json:"open_max,omitempty"`

	// Share, 0 to 1, by which an open time is lengthened at random, so that
	// replicas do not probe at the same time. Default: 0.
	Jitter float64 `json:"jitter,omitempty"`

	// How many probes the half-open state admits at once, and how many must succeed
	// to close it, 1 to 65535. Default: 3.
	HalfOpen int `json:"half_open,omitempty"`

	// How long probes may take before the circuit opens again. Default: 30s.
	HalfOpenMax caddy.Duration `json:"half_open_max,omitempty"`

	// Where failures have Retry-After (RFC 9110 §10.2.3), the opening lasts at least
	// until then, but no longer than this. Default: 0, Retry-After is ignored.
	RetryAfterMax caddy.Duration `json:"retry_after_max,omitempty"`
}

// setDefaults sets the options that are not given.
func (r *Rules) setDefaults() {
	if len(r.Failure) == 0 {
		r.Failure = slices.Clone(defaultFailures)
	}
	if r.Ratio == 0 && !r.NoRatio && r.Consecutive == 0 && r.SlowRatio == 0 {
		r.Ratio = defaultRatio
	}
	r.MinRequests = cmp.Or(r.MinRequests, defaultMinRequests)
	r.HalfOpen = cmp.Or(r.HalfOpen, defaultProbes)
	r.Window = cmp.Or(r.Window, caddy.Duration(defaultWindow))
	r.OpenFor = cmp.Or(r.OpenFor, caddy.Duration(defaultOpenFor))
	r.OpenMax = cmp.Or(r.OpenMax, max(caddy.Duration(defaultOpenMax), r.OpenFor))
	r.HalfOpenMax = cmp.Or(r.HalfOpenMax, caddy.Duration(defaultProbing))
}

// opens reports whether a rule is left that opens the circuit.
func (r *Rules) opens() bool { return r.Ratio > 0 || r.Consecutive > 0 || r.SlowRatio > 0 }

// check refuses invalid rules.
func (r *Rules) check() error {
	switch {
	case !(r.Ratio >= 0 && r.Ratio <= 1):
		return fmt.Errorf("ratio %v: accepted are shares from 0 to 1, such as 0.5", r.Ratio)
	case !(r.SlowRatio >= 0 && r.SlowRatio <= 1):
		return fmt.Errorf("slow_ratio %v: accepted are shares from 0 to 1, such as 0.8", r.SlowRatio)
	case r.NoRatio && r.Ratio > 0:
		return errors.New("no_ratio: not possible together with ratio: leave one of them out")
	case r.SlowRatio > 0 && r.SlowOver <= 0:
		return errors.New("slow: the time from which a response is slow is missing: write it as in `slow 80% over 2s`")
	case r.SlowOver > 0 && r.SlowRatio == 0:
		return errors.New("slow: the share of slow responses that opens the circuit is missing: write it as in `slow 80% over 2s`")
	case !(r.Jitter >= 0 && r.Jitter <= 1):
		return fmt.Errorf("jitter %v: accepted are shares from 0 to 1, such as 0.1", r.Jitter)
	case r.MinRequests < 1 || r.MinRequests > maxRequests:
		return fmt.Errorf("min_requests %d: accepted are 1 to %d", r.MinRequests, maxRequests)
	case r.Consecutive < 0 || r.Consecutive > maxRequests:
		return fmt.Errorf("consecutive %d: accepted are 1 to %d, and 0 to switch the rule off", r.Consecutive, maxRequests)
	case r.HalfOpen < 1 || r.HalfOpen > circuit.MaxProbes:
		return fmt.Errorf("half_open %d: accepted are 1 to %d probes", r.HalfOpen, circuit.MaxProbes)
	case r.Window <= 0, r.OpenFor <= 0, r.HalfOpenMax <= 0, r.SlowOver < 0, r.RetryAfterMax < 0:
		return errors.New("window, open_for, half_open_max, slow_over, retry_after_max: accepted are durations above 0s")
	case max(r.Window, r.OpenMax, r.HalfOpenMax, r.SlowOver, r.RetryAfterMax) > caddy.Duration(maxTime):
		return errors.New("window, open_for, half_open_max, slow_over, retry_after_max: accepted are durations up to 366d")
	case r.OpenFor > r.OpenMax:
		return fmt.Errorf("open_for %s: it is longer than open_max, %s: raise open_max (in a Caddyfile `max`, as in `open_for 30s max 5m`), or shorten open_for",
			time.Duration(r.OpenFor), time.Duration(r.OpenMax))
	}
	return nil
}

// settings returns the rules as settings of the engine.
func (r *Rules) settings() circuit.Settings {
	return circuit.Settings{
		Window: time.Duration(r.Window), Ratio: r.Ratio, MinRequests: r.MinRequests, Consecutive: r.Consecutive,
		SlowRatio: r.SlowRatio, SlowOver: time.Duration(r.SlowOver),
		OpenFor: time.Duration(r.OpenFor), OpenMax: time.Duration(r.OpenMax), Jitter: r.Jitter,
		Probes: r.HalfOpen, ProbeMax: time.Duration(r.HalfOpenMax),
	}
}
