package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// modules are Caddy's modules of the repository: how each is written in a Caddyfile,
// and where it is described.
var modules = []struct{ id, written, page string }{
	{"admin.api.tentagate_*", "always there", "admin.md"},
	{"caddy.logging.encoders.filter.credentials", "`<field> credentials [<parameter...>]` in `format filter`", "gateway.md#tentagate-gateway"},
	{"caddy.storage.tentagate", "`storage tentagate`, a global option", "certificates.md"},
	{"http.handlers.api_docs", "`api_docs`", "api_docs.md"},
	{"http.handlers.circuit_breaker", "`circuit_breaker`", "circuit_breaker.md"},
	{"http.handlers.cors", "`cors`", "cors.md"},
	{"http.handlers.dashboard", "`dashboard`", "dashboard.md"},
	{"http.handlers.guard", "`guard`", "guard.md"},
	{"http.handlers.health", "`health`", "health.md"},
	{"http.handlers.http_cache", "`http_cache`", "http_cache.md"},
	{"http.handlers.jwt_auth", "`jwt_auth`", "jwt_auth.md"},
	{"http.handlers.path_routes", "by `tentagate`", "gateway.md"},
	{"http.handlers.problem", "by `tentagate`", "gateway.md"},
	{"http.handlers.problem_fallback", "by `guard`", "guard.md"},
	{"http.handlers.ratelimit", "`ratelimit`", "ratelimit.md"},
	{"http.handlers.services", "by `tentagate`", "gateway.md"},
	{"http.handlers.telemetry", "`telemetry`", "telemetry.md"},
	{"http.matchers.has_body", "by `tentagate`", "gateway.md"},
	{"http.matchers.jwt_claim", "`jwt_claim <claim> [<value...>]` in a named matcher", "jwt_auth.md#matchers"},
	{"http.matchers.jwt_scope", "`jwt_scope <scope...>` in a named matcher", "jwt_auth.md#matchers"},
	{"http.reverse_proxy.circuit_breakers.tentagate", "in JSON alone: `\"circuit_breaker\": {\"type\": \"tentagate\"}`", "circuit_breaker.md"},
	{"http.reverse_proxy.selection_policies.available", "`lb_policy available`", "circuit_breaker.md"},
	{"http.reverse_proxy.transport.tentagate", "`transport tentagate`", "circuit_breaker.md"},
	{"http.reverse_proxy.upstreams.tentagate", "`dynamic tentagate`", "discovery.md"},
	{"tentagate", "`tentagate`, a global option", "redis.md"},
}

// commandPages are the pages of the commands.
var commandPages = map[string]string{
	"gateway": "gateway.md", "token": "gateway.md", "healthcheck": "gateway.md", "status": "admin.md", "cache": "admin.md", "keys": "admin.md",
	"explain": "admin.md#explained-requests", "dashboard": "dashboard.md#from-a-unix-socket",
	"limits": "ratelimit.md", "breakers": "circuit_breaker.md", "purge": "purging.md", "revoke": "jwt_auth.md",
}

// preface is what the page begins with.
const preface = `# Configuration reference

Every option, environment variable, flag and module, with its default. The name of each leads to the page that explains it. This page is made from
those pages and from the flags of the commands, by ` + "`go test ./integration -run TestConfigurationPage -update`" + `, and compared with the parsers.

` + "`a › b`" + ` is the option ` + "`b`" + ` in the block of ` + "`a`" + `. ` + "`<x...>`" + ` is one or several, ` + "`[x]`" + ` may be left out, and ` + "`a|b`" + ` is one of them. The matcher of a directive is Caddy's.

| value | form |
|---|---|
| duration | a number and its unit, also several: ` + "`250ms`, `30s`, `1h30m`, `1d`" + ` |
| size | bytes, ` + "`65536`, or with a unit: `512KiB`, `1GB`" + ` |
| percent | ` + "`50%`" + ` |
| placeholder | ` + "`{env.NAME}` and `{file./path}`" + ` where text is taken; of a request, such as ` + "`{http.request.host}`" + `, only where the page says so |

A duration, size or number that is switched off is ` + "`off`" + `, where the syntax has it.
`

// configurationPage returns docs/configuration.md.
func configurationPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString(preface)
	for _, s := range sections {
		s.write(t, &b)
	}
	b.WriteString("\n## Environment variables\n\nThe name leads to what reads the variable. In a Caddyfile of your own, `{env.NAME}` and `{$NAME}` read any.\n\n| variable | default | meaning |\n|---|---|---|\n")
	for _, v := range variablesOfPages(t) {
		fmt.Fprintf(&b, "| [`%s`](%s) | %s | %s |\n", v.name, v.link, dash(v.initial), v.meaning)
	}
	b.WriteString("\n## Flags of the commands\n\nThose of Caddy's commands (`run`, `validate`, `adapt`, `reload` …) are Caddy's.\n")
	writeCommands(&b)
	b.WriteString("\n## Modules\n\nThe names of the modules in JSON, and how a Caddyfile has them. `go doc` of a package describes the JSON.\n\n| module | in a Caddyfile |\n|---|---|\n")
	for _, m := range modules {
		fmt.Fprintf(&b, "| [`%s`](%s) | %s |\n", m.id, m.page, m.written)
	}
	return b.String()
}

func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// write writes the options of the section.
func (s section) write(t *testing.T, b *strings.Builder) {
	t.Helper()
	root := s.options(t)
	rows := s.rows(t)
	fmt.Fprintf(b, "\n## %s\n\n[%s](%s)", s.title, s.pages[0], s.pages[0])
	if args := argumentsOf(root); args != "" && len(s.path) == 0 {
		fmt.Fprintf(b, ": %s", strings.Replace(args, "`", "`"+root.name+" ", 1))
	}
	b.WriteString("\n\n| option | value | default | meaning |\n|---|---|---|---|\n")
	used := map[string]bool{}
	line := func(d described, name, value string) {
		used[d.name] = true
		fmt.Fprintf(b, "| [%s](%s) | %s | %s | %s |\n", name, d.link, dash(value), dash(d.initial), dash(d.meaning))
	}
	for _, d := range rows {
		if len(s.path) == 0 && d.isArgument || len(s.path) > 0 && strings.HasPrefix(d.name, root.name+" ") {
			line(d, strings.Replace(d.name, "<", `\<`, 1), "")
		}
	}
	for _, n := range root.all()[1:] {
		name := "`" + strings.Join(n.path(root), " › ") + "`"
		if d, ok := s.row(rows, n, root); ok {
			line(d, name, argumentsOf(n))
		} else if !slices.ContainsFunc(rows, func(d described) bool { return isForm(d, n, root) }) {
			t.Errorf("docs/%s: the tables have no row for %s", s.pages[0], strings.Join(n.path(root), " "))
		}
		for _, d := range rows {
			if isForm(d, n, root) {
				line(d, "`"+d.name+"`", argumentsOf(n))
			}
		}
	}
	for _, d := range rows {
		if !used[d.name] && !d.isArgument && !s.elsewhere(t, d) {
			t.Errorf("docs/%s: the row of %s is of no option in the syntax", d.page, d.name)
		}
	}
}

// isForm reports whether a row is of one form of an option, such as `count after`.
func isForm(d described, n, root *option) bool {
	rest, ok := strings.CutPrefix(d.name, n.name+" ")
	return ok && n.parent == root && !slices.Contains(n.names(), rest)
}

// argumentsOf returns what an option takes.
func argumentsOf(n *option) string {
	args, orBlock := strings.CutSuffix(n.args, "|")
	args = strings.TrimSpace(args)
	text := ""
	if args != "" {
		text = "`" + strings.ReplaceAll(args, "|", `\|`) + "`"
	}
	switch {
	case len(n.children) == 0:
	case text == "":
		text = "a block"
	case orBlock || strings.HasPrefix(args, "off"):
		text += " or a block"
	default:
		text += " and a block"
	}
	if n.foreign() && n.children[0].name != "*" {
		if of, ok := strings.CutPrefix(n.children[0].name, "<options of "); ok {
			of = strings.TrimSuffix(of, ">")
			text += " of " + of
		}
	}
	return text
}

// row returns what the tables say of an option: by its path, or by its name if no
// option around it has the same.
func (s section) row(rows []described, n, root *option) (described, bool) {
	path := n.path(root)
	wanted := []string{strings.Join(path, " "), strings.Join(path[max(0, len(path)-2):], " ")}
	ambiguous := false
	for outer := n.parent; outer != root && outer != nil; outer = outer.parent {
		ambiguous = ambiguous || slices.Contains(outer.parent.names(), n.name)
	}
	if !ambiguous {
		wanted = append(wanted, n.name)
	}
	for _, name := range wanted {
		if i := slices.IndexFunc(rows, func(d described) bool { return d.name == name }); i >= 0 {
			return rows[i], true
		}
	}
	return described{}, false
}

// elsewhere reports whether a row is of another section with the same page.
func (s section) elsewhere(t *testing.T, d described) bool {
	t.Helper()
	for _, other := range sections {
		root := other.options(t)
		if other.title != s.title && other.pages[0] == s.pages[0] && slices.ContainsFunc(root.all()[1:], func(n *option) bool {
			found, ok := other.row([]described{d}, n, root)
			return ok && found.name == d.name || isForm(d, n, root)
		}) || other.title != s.title && len(other.path) > 0 && strings.HasPrefix(d.name, root.name+" ") {
			return true
		}
	}
	return false
}

// writeCommands writes the flags of the commands, those that several share once.
func writeCommands(b *strings.Builder) {
	const header = "\n| flag | default | meaning |\n|---|---|---|\n"
	isShared := func(f *pflag.Flag) bool { return slices.Contains(adminFlags, f.Name) }
	var shared []*pflag.Flag
	var asking []string
	for _, c := range commands() {
		var own []*pflag.Flag
		asks := slices.ContainsFunc(c.flags, func(f *pflag.Flag) bool { return f.Name == "address" })
		for _, f := range c.flags {
			if !asks || !isShared(f) {
				own = append(own, f)
			}
		}
		if asks {
			asking, shared = append(asking, "`"+c.name+"`"), slices.DeleteFunc(c.flags, func(f *pflag.Flag) bool { return !isShared(f) })
		}
		fmt.Fprintf(b, "\n### `tentagate %s`\n\n%s: [%s](%s).\n", c.name, c.short, commandPages[c.name], commandPages[c.name])
		if len(own) > 0 {
			b.WriteString(header)
		}
		for _, f := range own {
			b.WriteString(flagRow(f, commandPages[c.name]))
		}
	}
	fmt.Fprintf(b, "\n### Flags of the commands that use the admin API\n\nOf %s: [commands.md](commands.md#commands-that-use-the-admin-api).\n%s", strings.Join(asking, ", "), header)
	for _, f := range shared {
		b.WriteString(flagRow(f, "commands.md#commands-that-use-the-admin-api"))
	}
}

// flagRow returns the row of a flag. Some texts of flags say the default themselves.
func flagRow(f *pflag.Flag, page string) string {
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + "`, `" + name
	}
	kind := map[string]string{"string": "<text>", "stringArray": "<text>", "duration": "<duration>"}[f.Value.Type()]
	switch {
	case f.NoOptDefVal != "" && f.Value.Type() != "bool":
		name += "[=" + kind + "]"
	case kind != "":
		name += " " + kind
	}
	usage, initial := f.Usage, f.DefValue
	if m := regexp.MustCompile(`^(.*) \(default: (.*)\)$`).FindStringSubmatch(usage); m != nil {
		usage, initial = m[1], m[2]
	}
	if initial == "false" || initial == "[]" || initial == "0s" {
		initial = ""
	}
	return fmt.Sprintf("| [`%s`](%s) | %s | %s |\n", name, page, dash(initial), usage)
}
