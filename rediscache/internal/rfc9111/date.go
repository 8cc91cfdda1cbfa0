package rfc9111

import (
	"strings"
	"time"
)

// parseDate reads an HTTP date (RFC 9110 §5.6.7) in one of its three forms and
// no other: one blank where one belongs, two digits where two belong, GMT and
// no other zone. The case of names does not matter. A two-digit year more than
// 50 years after now is in the past century.
func parseDate(text string, now time.Time) (time.Time, bool) {
	switch {
	case len(text) == 29 && text[3] == ',':
		return parseFixed(text)
	case len(text) == 24 && text[3] == ' ':
		return parseAsctime(text)
	}
	if comma := strings.IndexByte(text, ','); comma >= 6 && len(text) == comma+24 {
		return parseRFC850(text[:comma], text[comma+1:], now)
	}
	return time.Time{}, false
}

// parseFixed reads `Sun, 06 Nov 1994 08:49:37 GMT`.
func parseFixed(s string) (time.Time, bool) {
	if s[4] != ' ' || s[7] != ' ' || s[11] != ' ' || s[16] != ' ' || s[25] != ' ' || !strings.EqualFold(s[26:], "GMT") || !isDay(s[:3], 3) {
		return time.Time{}, false
	}
	day, ok1 := number(s[5:7])
	month, ok2 := monthOf(s[8:11])
	year, ok3 := number(s[12:16])
	return at(year, month, day, s[17:25], ok1 && ok2 && ok3)
}

// parseRFC850 reads `Sunday` and ` 06-Nov-94 08:49:37 GMT`.
func parseRFC850(name, s string, now time.Time) (time.Time, bool) {
	if s[0] != ' ' || s[3] != '-' || s[7] != '-' || s[10] != ' ' || s[19] != ' ' || !strings.EqualFold(s[20:], "GMT") || !isDay(name, 0) {
		return time.Time{}, false
	}
	day, ok1 := number(s[1:3])
	month, ok2 := monthOf(s[4:7])
	year, ok3 := number(s[8:10])
	this := now.UTC().Year()
	year += this - this%100
	switch {
	case year > this+50:
		year -= 100
	case year <= this-50:
		year += 100
	}
	return at(year, month, day, s[11:19], ok1 && ok2 && ok3)
}

// parseAsctime reads `Sun Nov  6 08:49:37 1994`.
func parseAsctime(s string) (time.Time, bool) {
	if s[7] != ' ' || s[10] != ' ' || s[19] != ' ' || !isDay(s[:3], 3) {
		return time.Time{}, false
	}
	text := s[8:10]
	if text[0] == ' ' {
		text = text[1:]
	}
	month, ok1 := monthOf(s[4:7])
	day, ok2 := number(text)
	year, ok3 := number(s[20:24])
	return at(year, month, day, s[11:19], ok1 && ok2 && ok3)
}

// at joins a date and a time such as 08:49:37. A leap second is the next one.
func at(year, month, day int, clock string, ok bool) (time.Time, bool) {
	if !ok || clock[2] != ':' || clock[5] != ':' {
		return time.Time{}, false
	}
	hour, ok1 := number(clock[:2])
	minute, ok2 := number(clock[3:5])
	second, ok3 := number(clock[6:8])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 60 || day < 1 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	// Date makes the 31st of June the 1st of July.
	if check := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC); check.Day() != day {
		return time.Time{}, false
	}
	return t, true
}

var (
	days   = [...]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
	months = [...]string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
)

// isDay reports whether s is the name of a day, or its first n letters. It need
// not be the day of the date: senders err, and nothing depends on it.
func isDay(s string, n int) bool {
	for _, name := range days {
		if n > 0 {
			name = name[:n]
		}
		if strings.EqualFold(name, s) {
			return true
		}
	}
	return false
}

func monthOf(s string) (int, bool) {
	for i, name := range months {
		if strings.EqualFold(name, s) {
			return i + 1, true
		}
	}
	return 0, false
}

func number(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, s != ""
}
