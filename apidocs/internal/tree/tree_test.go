package tree

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func compact(t *testing.T, v Value) string {
	t.Helper()
	w := NewWriter(64)
	w.Value(v)
	return string(w.Bytes())
}

func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"b": 1, "a" : [true,false , null,"x\u0041"], "c":{}}`: `{"b":1,"a":[true,false,null,"x\u0041"],"c":{}}`,
		" \n[1e400, -0.5,12345678901234567890]\t":               `[1e400,-0.5,12345678901234567890]`,
		"\ufeff" + `""`:                   `""`,
		`{"a":1,"b":2,"a":3}`:             `{"b":2,"a":3}`,
		`{"a":1,"\u0061":{"x":1,"x":[]}}`: `{"\u0061":{"x":[]}}`,
		`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"a":2}`: `{"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"a":2}`,
		"{\"\xff\":1}": `{"` + "\uFFFD" + `":1}`,
	} {
		tree, err := ParseJSON([]byte(text), Standard())
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := compact(t, tree.Root()); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestBadJSON(t *testing.T) {
	limits := Limits{Bytes: 200, Depth: 3, Nodes: 20, Digits: 10}
	for text, want := range map[string]string{
		"":                              "line 1, column 1: a value is missing at the end of the document",
		"{\n\"a\" 1}":                   "line 2, column 5: expected a colon, found '1'",
		`{"a":1,}`:                      "expected the name of a member, found '}'",
		`[1,]`:                          "a value is missing at ']'",
		`[1 2]`:                         "expected a comma or ']', found '2'",
		`01`:                            "bad number",
		`[1.]`:                          "bad number",
		`-`:                             "bad number",
		`1e`:                            "bad number",
		`"a`:                            "the string does not end",
		`"\`:                            "the string does not end",
		`"\x"`:                          "unknown escape 'x'",
		`"\u12G4"`:                      "four hexadecimal digits",
		"\"\n\"":                        "control character",
		`tru`:                           "a value is missing at 't'",
		`{} {}`:                         "unexpected text behind the document",
		`[[[[1]]]]`:                     "more than 3 arrays and objects in one another",
		"[" + strings.Repeat("1,", 30):  "more than 20 values and names",
		`12345678901`:                   "a number of more than 10 characters",
		`"` + strings.Repeat("a", 200):  "longer than 200 bytes",
		`{"a":`:                         "a value is missing at the end",
		`{a:1}`:                         "expected the name of a member",
		`{"` + strings.Repeat(`a`, 100): "the string does not end",
		"\u00a0{}":                      "a value is missing",
	} {
		if _, err := ParseJSON([]byte(text), limits); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %q", text, err, want)
		}
	}
}

func TestValues(t *testing.T) {
	tree, err := ParseJSON([]byte(`{"a":{"b/c":[1,{"~":"\ud83d\ude00\n\"\/\ud800"}]},"e":{},"n":null}`), Standard())
	if err != nil {
		t.Fatal(err)
	}
	root := tree.Root()
	if got := root.Pointer("/a/b~1c/1/~0").Text(); got != "\U0001F600\n\"/\uFFFD" {
		t.Errorf("got %q", got)
	}
	for _, missing := range []string{"/x", "/a/b~1c/2", "/a/b~1c/01", "/a/b~1c/-", "/a/b~1c/0/x", "x", "/a/b~1c/9999999999"} {
		if root.Pointer(missing).Exists() {
			t.Errorf("%s exists", missing)
		}
	}
	if !root.Get("n").Exists() || !root.Get("n").Is(Null) || root.Get("a").Text() != "" || !root.Get("e").Empty() || root.Get("a").Empty() {
		t.Error("kinds")
	}
	var missing Value
	if missing.Get("a").Exists() || missing.Kind() != Missing || missing.Raw() != nil || !missing.Empty() {
		t.Error("a value that is not there has something")
	}
}

func TestYAML(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\nb: [x, 'y', \"z\"]\n":                                                  `{"a":1,"b":["x","y","z"]}`,
		"200: ok\n3.0: x\ntrue: y\nnull: z\n":                                         `{"200":"ok","3.0":"x","true":"y","null":"z"}`,
		"[1, 0x1F, 1_000, 0o17, +1.5, .5, 1., 1e3]":                                   `[1,31,1000,15,1.5,0.5,1,1e3]`,
		"[.inf, .nan, 2020-01-01, yes, ~, True, !!str 1]":                             `[".inf",".nan","2020-01-01","yes",null,true,"1"]`,
		"a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\nf: {<<: [*x, {b: 3, g: 4}], b: 5}\n": `{"a":{"b":1},"c":{"b":1},"d":{"e":2,"b":1},"f":{"b":5,"g":4}}`,
		"a: |\n  one\n  two\n":                                                        `{"a":"one\ntwo\n"}`,
		"a: 1\na: 2\n":                                                                `{"a":2}`,
		"openapi: 3.1.0":                                                              `{"openapi":"3.1.0"}`,
		"{a: 1, 'b': {}}":                                                             `{"a":1,"b":{}}`,
		"\"\\U0001F600\": \"\\x85\"":                                                  "{\"\U0001F600\":\"\\u0085\"}",
	} {
		tree, err := Parse([]byte(text), Standard())
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := compact(t, tree.Root()); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// Documents that are small, and would be huge, or endless, when they are read.
func TestHostileYAML(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		bomb += strings.NewReplacer("N", string(rune('a'+i)), "M", string(rune('a'+i-1))).Replace("N0: &N0 [*M0, *M0, *M0, *M0, *M0, *M0, *M0, *M0, *M0]\n")
	}
	merges := "a: &a {k0: 1}\n"
	for i := 1; i < 22; i++ {
		merges += strings.NewReplacer("N", string(rune('a'+i)), "M", string(rune('a'+i-1))).Replace("N: &N {<<: [*M, *M, *M, *M], kN: 1}\n")
	}
	for name, text := range map[string]string{
		"aliases":                     bomb,
		"merge keys":                  merges,
		"a cycle":                     "a: &a [*a]",
		"a merge of itself":           "a: &a {<<: *a}",
		"an alias to itself as a key": "&a a: {*a : 1, ? {x: 1} : 2}",
		"depth":                       strings.Repeat("[", 100_000),
		"block depth":                 strings.Repeat("- ", 100_000),
		"separators":                  "[" + strings.Repeat("a,", 4_000_000) + "a]",
		"nothing":                     "",
		"a comment":                   "# nothing",
		"a tab":                       "a:\n\t- b",
		"broken JSON":                 `{"a": [}`,
	} {
		begin := time.Now()
		if tree, err := Parse([]byte(text), Standard()); err == nil {
			t.Errorf("%s: accepted, %d nodes", name, tree.Len())
		} else if len(err.Error()) > 300 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		t.Logf("%s: %v", name, time.Since(begin))
	}
}

// What is written as YAML is read as the same document.
func checkYAML(t *testing.T, tree *Tree) {
	t.Helper()
	written := AppendYAML(nil, tree.Root())
	again, err := YAMLToJSON(written, Limits{Bytes: 64 << 20, Depth: 300, Nodes: 1 << 23, Digits: 500})
	if err != nil {
		t.Fatalf("%v in\n%.2000s", err, written)
	}
	var a, b any
	w := NewWriter(0)
	w.Value(tree.Root())
	if json.Unmarshal(w.Bytes(), &a) != nil || json.Unmarshal(again, &b) != nil {
		return // a number that Go has no type for
	}
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("got %.2000s\nfrom\n%.2000s\nwant %.2000s", again, written, w.Bytes())
	}
}

func TestWriteYAML(t *testing.T) {
	tree, err := ParseJSON([]byte(`{"openapi":"3.1.0","x":{},"y":[],"l":[[1,[2]],{"a":1,"b":[{}]}],"t":"a\nb\n","u":" a\nb","v":"a\n\n","n":["1","true","null","~","- a","a: b","a #b","*a","&a","!a","%a","@a","\u0000\u0085\u2028","","0x1","2020-01-01","=","<<"],"200":{"description":"OK"},"/p/{id}":1}`), Standard())
	if err != nil {
		t.Fatal(err)
	}
	checkYAML(t, tree)
	got := string(AppendYAML(nil, tree.Root()))
	for _, want := range []string{"openapi: \"3.1.0\"\n", "x: {}\n\"y\": []\n", "l:\n  - - 1\n    - - 2\n  - a: 1\n", "t: |\n  a\n  b\n", "/p/{id}: 1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"x\u00e9\ud83d\ude00",null]}`, "a: &x {b: 1}\nc: *x\nd: {<<: *x}", `{"a":1,"a":2}`, "- - a\n- |\n  b\n", "[1e999]", "? a\n: b", "a: !!binary aGk=", `"\ud800"`} {
		f.Add([]byte(seed))
	}
	limits := Limits{Bytes: 1 << 16, Depth: 50, Nodes: 10_000, Digits: 100}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := ParseJSON(text, limits)
		if valid := json.Valid(bytes.TrimPrefix(text, byteOrderMark)); err == nil && !valid && bytes.Equal(text, bytes.ToValidUTF8(text, nil)) {
			t.Fatalf("%q is not JSON, but was read", text)
		} else if err != nil && valid && !strings.Contains(err.Error(), "more than") && !strings.Contains(err.Error(), "longer than") {
			t.Fatalf("%q: %v", text, err)
		}
		tree, err := Parse(text, limits)
		if err != nil {
			return
		}
		w := NewWriter(0)
		w.Value(tree.Root())
		if !json.Valid(w.Bytes()) {
			t.Fatalf("%q is written as %q", text, w.Bytes())
		}
		checkYAML(t, tree)
	})
}

func BenchmarkParseJSON(b *testing.B) {
	text, err := os.ReadFile(os.Getenv("OPENAPI_DOCUMENT"))
	if err != nil {
		b.Skip("OPENAPI_DOCUMENT names no document")
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		tree, err := ParseJSON(text, Standard())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(tree.Len()), "nodes")
	}
}

func BenchmarkYAML(b *testing.B) {
	text, err := os.ReadFile(os.Getenv("OPENAPI_DOCUMENT"))
	if err != nil {
		b.Skip("OPENAPI_DOCUMENT names no document")
	}
	tree, err := ParseJSON(text, Standard())
	if err != nil {
		b.Fatal(err)
	}
	written := AppendYAML(nil, tree.Root())
	b.Logf("%d bytes, %d separators", len(written), marks(written))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := YAMLToJSON(written, Limits{Bytes: 64 << 20, Depth: 300, Nodes: 1 << 23, Digits: 500}); err != nil {
			b.Fatal(err)
		}
	}
}
