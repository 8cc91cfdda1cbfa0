package ratelimit

import "github.com/pythopus/tentagate/ratelimit/internal/gcra"

// MaxCount is the largest number of units of a limit.
const MaxCount = gcra.MaxCount

// ParseLimit checks a limit, `<count>/<period> [burst <n>]`, and returns it in
// its canonical form.
func ParseLimit(text string) (string, error) {
	l, err := gcra.ParseLimit(text)
	if err != nil {
		return "", err
	}
	return l.String(), nil
}
