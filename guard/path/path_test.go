package path

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for path, want := range map[string]error{
		"/": nil, "": nil, "*": nil, "/a/b": nil, "/a//b": nil, "/a b": nil, "/.well-known/x": nil, "/...": nil, "/a..b/": nil, "/..a": nil,
		"/a;v=1/b": nil, "/a%20b": nil, "/%e4%bd%a0": nil, "/a%25b": nil, "/100%25": nil, "/v1.2/x": nil, "/a;..": nil, "/.%41": nil,
		"/..": ErrDotSegment, "/../a": ErrDotSegment, "/a/../b": ErrDotSegment, "/a/.": ErrDotSegment, "/a/./b": ErrDotSegment,
		"/a/%2e%2e/b": ErrDotSegment, "/a/%2E%2e": ErrDotSegment, "/a/.%2e/b": ErrDotSegment, "/a/%2e./b": ErrDotSegment, "/%2e/a": ErrDotSegment,
		"/a/..;/b": ErrDotSegment, "/a/..;x=1/b": ErrDotSegment, "/a/.;/b": ErrDotSegment, "/a/%2e%2e;x": ErrDotSegment, "/a/..%3b/b": ErrDotSegment,
		"/a/..%2fb": ErrDotSegment, "/a%2f..%2fb": ErrEncodedSlash, "/a/..%5cb": ErrDotSegment, `/a/..\b`: ErrDotSegment,
		"/a/%252e%252e/b": ErrDotSegment, "/a/%252E./b": ErrDotSegment, "/a/.%252e;x/": ErrDotSegment,
		"/a%2fb": ErrEncodedSlash, "/a%2Fb": ErrEncodedSlash, "/a%5cb": ErrEncodedSlash, `/a\b`: ErrEncodedSlash,
		"/a%00b": ErrControl, "/a%0d%0ab": ErrControl, "/a%7fb": ErrControl, "/a\x01": ErrControl,
	} {
		if got := Check(path, false); !errors.Is(got, want) {
			t.Errorf("%q: got %v, want %v", path, got, want)
		}
	}
}

func TestCheckAllowingSlashes(t *testing.T) {
	for path, want := range map[string]error{
		"/a%2fb": nil, "/group%2Fproject/x": nil, "/a%2f%2fb": nil,
		"/a%2f..%2fb": ErrDotSegment, "/a%2f%2e%2e": ErrDotSegment, "/..%2fb": ErrDotSegment, "/a%2f.": ErrDotSegment,
		"/a%5cb": ErrEncodedSlash, `/a\b`: ErrEncodedSlash,
	} {
		if got := Check(path, true); !errors.Is(got, want) {
			t.Errorf("%q: got %v, want %v", path, got, want)
		}
	}
}

// What Check accepts holds no dot segment, however often it is decoded and
// whatever is taken for a slash.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/", "/..;/", "/a%2f..", "/%252e%252e", "/a%5c..%5cb", "/%", "/%2"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, allow bool) {
		if Check(s, allow) != nil {
			return
		}
		for text, i := s, 0; i < 3; i++ {
			for segment := range strings.SplitSeq(strings.ReplaceAll(text, `\`, "/"), "/") {
				name, _, _ := strings.Cut(segment, ";")
				if i < 2 && (name == "." || name == "..") {
					t.Fatalf("%q is accepted, and becomes %q", s, text)
				}
			}
			once, err := url.PathUnescape(text)
			if err != nil {
				return
			}
			if !allow && i == 0 && strings.Count(once, "/") != strings.Count(text, "/") {
				t.Fatalf("%q hides a slash", s)
			}
			if i == 0 && strings.ContainsFunc(once, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
				t.Fatalf("%q hides a control character", s)
			}
			text = once
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if Check("/api/users/123e4567-e89b-12d3-a456-426614174000/orders;v=2/a%20b", false) != nil {
			b.Fatal("refused")
		}
	}
}
