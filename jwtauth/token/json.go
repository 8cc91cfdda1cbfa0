package token

import (
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// maxDepth bounds nested values in a header or payload.
const maxDepth = 32

var (
	errNotObject = errors.New("not a JSON object")
	errDuplicate = errors.New("a name stands twice in one object")
	errSyntax    = errors.New("not valid JSON")
	errUTF8      = errors.New("not valid UTF-8")
	errDepth     = errors.New("nested too deeply")
)

// decodeObject decodes a JSON object and refuses what parsers read
// differently: a name that stands twice in one object at any depth, invalid
// UTF-8, text behind the object (RFC 7515 §4, RFC 7519 §7.2, RFC 8725 §2.6).
func decodeObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errUTF8
	}
	s := scanner{data: data}
	s.space()
	if s.peek() != '{' {
		return nil, errNotObject
	}
	if err := s.value(0); err != nil {
		return nil, err
	}
	s.space()
	if s.at != len(data) {
		return nil, errSyntax
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errSyntax
	}
	return m, nil
}

// scanner walks JSON once. It checks structure and names; the syntax of
// numbers and literals is left to encoding/json, which reads the same bytes
// afterwards.
type scanner struct {
	data []byte
	at   int
}

func (s *scanner) peek() byte {
	if s.at < len(s.data) {
		return s.data[s.at]
	}
	return 0
}

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) value(depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	switch s.peek() {
	case '{':
		return s.object(depth)
	case '[':
		return s.array(depth)
	case '"':
		_, err := s.text()
		return err
	default:
		start := s.at
		for s.at < len(s.data) && !slices.Contains([]byte(",]} \t\r\n"), s.data[s.at]) {
			s.at++
		}
		if s.at == start {
			return errSyntax
		}
		return nil
	}
}

func (s *scanner) object(depth int) error {
	s.at++ // {
	var few [16]string
	names := few[:0]
	var many map[string]struct{}
	for first := true; ; first = false {
		s.space()
		if s.peek() == '}' && first {
			s.at++
			return nil
		}
		name, err := s.text()
		if err != nil {
			return err
		}
		// A small object is compared name by name; a large one by a map, so
		// that a hostile one costs no square of its size.
		if many == nil && len(names) == len(few) {
			many = make(map[string]struct{}, 4*len(few))
			for _, n := range names {
				many[n] = struct{}{}
			}
		}
		if many != nil {
			if _, dup := many[name]; dup {
				return errDuplicate
			}
			many[name] = struct{}{}
		} else {
			if slices.Contains(names, name) {
				return errDuplicate
			}
			names = append(names, name)
		}
		s.space()
		if s.peek() != ':' {
			return errSyntax
		}
		s.at++
		s.space()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.at++
		case '}':
			s.at++
			return nil
		default:
			return errSyntax
		}
	}
}

func (s *scanner) array(depth int) error {
	s.at++ // [
	s.space()
	if s.peek() == ']' {
		s.at++
		return nil
	}
	for {
		s.space()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.at++
		case ']':
			s.at++
			return nil
		default:
			return errSyntax
		}
	}
}

// text reads a string and returns it with its escapes resolved, so that
// `"\u0073ub"` is seen to be `"sub"`.
func (s *scanner) text() (string, error) {
	if s.peek() != '"' {
		return "", errSyntax
	}
	start := s.at
	escaped := false
	for s.at++; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '\\':
			escaped = true
			s.at++
		case c < 0x20:
			return "", errSyntax
		case c == '"':
			s.at++
			if !escaped {
				return string(s.data[start+1 : s.at-1]), nil
			}
			var text string
			if err := json.Unmarshal(s.data[start:s.at], &text); err != nil {
				return "", errSyntax
			}
			return text, nil
		}
	}
	return "", errSyntax
}
