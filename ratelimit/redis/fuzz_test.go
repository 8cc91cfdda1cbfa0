package redis

import (
	"errors"
	"testing"

	"github.com/pythopus/tentagate/ratelimit/gcra"
)

// Whatever a server answers, reading it ends with an error or with values that
// make sense.
func FuzzReply(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 3}, uint8(0), uint8(1))
	f.Add([]byte{0, 200, 1, 2, 9, 9, 9, 9}, uint8(1), uint8(2))
	f.Add([]byte{}, uint8(2), uint8(3))
	one, two := plan(f, gcra.Rate, "10/1s"), plan(f, gcra.Rate, "10/1s", "100/1m")
	window := plan(f, gcra.Window, "10/1s", "5/day")
	f.Fuzz(func(t *testing.T, data []byte, k, n uint8) {
		values := make([]any, 0, len(data))
		for i, b := range data {
			switch {
			case b == 255:
				values = append(values, "text")
			case b == 254:
				values = append(values, nil)
			case b == 253:
				values = append(values, []any{int64(i)})
			case b == 252:
				values = append(values, int64(1)<<62)
			default:
				values = append(values, int64(b)-20)
			}
		}
		var subjects []subject
		for i := range 1 + n%3 {
			p := one
			if i%2 == 1 {
				p = two
			}
			subjects = append(subjects, subject{plan: p, cost: 5})
		}
		var a reply
		err := a.read(&reader{values}, kind(k%3), subjects)
		if err != nil {
			if !errors.Is(err, errReply) {
				t.Fatalf("%v", err)
			}
		} else {
			if a.wait < 0 || a.granted < 0 || a.granted > 5 {
				t.Fatalf("%+v", a)
			}
			for _, debt := range a.debts {
				if debt < 0 {
					t.Fatalf("%+v", a)
				}
			}
		}
		x := exactCall{plan: window}
		if err := x.read(&reader{values}); err == nil {
			for i := range x.decision.Len {
				if m := x.decision.Meters[i]; m.Remaining < 0 || m.Reset < 0 {
					t.Fatalf("%+v", x.decision)
				}
			}
		}
	})
}
