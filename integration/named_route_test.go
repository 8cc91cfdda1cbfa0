package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/servertest"
)

// Of a named route whose directives have no matcher Caddy keeps the first one only.
// With any of ours in it this is an error, and only where Caddy would drop something.
func TestNamedRouteDropsNothing(t *testing.T) {
	directives := map[string]string{
		"guard": "", "cors": "https://a.example", "health": "", "jwt_auth": "0123456789abcdef0123456789abcdef", "ratelimit": "5/1m", "http_cache": "60s",
		"circuit_breaker": "b", "tentagate": "{\n\t\tservice users http://127.0.0.1:9\n\t\tjwt off\n\t}",
	}
	adapt := func(body string) (string, error) {
		input := "&(named) {\n\t" + body + "\n}\n:80 {\n\tinvoke named\n}\n"
		setEnvironment(t, input)
		adapted, err := servertest.Adapt(input)
		return string(adapted), err
	}
	for name, args := range directives {
		for _, form := range []string{"%s\n\theader X-Mark 1", "header X-Mark 1\n\t%s", "@all path *\n\theader X-Mark 1\n\t%s", "header * X-Mark 1\n\t%s"} {
			if name == "tentagate" {
				continue // its routes have matchers
			}
			body := fmt.Sprintf(form, name+" "+args)
			if _, err := adapt(body); err == nil || !strings.Contains(err.Error(), `named route "named"`) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: got %v", body, err)
			}
		}
		handler := `"handler":"` + strings.Replace(name, "tentagate", "services", 1) + `"`
		for _, form := range []string{"%s", "handle {\n\theader X-Mark 1\n\t%s\n\t}", "route {\n\theader X-Mark 1\n\t%s\n\t}", "header /x X-Mark 1\n\t%s", "rewrite * /x\n\theader X-Mark 1\n\t%s"} {
			body := fmt.Sprintf(form, name+" "+args)
			if adapted, err := adapt(body); err != nil || !strings.Contains(adapted, handler) || strings.Contains(body, "X-Mark") && !strings.Contains(adapted, "X-Mark") {
				t.Errorf("%s: %v\n%s", body, err, adapted)
			}
		}
	}
}
