package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// Whichever keys Redis evicts, and whenever, no gateway uses what was purged: not the
// one that purged it, not another, and not one that starts afterwards and knows only
// what is left in Redis.
func TestPurgedStaysPurgedAfterEvictions(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	ctx := context.Background()
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	a, b := newReplica(t, server, false), newReplica(t, server, true)
	const keys = 4
	key := func(n int) object.Key { return object.NewKey(fmt.Sprint(n)) }
	versions := make([]int, keys)
	stale := func(r *replica) string {
		for n := range keys {
			if o, from := r.get(key(n)); o != nil && string(o.Body) != fmt.Sprint(versions[n]) {
				return fmt.Sprintf("key %d: version %s from %s, want %d", n, o.Body, from, versions[n])
			}
		}
		return ""
	}
	for round := range 14 {
		for n := range keys {
			if o, _ := a.get(key(n)); o == nil {
				a.fill(t, key(n), fmt.Sprint("/", n), func() []byte { return fmt.Append(nil, versions[n]) })
			}
			b.get(key(n)) // keeps it in memory too
		}
		for range random.IntN(4) {
			if k := admin.RandomKey(ctx).Val(); k != "" {
				admin.Del(ctx, k)
			}
		}
		switch random.IntN(6) {
		case 0:
			admin.Del(ctx, a.epochs.logKey())
		case 1:
			admin.Del(ctx, a.epochs.generationKey())
		}
		n := random.IntN(keys)
		versions[n]++
		if _, err := a.epochs.Purge(ctx, object.Scope{URL: fmt.Sprint("https://example.com/", n)}); err != nil {
			t.Fatal(err)
		}
		if found := stale(a); found != "" {
			t.Fatalf("round %d: the gateway that purged: %s", round, found)
		}
		switch random.IntN(3) {
		case 0:
			admin.Del(ctx, a.epochs.logKey())
		case 1:
			admin.Del(ctx, a.epochs.generationKey())
		}
		testkit.Eventually(t, "the purge at the other", func() bool { return stale(b) == "" })
		if round%3 == 0 {
			c := newReplica(t, server, false)
			if found := stale(c); found != "" {
				t.Fatalf("round %d: a new gateway: %s", round, found)
			}
			c.epochs.Close()
		}
	}
}
