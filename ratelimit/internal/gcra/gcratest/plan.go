// Package gcratest makes plans for tests.
package gcratest

import (
	"testing"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// Plan returns the plan of limits such as 10/1s and quotas such as 100/day.
func Plan(t testing.TB, algorithm gcra.Algorithm, limits ...string) *gcra.Plan {
	t.Helper()
	var ls []gcra.Limit
	var qs []gcra.Quota
	for _, s := range limits {
		if q, err := gcra.ParseQuota(s); err == nil {
			qs = append(qs, q)
			continue
		}
		l, err := gcra.ParseLimit(s)
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, l)
	}
	p, err := gcra.NewPlan(algorithm, ls, qs)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
