package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// ParseDate reads an HTTP date (RFC 9110 §5.6.7) in one of its three forms and
// no other.
func ParseDate(text string) (time.Time, bool) {
	for _, layout := range []string{http.TimeFormat, time.RFC850, time.ANSIC} {
		// Parsing is lenient, printing is not: what prints differently was not
		// in the form. The names of days and zones are compared without case.
		t, err := time.Parse(layout, text)
		if err == nil && (strings.EqualFold(t.UTC().Format(layout), text) || layout == time.RFC850 && strings.HasSuffix(text, " GMT")) {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// Explicit returns the freshness lifetime that a response states for a shared
// cache (RFC 9111 §4.2.1), and whether it states one.
func Explicit(h http.Header, d Directives, received time.Time) (lifetime time.Duration, given bool) {
	for _, name := range []string{"s-maxage", "max-age"} {
		if v, ok := d.Seconds(name); ok {
			return v, true
		}
	}
	expires, ok := h["Expires"]
	if !ok {
		return 0, false
	}
	at, ok := ParseDate(expires[0])
	if !ok || len(expires) > 1 {
		return 0, true // in the past (RFC 9111 §5.3)
	}
	date, ok := ParseDate(h.Get("Date"))
	if !ok {
		date = received
	}
	return max(at.Sub(date), 0), true
}

// InitialAge returns the corrected initial age (RFC 9111 §4.2.3).
func InitialAge(h http.Header, requested, received time.Time) time.Duration {
	apparent := time.Duration(0)
	if date, ok := ParseDate(h.Get("Date")); ok {
		apparent = max(received.Sub(date), 0)
	}
	age := time.Duration(0)
	if values := h["Age"]; len(values) > 0 {
		// The first member of a list counts; what is no number is ignored.
		first, _, _ := strings.Cut(values[0], ",")
		age, _ = seconds(strings.Trim(first, " \t"))
	}
	return max(apparent, age+received.Sub(requested))
}

// understood are the statuses whose meaning for a cache is known here (RFC 9110
// §15); others are stored only where their freshness is explicit.
var understood = map[int]bool{
	200: true, 203: true, 204: true, 300: true, 301: true, 302: true, 303: true, 307: true, 308: true,
	404: true, 405: true, 410: true, 414: true, 451: true, 501: true,
}

// Understood reports whether a response with the status may be stored. Partial
// answers are not: they are no answer to a request for the whole.
func Understood(status int) bool { return understood[status] }

// SharedDespiteAuthorization reports whether the answer to an authenticated
// request may be given to others (RFC 9111 §3.5).
func SharedDespiteAuthorization(d Directives) bool {
	return d.Has("public") || d.Has("s-maxage") || d.Has("must-revalidate")
}

// MustRevalidate reports whether a stale response may never be used (RFC 9111
// §5.2.2.2, §5.2.2.8, §5.2.2.10).
func MustRevalidate(d Directives) bool {
	return d.Has("must-revalidate") || d.Has("proxy-revalidate") || d.Has("s-maxage")
}
