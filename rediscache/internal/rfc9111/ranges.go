package rfc9111

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Range is a part of a representation: the first byte and the one after the
// last.
type Range struct{ Start, End int64 }

// Len returns the number of bytes.
func (r Range) Len() int64 { return r.End - r.Start }

// Spec is one member of a Range field (RFC 9110 §14.1.1), before the size is
// known. First is -1 for a suffix of Last bytes; Last is -1 without an end.
type Spec struct{ First, Last int64 }

// maxRanges bounds the parts of one answer: a request for thousands of
// overlapping ones is an attack.
const maxRanges = 32

// ParseRange reads a Range field (RFC 9110 §14.2). ok is false for another unit
// and for what is malformed: then the field is as if it were not there.
func ParseRange(values []string) (specs []Spec, ok bool) {
	if len(values) != 1 {
		return nil, false
	}
	unit, set, found := strings.Cut(values[0], "=")
	if !found || !strings.EqualFold(trimOWS(unit), "bytes") {
		return nil, false
	}
	for item := range strings.SplitSeq(set, ",") {
		if item = trimOWS(item); item == "" {
			continue
		}
		begin, end, found := strings.Cut(item, "-")
		if !found {
			return nil, false
		}
		s := Spec{-1, -1}
		if begin != "" {
			if s.First, ok = position(begin); !ok {
				return nil, false
			}
		}
		if end != "" {
			if s.Last, ok = position(end); !ok {
				return nil, false
			}
		}
		if s.First < 0 && s.Last < 0 || s.First >= 0 && s.Last >= 0 && s.Last < s.First {
			return nil, false
		}
		if specs = append(specs, s); len(specs) > maxRanges {
			return nil, false
		}
	}
	return specs, len(specs) > 0
}

func position(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64 - 1
	}
	return n, s != ""
}

// Resolve returns the range of a representation of the size, and false if it
// has nothing of it.
func (s Spec) Resolve(size int64) (Range, bool) {
	switch {
	case s.First < 0:
		r := Range{max(size-s.Last, 0), size}
		return r, s.Last > 0 && size > 0
	case s.First >= size:
		return Range{}, false
	case s.Last < 0 || s.Last >= size:
		return Range{s.First, size}, true
	}
	return Range{s.First, s.Last + 1}, true
}

// ResolveAll returns the ranges that can be satisfied, in their order. ranges
// that together are more than the whole are answered with the whole: whole is
// set.
func ResolveAll(specs []Spec, size int64) (ranges []Range, whole bool) {
	total := int64(0)
	for _, s := range specs {
		if r, ok := s.Resolve(size); ok {
			ranges = append(ranges, r)
			total += r.Len()
		}
	}
	return ranges, len(ranges) > 1 && total >= size
}

// ContentRange reads a Content-Range field (RFC 9110 §14.4) of a single part.
// size is -1 if it is not known.
func ContentRange(h http.Header) (r Range, size int64, ok bool) {
	values := h["Content-Range"]
	if len(values) != 1 {
		return r, 0, false
	}
	text, found := strings.CutPrefix(values[0], "bytes ")
	if !found {
		return r, 0, false
	}
	span, total, found := strings.Cut(text, "/")
	if !found {
		return r, 0, false
	}
	begin, end, found := strings.Cut(span, "-")
	if !found {
		return r, 0, false
	}
	var ok1, ok2 bool
	r.Start, ok1 = position(begin)
	r.End, ok2 = position(end)
	if r.End++; !ok1 || !ok2 || r.End <= r.Start {
		return Range{}, 0, false
	}
	if total == "*" {
		return r, -1, true
	}
	if size, ok = position(total); !ok || size < r.End {
		return Range{}, 0, false
	}
	return r, size, true
}

// FormatContentRange is what ContentRange reads.
func FormatContentRange(r Range, size int64) string {
	b := append(make([]byte, 0, 48), "bytes "...)
	b = strconv.AppendInt(b, r.Start, 10)
	b = strconv.AppendInt(append(b, '-'), r.End-1, 10)
	b = append(b, '/')
	if size < 0 {
		return string(append(b, '*'))
	}
	return string(strconv.AppendInt(b, size, 10))
}

// IfRange reports whether the Range field of the request is to be heeded: it
// has no If-Range, or one that the stored response matches (RFC 9110 §13.1.5).
func IfRange(request, stored http.Header, received time.Time) bool {
	values := request["If-Range"]
	switch {
	case len(values) == 0:
		return true
	case len(values) > 1:
		return false
	}
	want := trimOWS(values[0])
	if strings.HasPrefix(want, `"`) || strings.HasPrefix(want, "W/") {
		return strongMatch(want, first(stored["Etag"]))
	}
	at, ok := parseDate(want, received)
	if !ok {
		return false
	}
	modified, ok := readDate(stored["Last-Modified"], received)
	return ok && modified.Equal(at) && strongDate(stored, modified, received)
}

// strongDate reports whether a date of change identifies one representation: it
// was at least a second old when the response was made (RFC 9110 §8.8.2.2).
func strongDate(stored http.Header, modified, received time.Time) bool {
	date, ok := readDate(stored["Date"], received)
	return ok && date.Sub(modified) >= time.Second
}

// Combinable reports whether two responses are parts of the same
// representation: they share a strong validator (RFC 9111 §3.4).
func Combinable(a, b http.Header) bool {
	if !strongMatch(first(a["Etag"]), first(b["Etag"])) {
		return false
	}
	return first(a["Content-Encoding"]) == first(b["Content-Encoding"])
}
