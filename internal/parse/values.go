package parse

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
)

// Off is the word that switches an option off, as zero does.
const Off = "off"

// IsOff reports whether the text switches an option off: `off`, or zero in any
// unit.
func IsOff(text string) bool {
	switch text {
	case Off, "0", "0%":
		return true
	}
	d, err := caddy.ParseDuration(text)
	return err == nil && d == 0
}

// VariableHint adds to an error about a value how a variable is written where the
// value is needed when the file is read, if the text is one that is known later.
func VariableHint(text string, err error) error {
	if name, ok := strings.CutPrefix(text, "{env."); ok && err != nil && strings.HasSuffix(name, "}") {
		return fmt.Errorf("%w; a variable is written {$%s here", err, name)
	}
	return err
}

// Text accepts any text that is not blank.
func Text(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", errors.New("an empty value: write one, or leave the option out")
	}
	return text, nil
}

// TextOrOff is Text for an option that can be switched off: `off` and zero in any unit
// are `off`.
func TextOrOff(text string) (string, error) {
	if IsOff(text) {
		return Off, nil
	}
	return Text(text)
}

// OneOf accepts the given words.
func OneOf(accepted ...string) func(text string) (string, error) {
	return func(text string) (string, error) {
		if slices.Contains(accepted, text) {
			return text, nil
		}
		const form = "unknown value %q: accepted %s"
		if slices.Contains(accepted, Off) {
			return "", Mend(form, text, enumerate(accepted))
		}
		return "", neverOff(text, fmt.Errorf(form, text, enumerate(accepted)))
	}
}

// Choice refuses a value of an option that accepted, such as a OneOf, refuses.
func Choice(option, value string, accepted func(text string) (string, error)) error {
	if _, err := accepted(value); err != nil {
		return fmt.Errorf("%s: %w", option, err)
	}
	return nil
}

// enumerate writes `is a`, `are a and b` or `are a, b and c`.
func enumerate(words []string) string {
	if len(words) == 1 {
		return "is " + words[0]
	}
	last := len(words) - 1
	return "are " + strings.Join(words[:last], ", ") + " and " + words[last]
}

// Duration accepts a duration above zero, such as 250ms, 30s, 5m or 1d.
func Duration(text string) (caddy.Duration, error) {
	v, err := caddy.ParseDuration(text)
	if err != nil || v <= 0 {
		return 0, neverOff(text, fmt.Errorf("%q is not a duration above zero, such as 250ms, 30s, 5m or 1d", text))
	}
	return caddy.Duration(v), nil
}

// DurationOrOff is Duration for an option that can be switched off: `off` and
// zero in any unit are 0.
func DurationOrOff(text string) (caddy.Duration, error) {
	if text == Off || text == "0" {
		return 0, nil
	}
	v, err := caddy.ParseDuration(text)
	if err != nil || v < 0 {
		return 0, OrOff("%q is not a duration such as 250ms, 30s, 5m or 1d", text)
	}
	return caddy.Duration(v), nil
}

// Int accepts a whole number in the range.
func Int(minimum, maximum int) func(text string) (int, error) {
	return func(text string) (int, error) {
		v, err := strconv.Atoi(text)
		if err != nil || v < minimum || v > maximum {
			return 0, neverOff(text, fmt.Errorf("%q is not a whole number from %d to %d", text, minimum, maximum))
		}
		return v, nil
	}
}

// IntOrOff is Int, from 1, for an option that can be switched off: `off` and 0
// are 0.
func IntOrOff(maximum int) func(text string) (int, error) {
	return func(text string) (int, error) {
		if text == Off {
			return 0, nil
		}
		v, err := strconv.Atoi(text)
		if err != nil || v < 0 || v > maximum {
			return 0, OrOff("%q is not a whole number from 1 to %d", text, maximum)
		}
		return v, nil
	}
}

// SizeOrOff accepts a number of bytes, such as 65536, 512KiB or 1GB; `off` and 0
// are 0.
func SizeOrOff(text string) (int64, error) {
	if text == Off {
		return 0, nil
	}
	v, err := Size(text)
	if err != nil {
		err = OrOff("%w", err)
	}
	return v, err
}

// Size accepts a number of bytes, such as 65536, 512KiB or 1GB.
func Size(text string) (int64, error) {
	v, err := humanize.ParseBytes(text)
	if err != nil || v > math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size such as 65536, 512KiB or 1GB", text)
	}
	return int64(v), nil
}

// NeedsUnit refuses a size of less than 1 KiB without a unit, which is usually missing.
// Zero needs none.
func NeedsUnit(text string, size int64) error {
	if size <= 0 && strings.Trim(text, "0.") == "" || size >= 1<<10 || hasUnit(text) {
		return nil
	}
	return fmt.Errorf("%s bytes is very small: write a unit, such as %sMiB, or %sB", text, text, text)
}

// AtLeast refuses a size below the minimum. The unit is usually missing: the error
// then suggests one.
func AtLeast(text string, size, minimum int64, unit string) error {
	if size >= minimum {
		return nil
	}
	least := strings.ReplaceAll(strings.Replace(humanize.IBytes(uint64(minimum)), ".0", "", 1), " ", "")
	if hasUnit(text) {
		return fmt.Errorf("%s is too small: at least %s", text, least)
	}
	return fmt.Errorf("%d bytes is too small: at least %s; write a unit, such as %d%s", size, least, max(size, 1), unit)
}

func hasUnit(text string) bool { return strings.Trim(text, "0123456789.") != "" }

// Between refuses a value of an option that is out of bounds. It is for values that are not
// written in a Caddyfile.
func Between[T cmp.Ordered](option string, value, least, most T) error {
	if value >= least && value <= most {
		return nil
	}
	return fmt.Errorf("%s: %v: accepted are %s to %s", option, value, bound(least), bound(most))
}

// bound writes a bound as an operator does: 7d or 36h, and not 36h0m0s.
func bound(v any) string {
	const day = 24 * time.Hour
	text := fmt.Sprint(v)
	switch d, ok := v.(time.Duration); {
	case !ok:
		return text
	case d > day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	}
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Percent accepts a percentage above 0% and up to 100%, such as 50%, and returns
// it as a fraction, 0.5.
func Percent(text string) (float64, error) {
	digits, ok := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(v > 0 && v <= 100) {
		return 0, fmt.Errorf("%q is not a percentage above 0%% and up to 100%%", text)
	}
	return v / 100, nil
}

// PercentOrOff is Percent for an option that can be switched off: `off`, `0` and
// `0%` are 0.
func PercentOrOff(text string) (float64, error) {
	switch text {
	case Off, "0", "0%":
		return 0, nil
	}
	v, err := Percent(text)
	if err != nil {
		err = OrOff("%w", err)
	}
	return v, err
}
