package token

import (
	"encoding/json"
	"strconv"
)

// number reads a number, in the form that RFC 8259 §6 gives it and no other.
func (d *decoder) number() (any, error) {
	start := d.at
	if d.peek() == '-' {
		d.at++
	}
	first := d.at
	whole := d.digits()
	if whole == 0 || whole > 1 && d.text[first] == '0' {
		return nil, errSyntax
	}
	integer := true
	if d.peek() == '.' {
		integer = false
		d.at++
		if d.digits() == 0 {
			return nil, errSyntax
		}
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		integer = false
		d.at++
		if c := d.peek(); c == '+' || c == '-' {
			d.at++
		}
		if d.digits() == 0 {
			return nil, errSyntax
		}
	}
	// Such an integer is exact.
	if integer && whole <= 15 {
		var n int64
		for _, c := range []byte(d.text[first:d.at]) {
			n = n*10 + int64(c-'0')
		}
		if first == start {
			return float64(n), nil
		}
		if n != 0 {
			return float64(-n), nil
		}
	}
	if _, err := strconv.ParseFloat(d.text[start:d.at], 64); err != nil {
		return nil, errSyntax
	}
	return json.Number(d.text[start:d.at]), nil
}

func (d *decoder) digits() (n int) {
	for c := d.peek(); '0' <= c && c <= '9'; c = d.peek() {
		d.at++
		n++
	}
	return n
}
