package jwtauth

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// The configuration is loaded again and again while keys rotate under load: no
// token of a published key is refused, and none of a removed key accepted.
func TestReloadWhileKeysRotate(t *testing.T) {
	before := timing
	t.Cleanup(func() { timing = before })
	timing = keyset.Timing{
		Timeout: 5 * time.Second, Cooldown: 10 * time.Millisecond, Wait: 5 * time.Second,
		Refresh: 20 * time.Millisecond, Least: 10 * time.Millisecond, Most: time.Hour, Stale: 24 * time.Hour,
		Retry: 10 * time.Millisecond, MostRetry: 50 * time.Millisecond,
	}
	var document atomic.Pointer[[]byte]
	var fetches atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := *document.Load()
		fetches.Add(1)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	publish := func(keys ...named) {
		var jwks []string
		for _, k := range keys {
			jwks = append(jwks, k.jwk())
		}
		body := published(jwks...)
		document.Store(&body)
		// The second fetch from now began after the change, and the third when it was
		// stored.
		from := fetches.Load()
		testkit.Eventually(t, "fetching the keys", func() bool { return fetches.Load() >= from+3 })
	}

	one := newNamed(t, "0")
	body := published(one.jwk())
	document.Store(&body)
	var current atomic.Pointer[Handler]
	reload := func() {
		h := must(t, "jwt_auth {\n provider main {\n jwks "+server.URL+"/keys\n }\n}")
		if old := current.Swap(h); old != nil {
			if err := old.Cleanup(); err != nil {
				t.Error(err)
			}
		}
	}
	reload()

	var mu sync.RWMutex // locked while the tokens change, so that none is used later
	good := []string{one.token(t, 0)}
	var rounds atomic.Int64
	stop := make(chan struct{})
	var workers sync.WaitGroup
	const count = 4
	for range count {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.RLock()
				for _, text := range good {
					if status := send(t, current.Load(), text); status != http.StatusOK {
						t.Errorf("a token of a published key: %d", status)
					}
				}
				mu.RUnlock()
				rounds.Add(1)
			}
		})
	}
	accept := func(texts ...string) {
		mu.Lock()
		good = texts
		from := rounds.Load()
		mu.Unlock()
		testkit.Eventually(t, "the load", func() bool { return rounds.Load() > from+2*count || t.Failed() })
	}
	publish(one)
	for i := 1; i <= 6 && !t.Failed(); i++ {
		two := newNamed(t, string(rune('0'+i)))
		publish(one, two)
		removed := one.token(t, i)
		accept(removed, two.token(t, i))
		reload()
		accept(two.token(t, 100+i))
		publish(two)
		for range 2 {
			if status := send(t, current.Load(), removed); status != http.StatusUnauthorized {
				t.Errorf("a token of a removed key: %d", status)
			}
			reload()
		}
		one = two
	}
	close(stop)
	workers.Wait()
}
