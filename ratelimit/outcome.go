package ratelimit

import (
	"slices"
	"strings"
)

// outcome is what became of a request in a zone.
type outcome uint8

const (
	outcomeAllowed outcome = iota
	outcomeLimited
	outcomeDelayed
	outcomeUnavailable
	outcomeExempt
	outcomeShadowLimited
	outcomeConcurrencyLimited
)

// outcomeNames are the outcomes as placeholders and metrics name them.
var outcomeNames = [...]string{"allowed", "limited", "delayed", "unavailable", "exempt", "shadow_limited", "concurrency_limited"}

func (o outcome) String() string { return outcomeNames[o] }

// Placeholder returns the value of {http.ratelimit.<zone>.*}, of the latest check
// where several handlers share a zone.
func (rc *requestChecks) Placeholder(name string) (any, bool) {
	name, ok := strings.CutPrefix(name, "http.ratelimit.")
	if !ok {
		return nil, false
	}
	for _, c := range slices.Backward(rc.all) {
		if property, ok := strings.CutPrefix(name, c.handler.Zone); ok && strings.HasPrefix(property, ".") {
			if value, ok := c.property(property[1:]); ok {
				return value, true
			}
		}
	}
	return nil, false
}

// Decided returns the zone that refused the request or, of those that admitted it, the
// one with the least units left, for logs and traces. remaining is -1 without limits.
func (rc *requestChecks) Decided() (zone, outcome string, remaining int64) {
	remaining = -1
	for _, c := range rc.all {
		if c.outcome == outcomeExempt && zone != "" {
			continue
		}
		left := int64(-1)
		if c.decision.Len > 0 {
			left = c.decision.Meters[nearest(&c.decision)].Remaining
		}
		switch {
		case c.outcome.refused():
			return c.handler.Zone, c.outcome.String(), max(left, -1)
		case zone == "", left >= 0 && (remaining < 0 || left < remaining):
			zone, outcome, remaining = c.handler.Zone, c.outcome.String(), left
		}
	}
	return zone, outcome, remaining
}

// refused reports whether the request was refused.
func (o outcome) refused() bool {
	return o == outcomeLimited || o == outcomeUnavailable || o == outcomeConcurrencyLimited
}

// property returns a value that placeholders have; it is empty where there was
// no decision.
func (c *check) property(name string) (any, bool) {
	d := &c.decision
	switch name {
	case "outcome":
		return c.outcome.String(), true
	case "tier":
		if c.tier == nil {
			return "", true
		}
		return c.tier.name, true
	case "remaining", "reset":
		if d.Len == 0 {
			return "", true
		}
		m := d.Meters[nearest(d)]
		if name == "remaining" {
			return m.Remaining, true
		}
		return seconds(m.Reset), true
	}
	return nil, false
}
