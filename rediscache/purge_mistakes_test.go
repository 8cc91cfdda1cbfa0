package rediscache

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A purge that names nothing, two things or what cannot be is refused and says
// what is accepted.
func TestPurgeMistakes(t *testing.T) {
	if _, err := loadCache(t, "http_cache 60s"); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{}`:                                "exactly one",
		`{"soft":true}`:                     "exactly one",
		`{"tags":[]}`:                       "exactly one",
		`{"tags":[""]}`:                     "exactly one",
		`{"tag":"a","url":"http://h/"}`:     "exactly one",
		`{"all":true,"host":"h"}`:           "exactly one",
		`{"group":"g","origin":"http://h"}`: "groups",
		`{"tag":"a b"}`:                     "a tag has no blanks",
		`{"tag":"a\nb"}`:                    "a tag has no line breaks",
		`{"tags":["a","b\u007f"]}`:          "a tag has no line breaks",
		`{"tag":"a,b"}`:                     "a tag has no blanks",
		`{"tags":["a","b c"]}`:              "a tag has no blanks",
		`{"url":"h/path"}`:                  "must begin with http",
		`{"url":"http://"}`:                 "it has no host",
		`{"url":"http://u@h/"}`:             "'@'",
		`{"prefix":"/path"}`:                "must begin with http",
		`{"host":"http://h"}`:               "'/'",
		`{"host":"h/"}`:                     "'/'",
		`{"host":"*.h"}`:                    "'*'",
		`{"host":":80"}`:                    "no host",
		`{"host":"h:"}`:                     "empty port",
		`{"tagg":"a"}`:                      "tagg",
		`{"tag":1}`:                         "tag",
		`{"tag":"a"} {"tag":"b"}`:           "reading the body",
		`not json`:                          "reading the body",
	} {
		w := httptest.NewRecorder()
		err := servePurge(w, httptest.NewRequest(http.MethodPost, purgeURI, strings.NewReader(body)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
	}
	for _, body := range []string{`{"tags":["a","b"],"soft":true}`, `{"tag":"a"}`, `{"host":"h:8443"}`, `{"host":"[::1]:8080"}`, `{"all":true}`} {
		w := httptest.NewRecorder()
		if err := servePurge(w, httptest.NewRequest(http.MethodPost, purgeURI, strings.NewReader(body))); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// The fields of a purge request are read as those of responses are, and what they
// cannot mean is refused.
func TestPurgeFields(t *testing.T) {
	for _, tc := range []struct {
		fields []string
		tag    string // what it purges; the URL if empty
		status int
	}{
		{nil, "", 200},
		{[]string{"Cache-Tag", "x y"}, "y", 200},
		{[]string{"Surrogate-Key", "x,y"}, "y", 200},
		{[]string{"Xkey", "x\ty"}, "y", 200},
		{[]string{"Surrogate-Key", ""}, "", 400},
		{[]string{"Cache-Tag", " , "}, "", 400},
		{[]string{"Soft-Purge", "true"}, "", 200},
		{[]string{"Soft-Purge", "0"}, "", 200},
		{[]string{"Soft-Purge", "perhaps"}, "", 400},
		{[]string{"Fastly-Soft-Purge", "2"}, "", 400},
	} {
		g := newGateway(t, "http_cache 60s {\n purge_method {\n users *\n}\n}", says("Cache-Tag", "a", "Surrogate-Key", "y"))
		g.send("GET", "/")
		r := append([]string{"user", "deploy"}, tc.fields...)
		status, err := g.try("PURGE", "/", r...)
		if status != tc.status {
			t.Errorf("%v: %d %v", tc.fields, status, err)
		}
		if tc.status != 200 {
			continue
		}
		asked := g.asked.Load()
		if g.send("GET", "/"); g.asked.Load() == asked {
			t.Errorf("%v: nothing was purged", tc.fields)
		}
	}
}
