package rfc9111

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestDates(t *testing.T) {
	for text, want := range map[string]string{
		"Sun, 06 Nov 1994 08:49:37 GMT":     "1994-11-06T08:49:37Z",
		"Sunday, 06-Nov-94 08:49:37 GMT":    "1994-11-06T08:49:37Z",
		"Sun Nov  6 08:49:37 1994":          "1994-11-06T08:49:37Z",
		"Sun Nov 06 08:49:37 1994":          "1994-11-06T08:49:37Z",
		"sun, 06 NOV 1994 08:49:37 gmt":     "1994-11-06T08:49:37Z",
		"Mon, 06 Nov 1994 08:49:37 GMT":     "1994-11-06T08:49:37Z", // the wrong day
		"Thursday, 18-Aug-50 02:01:18 GMT":  "2050-08-18T02:01:18Z",
		"Monday, 23-Nov-76 12:00:00 GMT":    "2076-11-23T12:00:00Z", // 50 years ahead
		"Tuesday, 23-Nov-77 12:00:00 GMT":   "1977-11-23T12:00:00Z", // more is the past
		"Fri, 31 Dec 2016 23:59:60 GMT":     "2017-01-01T00:00:00Z",
		"Tue, 19 Jan 2038 14:14:08 GMT":     "2038-01-19T14:14:08Z",
		"Sun, 21 Nov 2286 04:46:39 GMT":     "2286-11-21T04:46:39Z",
		"Sun, 06 Nov 1994 08:49:37 UTC":     "",
		"Sun, 06 Nov 1994 08:49:37 +0000":   "",
		"Sun 06 Nov 1994 08:49:37 GMT":      "",
		"Sun,  06 Nov 1994 08:49:37 GMT":    "",
		"Sun, 6 Nov 1994 08:49:37 GMT":      "",
		"Sun, 06 Nov 94 08:49:37 GMT":       "",
		"Sun, 06-Nov-1994 08:49:37 GMT":     "",
		"Sun, 06 Nov 1994 8:49:37 GMT":      "",
		"Sun, 06 Nov 1994 08.49.37 GMT":     "",
		"Sun, 06 Nov 1994 24:00:00 GMT":     "",
		"Sun, 31 Jun 1994 08:49:37 GMT":     "",
		"Sun, 00 Nov 1994 08:49:37 GMT":     "",
		"Sun, 06 Nov 1994 08:49:37.5 GMT":   "",
		"Xxx, 06 Nov 1994 08:49:37 GMT":     "",
		"Sun, 06 Nov 1994 08:49:37 GMT foo": "",
		"0":                                 "",
		"":                                  "",
	} {
		got := ""
		if at, ok := parseDate(text, now); ok {
			got = at.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestCacheControl(t *testing.T) {
	for _, tc := range []struct {
		lines   []string
		has     []string
		not     []string
		maxAge  int // -1: not given
		noCache []string
		whole   bool
	}{
		{lines: []string{"max-age=60"}, maxAge: 60},
		{lines: []string{`MAX-AGE="60"`}, maxAge: 60},
		{lines: []string{"max-age=60, max-age=30"}, maxAge: 30},
		{lines: []string{"max-age=60", "no-store"}, has: []string{"no-store"}, maxAge: 60},
		{lines: []string{"max-age=99999999999999999999"}, maxAge: maxSeconds},
		{lines: []string{"max-age"}, maxAge: 0},
		{lines: []string{"max-age = 60"}, maxAge: 0},
		{lines: []string{"max-age=-5"}, maxAge: 0},
		{lines: []string{"max-age=6 0"}, maxAge: 0},
		{lines: []string{"max-age='60'"}, maxAge: 0},
		// One that is malformed does not hide the others.
		{lines: []string{`foo="bar, no-store`}, has: []string{"no-store"}, maxAge: -1},
		{lines: []string{`foo="bar, no-store", max-age=5`}, not: []string{"no-store"}, maxAge: 5},
		{lines: []string{`foo="a\", no-store", private`}, has: []string{"private"}, not: []string{"no-store"}, maxAge: -1},
		{lines: []string{`;=?, no-store, max-age=1`}, has: []string{"no-store"}, maxAge: 1},
		{lines: []string{"no-storex, xno-store, no store"}, not: []string{"no-store"}, maxAge: -1},
		{lines: []string{`no-cache="X-A, x-b"`}, maxAge: -1, noCache: []string{"X-A", "X-B"}},
		{lines: []string{`no-cache=x-a`}, maxAge: -1, noCache: []string{"X-A"}},
		{lines: []string{`no-cache`}, maxAge: -1, whole: true},
		{lines: []string{`no-cache=""`}, maxAge: -1, whole: true},
		{lines: []string{`no-cache="x-a" , no-cache`}, maxAge: -1, noCache: []string{"X-A"}, whole: true},
		{lines: []string{`no-cache="x y"`}, maxAge: -1, whole: true},
	} {
		d := ParseCacheControl(http.Header{"Cache-Control": tc.lines})
		for _, name := range tc.has {
			if !d.Has(name) {
				t.Errorf("%q: %s is missing", tc.lines, name)
			}
		}
		for _, name := range tc.not {
			if d.Has(name) {
				t.Errorf("%q: %s is not said", tc.lines, name)
			}
		}
		v, given := d.Seconds("max-age")
		if given != (tc.maxAge >= 0) || given && v != time.Duration(tc.maxAge)*time.Second {
			t.Errorf("%q: max-age %v %v, want %d", tc.lines, v, given, tc.maxAge)
		}
		if fields, whole := d.Fields("no-cache"); !slices.Equal(fields, tc.noCache) || whole != tc.whole {
			t.Errorf("%q: no-cache %v %v", tc.lines, fields, whole)
		}
	}
}

func TestRanges(t *testing.T) {
	for _, tc := range []struct {
		text, want string // of 10 bytes
	}{
		{"bytes=0-4", "[{0 5}] false"},
		{"bytes=5-", "[{5 10}] false"},
		{"bytes=-3", "[{7 10}] false"},
		{"bytes=-30", "[{0 10}] false"},
		{"bytes=0-0,9-9", "[{0 1} {9 10}] false"},
		{"bytes= 0-0 , -1", "[{0 1} {9 10}] false"},
		{"bytes=0-,0-", "[{0 10} {0 10}] true"},
		{"bytes=0-99999999999999999999", "[{0 10}] false"},
		{"bytes=10-", "[] false"},
		{"bytes=-0", "[] false"},
		{"bytes=10-,0-1", "[{0 2}] false"},
		{"BYTES=0-1", "[{0 2}] false"},
		{"bytes=4-2", "ignored"},
		{"bytes=", "ignored"},
		{"bytes=-", "ignored"},
		{"bytes=a-b", "ignored"},
		{"bytes=1", "ignored"},
		{"bytes=0--1", "ignored"},
		{"lines=0-1", "ignored"},
	} {
		got := "ignored"
		if specs, ok := ParseRange([]string{tc.text}); ok {
			ranges, whole := ResolveAll(specs, 10)
			got = fmt.Sprintf("%v %v", ranges, whole)
		}
		if got != tc.want {
			t.Errorf("%q: got %s, want %s", tc.text, got, tc.want)
		}
	}
	if _, ok := ParseRange([]string{"bytes=0-1", "bytes=2-3"}); ok {
		t.Error("two Range fields")
	}
	for text, want := range map[string]string{
		"bytes 0-4/10": "{0 5} 10 true", "bytes 0-4/*": "{0 5} -1 true", "bytes 0-9/10": "{0 10} 10 true",
		"bytes 0-10/10": "{0 0} 0 false", "bytes 5-4/10": "{0 0} 0 false", "bytes */10": "{0 0} 0 false", "0-4/10": "{0 0} 0 false",
	} {
		r, size, ok := ContentRange(http.Header{"Content-Range": {text}})
		if got := fmt.Sprint(r, size, ok); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestTargetedFields(t *testing.T) {
	targets := []string{"Tentagate-Cache-Control", "Cdn-Cache-Control"}
	for _, tc := range []struct {
		name     string
		header   http.Header
		lifetime int // -1: not stated
	}{
		{"it counts instead", http.Header{"Cache-Control": {"max-age=1"}, "Cdn-Cache-Control": {"max-age=60"}}, 60},
		{"the first of the list counts", http.Header{"Tentagate-Cache-Control": {"max-age=9"}, "Cdn-Cache-Control": {"max-age=60"}}, 9},
		{"what is malformed does not", http.Header{"Cache-Control": {"max-age=1"}, "Cdn-Cache-Control": {"max-age=60, ="}}, 1},
		{"what is empty does not", http.Header{"Cache-Control": {"max-age=1"}, "Cdn-Cache-Control": {""}}, 1},
		{"a string is no number", http.Header{"Cache-Control": {"max-age=1"}, "Cdn-Cache-Control": {`max-age="60"`}}, 1},
		{"names are in lower case", http.Header{"Cache-Control": {"max-age=1"}, "Cdn-Cache-Control": {"MAX-AGE=60"}}, 1},
		{"Expires is not for it", http.Header{"Cdn-Cache-Control": {"public"}, "Expires": {"Tue, 19 Jan 2038 14:14:08 GMT"}}, -1},
		{"parameters mean nothing", http.Header{"Cdn-Cache-Control": {"max-age=60;a=b"}}, 60},
	} {
		v, given := ReadControl(tc.header, targets).Explicit(tc.header, now)
		if given != (tc.lifetime >= 0) || given && v != time.Duration(tc.lifetime)*time.Second {
			t.Errorf("%s: %v %v, want %d", tc.name, v, given, tc.lifetime)
		}
	}
}

func TestVariants(t *testing.T) {
	same := func(name, a, b string) bool {
		return Variant([]string{name}, http.Header{name: {a}}) == Variant([]string{name}, http.Header{name: {b}})
	}
	for _, tc := range []struct {
		name, a, b string
		want       bool
	}{
		{"Accept-Encoding", "gzip, br", "br,gzip", true},
		{"Accept-Encoding", "gzip;q=1.0, br", "x-gzip,br", true},
		{"Accept-Encoding", "gzip;q=0.5, br", "gzip, br", false},
		{"Accept-Encoding", "gzip", "br", false},
		{"Accept-Language", "de, EN;q=0.5", "DE,en; q=0.50", true},
		{"Accept-Language", "de, en;q=0.5", "en, de;q=0.5", false},
		{"X", "a,  b", "a,b", true},
		{"X", "a,b", "b,a", false},
		{"X", `"a,  b"`, `"a,b"`, false},
		{"X", "A", "a", false},
	} {
		if same(tc.name, tc.a, tc.b) != tc.want {
			t.Errorf("%s: %q and %q: want the same: %v", tc.name, tc.a, tc.b, tc.want)
		}
	}
	names := []string{"A", "B"}
	if Variant(names, http.Header{"A": {"1"}}) == Variant(names, http.Header{"B": {"1"}}) ||
		Variant(names, http.Header{"A": {""}}) == Variant(names, http.Header{}) {
		t.Error("a field that is not there is like another")
	}
	for _, lines := range [][]string{{"*"}, {"A, *"}, {"A", "*"}, {"*, A"}, {"A B"}, {"A,\x01"}} {
		if _, never := Vary(http.Header{"Vary": lines}); !never {
			t.Errorf("Vary %q is matched", lines)
		}
	}
	if got, never := Vary(http.Header{"Vary": {"b, A,", "a"}}); never || !slices.Equal(got, names) {
		t.Errorf("Vary: %v %v", got, never)
	}
}

func TestNoVarySearch(t *testing.T) {
	for _, tc := range []struct {
		field, a, b string
		same        bool
	}{
		{"key-order", "a=1&b=2", "b=2&a=1", true},
		{"key-order", "a=1&a=2", "a=2&a=1", false},
		{"key-order=?0", "a=1&b=2", "b=2&a=1", false},
		{"params", "a=1", "", true},
		{`params=("a")`, "a=1&b=2", "b=2", true},
		{`params=("a")`, "a=1&b=2", "a=1&b=3", false},
		{`params=("%c3%a9")`, "%C3%A9=1", "", true},
		{`params, except=("b")`, "a=1&b=2", "a=9&b=2", true},
		{`except=("b")`, "a=1&b=2", "a=1&b=3", false},
		{`params=("a"), key-order`, "b=1&a=2&c=3", "c=3&b=1", true},
		{`params=("a"), except=("b")`, "a=1", "a=2", false}, // malformed
		{`params=(a)`, "a=1", "a=2", false},
		{`params="a"`, "a=1", "a=2", false},
		{`params=("a"`, "a=1", "a=2", false},
	} {
		v, given := NoVarySearch(http.Header{"No-Vary-Search": {tc.field}})
		if !given && tc.same {
			t.Errorf("%q is not read", tc.field)
		}
		if got := given && v.Query(tc.a) == v.Query(tc.b); got != tc.same {
			t.Errorf("%q: %q and %q: the same %v, want %v", tc.field, tc.a, tc.b, got, tc.same)
		}
	}
}

func TestConditions(t *testing.T) {
	at := "Sun, 06 Nov 1994 08:49:37 GMT"
	stored := http.Header{"Etag": {`"a"`}, "Last-Modified": {at}, "Date": {"Mon, 07 Nov 1994 08:49:37 GMT"}}
	for _, tc := range []struct {
		request http.Header
		want    bool
	}{
		{http.Header{"If-None-Match": {`"a"`}}, true},
		{http.Header{"If-None-Match": {`W/"a"`}}, true},
		{http.Header{"If-None-Match": {`"b", "a"`}}, true},
		{http.Header{"If-None-Match": {`"b"`, `"a"`}}, true},
		{http.Header{"If-None-Match": {`"a,b"`}}, false},
		{http.Header{"If-None-Match": {`*`}}, true},
		{http.Header{"If-None-Match": {`a`}}, false},
		{http.Header{"If-None-Match": {`"b"`}, "If-Modified-Since": {at}}, false},
		{http.Header{"If-Modified-Since": {at}}, true},
		{http.Header{"If-Modified-Since": {"Sunday, 06-Nov-94 08:49:37 GMT"}}, true},
		{http.Header{"If-Modified-Since": {"Sun, 06 Nov 1994 08:49:36 GMT"}}, false},
		{http.Header{"If-Modified-Since": {"yesterday"}}, false},
	} {
		if NotModified(tc.request, stored, 200, now) != tc.want {
			t.Errorf("%v: want %v", tc.request, tc.want)
		}
	}
	if NotModified(http.Header{"If-None-Match": {`"a"`}}, stored, 404, now) {
		t.Error("a 404 that has not changed")
	}
	for _, tc := range []struct {
		ifRange string
		want    bool
	}{{`"a"`, true}, {`W/"a"`, false}, {`"b"`, false}, {at, true}, {"Sun, 06 Nov 1994 08:49:38 GMT", false}, {"a", false}} {
		if IfRange(http.Header{"If-Range": {tc.ifRange}}, stored, now) != tc.want {
			t.Errorf("If-Range %q: want %v", tc.ifRange, tc.want)
		}
	}
	weak := http.Header{"Last-Modified": {at}, "Date": {at}}
	if IfRange(http.Header{"If-Range": {at}}, weak, now) {
		t.Error("a date that is not strong")
	}
}

func TestConfirms(t *testing.T) {
	for _, tc := range []struct {
		stored, fresh http.Header
		want          bool
	}{
		{http.Header{"Etag": {`"a"`}}, http.Header{"Etag": {`"a"`}}, true},
		{http.Header{"Etag": {`"a"`}}, http.Header{"Etag": {`"b"`}}, false},
		{http.Header{"Etag": {`"a"`}}, http.Header{"Etag": {`W/"a"`}}, true},
		{http.Header{"Etag": {`"a"`}}, http.Header{}, true},
		{http.Header{"Last-Modified": {"x"}}, http.Header{"Last-Modified": {"y"}}, false},
	} {
		if Confirms(tc.stored, tc.fresh) != tc.want {
			t.Errorf("%v %v: want %v", tc.stored, tc.fresh, tc.want)
		}
	}
}

func TestCacheStatus(t *testing.T) {
	s := Status{Hit: true, TTL: -5, HasTTL: true, Key: "a\"b\\c\xff", Detail: "x"}
	if got, want := string(s.Append(nil, "tentagate")), `tentagate; hit; ttl=-5; key="a\"b\\c?"; detail=x`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s = Status{Fwd: "stale", FwdStatus: 304, Stored: true, Collapsed: true}
	if got, want := string(s.Append(nil, "tentagate")), `tentagate; fwd=stale; fwd-status=304; stored; collapsed`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
