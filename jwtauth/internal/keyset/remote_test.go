package keyset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// transport answers in the time of a synctest bubble.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body []byte, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(body))}
}

// 100 000 random key names in a minute of the clock, from a source that is well,
// slow, or never answers: at most 3 fetches, or those of the schedule where there
// never was a key; no request waits longer than its bound, or at all while the
// last fetch is fresh.
func TestRandomKeyNames(t *testing.T) {
	good := jwks(edJWK("one", ""))
	for name, f := range map[string]transport{
		"well": func(*http.Request) (*http.Response, error) { return answer(200, good), nil },
		"slow": func(r *http.Request) (*http.Response, error) {
			time.Sleep(3 * time.Second)
			return answer(200, good), nil
		},
		"hangs": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
		"fails":   func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") },
		"no keys": func(*http.Request) (*http.Response, error) { return answer(200, []byte(`{"keys":[]}`)), nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fetches atomic.Int64
				r := NewRemote(Options{URL: "https://a.test/keys", Transport: transport(func(q *http.Request) (*http.Response, error) {
					fetches.Add(1)
					return f(q)
				})})
				defer r.Destruct()
				begin := time.Now()
				for range 100 {
					for range 1000 {
						go func() {
							asked := time.Now()
							set := r.Refresh(t.Context())
							if _, known := set.Find(fmt.Sprint(rand.Uint64()), "EdDSA"); known {
								t.Error("an unknown key is known")
							}
							if waited := time.Since(asked); waited > DefaultTiming().Wait {
								t.Errorf("a request waited %s", waited)
							}
						}()
					}
					time.Sleep(600 * time.Millisecond)
				}
				synctest.Wait()
				if d := time.Since(begin); d != time.Minute {
					t.Fatalf("it took %s", d)
				}
				most := int64(3)
				if r.Keys() == nil {
					most = 17 // 250 ms, doubling to 5 s
				}
				if n := fetches.Load(); n > most {
					t.Errorf("%d fetches in a minute", n)
				}
				if r.Keys() == nil {
					return
				}
				// In the cooldown after a fetch nothing waits.
				time.Sleep(40 * time.Second)
				r.Refresh(t.Context())
				time.Sleep(DefaultTiming().Timeout)
				begin, before := time.Now(), fetches.Load()
				for range 1000 {
					r.Refresh(t.Context())
				}
				if time.Since(begin) != 0 || fetches.Load() != before {
					t.Error("a request waited in the cooldown")
				}
			})
		})
	}
}

// The schedule follows Cache-Control within its bounds, asks with the tag, and
// spreads.
func TestSchedule(t *testing.T) {
	for _, tc := range []struct {
		name, control, age string
		least, most        time.Duration
	}{
		{"nothing", "", "", 9 * time.Minute, 10 * time.Minute},
		{"max-age", "public, max-age=1800", "", 27 * time.Minute, 30 * time.Minute},
		{"with an age", "max-age=1800", "900", 13*time.Minute + 30*time.Second, 15 * time.Minute},
		{"too short", "max-age=1", "", 270 * time.Second, 5 * time.Minute},
		{"too long", `MAX-AGE="999999"`, "", 54 * time.Minute, time.Hour},
		{"no-store", "no-store", "", 270 * time.Second, 5 * time.Minute},
		{"nonsense", "max-age=-1, max-age=x", "", 9 * time.Minute, 10 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var times []time.Time
				set := jwks(edJWK("one", ""))
				r := NewRemote(Options{URL: "https://a.test/keys", Transport: transport(func(q *http.Request) (*http.Response, error) {
					times = append(times, time.Now())
					status := 200
					if len(times) > 1 && q.Header.Get("If-None-Match") == `"1"` {
						status = 304
					}
					return answer(status, set, "Cache-Control", tc.control, "Age", tc.age, "ETag", `"1"`), nil
				})})
				r.Start()
				time.Sleep(5 * tc.most)
				r.Destruct()
				if len(times) < 5 {
					t.Fatalf("%d fetches", len(times))
				}
				same := true
				for i := 1; i < len(times); i++ {
					d := times[i].Sub(times[i-1])
					if d < tc.least || d > tc.most {
						t.Errorf("%s between fetches", d)
					}
					same = same && d == times[1].Sub(times[0])
				}
				if same {
					t.Error("no jitter")
				}
				if r.Keys().Len() != 1 {
					t.Error("the keys are gone")
				}
			})
		})
	}
}

// The last good set is used for a day without its source, which is tried every
// half minute or so, and no longer.
func TestSourceUnreachableForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var tries atomic.Int64
		set := jwks(edJWK("one", ""))
		r := NewRemote(Options{URL: "https://a.test/keys", Transport: transport(func(*http.Request) (*http.Response, error) {
			if down.Load() {
				tries.Add(1)
				return answer(503, nil), nil
			}
			return answer(200, set), nil
		})})
		r.Start()
		synctest.Wait()
		down.Store(true)
		time.Sleep(23*time.Hour + 59*time.Minute)
		if r.Keys().Len() != 1 {
			t.Error("the keys are gone within a day")
		}
		if n := tries.Load(); n < 23*100 || n > 24*120 {
			t.Errorf("%d tries in a day", n)
		}
		if age := r.Age(); age < 23*time.Hour {
			t.Errorf("age %s", age)
		}
		time.Sleep(2 * time.Minute)
		if r.Keys() != nil {
			t.Error("keys of more than a day ago are used")
		}
		down.Store(false)
		time.Sleep(time.Minute)
		if r.Keys().Len() != 1 || r.Age() > time.Minute {
			t.Error("the keys did not come back")
		}
		r.Destruct()
	})
}

// What stays the same keeps its identity, by which remembered tokens stand.
func TestSameKeysStayTheSameSet(t *testing.T) {
	one, two := edJWK("one", ""), edJWK("two", "")
	i := newIssuer(t, serveKeys(jwks(one, two)))
	r, results := startRemote(t, i.URL, false)
	<-results
	first := r.Keys()
	i.answer(serveKeys(jwks(two, one)))
	due(r)
	if r.Refresh(t.Context()) != first {
		t.Error("the same keys in another order are another set")
	}
	i.answer(serveKeys(jwks(two)))
	due(r)
	if set := r.Refresh(t.Context()); set == first || set.Has(first.keys[0].Print) || !set.Has(first.keys[1].Print) {
		t.Error("a removed key is there")
	}
}

func TestNothingBeforeStart(t *testing.T) {
	i := newIssuer(t, serveKeys(nil))
	r := NewRemote(Options{URL: i.URL})
	if err := r.Destruct(); err != nil || i.hits.Load() != 0 || r.Keys() != nil || r.Refresh(t.Context()) != nil || i.hits.Load() != 0 {
		t.Error("a key set that never started made a request")
	}
}

// A discovery over http from this machine may not lead to http elsewhere.
func TestDiscoveryKeepsToSafeAddresses(t *testing.T) {
	for _, allow := range []bool{false, true} {
		fetched := ""
		results := make(chan error, 1)
		r := NewRemote(Options{
			URL: "http://127.0.0.1:1", Discovery: true, AllowHTTP: allow,
			Observe: func(_ string, _ []error, err error) { results <- err },
			Transport: transport(func(q *http.Request) (*http.Response, error) {
				if q.URL.Path == "/keys" {
					fetched = q.URL.Host
					return answer(200, jwks(edJWK("one", ""))), nil
				}
				return answer(200, []byte(`{"issuer":"http://127.0.0.1:1","jwks_uri":"http://elsewhere.test/keys"}`)), nil
			}),
		})
		r.Start()
		if err := <-results; (err == nil) != allow || (fetched != "") != allow {
			t.Errorf("allowed %v: %v, fetched from %q", allow, err, fetched)
		}
		r.Destruct()
	}
}

// A parser that fails in a way of its own is a fetch that failed.
func TestPanicIsAFailedFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		var observed error
		r := NewRemote(Options{URL: "https://a.test/keys", Observe: func(_ string, _ []error, err error) { observed = err }, Transport: transport(func(*http.Request) (*http.Response, error) {
			if failing.Load() {
				panic("on purpose")
			}
			return answer(200, jwks(edJWK("one", ""))), nil
		})})
		r.Start()
		synctest.Wait()
		failing.Store(true)
		time.Sleep(time.Minute)
		if r.Refresh(t.Context()).Len() != 1 || observed == nil {
			t.Errorf("the keys are gone, or no error was observed: %v", observed)
		}
		failing.Store(false)
		time.Sleep(time.Minute)
		if r.Refresh(t.Context()).Len() != 1 || observed != nil {
			t.Errorf("no recovery: %v", observed)
		}
		_ = r.Destruct()
	})
}
