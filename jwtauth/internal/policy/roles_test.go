package policy

import "testing"

func TestRoles(t *testing.T) {
	for _, tc := range []struct {
		claims string
		roles  Roles
		paths  []string
		want   bool
	}{
		{`{"roles":["a","b"]}`, Roles{Values: []string{"b"}}, nil, true},
		{`{"roles":["a","b"]}`, Roles{Values: []string{"x", "b"}}, nil, true},
		{`{"roles":["a","b"]}`, Roles{All: true, Values: []string{"x", "b"}}, nil, false},
		{`{"roles":["a"],"realm_access":{"roles":["b"]}}`, Roles{All: true, Values: []string{"a", "b"}}, nil, true},
		{`{"roles":"a"}`, Roles{Values: []string{"a"}}, nil, true},
		{`{"roles":"a b"}`, Roles{Values: []string{"a"}}, nil, false},
		{`{"roles":"a b"}`, Roles{Values: []string{"a b"}}, nil, true},
		{`{"roles":["A"]}`, Roles{Values: []string{"a"}}, nil, false},
		{`{"groups":["a"]}`, Roles{Values: []string{"a"}}, nil, false},
		{`{"groups":["a"]}`, Roles{Values: []string{"a"}}, []string{"groups"}, true},
		{`{"roles":["a"]}`, Roles{Values: []string{"a"}}, []string{"groups"}, false},
		{`{"roles":[["a"],{"a":1},null,7]}`, Roles{Values: []string{"a", "7"}}, nil, false},
		{`{"roles":{"a":true}}`, Roles{Values: []string{"a"}}, nil, false},
		{`{"roles":7,"realm_access":[]}`, Roles{Values: []string{"7"}}, nil, false},
		{`{}`, Roles{Values: []string{"a"}}, nil, false},
		{`{}`, Roles{All: true}, nil, true},
	} {
		if got := tc.roles.Met(claims(t, tc.claims), tc.paths); got != tc.want {
			t.Errorf("%s %+v %v: %v", tc.claims, tc.roles, tc.paths, got)
		}
	}
}
