package object

import (
	"net/http"
	"reflect"
	"testing"
)

func TestCompact(t *testing.T) {
	for _, fields := range []http.Header{
		{},
		{"A": {"1"}},
		{"A": {"", "1", ""}, "Empty": {}, "Long-Name": {"a value", "another"}, "": {"x"}},
	} {
		got := Compact(fields)
		if len(got) != len(fields) {
			t.Errorf("%v: got %v", fields, got)
		}
		for name, values := range fields {
			if len(values) != len(got[name]) || len(values) > 0 && !reflect.DeepEqual(got[name], values) {
				t.Errorf("%s: got %q, want %q", name, got[name], values)
			}
		}
		// Who changes the values of one field changes no other.
		before := got.Clone()
		for name := range got {
			got[name] = append(got[name], "more")
		}
		for name := range before {
			if len(got[name]) != len(before[name])+1 || !reflect.DeepEqual(got[name][:len(before[name])], append([]string{}, before[name]...)) {
				t.Errorf("%s: got %q after another was added to %q", name, got[name], before[name])
			}
		}
	}
}
