package rediscache

import (
	"net/http"
	"testing"
	"time"
)

// Where answers cannot be shared, each shows it anew, so that nobody waits for
// anybody while the URL is asked for.
func TestHitForMissIsRenewed(t *testing.T) {
	for name, tc := range map[string]struct {
		says   []string
		fields []string
		miss   bool // requests do not wait for each other afterwards
	}{
		"no-store":          {[]string{"Cache-Control", "no-store"}, nil, true},
		"private":           {[]string{"Cache-Control", "private, max-age=60"}, nil, true},
		"private of a user": {[]string{"Cache-Control", "private, max-age=60"}, []string{"user", "ann"}, true},
		"to be validated":   {[]string{"Cache-Control", "no-cache", "Etag", `"1"`}, nil, true},
		"set-cookie":        {[]string{"Set-Cookie", "a=b", "Cache-Control", "max-age=60"}, nil, true},
		"can be shared":     {[]string{"Cache-Control", "max-age=60"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, "http_cache {\n key {\n per_user\n}\n}", says("Cache-Control", "no-store"))
			var target target
			before := g.service
			g.service = func(w http.ResponseWriter, r *http.Request) {
				target = g.h.keys.target(r, nil)
				before(w, r)
			}
			g.send("GET", "/", tc.fields...)
			shared := target.callHash(false)
			if !hitForMiss.Has(shared, time.Now()) {
				t.Fatal("the first answer has them wait")
			}
			// Most of the period is over.
			hitForMiss.Remove(shared)
			hitForMiss.Add(shared, time.Now().Add(time.Minute))
			before = says(tc.says...)
			g.send("GET", "/", tc.fields...)
			if got := hitForMiss.Has(shared, time.Now().Add(90*time.Second)); got != tc.miss {
				t.Errorf("after the second response no request waits: %v", got)
			}
			if target.hasPartition() && hitForMiss.Has(target.callHash(true), time.Now()) {
				t.Error("the user's own requests do not wait for each other")
			}
		})
	}
}
