package cookies

import (
	"net/http"
	"slices"
	"testing"
)

func TestCookies(t *testing.T) {
	for line, want := range map[string][]string{
		``:                                nil,
		`sid=a`:                           {`a`},
		`sid="a"`:                         {`"a"`},
		`sid="a; x=1`:                     {`"a`},
		`sid={"user":"ann","roles":[1]}`:  {`{"user":"ann","roles":[1]}`},
		`sid=a\b`:                         {`a\b`},
		`sid=ü`:                           {`ü`},
		` sid = a ;sid= b=c= `:            {`a`, `b=c=`},
		`x=1;; sid; Sid=b; y=2; =z; sid=`: {``, ``},
		"\tsid\t=\ta":                     {`a`},
	} {
		if got := slices.Collect(Named(http.Header{"Cookie": {line}}, "sid")); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	two := http.Header{"Cookie": {"sid=a; x=1", "sid=b"}}
	if got := slices.Collect(Named(two, "sid")); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("two lines: %q", got)
	}
	for range Named(two, "sid") {
		break // the sequence may be left early
	}
}
