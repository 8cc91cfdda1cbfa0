package redis

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func TestStoreCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, cluster.Addrs()...)})
	const n = 60
	keys, bodies := make([]object.Key, n), make([][]byte, n)
	for i := range keys {
		keys[i], bodies[i] = object.NewKey(fmt.Sprint(i)), append(noise(1000), fmt.Sprint(i)...)
		if i%20 == 0 {
			bodies[i] = append(noise(2*chunkSize), fmt.Sprint(i)...)
		}
		put(t, s, keys[i], fresh(bodies[i]))
	}
	look := func() (found int) {
		for i := range keys {
			o := get(s, keys[i])
			if o == nil {
				continue
			}
			found++
			if !bytes.Equal(o.Body, bodies[i]) {
				t.Errorf("%d: a wrong body", i)
			}
		}
		return found
	}
	if found := look(); found < n-3 {
		t.Errorf("%d of %d found", found, n)
	}

	// Slots move while they are read and written.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; ; i = (i + 1) % n {
				select {
				case <-stop:
					return
				default:
				}
				if o := get(s, keys[i]); o != nil && !bytes.Equal(o.Body, bodies[i]) {
					t.Errorf("%d: a wrong body", i)
				}
				s.Set(keys[i], fresh(bodies[i]))
			}
		})
	}
	cluster.Reshard("2000")
	close(stop)
	wg.Wait()
	t.Logf("after the move: %+v", s.Stats())
	testkit.Eventually(t, "all after the move", func() bool {
		for i := range keys {
			s.Set(keys[i], fresh(bodies[i]))
		}
		return look() == n
	})
	testkit.Eventually(t, "deletion", func() bool {
		for i := range keys {
			s.Delete(keys[i]) // may be dropped while much is waiting
		}
		return look() == 0
	})
}

func TestStoreSentinel(t *testing.T) {
	sentinel := redistest.StartSentinel(t)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: redistest.MasterName, SentinelAddrs: []string{sentinel.URL()[len("redis://"):]},
		ReadTimeout: 5 * time.Second, DialTimeout: 5 * time.Second, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = client.Close() })
	s := newStore(t, Options{Client: client})
	e := newEpochs(t, client, 100*time.Millisecond)
	inStep(t, e)
	key, body := object.NewKey("k"), text(500)
	put(t, s, key, fresh(body))
	o := tagged(e, "x")
	sentinel.Master.Kill()
	for range 200 {
		if o := get(s, key); o != nil && !bytes.Equal(o.Body, body) {
			t.Error("a wrong body")
		}
	}
	e.invalidate(object.Scope{Tag: "x"})
	testkit.Eventually(t, "the failover", func() bool {
		s.Set(key, fresh(body))
		return get(s, key) != nil
	})
	inStep(t, e)
	testkit.Eventually(t, "sharing", func() bool { return e.Stats().Pending == 0 })
	other := newEpochs(t, redistest.BackgroundClient(t, sentinel.Replica.Addr()), 100*time.Millisecond)
	inStep(t, other)
	testkit.Eventually(t, "the invalidation at another gateway", func() bool { return other.freshness(o.Clone()) == object.Hard })
}
