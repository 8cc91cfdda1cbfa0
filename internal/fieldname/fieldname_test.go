package fieldname

import "testing"

func TestHyphenated(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "X-Api-Key": "X-Api-Key", "Api_key": "Api-Key", "X.user": "X-User", "X~Api~Key": "X-Api-Key", "X__a": "X--A", "X-User2": "X-User2",
	} {
		if got := Hyphenated(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func BenchmarkHyphenated(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Hyphenated("Accept-Language")
	}
}
