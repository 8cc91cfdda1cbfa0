package redis

import (
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// A debit takes what there is, of each meter its own number of units, and no
// limit admits more because of it.
func TestExactDebit(t *testing.T) {
	server := redistest.Start(t)
	for _, tc := range []struct {
		name      string
		algorithm gcra.Algorithm
		limits    []string
		costs     []int64
		remaining []int64
	}{
		{"some", gcra.Window, []string{"10/1h", "100/2h"}, []int64{3, 5}, []int64{3, 91}},
		{"more than there are", gcra.Window, []string{"10/1h", "100/2h"}, []int64{9, 500}, []int64{0, 0}},
		{"of one meter", gcra.Window, []string{"10/1h", "100/year"}, []int64{0, 50}, []int64{6, 46}},
		{"a quota is used up", gcra.Rate, []string{"10/10h", "100/year"}, []int64{2, 97}, []int64{4, 0}},
		{"a rate is used up", gcra.Rate, []string{"10/10h", "100/year"}, []int64{7, 7}, []int64{0, 89}},
	} {
		p := gcratest.Plan(t, tc.algorithm, tc.limits...)
		call := func(k kind, cost int64, costs []int64) *gcra.Decision {
			t.Helper()
			x := &roundTrip{kind: k, calls: []Call{{name: "debit " + tc.name, Plan: p, Cost: cost}}, costs: costs}
			values, err := server.Client().Do(t.Context(), x.exactCommand("eval", exactSource, time.Now())...).Int64Slice()
			if err == nil {
				err = x.readExact(&reader{values})
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			return x.exact
		}
		if d := call(take, 4, nil); !d.Admitted() {
			t.Fatalf("%s: %+v", tc.name, d)
		}
		call(debit, 0, tc.costs)
		d := call(take, 0, nil)
		for i, want := range tc.remaining {
			if d.Meters[i].Remaining != want {
				t.Errorf("%s: of meter %d remain %d, want %d", tc.name, i, d.Meters[i].Remaining, want)
			}
		}
		if d := call(take, min(tc.remaining[0], tc.remaining[1])+1, nil); d.Admitted() {
			t.Errorf("%s: more than remains was admitted", tc.name)
		}
	}
}
