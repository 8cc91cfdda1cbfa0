package rfc9111

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Vary returns the names that select a variant, canonical and sorted, and
// whether the response matches no other request at all: `*` in any position
// (RFC 9111 §4.1). What is not a field name cannot be compared and counts as `*`.
func Vary(h http.Header) (names []string, never bool) {
	for _, value := range h["Vary"] {
		for name := range strings.SplitSeq(value, ",") {
			switch name = trimOWS(name); {
			case name == "":
			case name == "*", !isToken(name):
				return nil, true
			default:
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), false
}

func listNames(value string) []string {
	var names []string
	for name := range strings.SplitSeq(value, ",") {
		if name = trimOWS(name); name != "" {
			names = append(names, http.CanonicalHeaderKey(name))
		}
	}
	return names
}

// Variant returns the values of the named fields of a request in one text, so
// that two requests that get the same text may get the same variant (RFC 9111
// §4.1). Lines are joined and blanks around list members dropped; two fields
// are compared by their meaning:
//
//   - Accept-Encoding: the codings accepted and their weights, in any order.
//   - Accept-Language: the languages in the order of their weights, in any
//     case. Languages of one weight are in any order.
//
// Each part has its length in front, so that no value can imitate another.
func Variant(names []string, request http.Header) string {
	if len(names) == 0 {
		return ""
	}
	b := make([]byte, 0, 64)
	for _, name := range names {
		values := request[name]
		if len(values) == 0 && name == "Host" {
			values = nil // it is part of the key
		}
		if len(values) == 0 {
			b = append(b, '-', ';')
			continue
		}
		switch name {
		case "Accept-Encoding", "Accept-Language":
			b = appendPart(b, weighted(values, name == "Accept-Encoding"))
		default:
			b = appendPart(b, collapse(values))
		}
		b = append(b, ';')
	}
	return string(b)
}

func appendPart(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	return append(append(b, ':'), s...)
}

// collapse joins lines and drops the blanks that have no meaning. Inside of
// quotes nothing is touched.
func collapse(values []string) string {
	if len(values) == 1 && strings.IndexByte(values[0], ' ') < 0 && strings.IndexByte(values[0], '\t') < 0 {
		return values[0]
	}
	var items []string
	for _, value := range values {
		for rest := value; ; {
			var item string
			item, rest = cutItem(rest)
			if item = trimOWS(item); strings.IndexByte(item, '"') < 0 {
				item = strings.Join(strings.Fields(item), " ")
			}
			items = append(items, item)
			if rest == "" {
				break
			}
		}
	}
	return strings.Join(items, ",")
}

// weighted returns a list of preferences (RFC 9110 §12.4.2) in one form for all
// that mean the same. What cannot be read is returned as it stands.
func weighted(values []string, codings bool) string {
	type preference struct {
		name   string
		weight int // thousandths
	}
	var list []preference
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			item = trimOWS(item)
			if item == "" {
				continue
			}
			name, weight, ok := parseWeight(item)
			if !ok {
				return collapse(values)
			}
			if codings && name == "x-gzip" {
				name = "gzip" // RFC 9110 §8.4.1.3
			}
			list = append(list, preference{name, weight})
		}
	}
	slices.SortFunc(list, func(a, b preference) int {
		if a.weight != b.weight {
			return b.weight - a.weight
		}
		return strings.Compare(a.name, b.name)
	})
	var b strings.Builder
	for i, p := range list {
		if i > 0 && p == list[i-1] {
			continue
		}
		b.WriteString(p.name)
		b.WriteByte('=')
		b.WriteString(strconv.Itoa(p.weight))
		b.WriteByte(' ')
	}
	return b.String()
}

// parseWeight reads a member such as `de;q=0.5`. The name is in lower case, the
// weight in thousandths.
func parseWeight(item string) (name string, weight int, ok bool) {
	name, parameter, given := strings.Cut(item, ";")
	name = strings.ToLower(trimOWS(name))
	if !isToken(name) {
		return "", 0, false
	}
	if !given {
		return name, 1000, true
	}
	parameter = trimOWS(parameter)
	if len(parameter) < 3 || parameter[0]|0x20 != 'q' || parameter[1] != '=' {
		return "", 0, false
	}
	whole, fraction, _ := strings.Cut(parameter[2:], ".")
	if whole != "0" && whole != "1" || len(fraction) > 3 {
		return "", 0, false
	}
	for i := range 3 {
		digit := byte('0')
		if i < len(fraction) {
			digit = fraction[i]
		}
		if digit < '0' || digit > '9' {
			return "", 0, false
		}
		weight = weight*10 + int(digit-'0')
	}
	if whole == "1" {
		if weight != 0 {
			return "", 0, false
		}
		weight = 1000
	}
	return name, weight, true
}

// PrefersLanguage reports whether the one language that the request prefers to
// all others is that of the response: then what was selected for another
// request is what would be selected for this one.
func PrefersLanguage(request, response http.Header) bool {
	language := response["Content-Language"]
	if len(language) != 1 || !isToken(language[0]) {
		return false
	}
	best, weight, ties := "", 0, 0
	for _, value := range request["Accept-Language"] {
		for item := range strings.SplitSeq(value, ",") {
			name, w, ok := parseWeight(trimOWS(item))
			switch {
			case !ok:
				return false
			case w > weight:
				best, weight, ties = name, w, 1
			case w == weight:
				ties++
			}
		}
	}
	return ties == 1 && strings.EqualFold(best, language[0])
}
