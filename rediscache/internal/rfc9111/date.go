package rfc9111

import (
	"strings"
	"time"
)

// The three forms of an HTTP date (RFC 9110 §5.6.7), without the day of the week and
// the zone.
const (
	fixdate = "02 Jan 2006 15:04:05"
	rfc850  = "02-Jan-06 15:04:05"
	asctime = "Jan _2 15:04:05 2006"
	// RFC 9110 allows a zero in place of the blank.
	asctimeZero = "Jan 02 15:04:05 2006"
)

// parseDate reads an HTTP date in one of its three forms and no other: one blank
// where one belongs, two digits where two belong, GMT and no other zone. The case of
// names does not matter. A two-digit year more than 50 years after now is in the past
// century.
func parseDate(text string, now time.Time) (time.Time, bool) {
	day, rest, ok := strings.Cut(text, " ")
	if !ok {
		return time.Time{}, false
	}
	name, comma := strings.CutSuffix(day, ",")
	if !comma {
		if !isDay(day, 3) {
			return time.Time{}, false
		}
		if t, ok := parseForm(asctime, rest); ok {
			return t, true
		}
		return parseForm(asctimeZero, rest)
	}
	end := max(len(rest)-len(" GMT"), 0)
	switch {
	case !strings.EqualFold(rest[end:], " GMT"):
	case isDay(name, 3):
		return parseForm(fixdate, rest[:end])
	case isDay(name, 0):
		t, ok := parseForm(rfc850, rest[:end])
		return inCentury(t, now), ok
	}
	return time.Time{}, false
}

// parseForm reads a date in exactly that form: time.Parse alone takes blanks and
// digits less strictly. A leap second is the next one.
func parseForm(form, text string) (time.Time, bool) {
	leap := time.Duration(0)
	if at := strings.LastIndexByte(text, ':'); at >= 0 && strings.HasPrefix(text[at:], ":60") {
		text, leap = text[:at]+":59"+text[at+3:], time.Second
	}
	t, err := time.Parse(form, text)
	if err != nil || !strings.EqualFold(t.Format(form), text) {
		return time.Time{}, false
	}
	return t.Add(leap), true
}

// inCentury gives a year of two digits the century that is nearest to now.
func inCentury(t, now time.Time) time.Time {
	this := now.UTC().Year()
	year := t.Year()%100 + this - this%100
	switch {
	case year > this+50:
		year -= 100
	case year <= this-50:
		year += 100
	}
	return time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// isDay reports whether s is the name of a day, or its first n letters. It need not
// be the day of the date: senders err, and nothing depends on it.
func isDay(s string, n int) bool {
	for day := range time.Saturday + 1 {
		name := day.String()
		if n > 0 {
			name = name[:n]
		}
		if strings.EqualFold(name, s) {
			return true
		}
	}
	return false
}
