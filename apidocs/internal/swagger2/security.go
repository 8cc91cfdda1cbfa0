package swagger2

import "github.com/pythopus/tentagate/apidocs/internal/tree"

// flows are the names of the flows of OAuth 2 in OpenAPI 3.
var flows = map[string]string{
	"implicit": "implicit", "password": "password", "application": "clientCredentials", "accessCode": "authorizationCode",
}

func (c *converter) securityScheme(v tree.Value) {
	switch v.Get("type").Text() {
	case "basic":
		c.w.Begin('{')
		c.others(v, "type")
		c.w.Member("type", "http")
		c.w.Member("scheme", "basic")
		c.w.End('}')
	case "oauth2":
		c.oauth2(v)
	default:
		c.w.Value(v)
	}
}

func (c *converter) oauth2(v tree.Value) {
	c.w.Begin('{')
	c.others(v, "flow", "authorizationUrl", "tokenUrl", "scopes")
	c.w.Open("flows", '{')
	if flow, ok := flows[v.Get("flow").Text()]; ok {
		c.w.Open(flow, '{')
		for _, name := range []string{"authorizationUrl", "tokenUrl"} {
			if url := v.Get(name); url.Exists() {
				c.w.Name(name)
				c.w.Value(url)
			}
		}
		c.w.Name("scopes")
		if scopes := v.Get("scopes"); scopes.Is(tree.Object) {
			c.w.Value(scopes)
		} else {
			c.w.Raw([]byte("{}"))
		}
		c.w.End('}')
	} else {
		c.problem("securityDefinitions: the flow %.50q of OAuth 2 is unknown", v.Get("flow").Text())
	}
	c.w.End('}')
	c.w.End('}')
}
