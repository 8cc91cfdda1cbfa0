package policy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

// exact decodes claims as a token's are, with all digits.
func exact(t testing.TB, text string) map[string]any {
	t.Helper()
	m, err := token.DecodeObject(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Digits of a number are kept as they stand, and numbers compared exactly.
func TestNumbers(t *testing.T) {
	for _, tc := range []struct {
		number string
		equal  []string
		other  []string
	}{
		{"9007199254740993", []string{"9007199254740993", "9007199254740993.0", "9007199254740993e0"}, []string{"9007199254740992", "9007199254740994", "9.007199254740993e15x"}},
		{"9007199254740992", []string{"9007199254740992"}, []string{"9007199254740993", "9007199254740991"}},
		{"18446744073709551617", []string{"18446744073709551617"}, []string{"18446744073709551616", "1.8446744073709552e19"}},
		{"123456789012345", []string{"123456789012345", "1.23456789012345e14"}, []string{"123456789012346"}},
		{"1", []string{"1", "1.0", "1e0", "10e-1", "0.1E+1"}, []string{"01", "+1", "1.", "", "one", "-1", "10", "0x1"}},
		{"1.0", []string{"1", "1.0", "1e0"}, []string{"1.1", "10"}},
		{"1e3", []string{"1000", "1E3", "1000.0"}, []string{"100"}},
		{"0.1", []string{"0.1", "0.10", "1e-1"}, []string{".1", "0.1000000000000000055511151231257827021181583404541015625"}},
		{"0.1000000000000000055511151231257827021181583404541015625", []string{"0.1000000000000000055511151231257827021181583404541015625"}, []string{"0.1"}},
		{"-0", []string{"-0", "0", "0e5"}, []string{"-1"}},
		{"-12", []string{"-12"}, []string{"12"}},
		{"1e300", []string{"1e300", "10e299"}, []string{"1e301"}},
		{"1e-400", []string{"1e-400"}, []string{"0", "1e-401"}},
	} {
		claims := exact(t, `{"n":`+tc.number+`,"list":["x",`+tc.number+`]}`)
		if text, ok := Text(claims["n"]); !ok || text != tc.number {
			t.Errorf("%s became %q", tc.number, text)
		}
		if text, err := JSON(claims["n"]); err != nil || text != tc.number {
			t.Errorf("%s became the JSON %q, %v", tc.number, text, err)
		}
		for _, path := range []string{"n", "list"} {
			for want, values := range map[bool][]string{true: tc.equal, false: tc.other} {
				for _, value := range values {
					if r := (Requirement{Path: path, Values: []string{value}}); r.Met(claims) != want {
						t.Errorf("%s %s required %q: %v", path, tc.number, value, !want)
					}
				}
			}
		}
	}
	// A text is no number.
	if (&Requirement{Path: "n", Values: []string{"1.0"}}).Met(exact(t, `{"n":"1"}`)) {
		t.Error("the text 1 is 1.0")
	}
}

func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		value, text string
		want        bool
	}{
		{"repo:acme/*", "repo:acme/x:ref:refs/heads/main", true},
		{"repo:acme/*", "repo:acme/", true},
		{"repo:acme/*", "repo:acmex/", false},
		{"repo:acme/*:ref:*/main", "repo:acme/x:ref:refs/heads/main", true},
		{"repo:acme/*:ref:*/main", "repo:acme/x:ref:refs/heads/maint", false},
		{"*@example.com", "ann@example.com", true},
		{"*@example.com", "ann@example.com.evil.test", false},
		{"*", "", true},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"*a*b*", "xaxbx", true},
		{"*a*b*", "xbxax", false},
		{`a\*`, "a*", true},
		{`a\*`, "ab", false},
		{`\*-*`, "*-x", true},
		{"A*", "a", false},
		{"", "", true},
		{"", "a", false},
	} {
		if got := matches(tc.value, tc.text); got != tc.want {
			t.Errorf("%q and %q: %v", tc.value, tc.text, got)
		}
	}
}

func TestJoin(t *testing.T) {
	for list, want := range map[string]string{
		`["a","b"]`: "a,b", `["a b",1,true]`: "a b,1,true", `[]`: "", `["a",9007199254740993]`: "a,9007199254740993",
	} {
		if got, err := Join(exact(t, `{"l":`+list+`}`)["l"].([]any)); err != nil || got != want {
			t.Errorf("%s: %q, %v", list, got, err)
		}
	}
	for _, list := range []string{`["x,admin"]`, `["a","b,"]`, `[","]`, `[" admin"]`, `["admin "]`, `["a","\tadmin"]`, `["a","admin\u00a0"]`} {
		items := exact(t, `{"l":`+list+`}`)["l"].([]any)
		if got, err := Join(items); !errors.Is(err, ErrAmbiguous) {
			t.Errorf("%s: %q, %v", list, got, err)
		}
		// A placeholder has no error: there it is JSON, which no other list is.
		text, ok := Text(items)
		var back []any
		if !ok || json.Unmarshal([]byte(text), &back) != nil || len(back) != len(items) {
			t.Errorf("%s: the text is %q", list, text)
		}
	}
	for _, list := range []string{`[["a"]]`, `[{"a":1}]`, `[null]`} {
		if got, err := Join(exact(t, `{"l":`+list+`}`)["l"].([]any)); err == nil || errors.Is(err, ErrAmbiguous) {
			t.Errorf("%s: %q, %v", list, got, err)
		}
	}
}

func TestJSON(t *testing.T) {
	for value, want := range map[string]string{
		`["x,admin","b"]`: `["x,admin","b"]`, `{"b":1,"a":[null,true]}`: `{"a":[null,true],"b":1}`, `"Zoë 日本 😀"`: `"Zo\u00eb \u65e5\u672c \ud83d\ude00"`,
		`"<&>"`: `"<&>"`, `"a\r\nX-Admin: 1\u0000\u007f\u0085\u2028"`: `"a\r\nX-Admin: 1\u0000\u007f\u0085\u2028"`, `9007199254740993`: `9007199254740993`, `1.0`: `1.0`,
	} {
		claim := exact(t, `{"v":`+value+`}`)["v"]
		got, err := JSON(claim)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v", value, got, err)
		}
		if strings.ContainsFunc(got, func(c rune) bool { return c < 0x20 || c > 0x7e }) {
			t.Errorf("%s: %q cannot stand in a field", value, got)
		}
	}
}
