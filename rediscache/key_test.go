package rediscache

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/rediscache/internal/object"
	"github.com/pythopus/tentagate/rediscache/internal/rfc9111"
)

// What a trusted proxy says of the request's URL is part of the key; what
// anybody else says is not.
func TestForwardedKeys(t *testing.T) {
	h, err := loadCache(t, "http_cache 60s")
	if err != nil {
		t.Fatal(err)
	}
	key := func(trusted bool, fields ...string) string {
		r := httptest.NewRequest("GET", "http://a.test/", nil)
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{})
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, trusted)
		for i := 0; i+1 < len(fields); i += 2 {
			r.Header.Add(fields[i], fields[i+1])
		}
		return h.keys.target(r, nil).shared.Full
	}
	plain := key(true)
	for _, fields := range [][]string{
		{"X-Forwarded-Host", "b.test"},
		{"X-Forwarded-Proto", "https"},
		{"X-Forwarded-Prefix", "/x"},
		{"X-Forwarded-Port", "1"},
		{"X-Forwarded-Uri", "/b"},
		{"X-Original-Host", "b.test"},
		{"Front-End-Https", "on"},
		{"X-Envoy-Original-Host", "b.test"},
		{"X-Envoy-Original-Path", "/b"},
		{"X-Forward-Host", "b.test"},
		{"X-Forward-Proto", "https"},
		{"X-Arr-Ssl", "2048|256"},
		{"Forwarded", "for=1.2.3.4;host=b.test"},
		{"Forwarded", "proto=https"},
	} {
		if key(true, fields...) == plain {
			t.Errorf("%v of a trusted proxy does not count", fields)
		}
		if key(false, fields...) != plain {
			t.Errorf("%v of anybody counts", fields)
		}
	}
	if key(true, "Forwarded", `for="[2001:db8::1]:5";host=b.test`) != key(true, "Forwarded", "for=5.6.7.8;host=b.test") {
		t.Error("the client's address counts")
	}
	for _, name := range []string{"X-Real-Ip", "X-Forwarded-For", "X-Envoy-External-Address", "X-Envoy-Attempt-Count", "X-Arr-Log-Id", "Ssl-Client-Subject-Dn"} {
		if key(true, name, "1.2.3.4") != plain {
			t.Errorf("%s of a trusted proxy counts", name)
		}
	}
}

// Keys that are renewed, for everybody and for a user, are those that the next request
// has, each time that No-Vary-Search changes.
func TestRenewedKeys(t *testing.T) {
	h, err := loadCache(t, "http_cache 60s {\nkey {\nper_user header X-User\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "ann"} {
		r := httptest.NewRequest("GET", "http://renewed.test/?bb=1&a=2", nil)
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{})
		r.Header.Set("X-User", user)
		got := h.keys.target(r, nil)
		if got.hasPartition() != (user != "") {
			t.Fatalf("partition %v of user %q", got.hasPartition(), user)
		}
		for _, given := range []bool{true, false, true} {
			before := got.shared
			h.keys.searchRules.Learn(got.searchHost(), got.path, rfc9111.SearchVariance{All: true}, given)
			h.keys.renew(&got, &noChain)
			if want := h.keys.target(r, nil); got.shared != want.shared || got.private != want.private || got.shared == before {
				t.Errorf("user %q, given %v: %+v and %+v, want %+v and %+v", user, given, got.shared, got.private, want.shared, want.private)
			}
		}
		h.keys.searchRules.Learn(got.searchHost(), got.path, rfc9111.SearchVariance{}, false)
	}
}

// Jitter only ever shortens, and by no more than its part.
func TestJitter(t *testing.T) {
	h, err := loadCache(t, "http_cache 100s {\n jitter 10%\n}")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "http://jitter.test/", nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), &caddyhttp.Server{})
	shorter := false
	for range 200 {
		x := &exchange{h: h, w: httptest.NewRecorder(), r: r}
		x.target = h.keys.target(r, nil)
		f := newFetch(x, nil)
		rec := &f.recorder
		rec.status, rec.received, f.requested = 200, time.Now(), time.Now()
		if reason := rec.evaluate(); reason != rfc9111.Stored {
			t.Fatal(reason)
		}
		o := newObject(f, rec.fields.own, 200, &rec.record.decision)
		f.close()
		if o.Lifetime > 100*time.Second || o.Lifetime < 90*time.Second {
			t.Fatalf("it lives for %v", o.Lifetime)
		}
		shorter = shorter || o.Lifetime < 99*time.Second
	}
	if !shorter {
		t.Error("nothing is shorter")
	}
}

// What is not requested is not refreshed early; what is asked for often is, and
// the sooner the longer the service takes.
func TestEarlyRefresh(t *testing.T) {
	h, err := loadCache(t, "http_cache 60s {\n early_refresh\n}")
	if err != nil {
		t.Fatal(err)
	}
	count := func(fill, left time.Duration) (n int) {
		now := time.Now()
		o := &object.Object{Status: 200, RequestTime: now.Add(-fill), ResponseTime: now, Lifetime: time.Minute}
		for range 2 {
			if h.storage.refreshesEarly(o, time.Nanosecond) {
				t.Fatal("refreshed at its first use")
			}
		}
		for range 1000 {
			if h.storage.refreshesEarly(o, left) {
				n++
			}
		}
		return n
	}
	far, near, slow := count(100*time.Millisecond, time.Minute), count(100*time.Millisecond, 100*time.Millisecond), count(time.Second, 100*time.Millisecond)
	if far != 0 || near < 200 || near > 550 || slow < 800 {
		t.Errorf("of 1000: %d, %d and %d", far, near, slow)
	}
}
