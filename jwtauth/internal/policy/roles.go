package policy

import "slices"

// defaultRoleClaims are where roles are looked for if nothing else is configured.
// `groups` is not among them: who may name a group could else name a role.
var defaultRoleClaims = []string{"roles", "realm_access.roles"}

// Roles are roles that the client must have.
type Roles struct {
	// All asks for every role, and not just one of them.
	All bool `json:"all,omitempty"`
	// Values are the roles.
	Values []string `json:"values,omitempty"`
}

// Met reports whether the claims at the paths give the roles. A claim is one
// role as text, or several in an array; a role may have spaces in its name. No
// paths are defaultRoleClaims.
func (r *Roles) Met(claims map[string]any, paths []string) bool {
	if len(paths) == 0 {
		paths = defaultRoleClaims
	}
	return met(r.All, r.Values, func(role string) bool { return hasRole(claims, paths, role) })
}

func hasRole(claims map[string]any, paths []string, want string) bool {
	for _, path := range paths {
		value, _ := Lookup(claims, path)
		switch v := value.(type) {
		case string:
			if v == want {
				return true
			}
		case []any:
			if slices.Contains(v, any(want)) {
				return true
			}
		}
	}
	return false
}
