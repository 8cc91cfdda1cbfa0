package origin

import (
	"net/url"
	"strings"
	"testing"
)

func TestAllows(t *testing.T) {
	s, err := Parse([]string{"https://app.example.com", "HTTPS://Slash.example.com/", "https://port.example.com:443", "http://localhost:*", "https://*.example.org", "https://*.any.test:*", "http://[0:0::1]:8080", "http://[::2]:*", "http://192.0.2.1", "chrome-extension://abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]bool{
		"https://app.example.com": true, "https://slash.example.com": true, "https://port.example.com": true, "chrome-extension://abcdef": true,
		"https://app.example.com:443": false, "https://app.example.com/": false, "http://app.example.com": false, "https://App.example.com": false,
		"https://app.example.com.evil.test": false, "https://evilapp.example.com": false, "null": false, "": false, "*": false,
		"http://localhost": true, "http://localhost:3000": true, "http://localhost:0": false, "http://localhost:65536": false, "http://localhost:": false,
		"http://localhost:+80": false, "http://localhost:08": false, "https://localhost:3000": false, "http://localhost:3000/": false, "http://localhost:x": false,
		"https://a.example.org": true, "https://a.b.example.org": true, "https://example.org": false, "https://.example.org": false, "https://evilexample.org": false,
		"https://evil.test/.example.org": false, "https://evil.test?.example.org": false, "https://a.example.org:8443": false, "https://-.example.org": false, "https://x@a.example.org": false,
		"https://a.any.test:8443": true, "https://a.any.test": true, "http://a.any.test": false,
		"http://[::1]:8080": true, "http://[::1]": false, "http://[0:0::1]:8080": false, "http://[::2]": true, "http://[::2]:1": true, "http://[::2]x:1": false,
		"http://192.0.2.1": true, "http://192.0.2.1:80": false, "https://" + strings.Repeat("a.", 130) + "example.org": false, "https://a..example.org": false,
		"https://" + strings.Repeat("a.", 120) + "example.org": true, "https://" + strings.Repeat("a.", 122) + "example.org": false, // 251 and 255 characters
		"https://A.example.org": false, "https://a.example.org\n": false, "https://a.example.org:": false, "https://a_b.example.org": true, "https://.": false,
	} {
		if got := s.Allows(from); got != want {
			t.Errorf("%q: got %v", from, got)
		}
	}
	if all, err := Parse([]string{"*"}); err != nil || !all.Allows("https://anything.test") {
		t.Errorf("*: %v", err)
	}
}

// A wildcard within the first label is for one label.
func TestWildcardWithinLabel(t *testing.T) {
	s, err := Parse([]string{"https://PR-*.example.com", "https://*-app.example.net:8443", "http://a*z.example.org:*"})
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]bool{
		"https://pr-1.example.com": true, "https://pr-feature-x.example.com": true, "https://pr--1.example.com": true,
		"https://pr-.example.com": false, "https://pr-1.x.example.com": false, "https://x.pr-1.example.com": false, "https://xpr-1.example.com": false,
		"https://pr-1.example.com:8443": false, "http://pr-1.example.com": false, "https://pr-1.example.com.evil.test": false, "https://pr-1.evil.test/.example.com": false,
		"https://PR-1.example.com": false, "https://pr-1@x.example.com": false, "https://pr-*.example.com": false, "https://example.com": false, "https://pr-1-.example.com": false,
		"https://my-app.example.net:8443": true, "https://-app.example.net:8443": false, "https://my-app.example.net": false,
		"http://abz.example.org": true, "http://abz.example.org:81": true, "http://az.example.org": false, "http://a.z.example.org": false,
	} {
		if got := s.Allows(from); got != want {
			t.Errorf("%q: got %v", from, got)
		}
	}
	if got, err := Canonical("https://PR-*.Example.com:443/"); err != nil || got != "https://pr-*.example.com" {
		t.Errorf("got %q, %v", got, err)
	}
	if got := strings.Join(s.Suffixes(), " "); got != "example.com example.net example.org" {
		t.Errorf("suffixes: %s", got)
	}
}

func TestParseErrors(t *testing.T) {
	for _, text := range []string{
		"", "null", "example.com", "https://", "https://a b", "https://a/path", "https://a?x", "https://u@a", "https://*", "https://*.com", "https://a.*.com",
		"https://a*b*.example.com", "https://-*.example.com", "https://a*", "https://pr-*.com", "https://pr-*.1.2.3.4", "https://x.pr-*.example.com", "https://pr-*:x.example.com", "https://*.1.2.3.4", "https://a:0", "https://a:65536", "https://a:080", "https://a:", "https://a:x", "https://[::1", "https://[zz]", "ht*tp://a", "https://a,https://b", "https://-a.com", "https://a..b", "https://bücher.example", "https://a.", "http://127.1", "http://0x7f.1", "http://10.0.0.0x", "http://192.0.2.01", "https://a.1", "https://*.b.1", "https://[::1%25eth0]", "https://[192.0.2.1]", "https://*.", "https://*.*.a.b", `["https://a.test"]`, "https://a\x00b",
	} {
		if _, err := Parse([]string{text}); err == nil || !strings.Contains(err.Error(), "accepted are") {
			t.Errorf("%q: got %v", text, err)
		}
	}
	if _, err := Parse([]string{"*", "https://a.test"}); err == nil {
		t.Error("* beside another origin was accepted")
	}
}

func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"*": "*", "https://a.test": "https://a.test", "HTTPS://A.Test/": "https://a.test", "http://a.test:80": "http://a.test", "https://a.test:80": "https://a.test:80",
		"https://*.A.test:443/": "https://*.a.test", "http://localhost:*": "http://localhost:*", "https://*.a.test:*": "https://*.a.test:*", "http://[0:0::1]:80": "http://[::1]", "http://[::ffff:192.0.2.1]": "http://[::ffff:c000:201]", "http://0xg.example": "http://0xg.example",
	} {
		if got, err := Canonical(text); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := Canonical("null"); err == nil {
		t.Error("null has a form")
	}
	if s, err := Parse([]string{"https://*.a.test", "https://b.test", "http://c.test:*", "https://*.d.test:*"}); err != nil || strings.Join(s.Suffixes(), " ") != "a.test d.test" {
		t.Errorf("%v, %v", s.Suffixes(), err)
	}
}

// An origin that a wildcard admits is an origin under its domain, as a URL
// parser reads it.
func FuzzAllows(f *testing.F) {
	s, err := Parse([]string{"https://*.example.org", "http://localhost:*"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"https://a.example.org", "http://localhost:80", "https://evil/.example.org", "https://a.example.org:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, from string) {
		if !s.Allows(from) {
			return
		}
		u, err := url.Parse(from)
		if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("%q is no origin: %v", from, err)
		}
		under := u.Scheme == "https" && strings.HasSuffix(u.Host, ".example.org")
		if !under && !(u.Scheme == "http" && u.Hostname() == "localhost") {
			t.Fatalf("%q was allowed", from)
		}
	})
}

// Reading a pattern never panics, and a pattern that is read allows itself
// where it has no wildcard.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"https://a.example.org", "http://localhost:*", "https://*.a.b", "x://[::1]:1/", "*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse([]string{text})
		if err != nil || s.Any || len(s.patterns) > 0 {
			return
		}
		for exact := range s.exact {
			again, err := Parse([]string{exact})
			if err != nil || !again.Allows(exact) {
				t.Fatalf("%q became %q, which is refused: %v", text, exact, err)
			}
		}
	})
}

func BenchmarkAllows(b *testing.B) {
	s, err := Parse([]string{"https://app.example.com", "https://*.example.org"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !s.Allows("https://a.example.org") {
			b.Fatal("refused")
		}
	}
}
