package keyset

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A source that comes up after the gateway is found soon, however it fails
// before, and requests neither add fetches nor wait for the pause between them.
func TestFirstFetchIsRetried(t *testing.T) {
	set := jwks(edJWK("one", ""))
	for name, down := range map[string]transport{
		"refuses": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"503":     func(*http.Request) (*http.Response, error) { return answer(503, nil), nil },
		"no keys": func(*http.Request) (*http.Response, error) { return answer(200, jwks()), nil },
		"HTML":    func(*http.Request) (*http.Response, error) { return answer(200, []byte("<html>")), nil },
	} {
		for _, up := range []time.Duration{100 * time.Millisecond, time.Second, 3 * time.Second, time.Minute, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var times []time.Duration
				r := NewRemote(Options{URL: "https://a.test/keys", Transport: transport(func(q *http.Request) (*http.Response, error) {
					times = append(times, time.Since(began))
					if time.Since(began) < up {
						return down(q)
					}
					return answer(200, set), nil
				})})
				defer r.Destruct()
				r.Start()
				for r.Keys() == nil {
					asked := time.Now()
					if r.Refresh(t.Context()) == nil && time.Since(asked) > 0 {
						t.Fatalf("%s: a request waited for nothing", name)
					}
					if next := r.Next(); next > 5500*time.Millisecond {
						t.Fatalf("%s: the next fetch is in %s", name, next)
					}
					time.Sleep(10 * time.Millisecond)
				}
				late := time.Since(began) - up
				if late > min(2*up+500*time.Millisecond, 5600*time.Millisecond) {
					t.Errorf("%s: up after %s, found %s later", name, up, late)
				}
				if d := times[1] - times[0]; d < 250*time.Millisecond || d > 275*time.Millisecond {
					t.Errorf("%s: the first retry came after %s", name, d)
				}
				if most := int(up/(5*time.Second)) + 8; len(times) > most {
					t.Errorf("%s: %d fetches in %s", name, len(times), up)
				}
			})
		}
	}
}

// A source that hangs is asked again too, and a request waits a bounded time.
func TestFirstFetchHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var well atomic.Bool
		r := NewRemote(Options{URL: "https://a.test/keys", Transport: transport(func(q *http.Request) (*http.Response, error) {
			if well.Load() {
				return answer(200, jwks(edJWK("one", ""))), nil
			}
			<-q.Context().Done()
			return nil, context.Cause(q.Context())
		})})
		defer r.Destruct()
		for range 30 {
			asked := time.Now()
			if r.Refresh(t.Context()) != nil || time.Since(asked) > DefaultTiming().Wait {
				t.Fatalf("waited %s", time.Since(asked))
			}
			time.Sleep(time.Second)
		}
		well.Store(true)
		time.Sleep(DefaultTiming().Timeout + DefaultTiming().MostRetry + time.Second)
		if r.Keys().Len() != 1 {
			t.Error("no keys from a source that is well")
		}
	})
}

// Keys that grew too old are fetched as the first ones are.
func TestRetriesAfterKeysGrewTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		r := NewRemote(Options{URL: "https://a.test/keys", Transport: transport(func(*http.Request) (*http.Response, error) {
			if down.Load() {
				return answer(500, nil), nil
			}
			return answer(200, jwks(edJWK("one", ""))), nil
		})})
		defer r.Destruct()
		r.Start()
		synctest.Wait()
		down.Store(true)
		time.Sleep(25 * time.Hour)
		if r.Keys() != nil {
			t.Fatal("keys of yesterday are used")
		}
		down.Store(false)
		time.Sleep(6 * time.Second)
		if r.Keys().Len() != 1 {
			t.Error("the keys did not come back soon")
		}
	})
}
