package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzPolicy evaluates any path and values on any claims.
func FuzzPolicy(f *testing.F) {
	for _, s := range [][3]string{
		{`{"role":"admin","scope":"read write"}`, "role", "admin"},
		{`{"realm_access":{"roles":["a","b"]}}`, "realm_access.roles", "b"},
		{`{"https://a.test/roles":["a"]}`, "https://a.test/roles", "a"},
		{`{"a.b":{"c":1}}`, "a.b.c", "1"},
		{`{"scp":["read",1,null,[]],"scope":{}}`, "scp", "read"},
		{`{"x":[[["y"]]]}`, "x", "y"},
		{`{"x":1e300,"y":true}`, "x...y", ""},
	} {
		f.Add([]byte(s[0]), s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, data []byte, path, value string) {
		var claims map[string]any
		if json.Unmarshal(data, &claims) != nil || strings.Count(path, ".") > 12 {
			return
		}
		found, ok := Lookup(claims, path)
		any := Requirement{Path: path}
		if met := any.Met(claims); met != (ok && found != nil) {
			t.Fatalf("%s: %q is there: %v, required: %v", data, path, ok, met)
		}
		exact := Requirement{Path: path, Values: []string{value}}
		if exact.Met(claims) && !any.Met(claims) {
			t.Fatalf("%s: %q is %q, but is not there", data, path, value)
		}
		if text, ok := Text(found); ok && strings.Contains(text, "\x00") && !strings.Contains(string(data), `\u0000`) {
			t.Fatalf("%q", text)
		}
		role, roles := Roles{Values: []string{value}}, Roles{All: true, Values: []string{value}}
		if met := role.Met(claims, []string{path}); met != roles.Met(claims, []string{path}) || met && !exact.Met(claims) {
			t.Fatalf("%s: the role %q at %q: %v", data, value, path, met)
		}
		granted := granted(claims)
		one, all := Scopes{Values: []string{value}}, Scopes{All: true, Values: []string{value}}
		if one.Met(claims) != all.Met(claims) {
			t.Fatalf("%s: any and all of the one scope %q differ", data, value)
		}
		both := Scopes{All: true, Values: append([]string{value}, granted...)}
		if both.Met(claims) != all.Met(claims) {
			t.Fatalf("%s: %q and what is granted: %v", data, value, both.Met(claims))
		}
	})
}
