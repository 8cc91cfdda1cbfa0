package jsonschema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

func value(t testing.TB, text string) tree.Value {
	t.Helper()
	doc, err := tree.ParseJSON([]byte(text), tree.Standard())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return doc.Root()
}

func schema(t testing.TB, text string, old bool) *Schema {
	root := value(t, `{"s":`+text+`,"defs":{"pos":{"type":"integer","minimum":1},"tree":{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#/defs/tree"}}},"additionalProperties":false},"id":{"allOf":[{"readOnly":true}]},"base":{"allOf":[{"properties":{"id":{"$ref":"#/defs/id"}}}]},"a/b":{"type":"string"}}}`)
	return New(root, old).Of(root.Get("s"))
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		schema, value string
		want          Result
		fault         string // pointer and detail
	}{
		{`{}`, `{"a":1}`, Valid, ""},
		{`true`, `1`, Valid, ""},
		{`false`, `1`, Invalid, ": is not allowed"},
		{`{"type":"string"}`, `1`, Invalid, ": must be of the type string"},
		{`{"type":["string","null"]}`, `null`, Valid, ""},
		{`{"type":["string","integer"]}`, `true`, Invalid, ": must be of the type integer or string"},
		{`{"type":"integer"}`, `1.0`, Valid, ""},
		{`{"type":"integer"}`, `1e400`, Valid, ""},
		{`{"type":"integer"}`, `1.5`, Invalid, ": must be of the type integer"},
		{`{"type":"number"}`, `1`, Valid, ""},
		{`{"enum":["a",1,{"x":[1]}]}`, `{"x":[1.0]}`, Valid, ""},
		{`{"enum":["a",1]}`, `"b"`, Invalid, ": is none of the values"},
		{`{"const":1}`, `2`, Invalid, ": is not the value"},
		{`{"minimum":1}`, `0`, Invalid, ": must be at least 1"},
		{`{"exclusiveMinimum":1}`, `1`, Invalid, ": must be greater than 1"},
		{`{"minimum":0,"exclusiveMinimum":1}`, `1`, Invalid, ": must be greater than 1"},
		{`{"minimum":3,"exclusiveMinimum":1}`, `2`, Invalid, ": must be at least 3"},
		{`{"maximum":1,"exclusiveMaximum":true}`, `1`, Invalid, ": must be less than 1"},
		{`{"maximum":1}`, `1e999`, Invalid, ": must be at most 1"},
		{`{"multipleOf":0.1}`, `0.3`, Valid, ""},
		{`{"multipleOf":2}`, `3`, Invalid, ": must be a multiple of 2"},
		{`{"minLength":2}`, `"é"`, Invalid, ": must have at least 2 characters"},
		{`{"maxLength":1}`, `"é"`, Valid, ""},
		{`{"pattern":"^a+$"}`, `"b"`, Invalid, ": must match the pattern"},
		{`{"pattern":"(?=a)b"}`, `"c"`, Unknown, ""},
		{`{"items":{"type":"integer"}}`, `[1,"a"]`, Invalid, "/1: must be of the type integer"},
		{`{"prefixItems":[{"type":"string"}],"items":false}`, `["a",1]`, Invalid, "/1: is not allowed"},
		{`{"minItems":1}`, `[]`, Invalid, ": must have at least 1 items"},
		{`{"maxItems":1}`, `[1,2]`, Invalid, ": must have at most 1 items"},
		{`{"uniqueItems":true}`, `[{"a":1},{"a":1}]`, Invalid, ": has an item more than once"},
		{`{"uniqueItems":true}`, `["1",1,[1],[2]]`, Valid, ""},
		{`{"required":["a/b"]}`, `{}`, Invalid, "/a~1b: is missing"},
		{`{"required":["a"],"properties":{"a":{"readOnly":true}}}`, `{}`, Valid, ""},
		{`{"allOf":[{"properties":{"id":{"$ref":"#/defs/id"}}},{"required":["id","a"],"dependentRequired":{"a":["id"]}}]}`, `{"a":1}`, Valid, ""},
		{`{"required":["id"],"allOf":[{"$ref":"#/defs/base"}]}`, `{}`, Valid, ""},
		{`{"properties":{"o":{"required":["id"],"allOf":[{"$ref":"#/defs/base"}]}}}`, `{"o":{}}`, Valid, ""},
		{`{"allOf":[{"$ref":"#/defs/base"}],"oneOf":[{"required":["id","x"]},{"required":["id","y"]}]}`, `{"x":1}`, Valid, ""},
		{`{"allOf":[{"$ref":"#/defs/base"}],"properties":{"o":{"required":["id"]}}}`, `{"o":{}}`, Invalid, "/o/id: is missing"},
		{`{"allOf":[{"$ref":"#/defs/base"},{"$ref":"#/s"}],"items":{"required":["id"]}}`, `[{}]`, Invalid, "/0/id: is missing"},
		{`{"not":{"allOf":[{"$ref":"#/defs/base"}]},"required":["id"]}`, `{}`, Invalid, "/id: is missing"},
		{`{"properties":{"a":{"type":"string"}}}`, `{"a":1}`, Invalid, "/a: must be of the type string"},
		{`{"properties":{"a":{}},"patternProperties":{"^x":{"type":"string"}},"additionalProperties":false}`, `{"a":1,"xy":"b"}`, Valid, ""},
		{`{"properties":{"a":{}},"additionalProperties":false}`, `{"b":1}`, Invalid, "/b: is not allowed"},
		{`{"dependentRequired":{"a":["b"]}}`, `{"a":1}`, Invalid, `: the member "b" is missing`},
		{`{"minProperties":1}`, `{}`, Invalid, ": must have at least 1 members"},
		{`{"allOf":[{"type":"object"},{"required":["a"]}]}`, `{}`, Invalid, "/a: is missing"},
		{`{"anyOf":[{"type":"string"},{"type":"integer"}]}`, `1`, Valid, ""},
		{`{"anyOf":[{"type":"string"},{"type":"integer"}]}`, `true`, Invalid, ": fits none"},
		{`{"anyOf":[{"type":"string"},{"contains":{}}]}`, `true`, Unknown, ""},
		{`{"oneOf":[{"type":"number"},{"type":"integer"}]}`, `1`, Invalid, ": does not fit exactly one"},
		{`{"oneOf":[{"type":"number"},{"type":"integer"}]}`, `1.5`, Valid, ""},
		{`{"not":{"type":"string"}}`, `"a"`, Invalid, ": is of a kind"},
		{`{"not":{"contains":{}}}`, `[]`, Unknown, ""},
		{`{"if":{"type":"string"},"then":{"maxLength":1},"else":{"minimum":1}}`, `"ab"`, Invalid, ": must have at most"},
		{`{"if":{"type":"string"},"then":{"maxLength":1},"else":{"minimum":1}}`, `0`, Invalid, ": must be at least"},
		{`{"$ref":"#/defs/pos"}`, `0`, Invalid, ": must be at least 1"},
		{`{"$ref":"#/defs/a~1b"}`, `0`, Invalid, ": must be of the type string"},
		{`{"$ref":"#/defs/none"}`, `0`, Unknown, ""},
		{`{"$ref":"other.json"}`, `0`, Unknown, ""},
		{`{"$ref":"#/s"}`, `0`, Unknown, ""},
		{`{"$ref":"#/defs/tree"}`, `{"kids":[{"kids":[]},{"kid":1}]}`, Invalid, "/kids/1/kid: is not allowed"},
		{`{"$dynamicRef":"#x"}`, `0`, Unknown, ""},
		{`"odd"`, `0`, Unknown, ""},
		{`{"type":"odd"}`, `0`, Unknown, ""},
	} {
		got, fault := schema(t, tc.schema, false).Check(value(t, tc.value), 10_000)
		if got != tc.want || !strings.HasPrefix(fault.Pointer+": "+fault.Detail, tc.fault) && tc.fault != "" {
			t.Errorf("%s against %s: got %d %+v, want %d %s", tc.value, tc.schema, got, fault, tc.want, tc.fault)
		}
	}
}

func TestOpenAPI30(t *testing.T) {
	for text, want := range map[string]Result{
		`{"type":"string","nullable":true}`:                                       Valid,
		`{"nullable":true,"allOf":[{"$ref":"#/defs/pos"}]}`:                       Valid,
		`{"nullable":true,"type":"integer","oneOf":[{"type":"integer"}]}`:         Valid,
		`{"nullable":true,"$ref":"#/defs/pos"}`:                                   Valid,
		`{"allOf":[{"nullable":true,"$ref":"#/defs/pos"},{"$ref":"#/defs/pos"}]}`: Invalid,
		`{"nullable":true,"enum":["a"]}`:                                          Invalid,
		`{"nullable":false,"allOf":[{"$ref":"#/defs/pos"}]}`:                      Invalid,
	} {
		if got, _ := schema(t, text, true).Check(value(t, "null"), 10); got != want {
			t.Errorf("null against %s: got %d, want %d", text, got, want)
		}
	}
	if got, _ := schema(t, `{"$ref":"#/defs/pos","maximum":1}`, true).Check(value(t, "2"), 10); got != Valid {
		t.Error("a member beside $ref counts")
	}
}

// Values that make alternatives multiply do not take longer than they may.
func TestCheckEnds(t *testing.T) {
	root := value(t, `{"n":{"anyOf":[{"properties":{"a":{"$ref":"#/n"}},"required":["x"]},{"properties":{"a":{"$ref":"#/n"}},"required":["y"]}]}}`)
	deep := strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60)
	if got, _ := New(root, false).Of(root.Get("n")).Check(value(t, deep), 100_000); got == Valid {
		t.Errorf("got %d", got)
	}
}

// Objects with many members are compared in time that grows with their number, and
// expressions with many instructions are not used.
func TestCostsAreBounded(t *testing.T) {
	members := func(n int) string {
		var a, b strings.Builder
		for i := range n {
			fmt.Fprintf(&a, `"m%d":1,`, i)
			fmt.Fprintf(&b, `"m%d":1,`, n-1-i)
		}
		return "[{" + a.String() + `"z":1},{"z":1,` + b.String()[:b.Len()-1] + "}]"
	}
	if got, _ := schema(t, `{"uniqueItems":true}`, false).Check(value(t, members(1000)), 10_000); got != Invalid {
		t.Errorf("equal objects: %d", got)
	}
	if got, _ := schema(t, `{"uniqueItems":true}`, false).Check(value(t, members(1000)), 900); got != Unknown {
		t.Errorf("without steps: %d", got)
	}
	if got, _ := schema(t, `{"pattern":"(a{1,50}){1,50}"}`, false).Check(value(t, `"b"`), 10_000); got != Unknown {
		t.Errorf("a large expression: %d", got)
	}
	text := `"` + strings.Repeat("a", 10_000) + `!"`
	pattern := `{"pattern":"^([a-z]{1,30}){1,30}$"}`
	if got, _ := schema(t, pattern, false).Check(value(t, text), 10_000); got != Unknown {
		t.Errorf("a long text: %d", got)
	}
	if got, _ := schema(t, `{"patternProperties":{"^([a-z]{1,30}){1,30}$":false}}`, false).Check(value(t, `{`+text+`:1}`), 10_000); got != Unknown {
		t.Errorf("a long name: %d", got)
	}
	// What is beside it is checked.
	for rule, want := range map[string]Result{
		`"properties":{"a":` + pattern + `,"b":{"type":"integer"}},"additionalProperties":false`:                   Invalid,
		`"properties":{"a":` + pattern + `,"b":{"type":"string"}},"required":["c"]`:                                Invalid,
		`"properties":{"a":{"not":` + pattern + `}}`:                                                               Unknown,
		`"properties":{"a":{"anyOf":[` + pattern + `,{"type":"integer"}]},"b":{"maxLength":0}}`:                    Invalid,
		`"properties":{"a":` + pattern + `},"patternProperties":{"^([a-z]{1,30}){1,30}$":false,"^b$":{"enum":[]}}`: Invalid,
		`"properties":{"a":` + pattern + `}`:                                                                       Unknown,
	} {
		if got, fault := schema(t, `{`+rule+`}`, false).Check(value(t, `{"a":`+text+`,"b":"x"}`), 10_000); got != want {
			t.Errorf("%s: %d %+v, want %d", rule, got, fault, want)
		}
	}
	if got, _ := schema(t, `{"patternProperties":{"^([a-z]{1,30}){1,30}$":{}},"additionalProperties":false}`, false).Check(value(t, `{`+text+`:1}`), 10_000); got != Unknown {
		t.Errorf("a long name that may be allowed: %d", got)
	}
	var names strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&names, `"m%d",`, i)
	}
	if got, _ := schema(t, `{"required":[`+names.String()+`"z"]}`, false).Check(value(t, "{}"), 100_000); got != Invalid {
		t.Errorf("many required: %d", got)
	}
}

// Which properties are read-only is not looked for without end.
func TestReadOnlyIsBounded(t *testing.T) {
	var parts, names strings.Builder
	for i := range 300 {
		fmt.Fprintf(&parts, `,{"$ref":"#/p/%d"}`, i)
		fmt.Fprintf(&names, `,"%d":{"properties":{"a%d":{"allOf":[{"$ref":"#/all"}]}}}`, i, i)
	}
	root := value(t, `{"all":{"required":["id","n"],"allOf":[{"properties":{"id":{"readOnly":true}}}`+parts.String()+`]},"p":{"x":{}`+names.String()+`}}`)
	if got, fault := New(root, false).Of(root.Get("all")).Check(value(t, "{}"), 100_000); got != Valid {
		t.Errorf("got %d %+v", got, fault)
	}
}

func TestShape(t *testing.T) {
	for text, want := range map[string]Shape{
		`{"type":"array"}`: List, `{"type":["array","null"]}`: List, `{"anyOf":[{"type":"array","items":{"type":"integer"}},{"type":"null"}]}`: List,
		`{"allOf":[{"type":"array"}]}`: List, `{"oneOf":[{"type":"null"},{"type":"array"}]}`: List, `{}`: Plain, `{"type":"string"}`: Plain,
		`{"anyOf":[{"type":"array"},{"type":"string"}]}`: Mixed, `{"anyOf":[{"type":"string"},{"type":"null"}]}`: Plain, `{"anyOf":[{"$ref":"#/s"}]}`: Plain,
		`{"anyOf":[{"type":"array","items":{"type":"integer"}},{"type":"array","items":{"type":"string"}}]}`: Mixed,
	} {
		s := schema(t, text, false)
		if got, items := s.Shape(); got != want && text != `{"anyOf":[{"$ref":"#/s"}]}` || strings.Contains(text, "integer") && want == List && items == nil {
			t.Errorf("%s: got %d, %v", text, got, items)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"type":"object","properties":{"a":{"$ref":"#"}},"oneOf":[{},{"not":{}}]}`), []byte(`{"a":{"a":1}}`))
	f.Add([]byte(`{"items":{"enum":[1]},"uniqueItems":true,"if":{},"then":{"multipleOf":0.1}}`), []byte(`[1,2]`))
	f.Fuzz(func(t *testing.T, schema, instance []byte) {
		limits := tree.Limits{Bytes: 10_000, Depth: 100, Nodes: 1000, Digits: 100}
		s, err := tree.ParseJSON(schema, limits)
		if err != nil {
			return
		}
		v, err := tree.ParseJSON(instance, limits)
		if err != nil {
			return
		}
		if result, fault := New(s.Root(), false).Of(s.Root()).Check(v.Root(), 10_000); (result == Invalid) != (fault.Detail != "") {
			t.Errorf("%d with the fault %+v", result, fault)
		}
	})
}
