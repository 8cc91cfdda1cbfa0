package gcra_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

func mustLimit(t testing.TB, s string) gcra.Limit {
	t.Helper()
	l, err := gcra.ParseLimit(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParseLimit(t *testing.T) {
	for _, tc := range []struct {
		in, want string
	}{
		{"100/1m", "100/1m"},
		{"10/1s burst 20", "10/1s burst 20"},
		{"10/60s", "10/1m"},
		{"5/s", "5/1s"},
		{"7/d", "7/1d"},
		{"7/1d12h", "7/36h"},
		{"1000000/1s", "1000000/1s"},
		{"3/1h30m", "3/90m"},
		{"3/500ms burst 1", "3/500ms burst 1"},
	} {
		l, err := gcra.ParseLimit(tc.in)
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
		} else if l.String() != tc.want {
			t.Errorf("%s: read as %s, want %s", tc.in, l, tc.want)
		}
	}
	for in, want := range map[string]string{
		"":                     "is not a limit",
		"100":                  "no period",
		"0/1m":                 "from 1 to",
		"-1/1m":                "from 1 to",
		"+1/1m":                "from 1 to",
		"1e3/1m":               "from 1 to",
		"1/0s":                 "period of",
		"1/1y":                 "period of",
		"1/-1s":                "period of",
		"1/367d":               "period of",
		"1/999999d":            "period of",
		"1/1us":                "period of",
		"2000000/1s":           "above 1000000 per second",
		"10/1s burst":          "is not a limit",
		"10/1s burst 0":        "burst of",
		"10/1s bursts 3":       "is not a limit",
		"10/1s burst 3 4":      "is not a limit",
		"1/366d burst 1000":    "ten years",
		"99999999999999999/1s": "from 1 to",
	} {
		if l, err := gcra.ParseLimit(in); err == nil {
			t.Errorf("%q: read as %s, want an error", in, l)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %q does not say %q", in, err, want)
		}
	}
}

// A limit of 100 per minute admits 100 at once, refuses the next, and admits
// one every 600 ms from then on.
func TestBurstIsTheLimitByDefault(t *testing.T) {
	p := []gcra.Policy{mustLimit(t, "100/1m").Policy()}
	tats := make([]int64, 1)
	now := int64(time.Hour)
	for i := range 100 {
		if w := gcra.Decide(p, tats, now, 1); w != 0 {
			t.Fatalf("request %d refused for %v", i+1, time.Duration(w))
		}
	}
	w := gcra.Decide(p, tats, now, 1)
	if w != int64(600*time.Millisecond) {
		t.Fatalf("request 101 has to wait %v, want 600ms", time.Duration(w))
	}
	if got := gcra.Decide(p, tats, now+w-1, 1); got != 1 {
		t.Errorf("a nanosecond early: wait %d, want 1", got)
	}
	if got := gcra.Decide(p, tats, now+w, 1); got != 0 {
		t.Errorf("after the wait: refused for %v", time.Duration(got))
	}
}

func TestAllOrNone(t *testing.T) {
	p := []gcra.Policy{mustLimit(t, "2/1s").Policy(), mustLimit(t, "3/1h").Policy()}
	tats := make([]int64, 2)
	now := int64(time.Hour)
	admitted := 0
	for range 10 {
		if gcra.Decide(p, tats, now, 1) == 0 {
			admitted++
		}
	}
	if admitted != 2 {
		t.Fatalf("admitted %d, want 2", admitted)
	}
	if r := p[1].Remaining(tats[1], now); r != 1 {
		t.Errorf("the refused requests consumed of the other limit: %d left, want 1", r)
	}
}

func TestCostPeekRefund(t *testing.T) {
	p := []gcra.Policy{mustLimit(t, "10/1s").Policy()}
	tats := make([]int64, 1)
	now := int64(time.Hour)
	if w := gcra.Decide(p, tats, now, 11); w != gcra.Never {
		t.Errorf("cost above the burst: wait %d, want never", w)
	}
	if gcra.Decide(p, tats, now, 7) != 0 || p[0].Remaining(tats[0], now) != 3 {
		t.Errorf("after 7 of 10: %d left", p[0].Remaining(tats[0], now))
	}
	before := tats[0]
	if gcra.Decide(p, tats, now, 0) != 0 || tats[0] != before {
		t.Error("a peek changed the state")
	}
	if gcra.Decide(p, tats, now, -5) != 0 || p[0].Remaining(tats[0], now) != 8 {
		t.Errorf("after a refund of 5: %d left, want 8", p[0].Remaining(tats[0], now))
	}
	gcra.Decide(p, tats, now, -6)
	if tats[0] != now {
		t.Errorf("after a refund of more than was used the TAT is %d before now", now-tats[0])
	}
	gcra.Decide(p, tats, now, -1000)
	if r := p[0].Remaining(tats[0], now); r != 10 {
		t.Errorf("after a refund beyond the burst: %d left, want 10", r)
	}
}

func TestClockStepCannotLockAKey(t *testing.T) {
	p := []gcra.Policy{mustLimit(t, "10/1s").Policy()}
	tats := []int64{int64(time.Hour)}
	if w := gcra.Decide(p, tats, 0, 1); w > int64(time.Second) {
		t.Errorf("after a clock step the wait is %v, more than the burst takes to refill", time.Duration(w))
	}
}

// The bound, counted by a model that knows nothing of TATs: a bucket that holds
// the number of units as a fraction of the period. 200,000 random requests.
func TestAgainstTokenBucket(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		count, period := int64(1+rng.IntN(50)), time.Duration(1+rng.IntN(5000))*time.Millisecond
		// A period that the count divides, so that both models are exact.
		period = period / time.Duration(count) * time.Duration(count)
		if period < gcra.MinPeriod {
			continue
		}
		l := gcra.Limit{Count: count, Period: period, Burst: int64(1 + rng.IntN(100))}
		if l.Check() != nil {
			continue
		}
		p := []gcra.Policy{l.Policy()}
		tats := make([]int64, 1)
		now := int64(time.Hour)
		// Tokens times the interval, to stay whole.
		t1 := int64(period) / count
		tokens, last := l.Burst*t1, now
		for i := range 5000 {
			now += rng.Int64N(2 * t1)
			cost := rng.Int64N(4)
			tokens = min(l.Burst*t1, tokens+now-last)
			last = now
			want := tokens >= cost*t1
			if want {
				tokens -= cost * t1
			}
			if got := gcra.Decide(p, tats, now, cost) == 0; got != want {
				t.Fatalf("round %d, %s, request %d: admitted %v, want %v", round, l, i, got, want)
			}
			if got := p[0].Remaining(tats[0], now); got != tokens/t1 {
				t.Fatalf("round %d, %s, request %d: %d remaining, want %d", round, l, i, got, tokens/t1)
			}
		}
	}
}

// Waiting as long as Reset says gives one more unit; a nanosecond less does not.
func TestResetIsTheNextUnit(t *testing.T) {
	p := mustLimit(t, "7/1s burst 9").Policy()
	now := int64(time.Hour)
	for tat := now; tat <= now+p.Tau; tat += p.T / 3 {
		r, reset := p.Remaining(tat, now), p.Reset(tat, now)
		if reset == 0 {
			if r != 9 {
				t.Fatalf("reset 0 with %d remaining", r)
			}
			continue
		}
		if got := p.Remaining(max(tat, now+reset), now+reset); got != r+1 {
			t.Fatalf("debt %d: after the reset %d remaining, want %d", tat-now, got, r+1)
		}
		if got := p.Remaining(max(tat, now+reset-1), now+reset-1); got != r {
			t.Fatalf("debt %d: before the reset %d remaining, want %d", tat-now, got, r)
		}
	}
}

func TestShare(t *testing.T) {
	for _, text := range []string{"100/1m", "10/1s burst 3", "1/1s"} {
		l := mustLimit(t, text)
		for n := 1; n <= 9; n++ {
			part := l.Share(n)
			if err := part.Check(); err != nil {
				t.Errorf("%s shared by %d: %v", l, n, err)
			}
			if sum := part.Burst * int64(n); sum > l.Burst+int64(n) {
				t.Errorf("%s shared by %d: bursts sum to %d", l, n, sum)
			}
			if rate := float64(part.Count) / part.Period.Seconds() * float64(n); rate > float64(l.Count)/l.Period.Seconds()*1.000001 {
				t.Errorf("%s shared by %d: rates sum to %v", l, n, rate)
			}
		}
	}
}

func TestQuotaPeriods(t *testing.T) {
	at := time.Date(2028, 2, 29, 23, 59, 59, 5, time.FixedZone("", 3600*2))
	for unit, want := range map[gcra.Unit][2]string{
		gcra.Hour:  {"2028-02-29T21:00:00Z", "2028-02-29T22:00:00Z"},
		gcra.Day:   {"2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
		gcra.Week:  {"2028-02-28T00:00:00Z", "2028-03-06T00:00:00Z"},
		gcra.Month: {"2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		gcra.Year:  {"2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"},
	} {
		if s, e := unit.Start(at).Format(time.RFC3339), unit.Next(at).Format(time.RFC3339); s != want[0] || e != want[1] {
			t.Errorf("%s: %s to %s, want %v", unit, s, e, want)
		}
	}
	for _, bad := range []string{"", "5", "0/day", "5/fortnight", "-1/day", "5/", "99999999999999999/day"} {
		if q, err := gcra.ParseQuota(bad); err == nil {
			t.Errorf("%q: read as %s, want an error", bad, q)
		}
	}
}

func TestPlanOrderAndNames(t *testing.T) {
	p, err := gcra.NewPlan(gcra.Rate, []gcra.Limit{mustLimit(t, "1000/1h"), mustLimit(t, "10/1s"), mustLimit(t, "5/1s burst 20")}, []gcra.Quota{{Count: 5, Unit: gcra.Month}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range p.Len() {
		names = append(names, p.Name(i))
	}
	if got := strings.Join(names, " "); got != "1s 1s-2 1h month" {
		t.Errorf("names %q", got)
	}
	for _, bad := range []struct {
		algorithm gcra.Algorithm
		limits    []gcra.Limit
		quotas    []gcra.Quota
	}{
		{gcra.Rate, nil, nil},
		{gcra.Window, []gcra.Limit{mustLimit(t, "10001/1s")}, nil},
		{gcra.Window, []gcra.Limit{mustLimit(t, "10/1s burst 5")}, nil},
		{gcra.Rate, nil, []gcra.Quota{{Count: 1, Unit: gcra.Day}, {Count: 2, Unit: gcra.Day}}},
		{gcra.Rate, make([]gcra.Limit, 9), nil},
	} {
		if _, err := gcra.NewPlan(bad.algorithm, bad.limits, bad.quotas); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"100/1m", "10/1s burst 20", "5/s", "1/366d", "1/1d1h", "0/0", "9/9d9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := gcra.ParseLimit(s)
		if err != nil {
			return
		}
		if err := l.Check(); err != nil {
			t.Fatalf("%q was read as an invalid limit: %v", s, err)
		}
		again, err := gcra.ParseLimit(l.String())
		if err != nil || again != l {
			t.Fatalf("%q was read as %s, which reads as %v, %v", s, l, again, err)
		}
		p := l.Policy()
		if p.T <= 0 || p.Tau <= 0 || p.Tau/p.T != l.Burst {
			t.Fatalf("%q: policy %+v", s, p)
		}
		// The arithmetic must not overflow at either end.
		const end = int64(150 * 366 * 24 * time.Hour)
		for _, now := range []int64{0, end} {
			tats := []int64{0}
			for _, cost := range []int64{l.Burst, 1, gcra.MaxCost, -1, -gcra.MaxCost} {
				if w := gcra.Decide([]gcra.Policy{p}, tats, now, cost); w < 0 {
					t.Fatalf("%q: negative wait %d", s, w)
				}
				if tats[0] < now || tats[0] > now+p.Tau {
					t.Fatalf("%q: TAT %d outside of [%d, %d]", s, tats[0], now, now+p.Tau)
				}
			}
		}
	})
}
