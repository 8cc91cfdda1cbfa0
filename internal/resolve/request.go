package resolve

import (
	"fmt"
	"slices"
	"strings"
)

// requestRoots are the first parts of the placeholders that have a value while
// a request is handled (Caddy's own and those of TentaGate).
var requestRoots = []string{
	"env.", "file.", "system.", "time.", "http.request.", "http.vars.", "http.auth.", "http.ratelimit.",
	"http.cache.", "http.circuit_breaker.", "http.matchers.", "http.regexp.", "http.handlers.", "http.error.",
	"http.reverse_proxy.", "http.shutting_down", "http.time_until_shutdown", "tls_client_", "labels.",
}

// Request checks an option that is resolved for each request. It fails,
// naming the option and the placeholder, where one can never have a value at
// that time: a name without a dot, which only `map` and other handlers set
// under names of their own, is accepted only if it is listed in own, and
// nothing of the response is known yet.
func Request(option, text string, own ...string) error {
	for _, name := range Placeholders(text) {
		switch {
		case slices.Contains(own, name):
		case strings.HasPrefix(name, "http.response."):
			return fmt.Errorf("%s: {%s} has no value yet when the option is resolved: the response comes later", option, name)
		case !slices.ContainsFunc(requestRoots, func(root string) bool { return strings.HasPrefix(name, root) }):
			return fmt.Errorf("%s: {%s} is not a placeholder that has a value in a request: "+
				"accepted are such as {http.request.header.X-Tenant}, {http.auth.user.id} and {client_ip}", option, name)
		}
	}
	return nil
}

// Placeholders returns the names of the placeholders in a text, read as Caddy
// reads them: \{ and \} are text.
func Placeholders(text string) []string {
	var names []string
	for i := 0; i < len(text); i++ {
		if text[i] != '{' || i > 0 && text[i-1] == '\\' {
			continue
		}
		end := i + 1
		for end < len(text) && (text[end] != '}' || text[end-1] == '\\') {
			end++
		}
		if end == len(text) {
			break
		}
		names = append(names, text[i+1:end])
		i = end
	}
	return names
}
