package token

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// repeats reports whether a duplicate name in an object at any depth, by
// another reader of valid JSON.
func repeats(data []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(data))
	var walk func() bool
	walk = func() bool {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		switch tok {
		case json.Delim('{'):
			seen := map[string]bool{}
			for dec.More() {
				name, _ := dec.Token()
				text, _ := name.(string)
				if seen[text] {
					return true
				}
				seen[text] = true
				if walk() {
					return true
				}
			}
			_, _ = dec.Token()
		case json.Delim('['):
			for dec.More() {
				if walk() {
					return true
				}
			}
			_, _ = dec.Token()
		}
		return false
	}
	return walk()
}

// digits returns a decoded value with all numbers as they are written.
func digits(value any) any {
	switch v := value.(type) {
	case map[string]any:
		m := map[string]any{}
		for name, inner := range v {
			m[name] = digits(inner)
		}
		return m
	case []any:
		list := []any{}
		for _, inner := range v {
			list = append(list, digits(inner))
		}
		return list
	case float64:
		return json.Number(strconv.FormatFloat(v, 'f', -1, 64))
	}
	return value
}

// FuzzPayload compares with encoding/json: what is accepted is the same, and
// what is refused is for a reason.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1}`, `{"a":{"b":[1,"x",null,true,false,-2.5e-3,0.1]}}`, `{"a":1,"\u0061":2}`, `{"a":"\"}\\\/\b\f\n\r\t\ud83d\ude00"}`,
		`[]`, `{"a":1}x`, ` { "a" : [ ] , "b" : { } } `, `{"a":01}`, `{"a":1e400}`, `{"a":123456789012345678}`, `{"a":-0}`, `{"a":9007199254740993,"b":1.0,"c":1E2,"d":-12,"e":0.10}`, `{"a":"\ud800"}`, `{"sub":"a","exp":1800000100}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeObject(string(data))
		var want map[string]any
		valid := json.Unmarshal(data, &want) == nil && want != nil
		if err == nil {
			exact := json.NewDecoder(bytes.NewReader(data))
			exact.UseNumber()
			if !valid || exact.Decode(&want) != nil || !reflect.DeepEqual(digits(m), any(want)) {
				t.Fatalf("%q: %v, encoding/json %v", data, m, want)
			}
			if repeats(data) {
				t.Fatalf("%q: a duplicate name", data)
			}
			return
		}
		depth := bytes.Count(data, []byte("{")) + bytes.Count(data, []byte("["))
		if valid && utf8.Valid(data) && depth <= maxDepth && !strings.Contains(strings.ToLower(string(data)), `\ud`) && !repeats(data) {
			t.Fatalf("%q: refused: %v", data, err)
		}
	})
}

// FuzzHeader puts any header before a payload and a signature.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{plain, `{"alg":"HS256","kid":"a","typ":"at+jwt","x5c":["A"]}`, `{"alg":"none"}`, `{"alg":"HS256","crit":["exp"]}`, `{"alg":"HS256","b64":false}`, `{"alg":1}`, `{"alg":"HS256","alg":"none"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		tok, err := Parse(segment(string(header)) + "." + segment(`{}`) + ".AAAA")
		if err != nil {
			return
		}
		var h map[string]any
		if err := json.Unmarshal(header, &h); err != nil {
			t.Fatalf("%q is accepted", header)
		}
		text := func(name string) string { s, _ := h[name].(string); return s }
		_, crit := h["crit"]
		_, b64 := h["b64"]
		if crit || b64 || repeats(header) || tok.Algorithm == "" || tok.Algorithm != text("alg") || tok.KeyID != text("kid") || tok.Type != text("typ") {
			t.Fatalf("%q is accepted as %+v", header, tok)
		}
		if tok.Verify("HS256", key) == nil {
			t.Fatalf("%q verifies", header)
		}
	})
}

// The comparison itself notices what it is for.
func TestRepeats(t *testing.T) {
	for text, want := range map[string]bool{`{"a":1,"a":2}`: true, `{"a":{"b":1,"b":1}}`: true, `[{"a":1},{"a":1}]`: false, `{"a":[{"x":1,"\u0078":1}]}`: true} {
		if repeats([]byte(text)) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}
