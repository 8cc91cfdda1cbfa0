package merge

import (
	"strings"

	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// usable reports whether clients can use a security scheme of the service at the
// gateway. Where the gateway asks for a token, it has the Authorization field.
func (b *builder) usable(scheme tree.Value) bool {
	if !b.merger.options.Bearer {
		return true
	}
	switch scheme.Get("type").Text() {
	case "apiKey":
		return scheme.Get("in").Text() != "header" || !strings.EqualFold(scheme.Get("name").Text(), "Authorization")
	case "mutualTLS":
		return true
	}
	return false
}

// requirements writes what an operation needs, unless that is what all need.
func (b *builder) requirements(own tree.Value) {
	if b.callbacks > 0 {
		return // a request of the service, which does not pass the gateway
	}
	asked := own
	if !own.Exists() {
		asked = b.security
	}
	bearer := b.merger.options.Bearer && !(b.merger.options.Public != nil && b.merger.options.Public(b.path))
	alternatives := b.alternatives(asked, bearer)
	switch {
	case len(alternatives) == 0 && !own.Exists() && !b.merger.options.Bearer:
		return
	case len(alternatives) == 1 && bearer && len(alternatives[0]) == 1:
		return // the token alone
	}
	b.w.Open("security", '[')
	for _, schemes := range alternatives {
		b.w.Begin('{')
		for _, s := range schemes {
			b.w.Name(s.name)
			if s.scopes.Is(tree.Array) {
				b.w.Value(s.scopes)
			} else {
				b.w.Raw([]byte("[]"))
			}
		}
		b.w.End('}')
	}
	b.w.End(']')
}

// required is one scheme that a request must meet.
type required struct {
	name   string // in the merged document
	scopes tree.Value
}

// What the security requirement of one operation may have.
const (
	maxAlternatives = 10
	maxSchemes      = 10 // in each
)

// alternatives returns the sets of schemes of which one suffices, with the gateway's
// own in each.
func (b *builder) alternatives(asked tree.Value, bearer bool) (sets [][]required) {
	seen := map[string]bool{}
	for item := range asked.Items() {
		var set []required
		var key strings.Builder
		if bearer {
			set = append(set, required{name: bearerName})
		}
		for name, scopes := range item.Members() {
			merged, ok := b.names["securitySchemes"][name]
			if !ok {
				if !b.root.Get("components").Get("securitySchemes").Get(name).Exists() {
					b.problem("security: there is no scheme %.100q", name)
				}
				continue
			}
			if len(set) >= maxSchemes {
				break
			}
			set = append(set, required{merged, scopes})
			key.WriteString(merged + " ")
		}
		if !seen[key.String()] && len(sets) < maxAlternatives {
			seen[key.String()] = true
			sets = append(sets, set)
		}
	}
	if bearer && len(sets) == 0 {
		sets = append(sets, []required{{name: bearerName}})
	}
	if len(sets) == 1 && len(sets[0]) == 0 {
		return nil // nothing that could be met, or needs to be
	}
	return sets
}
