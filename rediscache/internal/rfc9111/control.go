package rfc9111

import (
	"net/http"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// Control is what a response says about caching: its directives, and whether
// they come from a field that is targeted at this cache, in which case
// Cache-Control and Expires are not for it (RFC 9213 §2.2).
type Control struct {
	Directives
	Targeted bool
}

// ReadControl returns the directives of the first of the targeted fields that
// the response has in a valid form, or else those of Cache-Control. targets are
// canonical names.
func ReadControl(h http.Header, targets []string) Control {
	for _, name := range targets {
		if values := h[name]; len(values) > 0 {
			if d, ok := parseTargeted(values); ok {
				return Control{d, true}
			}
		}
	}
	d := ParseCacheControl(h)
	if len(d) == 0 && hasNoCachePragma(h) {
		// Only its meaning in requests was ever defined, but who sends it in
		// a response means the same (RFC 9111 §5.4).
		d = Directives{{Name: "no-cache"}}
	}
	return Control{Directives: d}
}

func hasNoCachePragma(h http.Header) bool {
	for _, value := range h["Pragma"] {
		for item := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(trimOWS(item), "no-cache") {
				return true
			}
		}
	}
	return false
}

// times are the directives whose argument is a number.
var times = map[string]bool{
	"max-age": true, "s-maxage": true, "stale-while-revalidate": true, "stale-if-error": true,
}

// parseTargeted reads a targeted field (RFC 9213 §2.1): a dictionary. One that
// is empty, malformed or has an argument of the wrong type is as if it were not
// there.
func parseTargeted(values []string) (Directives, bool) {
	dict, err := httpsfv.UnmarshalDictionary(values)
	if err != nil || len(dict.Names()) == 0 {
		return nil, false
	}
	var d Directives
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		item, ok := member.(httpsfv.Item)
		if !ok {
			if times[name] {
				return nil, false
			}
			continue
		}
		one := Directive{Name: name, Given: true}
		switch v := item.Value.(type) {
		case bool:
			if !v {
				continue
			}
			one.Given = false
			if times[name] {
				return nil, false
			}
		case int64:
			if !times[name] {
				one.Bad = true
				break
			}
			one.Value = formatSeconds(v)
		case string:
			if times[name] {
				return nil, false
			}
			one.Value = v
		default:
			if times[name] {
				return nil, false
			}
			one.Bad = true
		}
		d = append(d, one)
	}
	return d, true
}

func formatSeconds(v int64) string {
	if v < 0 {
		return "" // no proper number: stale
	}
	return formatInt(min(v, maxSeconds))
}

// NoStore reports whether nothing of the response may be stored. With
// must-understand, no-store is for caches that do not know the status (RFC 9111
// §5.2.2.3).
func (c Control) NoStore(status int) bool {
	if c.Has("must-understand") {
		return !isUnderstood(status)
	}
	return c.Has("no-store")
}

// Private reports whether only a cache of one user may store the response, and
// names the fields that are private if it is not the whole.
func (c Control) Private() (fields []string, whole bool) { return c.Fields("private") }

// NoCache reports whether the response must be validated before each use, and
// names the fields that must not be reused without, if it is not the whole.
func (c Control) NoCache() (fields []string, whole bool) { return c.Fields("no-cache") }

// SharedDespiteAuthorization reports whether the answer to a request with
// Authorization may be given to others (RFC 9111 §3.5).
func (c Control) SharedDespiteAuthorization() bool {
	return c.Has("public") || c.Has("must-revalidate") || c.Has("s-maxage")
}

// MustRevalidate reports whether the response must not be used when it is stale
// (RFC 9111 §5.2.2.2, §5.2.2.8, §5.2.2.10).
func (c Control) MustRevalidate() bool {
	return c.Has("must-revalidate") || c.Has("proxy-revalidate") || c.Has("s-maxage")
}

// Immutable reports whether the response does not change while it is fresh
// (RFC 8246).
func (c Control) Immutable() bool { return c.Has("immutable") }

// StaleWindow returns the time of a directive of RFC 5861, or fallback if the
// response does not have it.
func (c Control) StaleWindow(name string, fallback time.Duration) time.Duration {
	if v, given := c.Seconds(name); given {
		return v
	}
	return fallback
}

// understood are the statuses whose meaning for a cache is implemented (RFC
// 9110 §15, RFC 7725).
var understood = map[int]bool{
	200: true, 203: true, 204: true, 206: true, 300: true, 301: true, 302: true, 303: true, 307: true, 308: true,
	400: true, 403: true, 404: true, 405: true, 406: true, 408: true, 409: true, 410: true, 411: true, 412: true, 413: true,
	414: true, 415: true, 417: true, 421: true, 422: true, 426: true, 451: true,
	500: true, 501: true, 502: true, 503: true, 504: true, 505: true,
}

// isUnderstood reports whether the caching behaviour of the status is known here.
func isUnderstood(status int) bool { return understood[status] }

// isHeuristic reports whether a response with the status may be given a
// freshness that it does not state (RFC 9110 §15.1).
func isHeuristic(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}
