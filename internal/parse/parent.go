package parse

import (
	"reflect"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// Keys returns the addresses of the site that a directive is in.
func Keys(h httpcaddyfile.Helper) []caddyfile.Token { return tokens(parent(h, "Keys")) }

// Segments returns the directives of the site that a directive is in, or the one of a
// named route: its name and its block.
func Segments(h httpcaddyfile.Helper) (segments []caddyfile.Segment) {
	list := parent(h, "Segments")
	if list.Kind() != reflect.Slice {
		return nil
	}
	for i := range list.Len() {
		if s := tokens(list.Index(i)); len(s) > 0 {
			segments = append(segments, s)
		}
	}
	return segments
}

// parent returns a field of the block that a directive is in. Caddy has no other way to ask
// for it.
func parent(h httpcaddyfile.Helper, field string) reflect.Value {
	block := reflect.ValueOf(h).FieldByName("parentBlock")
	if !block.IsValid() {
		return block
	}
	return block.FieldByName(field)
}

// tokens copies tokens that can be read but not taken.
func tokens(from reflect.Value) (list []caddyfile.Token) {
	if from.Kind() != reflect.Slice {
		return nil
	}
	for i := range from.Len() {
		t := from.Index(i)
		list = append(list, caddyfile.Token{
			File: t.FieldByName("File").String(), Line: int(t.FieldByName("Line").Int()), Text: t.FieldByName("Text").String(),
		})
	}
	return list
}
