package redis

import (
	"errors"
	"strconv"
	"testing"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// Whatever a server answers, reading it ends with an error or with values that
// make sense.
func FuzzReply(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 3}, uint8(0), uint8(1))
	f.Add([]byte{0, 200, 1, 2, 9, 9, 9, 9}, uint8(1), uint8(2))
	f.Add([]byte{}, uint8(2), uint8(3))
	f.Add([]byte{20, 30, 20, 40, 25, 30}, uint8(3), uint8(12))
	f.Add([]byte{22, 20, 90, 21, 30, 40}, uint8(3), uint8(9))
	one, two := gcratest.Plan(f, gcra.Rate, "10/1s"), gcratest.Plan(f, gcra.Rate, "10/1s", "100/1m")
	window := gcratest.Plan(f, gcra.Window, "10/1s", "5/day")
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
		var calls []Call
		for i := range 1 + n%3 {
			p := one
			if i%2 == 1 {
				p = two
			}
			calls = append(calls, Call{Plan: p, Cost: 5})
		}
		enc := &encoder{}
		enc.reset()
		asked := 1 + int(n)%5
		for i := range asked {
			switch {
			case k%4 == 3: // equal requests, of fewer keys where the bit is set
				enc.add(take, []Call{{name: strconv.Itoa(i % (1 + int(n)/5%3)), Plan: one, Cost: 5}})
			default:
				enc.add(kind(k%4), calls)
			}
		}
		numbers, err := enc.reply(values)
		r := &reader{numbers}
		for range asked {
			if err != nil {
				break
			}
			kd, of := kind(k%4), calls
			if k%4 == 3 {
				kd, of = take, calls[:1]
			}
			var a reply
			if err = a.read(r, kd, of); err != nil {
				break
			}
			if a.wait < 0 || a.granted < 0 || a.granted > 5 {
				t.Fatalf("%+v", a)
			}
			for _, debt := range a.debts {
				if debt < 0 {
					t.Fatalf("%+v", a)
				}
			}
		}
		if err != nil && !errors.Is(err, errReply) {
			t.Fatalf("%v", err)
		}
		if numbers, err = (&encoder{}).reply(values); err != nil {
			return
		}
		x := &roundTrip{calls: []Call{{Plan: window}}}
		if err := x.readExact(&reader{numbers}); err == nil {
			for i := range x.exact.Len {
				if m := x.exact.Meters[i]; m.Remaining < 0 || m.Reset < 0 {
					t.Fatalf("%+v", x.exact)
				}
			}
		}
	})
}
