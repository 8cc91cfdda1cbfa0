package credentials

import (
	"strings"
	"testing"
)

func TestRedactUserinfo(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"/a@b":                               "/a@b",
		"//u:p@h/a":                          "//u:p@h/a",
		"http://h/a@b?c@d":                   "http://h/a@b?c@d",
		"http://u:p@h/a":                     "http://REDACTED@h/a",
		"HTTP://u@h":                         "HTTP://REDACTED@h",
		"http://u:p@x@h:80?a=b":              "http://REDACTED@h:80?a=b",
		"http://@h":                          "http://REDACTED@h",
		"http://u:p@":                        "http://REDACTED@",
		"u:p@h:80":                           "REDACTED@h:80",
		"/?next=http://u:p@h/":               "/?next=http://REDACTED@h/",
		`<http://u:p@h>, <https://v:q@i/@>`:  `<http://REDACTED@h>, <https://REDACTED@i/@>`,
		"://://u:p@h":                        "://://REDACTED@h",
		"http://u:p@h/://v:q@i":              "http://REDACTED@h/://REDACTED@i",
		"http://h://u:p@i":                   "http://h://REDACTED@i",
		"http://u:" + strings.Repeat("p", 9): "http://u:ppppppppp",
	} {
		if got := RedactUserinfo(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
