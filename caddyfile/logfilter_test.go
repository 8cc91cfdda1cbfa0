package caddyfile

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestCredentialsFilter(t *testing.T) {
	f := &CredentialsFilter{Parameters: []string{"Tok"}}
	if err := f.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"/a":                                    "/a",
		"/a?x=1&y=2":                            "/a?x=1&y=2",
		"/a?access_token=s3cret":                "/a?access_token=REDACTED",
		"/a?x=1&access_token=s3cret&y=2":        "/a?x=1&access_token=REDACTED&y=2",
		"/a?ACCESS_TOKEN=s3cret":                "/a?ACCESS_TOKEN=REDACTED",
		"/a?access%5Ftoken=s3cret":              "/a?access%5Ftoken=REDACTED",
		"/a?access_token=s3c=ret==":             "/a?access_token=REDACTED",
		"/a?access_token=a&access_token=b":      "/a?access_token=REDACTED&access_token=REDACTED",
		"/a?x;token=s3cret":                     "/a?x;token=REDACTED",
		"/%zz?token=s3cret%zz&x=%zz":            "/%zz?token=REDACTED&x=%zz",
		"/a?tok=s3cret&token_type=x":            "/a?tok=REDACTED&token_type=x",
		"/a?api_key=&x":                         "/a?api_key=REDACTED&x",
		"/a?x=1?token=s3cret":                   "/a?x=1?token=REDACTED",
		"https://h/cb#access_token=s3cret&x=1":  "https://h/cb#access_token=REDACTED&x=1",
		"https://h/cb?code=s3cret#access_token": "https://h/cb?code=REDACTED#access_token",
		"?":                                     "?",
	} {
		if got := f.Filter(zap.String("uri", text)).String; got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		field := zapcore.Field{Key: "Referer", Type: zapcore.ArrayMarshalerType, Interface: caddyhttp.LoggableStringArray{"/b", text}}
		if got := f.Filter(field).Interface.(caddyhttp.LoggableStringArray); got[1] != want {
			t.Errorf("as a field: %s: got %s, want %s", text, got[1], want)
		}
	}
}
