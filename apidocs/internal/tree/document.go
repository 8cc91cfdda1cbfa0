package tree

import (
	"bytes"
	"fmt"
)

// space is the white space of JSON.
const space = " \t\r\n"

// Parse reads a document that is JSON or YAML: JSON if it begins as an object
// of JSON does, and YAML otherwise.
func Parse(text []byte, limits Limits) (*Tree, error) {
	start := bytes.TrimLeft(bytes.TrimPrefix(text, byteOrderMark), space)
	if len(start) > 0 && start[0] == '{' {
		t, err := ParseJSON(text, limits)
		if err == nil {
			return t, nil
		}
		// A mapping of YAML may begin with a brace too, but rarely in this way.
		if next := bytes.TrimLeft(start[1:], space); len(next) == 0 || next[0] == '"' {
			return nil, fmt.Errorf("JSON: %w", err)
		}
	}
	converted, err := YAMLToJSON(text, limits)
	if err != nil {
		return nil, fmt.Errorf("YAML: %w", err)
	}
	return ParseJSON(converted, limits)
}
