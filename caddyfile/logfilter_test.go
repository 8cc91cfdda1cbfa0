package caddyfile

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/credentials"
)

func TestCredentialsFilter(t *testing.T) {
	f := new(CredentialsFilter)
	if err := f.UnmarshalCaddyfile(caddyfile.NewTestDispenser("credentials other,Tok more")); err != nil {
		t.Fatal(err)
	}
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
		"/a?more=s3cret&other=x":                "/a?more=REDACTED&other=REDACTED",
		"/a?api_key=&x":                         "/a?api_key=REDACTED&x",
		"/a?x=1?token=s3cret":                   "/a?x=1?token=REDACTED",
		"https://h/cb#access_token=s3cret&x=1":  "https://h/cb#access_token=REDACTED&x=1",
		"https://h/cb?code=s3cret#access_token": "https://h/cb?code=REDACTED#access_token",
		"http://user:s3cret@h/?token=s3cret":    "http://REDACTED@h/?token=REDACTED",
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

func TestCredentialsFilterOfAHeader(t *testing.T) {
	f := &CredentialsFilter{Parameters: []string{"tok"}}
	if err := f.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	credentials.AddField("x-filter-test")
	credentials.AddParameter("Filter_Test")
	header := http.Header{
		"X-Filter-Test": {"s3cret", "s3cret"}, "Dpop": {"s3cret"}, "X-Api-Key": {"s3cret"}, "X-Acme-Api-Key": {"s3cret"}, "X_acme_token": {"s3cret"}, "Idempotency-Key": {"shown"}, "Authorization": {"s3cret"}, "Accept": {"*/*"},
		"Referer": {"https://h/?tok=s3cret&filter_test=s3cret&x=1"},
	}
	before := header.Clone()
	enc := zapcore.NewMapObjectEncoder()
	f.Filter(zap.Object("headers", caddyhttp.LoggableHTTPHeader{Header: header})).AddTo(enc)
	text := fmt.Sprint(enc.Fields)
	if strings.Contains(text, "s3cret") || !strings.Contains(text, "*/*") || !strings.Contains(text, "shown") || !strings.Contains(text, "tok=REDACTED&filter_test=REDACTED&x=1") {
		t.Error(text)
	}
	for _, name := range []string{"X-Filter-Test", "Dpop", "X-Api-Key", "X-Acme-Api-Key", "Authorization"} {
		if !strings.Contains(text, name+":[REDACTED]") {
			t.Errorf("%s is not there: %s", name, text)
		}
	}
	if !reflect.DeepEqual(header, before) {
		t.Error("the request's own header was changed")
	}
	if got := f.Filter(zap.String("uri", "/?filter_test=s3cret")).String; got != "/?filter_test=REDACTED" {
		t.Error(got)
	}
}
