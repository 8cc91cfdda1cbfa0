package forwarded_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pythopus/tentagate/internal/forwarded"
)

func TestHas(t *testing.T) {
	f := forwarded.Join(forwarded.Of("X-User"), nil, forwarded.Of("X-Org-2", "X-User"))
	for name, want := range map[string]bool{
		"X-User": true, "x-user": true, "X_User": true, "X~User": true, "X.User": true, "X!User": true, "XUSER": true, "-x--user-": true, "x_org.2": true,
		"X-Users": false, "X-Use": false, "X-Org": false, "X-Org-22": false, "User": false, "": false, "-": false,
	} {
		if f.Has(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	if forwarded.Of() != nil || forwarded.Join(nil, nil) != nil || (*forwarded.Fields)(nil).Has("X-User") {
		t.Error("no fields are something")
	}
}

func TestRemove(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	for _, name := range []string{"X-User", "X_user", "X~User", "X.User", "x-User"} {
		r.Header[name] = []string{"mallory"}
	}
	r.Header["X-Other"] = []string{"kept"}
	r.Header["Connection"] = []string{"close, x_user", "X-User"}
	r.Trailer = http.Header{"X-User": nil}
	forwarded.Of("X-User").Remove(r)
	if len(r.Header) != 2 || r.Header.Get("X-Other") != "kept" || r.Header.Get("Connection") != "close" || r.Trailer != nil {
		t.Errorf("left are %v and %v", r.Header, r.Trailer)
	}
	var none *forwarded.Fields
	none.Remove(r)
}

func BenchmarkRemove(b *testing.B) {
	f := forwarded.Of("X-User", "X-Org", "X-Groups")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, name := range []string{"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Connection", "Cookie", "User-Agent", "X-Request-Id", "X-Forwarded-For"} {
		r.Header.Set(name, "value")
	}
	r.Header.Del("Connection")
	b.ReportAllocs()
	for b.Loop() {
		f.Remove(r)
	}
}
