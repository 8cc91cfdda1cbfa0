package typo

import "testing"

func TestNearest(t *testing.T) {
	names := []string{"window", "trip", "slow", "mode", "node"}
	for _, tc := range []struct {
		text string
		most int
		want string
	}{
		{"windwo", 2, "window"},
		{"windwo", 1, ""},
		{"trip", 0, "trip"},
		{"bode", 1, "mode"}, // the first of two
		{"nodes", 2, "node"},
		{"xyz", 2, ""},
		{"", 3, ""},
	} {
		if got := Nearest(tc.text, names, tc.most); got != tc.want {
			t.Errorf("%q within %d: got %q, want %q", tc.text, tc.most, got, tc.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"abc", "abc", 0}, {"abc", "acb", 2}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%q and %q: got %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
