package parse_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/parse"
)

// A want that does not begin with an = is a part of the error.
func TestValues(t *testing.T) {
	for name, tc := range map[string]struct {
		read func(text string) (any, error)
		want map[string]string
	}{
		"Duration": {of(parse.Duration), map[string]string{
			"90s": "=" + fmt.Sprint(int64(90*time.Second)), "1d": "=" + fmt.Sprint(int64(24*time.Hour)),
			"0s": "is not a duration above zero", "-1s": "above zero", "ninety": "above zero", "off": "above zero", "": "above zero",
		}},
		"DurationOrOff": {of(parse.DurationOrOff), map[string]string{
			"off": "=0", "0": "=0", "0s": "=0", "2s": "=" + fmt.Sprint(int64(2*time.Second)), "-1s": "; to disable it, write off", "x": "; to disable it, write off", "none": "; to disable it, write off",
		}},
		"Int": {of(parse.Int(1, 9)), map[string]string{
			"1": "=1", "9": "=9", "10": "is not a whole number from 1 to 9", "0": "1 to 9", "1.5": "1 to 9", "off": "1 to 9",
		}},
		"IntOrOff": {of(parse.IntOrOff(9)), map[string]string{
			"off": "=0", "0": "=0", "9": "=9", "10": "from 1 to 9; to disable it, write off", "-1": "; to disable it, write off", "x": "; to disable it, write off", "none": "; to disable it, write off",
		}},
		"SizeOrOff": {of(parse.SizeOrOff), map[string]string{
			"512KiB": "=524288", "1MB": "=1000000", "7": "=7", "off": "=0", "0": "=0", "-1": "; to disable it, write off", "lots": "; to disable it, write off", "20EB": "; to disable it, write off",
		}},
		"Percent": {of(parse.Percent), map[string]string{
			"50%": "=0.5", "100%": "=1", "0.5%": "=0.005",
			"50": "is not a percentage", "0%": "above 0%", "101%": "up to 100%", "-1%": "above 0%", "NaN%": "above 0%", "x%": "above 0%", "%": "above 0%", "": "above 0%",
		}},
		"PercentOrOff": {of(parse.PercentOrOff), map[string]string{
			"20%": "=0.2", "off": "=0", "0": "=0", "0%": "=0", "x": "; to disable it, write off", "101%": "; to disable it, write off",
		}},
		"Text":   {of(parse.Text), map[string]string{"a b": "=a b", "": "an empty value", " ": "an empty value"}},
		"OneOf":  {of(parse.OneOf("a", "b", "c")), map[string]string{"b": "=b", "d": `unknown value "d": accepted are a, b and c`}},
		"OneOf1": {of(parse.OneOf("a")), map[string]string{"a": "=a", "d": "accepted is a"}},
	} {
		for text, want := range tc.want {
			got, err := tc.read(text)
			if value, ok := strings.CutPrefix(want, "="); ok {
				if err != nil || fmt.Sprint(got) != value {
					t.Errorf("%s %q: got %v and %v, want %s", name, text, got, err, value)
				}
			} else if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %q: got %v and %v, want an error with %q", name, text, got, err, want)
			}
		}
	}
}

func of[T any](read func(string) (T, error)) func(string) (any, error) {
	return func(text string) (any, error) { return read(text) }
}

func TestIsOff(t *testing.T) {
	for text, want := range map[string]bool{"off": true, "0": true, "0%": true, "0s": true, "0m": true, "1s": false, "no": false, "": false, "00%": false} {
		if got := parse.IsOff(text); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestAtLeast(t *testing.T) {
	for _, tc := range []struct {
		text string
		size int64
		want string
	}{
		{"1KiB", 1 << 10, ""},
		{"64", 64, "64 bytes is too small: at least 1KiB; write a unit, such as 64MiB"},
		{"64B", 64, "64B is too small: at least 1KiB"},
	} {
		err := parse.AtLeast(tc.text, tc.size, 1<<10, "MiB")
		if got := fmt.Sprint(err); tc.want == "" && err != nil || tc.want != "" && got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.text, got, tc.want)
		}
	}
}

func TestBetween(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{parse.Between("n", 1, 1, 10), ""},
		{parse.Between("n", 10, 1, 10), ""},
		{parse.Between("n", 0, 1, 10), "n: 0: accepted are 1 to 10"},
		{parse.Between("share", math.NaN(), 0, 1), "share: NaN: accepted are 0 to 1"},
		{parse.Between("d", 11*time.Minute, 0, 10*time.Minute), "d: 11m0s: accepted are 0s to 10m"},
		{parse.Between("d", time.Millisecond, time.Second, 168*time.Hour), "d: 1ms: accepted are 1s to 7d"},
		{parse.Between("d", time.Second, 24*time.Hour, 36*time.Hour), "d: 1s: accepted are 24h to 36h"},
		{parse.Between("d", time.Second, 10*time.Second, 90*time.Minute), "d: 1s: accepted are 10s to 1h30m"},
		{parse.Choice("mode", "a", parse.OneOf("a", "b")), ""},
		{parse.Choice("mode", "c", parse.OneOf("a", "b")), `mode: unknown value "c": accepted are a and b`},
	} {
		got := ""
		if tc.err != nil {
			got = tc.err.Error()
		}
		if got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
