package window_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pythopus/tentagate/ratelimit/internal/window"
)

// The log against a list of every unit, with refunds: never more than the limit
// in any window, and nothing refused that would fit.
func TestAgainstList(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		limit, length := 1+rng.Int64N(40), 10+rng.Int64N(1000)
		var log window.Log
		var list []int64
		now := int64(1_000_000)
		for i := range 3000 {
			now += rng.Int64N(length / 5)
			if rng.IntN(10) == 0 && len(list) > 0 {
				at := list[rng.IntN(len(list))]
				log.Refund(at, 1)
				if at > now-length {
					j := slices.Index(list, at)
					list = slices.Delete(list, j, j+1)
				}
				continue
			}
			cost := 1 + rng.Int64N(3)
			used := int64(0)
			for _, at := range list {
				if at > now-length {
					used++
				}
			}
			wait := log.Wait(now, length, limit, cost)
			switch {
			case cost > limit:
				if wait != -1 {
					t.Fatalf("cost %d of %d: wait %d", cost, limit, wait)
				}
			case used+cost <= limit:
				if wait != 0 {
					t.Fatalf("request %d: refused with %d of %d used", i, used, limit)
				}
				log.Take(now, limit, cost)
				for range cost {
					list = append(list, now)
				}
			default:
				if wait <= 0 {
					t.Fatalf("request %d: admitted with %d of %d used", i, used, limit)
				}
				// A copy: a later time removes what is old by then.
				if probe := log; probe.Wait(now+wait-1, length, limit, cost) == 0 {
					t.Fatalf("request %d: would be admitted before its wait is over", i)
				}
			}
			if got := log.Used(now, length); got > limit {
				t.Fatalf("%d used of %d", got, limit)
			}
		}
	}
}
