package policy

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// separator stands between the items of an array in a header field.
const separator = ","

// ErrAmbiguous is the error of an array whose items cannot be separated again in
// one text.
var ErrAmbiguous = errors.New("an item of the array has a comma in it or a space at an end")

// Text returns a claim as it appears in a placeholder, and false for what has
// no such form. Numbers keep their digits. The items of an array are joined by
// commas or, where that would be ambiguous, are JSON.
func Text(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return string(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case []any:
		text, err := Join(v)
		if errors.Is(err, ErrAmbiguous) {
			text, err = JSON(v)
		}
		return text, err == nil
	}
	return "", false
}

// errForm is the error of a value that is neither text, number nor boolean.
var errForm = errors.New("it cannot be written as text")

// Join returns the items of an array as one text, separated by commas.
func Join(items []any) (string, error) {
	texts := make([]string, 0, len(items))
	ambiguous := false
	for _, item := range items {
		if _, nested := item.([]any); nested {
			return "", errForm
		}
		text, ok := Text(item)
		if !ok {
			return "", errForm
		}
		ambiguous = ambiguous || strings.Contains(text, separator) || strings.TrimFunc(text, unicode.IsSpace) != text
		texts = append(texts, text)
	}
	if ambiguous {
		return "", ErrAmbiguous
	}
	return strings.Join(texts, separator), nil
}

// JSON returns a claim as JSON in ASCII, as a header field can have it. Numbers
// keep their digits.
func JSON(value any) (string, error) {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	text := strings.TrimSuffix(out.String(), "\n")
	plain := func(c rune) bool { return c < utf8.RuneSelf && c != 0x7f }
	if strings.IndexFunc(text, func(c rune) bool { return !plain(c) }) < 0 {
		return text, nil
	}
	// Characters that are not ASCII are in strings only, where they can be escaped.
	var ascii []byte
	for _, c := range text {
		switch {
		case plain(c):
			ascii = append(ascii, byte(c))
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			ascii = appendEscape(appendEscape(ascii, high), low)
		default:
			ascii = appendEscape(ascii, c)
		}
	}
	return string(ascii), nil
}

func appendEscape(b []byte, c rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[c>>12&15], hex[c>>8&15], hex[c>>4&15], hex[c&15])
}

func isNumber(value any) bool {
	switch value.(type) {
	case float64, json.Number:
		return true
	}
	return false
}

// equalNumbers compares two numbers by their exact value: 1, 1.0 and 1e0 are
// one, 9007199254740993 and 9007199254740992 are two. What is not a number equals
// none.
func equalNumbers(a, b string) bool {
	x, ok := parseDecimal(a)
	if !ok {
		return false
	}
	y, ok := parseDecimal(b)
	return ok && x == y
}

// decimal is a number: its digits without zeros at the ends, and the power of
// ten of the last of them.
type decimal struct {
	negative bool
	digits   string
	power    int
}

// parseDecimal reads a number as JSON has it (RFC 8259 §6).
func parseDecimal(text string) (d decimal, ok bool) {
	text, d.negative = strings.CutPrefix(text, "-")
	mantissa, exponent, scaled := text, "", false
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		mantissa, exponent, scaled = text[:at], text[at+1:], true
	}
	whole, fraction, broken := strings.Cut(mantissa, ".")
	if !allDigits(whole) || broken && !allDigits(fraction) || len(whole) > 1 && whole[0] == '0' {
		return d, false
	}
	d.power = -len(fraction)
	if scaled {
		if sign, found := strings.CutPrefix(exponent, "+"); found {
			exponent = sign
		}
		// No number has so large a power that this overflows.
		n, err := strconv.ParseInt(exponent, 10, 32)
		if err != nil {
			return d, false
		}
		d.power += int(n)
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	d.digits = strings.TrimRight(digits, "0")
	d.power += len(digits) - len(d.digits)
	if d.digits == "" {
		return decimal{}, true
	}
	return d, true
}

func allDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}
