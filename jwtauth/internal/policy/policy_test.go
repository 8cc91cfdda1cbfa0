package policy

import (
	"encoding/json"
	"testing"
)

func claims(t testing.TB, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRequirement(t *testing.T) {
	c := claims(t, `{"role":"admin","n":7,"b":true,"z":null,"roles":["a","b"],"realm":{"roles":["x"],"deep":{"v":"y"}},"https://a.b/c":{"d":"e"},"nested":[["a"]],"empty":""}`)
	for _, tc := range []struct {
		path   string
		values []string
		want   bool
	}{
		{"role", []string{"user", "admin"}, true},
		{"role", []string{"user"}, false},
		{"role", nil, true},
		{"Role", nil, false},
		{"n", []string{"7"}, true},
		{"b", []string{"true"}, true},
		{"z", nil, false},
		{"missing", nil, false},
		{"roles", []string{"b"}, true},
		{"roles", []string{"c"}, false},
		{"roles", []string{"a,b"}, false},
		{"realm.roles", []string{"x"}, true},
		{"realm.deep.v", []string{"y"}, true},
		{"realm.deep", []string{"y"}, false},
		{"https://a.b/c.d", []string{"e"}, true},
		{"nested", []string{"a"}, false},
		{"empty", []string{""}, true},
		{"realm.deep", []string{"*"}, true},
		{"role", []string{"*"}, true},
		{"n", []string{"*"}, true},
		{"z", []string{"*"}, false},
		{"missing", []string{"*"}, false},
		{"realm.deep", []string{"*", "y"}, false},
		{"", nil, false},
		{".", nil, false},
	} {
		r := Requirement{Path: tc.path, Values: tc.values}
		if got := r.Met(c); got != tc.want {
			t.Errorf("%s %v: %v", tc.path, tc.values, got)
		}
	}
}

func TestScopes(t *testing.T) {
	for _, tc := range []struct {
		claims string
		scopes Scopes
		want   bool
	}{
		{`{"scope":"read write"}`, Scopes{Values: []string{"read"}}, true},
		{`{"scope":"read write"}`, Scopes{Values: []string{"admin", "write"}}, true},
		{`{"scope":"read write"}`, Scopes{All: true, Values: []string{"admin", "write"}}, false},
		{`{"scope":"read write"}`, Scopes{All: true, Values: []string{"read", "write"}}, true},
		{`{"scope":"reader"}`, Scopes{Values: []string{"read"}}, false},
		{`{"scp":["read"]}`, Scopes{Values: []string{"read"}}, true},
		{`{"scp":"read write"}`, Scopes{Values: []string{"write"}}, true},
		{`{"scope":7}`, Scopes{Values: []string{"7"}}, false},
		{`{}`, Scopes{Values: []string{"read"}}, false},
		{`{}`, Scopes{All: true}, true},
	} {
		if got := tc.scopes.Met(claims(t, tc.claims)); got != tc.want {
			t.Errorf("%s %+v: %v", tc.claims, tc.scopes, got)
		}
	}
}
