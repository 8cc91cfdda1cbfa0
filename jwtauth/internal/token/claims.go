package token

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Claims are the decoded payload. Names are exact: `SUB` is not `sub`.
type Claims map[string]any

// latest is the last moment that a date claim may name, the end of the year
// 9999. Larger numbers overflow what others compute with.
const latest = 253402300799

// Errors of Check.
var (
	ErrExpired     = errors.New("the token has expired")
	errNoExpiry    = errors.New("the token has no expiry")
	ErrNotYet      = errors.New("the token is not valid yet")
	ErrIssuedLater = errors.New("the token was issued in the future")
	errTooOld      = errors.New("the token is too old")
	errTooLongLife = errors.New("the token's life is longer than accepted")
	errDate        = errors.New("a date of the token is not a number in range")
	ErrIssuer      = errors.New("the token's issuer is not accepted")
	ErrAudience    = errors.New("the token is for another audience")
	errSubject     = errors.New("the token's subject is not a string")
)

// Errors of Check that are an ErrAudience.
var (
	errNoAudience   = &detailed{"the token is for another audience: it names none (aud)", ErrAudience}
	errNullAudience = &detailed{"the token's audience (aud) is null", ErrAudience}
	errAudienceForm = &detailed{"the token's audience (aud) is not a string or an array of strings", ErrAudience}
)

// detailed is an error of a kind with a text of its own.
type detailed struct {
	text string
	kind error
}

func (e *detailed) Error() string { return e.text }
func (e *detailed) Unwrap() error { return e.kind }

// Rules are what the registered claims must satisfy (RFC 7519 §4.1).
type Rules struct {
	// Issuers, one of which `iss` must equal; none accepts any. TenantID in one
	// stands for the token's `tid`.
	Issuers []string
	// Audience, one of which `aud` must name; empty accepts any.
	Audience []string
	// Leeway for clocks that differ.
	Leeway time.Duration
	// MaxAge since `iat`, and MaxLifetime from `iat` to `exp`; zero is no limit.
	MaxAge, MaxLifetime time.Duration
	// OptionalExpiry accepts tokens without `exp`.
	OptionalExpiry bool
	// NumericSubject accepts a `sub` that is a whole number.
	NumericSubject bool
}

// Check evaluates the rules at a moment.
func (c Claims) Check(r *Rules, now time.Time) error {
	exp, hasExp, err := c.date("exp")
	if err != nil {
		return err
	}
	nbf, hasNbf, err := c.date("nbf")
	if err != nil {
		return err
	}
	iat, hasIat, err := c.date("iat")
	if err != nil {
		return err
	}
	at := float64(now.UnixMilli()) / 1000
	leeway := r.Leeway.Seconds()
	switch {
	case !hasExp && !r.OptionalExpiry:
		return errNoExpiry
	case hasExp && at >= exp+leeway:
		return ErrExpired
	case hasNbf && at < nbf-leeway:
		return ErrNotYet
	case hasIat && at < iat-leeway:
		return ErrIssuedLater
	case r.MaxAge > 0 && (!hasIat || at > iat+r.MaxAge.Seconds()+leeway):
		return errTooOld
	case r.MaxLifetime > 0 && (!hasIat || !hasExp || exp-iat > r.MaxLifetime.Seconds()):
		return errTooLongLife
	}
	if err := c.checkIssuer(r); err != nil {
		return err
	}
	if sub, given := c["sub"]; given {
		if _, ok := sub.(string); !ok && (!r.NumericSubject || !c.isWhole("sub")) {
			return errSubject
		}
	}
	return c.checkAudience(r)
}

func (c Claims) checkIssuer(r *Rules) error {
	iss, given := c["iss"]
	if given {
		if _, ok := iss.(string); !ok {
			return ErrIssuer
		}
	}
	if len(r.Issuers) == 0 {
		return nil
	}
	text, _ := iss.(string)
	for _, issuer := range r.Issuers {
		if given && text == issuer && strings.IndexByte(issuer, '{') < 0 {
			return nil
		}
		tenant, template := tenantOf(issuer, text)
		if !template && text == issuer && given || template && tenant != "" && c["tid"] == tenant {
			return nil
		}
	}
	return ErrIssuer
}

// checkAudience accepts a string or an array of strings, and nothing else even
// where no audience is configured.
func (c Claims) checkAudience(r *Rules) error {
	aud, given := c["aud"]
	if !given {
		if len(r.Audience) > 0 {
			return errNoAudience
		}
		return nil
	}
	var list []string
	switch v := aud.(type) {
	case nil:
		return errNullAudience
	case string:
		list = []string{v}
	case []any:
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return errAudienceForm
			}
			list = append(list, text)
		}
	default:
		return errAudienceForm
	}
	if len(r.Audience) == 0 {
		return nil
	}
	for _, name := range list {
		if slices.Contains(r.Audience, name) {
			return nil
		}
	}
	return ErrAudience
}

// date reads a NumericDate (RFC 7519 §2).
func (c Claims) date(name string) (seconds float64, given bool, err error) {
	value, given := c[name]
	if !given {
		return 0, false, nil
	}
	seconds, ok := value.(float64)
	if digits, more := value.(json.Number); more {
		seconds, err = digits.Float64()
		ok = err == nil
	}
	if !ok || math.IsNaN(seconds) || seconds < 0 || seconds > latest {
		return 0, true, errDate
	}
	return seconds, true, nil
}

// Expiry returns `exp`, or the zero time.
func (c Claims) Expiry() time.Time {
	exp, given, err := c.date("exp")
	if !given || err != nil {
		return time.Time{}
	}
	return time.UnixMilli(int64(exp * 1000))
}

// Issued returns `iat`, or the zero time.
func (c Claims) Issued() time.Time {
	iat, given, err := c.date("iat")
	if !given || err != nil {
		return time.Time{}
	}
	return time.UnixMilli(int64(iat * 1000))
}

// Name returns a claim that is a string, or a number as its digits, or "".
func (c Claims) Name(name string) string {
	switch v := c[name].(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case json.Number:
		return string(v)
	}
	return ""
}

// isWhole reports whether a claim is a whole number that is written in the one
// way that has neither fraction nor exponent.
func (c Claims) isWhole(name string) bool {
	switch v := c[name].(type) {
	case float64:
		return true // else it is not the form that DecodeObject gives it
	case json.Number:
		return !strings.ContainsAny(string(v), ".eE") && v != "-0"
	}
	return false
}

// Text returns a claim that is a string, or "".
func (c Claims) Text(name string) string {
	text, _ := c[name].(string)
	return text
}
