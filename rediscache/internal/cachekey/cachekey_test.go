package cachekey

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// What is appended can be taken apart again, whatever it is made of.
func FuzzParts(f *testing.F) {
	f.Add("", "")
	f.Add("1:a", "2:")
	f.Fuzz(func(t *testing.T, a, b string) {
		text := string(AppendPart(AppendPart(nil, a), b))
		first, rest, ok := CutPart(text)
		second, end, also := CutPart(rest)
		if !ok || !also || first != a || second != b || end != "" {
			t.Errorf("%q became %q, %q and %q", text, first, second, end)
		}
		_, _, _ = CutPart(a)
	})
}

func TestFieldsAreApart(t *testing.T) {
	names := []string{"A", "B"}
	seen := map[string]http.Header{}
	for _, h := range []http.Header{
		{}, {"A": {""}}, {"B": {""}}, {"A": {"1"}, "B": {"2"}}, {"A": {"1", "2"}}, {"A": {"1 1:2"}}, {"A": {"12"}},
	} {
		text := string(AppendFields(nil, h, names))
		if other, had := seen[text]; had {
			t.Errorf("%v and %v have one key", h, other)
		}
		seen[text] = h
	}
}

// A path that is not ambiguous has the same segments before and after it is
// unescaped, and none that a server could resolve.
func FuzzAmbiguous(f *testing.F) {
	for _, path := range []string{"/", "/a/b", "/a%2fb", "/a/../b", "/a//b", "/%2e/", "/a%5Cb", "/a;/..;x/", "/%", "/a%3Fb", "/a%0a", "/a%7F", "/%zz"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if Ambiguous(path) {
			return
		}
		plain, err := url.PathUnescape(path)
		if err != nil {
			return
		}
		if strings.Count(plain, "/") != strings.Count(path, "/") || strings.ContainsAny(plain, "\\") && !strings.Contains(path, "%") {
			t.Errorf("%q is read as %q", path, plain)
		}
		for segment := range strings.SplitSeq(strings.TrimPrefix(plain, "/"), "/") {
			if strings.HasPrefix(path, "/") && (segment == "." || segment == "..") {
				t.Errorf("%q has the segment %q", path, segment)
			}
		}
	})
}

func TestQueryFilter(t *testing.T) {
	for _, tc := range []struct {
		filter      QueryFilter
		query, want string
	}{
		{QueryFilter{}, "b=1&a=2&a=1", "b=1&a=2&a=1"},
		{QueryFilter{Sort: true}, "b=1&a=2&a=1", "a=2&a=1&b=1"},
		{QueryFilter{Allow: []string{"a"}}, "b=1&a=2&%61=3", "a=2&%61=3"},
		{QueryFilter{Deny: []string{"utm_*", "b"}}, "utm_x=1&a=2&b&utm_=3", "a=2"},
		{QueryFilter{Deny: []string{"a"}}, "a=1", ""},
		{QueryFilter{Allow: []string{}}, "a=1", ""},
	} {
		if got := tc.filter.Apply(tc.query); got != tc.want {
			t.Errorf("%+v: %q became %q, want %q", tc.filter, tc.query, got, tc.want)
		}
	}
}

// A query that was filtered is not changed again: the origin gets what the key has.
func FuzzQueryFilter(f *testing.F) {
	f.Add("a=1&b=2&utm_x=3&&=", "b", true)
	f.Fuzz(func(t *testing.T, query, name string, sort bool) {
		for _, filter := range []QueryFilter{{Allow: []string{name}, Sort: sort}, {Deny: []string{name, "utm_*"}, Sort: sort}} {
			once := filter.Apply(query)
			if twice := filter.Apply(once); twice != once {
				t.Errorf("%+v: %q became %q, then %q", filter, query, once, twice)
			}
		}
	})
}

func TestSearchRules(t *testing.T) {
	var s SearchRules
	rule := rfc9111.SearchVariance{KeyOrder: true}
	if s.Learn("a", "/", rfc9111.SearchVariance{}, false) || !s.Learn("a", "/", rule, true) || s.Learn("a", "/", rule, true) {
		t.Error("what changes nothing is a change, or the other way round")
	}
	if got, ok := s.Get("a", "/"); !ok || !got.KeyOrder {
		t.Errorf("got %+v %v", got, ok)
	}
	if _, ok := s.Get("a", "/other"); ok {
		t.Error("another path has the rule")
	}
	if !s.Learn("a", "/", rfc9111.SearchVariance{}, false) {
		t.Error("a response without the field does not end the rule")
	}
	for i := range maxSearchRules + 10 {
		s.Learn("a", fmt.Sprint(i), rule, true)
	}
	if n := len(s.rules); n > maxSearchRules {
		t.Errorf("%d rules", n)
	}
}
