// Package rfc9111 are the rules of HTTP caching (RFC 9111) as pure functions:
// no input or output, no clock of their own.
package rfc9111

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxSeconds is what a larger number of seconds counts as (RFC 9111 §1.2.2).
const maxSeconds = 1 << 31

// Directives are those of a Cache-Control field (RFC 9111 §5.2), by their
// lower-case names. A directive without a value has an empty one.
type Directives map[string]string

// ParseCacheControl reads the Cache-Control fields. A malformed directive is
// left out and does not spoil the others; of one that stands twice the first
// counts, unless it is a time and they differ: then the shortest, since a stale
// answer is the worse mistake (RFC 9111 §4.2.1).
func ParseCacheControl(h http.Header) Directives {
	values := h["Cache-Control"]
	if len(values) == 0 {
		return nil
	}
	d := Directives{}
	for _, value := range values {
		for value != "" {
			var item string
			item, value = cutItem(value)
			name, argument, _ := strings.Cut(item, "=")
			name = strings.ToLower(strings.Trim(name, " \t"))
			if !isToken(name) {
				continue
			}
			argument = unquote(strings.Trim(argument, " \t"))
			if earlier, twice := d[name]; twice {
				if a, ok := seconds(earlier); !ok || a <= mustSeconds(argument) {
					continue
				}
			}
			d[name] = argument
		}
	}
	return d
}

func mustSeconds(text string) time.Duration {
	d, _ := seconds(text)
	return d
}

// cutItem cuts at the next comma outside of quotes.
func cutItem(s string) (item, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// seconds reads delta-seconds (RFC 9111 §1.2.2).
func seconds(text string) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		n = math.MaxUint64 // too many digits
	}
	return time.Duration(min(n, maxSeconds)) * time.Second, true
}

// Has reports whether the directive is given.
func (d Directives) Has(name string) bool {
	_, ok := d[name]
	return ok
}

// Seconds returns the time of a directive. One that is given without a proper
// value is zero: whoever wrote it wanted a limit (RFC 9111 §4.2.1).
func (d Directives) Seconds(name string) (value time.Duration, given bool) {
	text, given := d[name]
	if !given {
		return 0, false
	}
	value, _ = seconds(text)
	return value, true
}
