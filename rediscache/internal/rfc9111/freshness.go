package rfc9111

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxHeuristic is the longest freshness that is guessed: longer guesses should
// carry a warning to the user, for which there is no field any more.
const maxHeuristic = 24 * time.Hour

// Explicit returns the freshness lifetime that the response states for a shared
// cache (RFC 9111 §4.2.1), and whether it states one. received is when the
// response came.
func (c Control) Explicit(h http.Header, received time.Time) (lifetime time.Duration, given bool) {
	if v, ok := c.Seconds("s-maxage"); ok {
		return v, true
	}
	if v, ok := c.Seconds("max-age"); ok {
		return v, true
	}
	if c.Targeted {
		return 0, false
	}
	values, ok := h["Expires"]
	if !ok {
		return 0, false
	}
	expires, ok := readDate(values, received)
	if !ok {
		return 0, true // in the past (RFC 9111 §5.3)
	}
	date, ok := readDate(h["Date"], received)
	if !ok {
		date = received
	}
	return min(max(expires.Sub(date), 0), maxSeconds*time.Second), true
}

// Guess returns a tenth of the time since the response was last modified (RFC
// 9111 §4.2.2), zero if that is not known or must not be guessed.
func (c Control) Guess(h http.Header, status int, received time.Time) time.Duration {
	if !isHeuristic(status) && !c.Has("public") {
		return 0
	}
	modified, ok := readDate(h["Last-Modified"], received)
	if !ok {
		return 0
	}
	date, ok := readDate(h["Date"], received)
	if !ok {
		date = received
	}
	return min(max(date.Sub(modified)/10, 0), maxHeuristic)
}

// readDate reads a field that holds one date. Several differing ones are none.
func readDate(values []string, now time.Time) (time.Time, bool) {
	if len(values) == 0 {
		return time.Time{}, false
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return time.Time{}, false
		}
	}
	return parseDate(trimOWS(values[0]), now)
}

// initialAge returns the corrected initial age (RFC 9111 §4.2.3). requested and
// received are when the request was sent and the response came.
func initialAge(h http.Header, requested, received time.Time) time.Duration {
	apparent := time.Duration(0)
	if date, ok := readDate(h["Date"], received); ok {
		// Dates have whole seconds: less than one says nothing.
		if apparent = received.Sub(date); apparent < time.Second {
			apparent = 0
		}
	}
	return max(apparent, readAge(h)+max(received.Sub(requested), 0))
}

// readAge reads the Age field: the first member counts, and what is not a whole
// number is not an age (RFC 9111 §5.1).
func readAge(h http.Header) time.Duration {
	values := h["Age"]
	if len(values) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(values[0], ",")
	age, _ := parseSeconds(trimOWS(first))
	return age
}

func formatInt(v int64) string { return strconv.FormatInt(v, 10) }
