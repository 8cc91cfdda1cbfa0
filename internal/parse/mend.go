package parse

import (
	"errors"
	"fmt"
	"strings"
)

// Mend is an error about a value that was meant to switch an option off which says what
// to write instead. Block adds that to other errors.
func Mend(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &mend{err.Error(), err}
}

// OrOff is Mend for an option that takes `off` too, and says so.
func OrOff(format string, args ...any) error {
	return Mend(format+"; to disable it, write off", args...)
}

// neverOff is Mend for an option that has no such state, if the text is off.
func neverOff(text string, err error) error {
	if !IsOff(text) {
		return err
	}
	return &mend{err.Error() + cannotBeOff, err}
}

const cannotBeOff = "; it cannot be switched off: without the line it has its default"

// mend is an error that says what to write instead, if need be in addition to its cause.
type mend struct {
	text  string
	cause error
}

func (e *mend) Error() string { return e.text }

func (e *mend) Unwrap() error { return e.cause }

// withMend adds to the error about an option what to write instead, if its one
// argument was meant to switch it off and the error does not say that yet.
func withMend(err error, args []string) error {
	if len(args) != 1 || !IsOff(args[0]) || errors.As(err, new(*mend)) {
		return err
	}
	text, place := err.Error(), ""
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(text, inner.Error()+", at ") {
		text, place = inner.Error(), text[len(inner.Error()):]
	}
	return &mend{text + cannotBeOff + place, err}
}
