package rfc9111

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

func FuzzCacheControl(f *testing.F) {
	for _, s := range []string{"max-age=60, no-store", `no-cache="a, b", private`, `a="b\"c", d`, `foo="bar, no-store`, "max-age=99999999999999999999", ";;,=,=x"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d := ParseCacheControl(http.Header{"Cache-Control": {a, b}})
		for _, one := range d {
			if one.Name != strings.ToLower(one.Name) || !isToken(one.Name) {
				t.Fatalf("the name %q", one.Name)
			}
			if v, ok := d.Seconds(one.Name); !ok || v < 0 || v > maxSeconds*time.Second {
				t.Fatalf("%s: %v %v", one.Name, v, ok)
			}
			fields, whole := d.Fields(one.Name)
			if len(fields) == 0 && !whole {
				t.Fatalf("%s concerns nothing", one.Name)
			}
		}
		// A line that has no quotes says the same as its members on lines of their
		// own.
		if !strings.Contains(a, `"`) {
			split := ParseCacheControl(http.Header{"Cache-Control": strings.Split(a, ",")})
			if one := ParseCacheControl(http.Header{"Cache-Control": {a}}); !slices.Equal(one, split) {
				t.Fatalf("%v and %v", one, split)
			}
		}
		// What stands on another line is never hidden.
		if got := ParseCacheControl(http.Header{"Cache-Control": {a, "no-store"}}); !got.Has("no-store") {
			t.Fatalf("no-store is lost in %v", got)
		}
		ReadRequestDirectives(http.Header{"Cache-Control": {a}, "Pragma": {b}}, true)
	})
}

func FuzzTargeted(f *testing.F) {
	for _, s := range []string{"max-age=60", `max-age="60"`, "a=(b c);d", "no-store, max-age=5;x", ":YQ==:", "max-age=?1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := http.Header{"Cdn-Cache-Control": {s}, "Cache-Control": {"no-store"}}
		c := ReadControl(h, []string{"Cdn-Cache-Control"})
		dict, err := httpsfv.UnmarshalDictionary([]string{s})
		if c.Targeted && (err != nil || len(dict.Names()) == 0) {
			t.Fatal("a malformed field counts")
		}
		if !c.Targeted && !c.NoStore(200) {
			t.Fatal("Cache-Control does not count")
		}
		if v, _ := c.Explicit(h, now); v < 0 {
			t.Fatal(v)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := parseDate(s, now)
		if !ok {
			return
		}
		// Whatever is read is read by the library too, which is more lenient,
		// but for leap seconds and the day's name.
		again, ok := parseDate(at.Format(http.TimeFormat), now)
		if at.Year() <= 9999 && at.Year() >= 0 && (!ok || !again.Equal(at)) {
			t.Fatalf("%q is %v, and then %v", s, at, again)
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-0,2-3, -1", "bytes=1-0", "x=1-2"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		size = max(size, 0)
		specs, ok := ParseRange([]string{s})
		if !ok {
			return
		}
		if len(specs) == 0 || len(specs) > maxRanges {
			t.Fatal(len(specs))
		}
		ranges, whole := ResolveAll(specs, size)
		total := int64(0)
		for _, r := range ranges {
			if r.Start < 0 || r.End > size || r.Start >= r.End {
				t.Fatalf("%v of %d", r, size)
			}
			total += r.Len()
			got, n, ok := ContentRange(http.Header{"Content-Range": {FormatContentRange(r, size)}})
			if !ok || got != r || n != size {
				t.Fatalf("%v of %d: %v of %d", r, size, got, n)
			}
		}
		if len(ranges) > 1 && !whole && total >= size {
			t.Fatal("the parts are more than the whole")
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-4/10", "bytes 0-4/*", "bytes */10", "bytes 5-4/1", "bytes 0-9223372036854775807/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, size, ok := ContentRange(http.Header{"Content-Range": {s}})
		if ok && (r.Start < 0 || r.Len() <= 0 || size >= 0 && size < r.End) {
			t.Fatalf("%q: %v of %d", s, r, size)
		}
	})
}

func FuzzVary(f *testing.F) {
	f.Add("Accept-Encoding, X", "gzip;q=0.5, br", "a,b")
	f.Add("Accept-Language", "de-DE, *;q=0", "")
	f.Add("*", "", "")
	f.Fuzz(func(t *testing.T, vary, a, b string) {
		names, never := Vary(http.Header{"Vary": {vary}})
		star := slices.ContainsFunc(strings.Split(vary, ","), func(s string) bool { return trimOWS(s) == "*" })
		if never && names != nil || star && !never {
			t.Fatalf("%v %v", names, never)
		}
		if !slices.IsSorted(names) {
			t.Fatal(names)
		}
		// The value of one field can never pass for those of two.
		two := []string{"A", "B"}
		x, y := Variant(two, http.Header{"A": {a}, "B": {b}}), Variant(two, http.Header{"A": {a + b}})
		if x == y {
			t.Fatalf("%q and %q", x, y)
		}
		if a != b && Variant([]string{"A"}, http.Header{"A": {a}}) == Variant([]string{"A"}, http.Header{"A": {b}}) && collapse([]string{a}) != collapse([]string{b}) {
			t.Fatalf("%q and %q are one variant", a, b)
		}
		for _, name := range []string{"Accept-Encoding", "Accept-Language"} {
			Variant([]string{name}, http.Header{name: {a, b}})
		}
		PrefersLanguage(http.Header{"Accept-Language": {a}}, http.Header{"Content-Language": {b}})
	})
}

func FuzzNoVarySearch(f *testing.F) {
	f.Add(`params=("a" "b"), key-order`, "a=1&b=2&c")
	f.Add(`except=("x")`, "x=%41&y=+")
	f.Add(`params`, "&&=")
	f.Fuzz(func(t *testing.T, field, query string) {
		v, given := NoVarySearch(http.Header{"No-Vary-Search": {field}})
		if !given {
			return
		}
		if v.All && len(v.Ignore) > 0 {
			t.Fatalf("%+v", v)
		}
		once := v.Query(query)
		if twice := v.Query(once); twice != once {
			t.Fatalf("%q, then %q", once, twice)
		}
	})
}

func FuzzGroups(f *testing.F) {
	f.Add(`"a", "b";x, c, 5`)
	f.Add(`("a" "b")`)
	f.Fuzz(func(t *testing.T, s string) {
		groups := Groups([]string{s})
		if len(s) > maxGroupBytes && groups != nil {
			t.Fatal(len(groups))
		}
		for _, g := range groups {
			if g == "" || len(g) > maxGroupBytes {
				t.Fatalf("%q", g)
			}
		}
	})
}

func FuzzETags(f *testing.F) {
	f.Add(`"a", W/"b,c", *`, `"a"`)
	f.Add(`""`, `W/""`)
	f.Fuzz(func(t *testing.T, list, tag string) {
		tags, _ := parseETags([]string{list})
		if strings.Count(list, ",")+1 < len(tags) {
			t.Fatalf("%q", tags)
		}
		stored := http.Header{"Etag": {tag}}
		for _, one := range tags {
			if strongMatch(one, tag) && !weakMatch(one, tag) {
				t.Fatalf("%q and %q", one, tag)
			}
			if one == tag && !NotModified(http.Header{"If-None-Match": {list}}, stored, 200, now) {
				t.Fatalf("%q is not found in %q", tag, list)
			}
		}
		IfRange(http.Header{"If-Range": {list}}, stored, now)
	})
}

func FuzzAge(f *testing.F) {
	f.Add("60, 5")
	f.Add("-1")
	f.Fuzz(func(t *testing.T, s string) {
		if v := readAge(http.Header{"Age": {s}}); v < 0 || v > maxSeconds*time.Second {
			t.Fatal(v)
		}
	})
}

// What is sent in Cache-Status is read by others.
func FuzzCacheStatus(f *testing.F) {
	f.Add("5:http2:ab", "detail", int64(5))
	f.Fuzz(func(t *testing.T, key, _ string, ttl int64) {
		s := Status{Hit: true, HasTTL: true, TTL: ttl % 1e15, Key: key, Detail: "x", Stored: true}
		list, err := httpsfv.UnmarshalList([]string{string(s.Append(nil, "tentagate"))})
		if err != nil || len(list) != 1 {
			t.Fatalf("%q: %v", s.Append(nil, "tentagate"), err)
		}
	})
}

func FuzzInvalidation(f *testing.F) {
	f.Add("/b?x#y", "http://h.test:80/c")
	f.Add("//other.test/", "\x00")
	f.Fuzz(func(t *testing.T, location, content string) {
		target, _ := url.Parse("http://h.test/a")
		for _, u := range AlsoInvalid(target, http.Header{"Location": {location}, "Content-Location": {content}}) {
			if !SameOrigin(target, u) || u.Fragment != "" || u.User != nil {
				t.Fatal(u)
			}
		}
	})
}
