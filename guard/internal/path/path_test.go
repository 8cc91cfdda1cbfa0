package path

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for want, paths := range map[error][]string{
		nil: {
			"", "/", "*", "/a/b", "/a//b", "//", "/a b", "/.well-known/x", "/...", "/.../x", "/a..b/", "/..a", "/a.", "/a../b", "/v1.2/x",
			"/.%41", "/a%20b", "/%e4%bd%a0", "/a%25b", "/100%25", "/100%25/x", "/a%3fb%23c", "/%25zz",
			"/%c0", "/%c0/x", "/%e0%a0%80", "/%f0%90%80%80", "/%ff", "/%", "/%2", "/%zz", "/%25%", "/%252", "/caf%c3%a9",
		},
		errDotSegment: {
			".", "..", "/..", "/../a", "/a/../b", "/a/.", "/a/./b", "/./", "../a", "//..//",
			"/a/%2e%2e/b", "/a/%2E%2e", "/a/.%2e/b", "/a/%2e./b", "/%2e/a", "/a/%2E",
			"/a/..;/b", "/a/..;x=1/b", "/a/.;/b", "/a/%2e%2e;x", "/a/..%3b/b", "/a/..;", "/a/..%3Bx=..", "/a/..;;",
			"/a/..%2fb", "/a/..%5cb", `/a/..\b`, "/..%2F", "/%2e%2e%2f",
			"/a/%252e%252e/b", "/a/%252E./b", "/a/.%252e;x/", "/a/..%253b/b", "/a/..%252fb", "/a/..%255cb", "/a/%252e%252e%252f",
			"/a/%25%32%65%25%32%65/b", "/a/%252%65./b", "/a/%25%32e./b", "/a/..%25%32%66b",
		},
		errSlash: {
			"/a%2fb", "/a%2Fb", "/%2f", "/a%5cb", "/a%5Cb", `/a\b`, "/a%252fb", "/a%255cb", "/a%25%32%66b", "/a%2f..%2fb", `\`,
		},
		errControl: {
			"/a%00b", "/a%0d%0ab", "/a%7fb", "/a\x01", "/a\x7f", "/a%09", "/a%2500b", "/a%25%30%30b", "/..%00/", "/%1F",
		},
		errOverlong: {
			"/%c0%af", "/%c0%ae%c0%ae/", "/%C1%9C", "/%e0%80%af", "/%f0%80%80%af", "/%25c0%25af", "/\xc0\xaf",
		},
		errParameters: {
			"/a;v=1/b", "/a;..", "/;..", "/;", "/...;", "/adm;x/y", "/;/adm/x", "/adm%3b/y", "/adm%3B", "/a%253bb", "/a%25%33%62b", "/;a=b;c", "/a;%2541",
		},
		errTwice: {"/%2561dm/x", "/%2525", "/a%2520b", "/%25%36%31", "/%256%31", "/%25%361", "/a/b%2541"},
	} {
		for _, p := range paths {
			if got := Check(p, Allow{}); !errors.Is(got, want) {
				t.Errorf("%q: got %v, want %v", p, got, want)
			}
		}
	}
}

func TestCheckAllowing(t *testing.T) {
	all := Allow{Slashes: true, Parameters: true, Twice: true}
	for _, tc := range []struct {
		allow Allow
		want  error
		paths []string
	}{
		{Allow{Slashes: true}, nil, []string{"/a%2fb", "/group%2Fproject/x", "/a%2f%2fb", "/%2f"}},
		{Allow{Slashes: true}, errTwice, []string{"/a%252fb"}},
		{Allow{Slashes: true, Twice: true}, nil, []string{"/a%252fb", "/a%25%32fb"}},
		{Allow{Twice: true}, nil, []string{"/%2561dm/x", "/%2525", "/a%2520b"}},
		{Allow{Twice: true}, errSlash, []string{"/a%252fb", "/a%255cb"}},
		{Allow{Twice: true}, errParameters, []string{"/a%253bb"}},
		{Allow{Parameters: true}, nil, []string{"/a;v=1/b", "/a;..", "/;..", "/;", "/...;", "/adm%3bx"}},
		{Allow{Parameters: true}, errTwice, []string{"/a%253bb"}},
		{all, nil, []string{"/a;v=1/b%2fc%2541", "/a%253bb"}},
		{all, errDotSegment, []string{
			"/a%2f..%2fb", "/a%2f%2e%2e", "/..%2fb", "/a%2f.", "/a%2f..", "/a%2f..;x", "/a%252f..%252fb", "/a%2f%252e%252e", "/..;/x", "/a/..%3bx",
			"/%252e%252e/x",
		}},
		{all, errSlash, []string{"/a%5cb", `/a\b`, "/a%255cb"}},
		{all, errControl, []string{"/a%00", "/a%2500"}},
	} {
		for _, p := range tc.paths {
			if got := Check(p, tc.allow); !errors.Is(got, tc.want) {
				t.Errorf("%q allowing %+v: got %v, want %v", p, tc.allow, got, tc.want)
			}
		}
	}
}

// What Check accepts holds nothing ambiguous as it stands, decoded once, and
// decoded twice by the standard library.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		"/a/../b", "/%2e%2e/", "/..;/", "/a%2f..", "/%252e%252e", "/a%5c..%5cb", "/%", "/%2", "/a/b", "/group%2fproject",
		"/%25%32%65%25%32%65/", "/..%252f", "/%2500", "/%c0%ae", "/a;b/..%3b", "/%25%2e", "/%2525252e",
	} {
		for _, allow := range []bool{true, false} {
			f.Add(s, allow, false, false)
			f.Add(s, allow, true, true)
		}
	}
	f.Fuzz(func(t *testing.T, s string, allow, parameters, doubly bool) {
		if Check(s, Allow{allow, parameters, doubly}) != nil {
			return
		}
		if allow && Check(s, Allow{false, parameters, doubly}) == nil {
			allow = false // nothing was allowed that needs it
		}
		text := s
		for level := range 3 {
			if i := strings.IndexFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' }); i >= 0 {
				t.Fatalf("%q hides %q at level %d", s, text[i], level)
			}
			if !allow && strings.Count(text, "/") != strings.Count(s, "/") {
				t.Fatalf("%q hides a slash at level %d", s, level)
			}
			for seg := range strings.SplitSeq(text, "/") {
				if name, _, _ := strings.Cut(seg, ";"); name == "." || name == ".." {
					t.Fatalf("%q becomes %q at level %d", s, text, level)
				}
			}
			if !parameters && strings.Contains(text, ";") {
				t.Fatalf("%q hides a parameter at level %d", s, level)
			}
			next, err := url.PathUnescape(text)
			if err != nil {
				return
			}
			if again, err := url.PathUnescape(next); level == 0 && err == nil && again != next && !doubly {
				t.Fatalf("%q is encoded twice", s)
			}
			text = next
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if Check("/api/users/123e4567-e89b-12d3-a456-426614174000/orders,v=2/a%20b", Allow{}) != nil {
			b.Fatal("refused")
		}
	}
}
