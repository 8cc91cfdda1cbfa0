package resolve

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/hostname"
)

// Request prepares an option that is resolved for each request. What is known
// when the configuration loads ({env.*}, {file.*}) is replaced by the rule of
// AtLoad. It fails, naming the option and the placeholder, where one of the
// others can never have a value where the handler of ctx stands: a misspelt
// name, or one of the response. Names that `map` or `vars` define anywhere in the
// HTTP app are accepted, and those in own, which the option itself knows.
//
// The names that handlers of other modules define cannot be known. With one of
// those in the app, a name that has no other meaning is accepted.
func Request(ctx caddy.Context, option, text string, own ...string) (string, error) {
	for _, name := range Placeholders(text) {
		if strings.HasPrefix(name, "env.") || strings.HasPrefix(name, "file.") {
			value, err := AtLoad(option, "{"+name+"}")
			if err != nil {
				return "", err
			}
			text = strings.ReplaceAll(text, "{"+name+"}", value)
		}
	}
	names := definedIn(ctx)
	for _, name := range Placeholders(text) {
		if slices.Contains(own, name) {
			continue
		}
		if err := names.check(ctx, name); err != nil {
			return "", fmt.Errorf("%s: {%s} %w", option, name, err)
		}
	}
	return text, nil
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

// Host returns a reader of the normal form of a host's placeholder, and false for any
// other placeholder. A variable that `vars` copies from such a placeholder is one too.
func Host(ctx caddy.Context, name string) (hostname.Reader, bool) {
	if reader, ok := hostname.Placeholder(name); ok {
		return reader, true
	}
	if !strings.HasPrefix(name, "http.vars.") {
		return nil, false
	}
	of := name
	for range 8 { // a variable may be copied from another one
		variable, ok := strings.CutPrefix(of, "http.vars.")
		if !ok {
			break
		}
		of = definedIn(ctx).copies[variable]
	}
	form, ok := hostname.Form(of)
	if !ok {
		return nil, false
	}
	return func(r *http.Request) string {
		repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if !ok {
			return ""
		}
		value, _ := repl.GetString(name)
		return form(value)
	}, true
}
