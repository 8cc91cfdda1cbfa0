package parse

import (
	"strconv"
	"strings"
)

// withMend adds to the error about an option what to write instead, if its one
// argument was meant to switch it off and the error does not say that yet.
func withMend(err error, args []string) error {
	if len(args) != 1 || !IsOff(args[0]) {
		return err
	}
	text, place := err.Error(), ""
	if at := strings.LastIndex(text, ", at "); at >= 0 {
		text, place = text[:at], text[at:]
	}
	said := strings.ReplaceAll(text, strconv.Quote(args[0]), "")
	for _, mend := range []string{Off, "leave ", "remove ", "without ", "write `"} {
		if strings.Contains(said, mend) {
			return err
		}
	}
	return &mended{text + cannotBeOff + place, err}
}

// mended is an error with what to write instead in its text, before its place.
type mended struct {
	text  string
	cause error
}

func (e *mended) Error() string { return e.text }

func (e *mended) Unwrap() error { return e.cause }
