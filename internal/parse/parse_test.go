package parse

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func on(line string) *caddyfile.Dispenser {
	d := caddyfile.NewTestDispenser(line)
	d.Next()
	return d
}

// check compares a parser's result, or the part of its error that matters.
func check(t *testing.T, line string, got any, err error, want string) {
	t.Helper()
	if wantErr, ok := strings.CutPrefix(want, "error: "); ok {
		if err == nil || !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%s: got error %v, want one with %q", line, err, wantErr)
		}
		return
	}
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("%s: got %v, %v, want %q", line, got, err, want)
	}
}

func TestDuration(t *testing.T) {
	for line, want := range map[string]string{
		"ttl 90s":    (90 * time.Second).String(),
		"ttl 1d":     (24 * time.Hour).String(),
		"ttl":        "error: ttl: missing argument: it takes 1 value",
		"ttl 1s 2s":  `error: ttl: unexpected argument "2s": it takes 1 value`,
		"ttl 0s":     `error: ttl: "0s" is not a duration above zero`,
		"ttl -1s":    `error: ttl: "-1s" is not a duration above zero`,
		"ttl ninety": `error: ttl: "ninety" is not a duration above zero`,
	} {
		got, err := Duration(on(line))
		check(t, line, time.Duration(got), err, want)
	}
}

func TestInt(t *testing.T) {
	for line, want := range map[string]string{
		"n 1":   "1",
		"n 9":   "9",
		"n 10":  `error: n: "10" is not a whole number from 1 to 9`,
		"n 0":   "error: from 1 to 9",
		"n 1.5": "error: from 1 to 9",
		"n":     "error: n: missing argument",
	} {
		got, err := Int(on(line), 1, 9)
		check(t, line, got, err, want)
	}
}

func TestSize(t *testing.T) {
	for line, want := range map[string]string{
		"s 512KiB": "524288",
		"s 1MB":    "1000000",
		"s 7":      "7",
		"s 0":      `error: s: "0" is not a size above zero`,
		"s -1":     "error: size above zero",
		"s lots":   "error: size above zero",
		"s 20EB":   "error: size above zero",
	} {
		got, err := Size(on(line))
		check(t, line, got, err, want)
	}
}

func TestArgs(t *testing.T) {
	for line, want := range map[string]string{
		"o a":     "[a]",
		"o a b":   "[a b]",
		"o":       "error: o: missing argument: it takes 1 to 2 values",
		"o a b c": `error: o: unexpected argument "c": it takes 1 to 2 values`,
	} {
		got, err := Args(on(line), 1, 2)
		check(t, line, got, err, want)
	}
	_, err := Args(on("o"), 2, -1)
	check(t, "o", nil, err, "error: it takes at least 2 values")
	check(t, "o x", nil, NoArgs(on("o x")), `error: o: unexpected argument "x": it takes none`)
	for _, word := range []string{"off", "no", "false"} {
		check(t, "o "+word, nil, NoArgs(on("o "+word)), `error: o: unexpected argument "`+word+`": it takes none: leave the line out, which is off`)
	}
	for _, word := range []string{"on", "yes", "true"} {
		check(t, "o "+word, nil, NoArgs(on("o "+word)), `error: o: unexpected argument "`+word+`": it takes none: the name alone is on`)
	}
}

func TestPercent(t *testing.T) {
	for text, want := range map[string]float64{"50%": .5, "100%": 1, "0.5%": .005} {
		if got, ok := Percent(text); !ok || got != want {
			t.Errorf("%s: got %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"50", "0%", "101%", "-1%", "NaN%", "x%", "%", ""} {
		if got, ok := Percent(text); ok {
			t.Errorf("%q: got %v, want it refused", text, got)
		}
	}
}

func TestSeenAndUnknown(t *testing.T) {
	seen := Seen{}
	check(t, "first", "", seen.Once(on("a")), "")
	check(t, "second", "", seen.Once(on("a")), "error: a: given more than once")
	check(t, "unknown", "", Unknown(on("c"), "a", "b"), `error: unknown option "c": accepted are a, b`)
}

func TestOrOff(t *testing.T) {
	dispense := func(value string) *caddyfile.Dispenser { return on("option " + value) }
	for _, zero := range []string{"off", "0", "0s"} {
		if v, err := DurationOrOff(dispense(zero)); v != 0 || err != nil {
			t.Errorf("duration %s: got %v and %v", zero, v, err)
		}
	}
	if v, err := DurationOrOff(dispense("2s")); time.Duration(v) != 2*time.Second || err != nil {
		t.Errorf("2s: got %v and %v", v, err)
	}
	for _, zero := range []string{"off", "0"} {
		if v, err := IntOrOff(dispense(zero), 9); v != 0 || err != nil {
			t.Errorf("number %s: got %v and %v", zero, v, err)
		}
		if v, err := SizeOrOff(dispense(zero)); v != 0 || err != nil {
			t.Errorf("size %s: got %v and %v", zero, v, err)
		}
		if v, ok := PercentOrOff(zero); v != 0 || !ok {
			t.Errorf("share %s: got %v and %v", zero, v, ok)
		}
	}
	if v, ok := PercentOrOff("20%"); v != 0.2 || !ok {
		t.Errorf("20%%: got %v and %v", v, ok)
	}
	for _, bad := range []string{"-1", "x", "none"} {
		_, duration := DurationOrOff(dispense(bad))
		_, number := IntOrOff(dispense(bad), 9)
		_, size := SizeOrOff(dispense(bad))
		for _, err := range []error{duration, number, size} {
			if err == nil || !strings.Contains(err.Error(), "off") {
				t.Errorf("%s: got %v, want an error that says what is accepted", bad, err)
			}
		}
	}
}
