package integration

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// section is a part of docs/configuration.md: a block of options, from the page of a
// feature.
type section struct {
	title string
	// pages are the feature's page, and another with a table of its options.
	pages []string
	// grammar is how the block begins that describes the syntax, and path leads
	// in it to the block of the options.
	grammar string
	path    []string
	// around is a Caddyfile with %s for the block.
	around string
}

const (
	module = "github.com/pythopus/tentagate"
	inSite = ":8000 {\n%s\n}\n"
	// envSuffixOfServices is the name by which the page calls the variables of services.
	envSuffixOfServices = "<NAME>_SERVICE_URL"
)

var sections = []section{
	{"`tentagate`", []string{"gateway.md"}, "tentagate ", nil, inSite},
	{"`guard`", []string{"guard.md"}, "guard ", nil, inSite},
	{"`cors`", []string{"cors.md"}, "cors ", nil, inSite},
	{"`health`", []string{"health.md"}, "health ", nil, inSite},
	{"`jwt_auth`", []string{"jwt_auth.md"}, "jwt_auth ", nil, inSite},
	{"`ratelimit`", []string{"ratelimit.md"}, "ratelimit ", nil, inSite},
	{"`http_cache`", []string{"http_cache.md", "purging.md"}, "http_cache ", nil, inSite},
	{"`circuit_breaker`", []string{"circuit_breaker.md"}, "circuit_breaker ", nil, inSite},
	{"`lb_policy available` of `reverse_proxy`", []string{"circuit_breaker.md"}, "reverse_proxy a", []string{"lb_policy"}, inSite},
	{"`transport tentagate` of `reverse_proxy`", []string{"circuit_breaker.md"}, "reverse_proxy a", []string{"transport"}, inSite},
	{"`dynamic tentagate` of `reverse_proxy`", []string{"discovery.md"}, "dynamic ", nil, ":8000 {\nreverse_proxy {\n%s\n}\n}\n"},
	{"`api_docs`", []string{"api_docs.md"}, "api_docs ", nil, inSite},
	{"`telemetry`", []string{"telemetry.md"}, "telemetry ", nil, inSite},
	{"`dashboard`", []string{"dashboard.md"}, "dashboard ", nil, inSite},
	{"The global option `tentagate`", []string{"redis.md"}, "{\n\ttentagate ", []string{"tentagate"}, "%s"},
	{"The global option `storage tentagate`", []string{"certificates.md"}, "{\n\tstorage ", []string{"storage"}, "%s"},
}

// othersVariables are read by what the server is built from.
var othersVariables = []string{"GOMEMLIMIT"}

// option is an option in the syntax of a page. What is no option, such as
// `<options of reverse_proxy>`, has its text as name.
type option struct {
	name, args string
	parent     *option
	children   []*option
}

// options returns the block of the section's options.
func (s section) options(t *testing.T) *option {
	t.Helper()
	for _, b := range blocks(t) {
		if b.page != s.pages[0] || !strings.HasPrefix(b.text, s.grammar) || !grammar.MatchString(b.text) {
			continue
		}
		n := readGrammar(b.text)
		for _, name := range s.path {
			i := slices.IndexFunc(n.children, func(c *option) bool { return c.name == name })
			n = n.children[i]
		}
		return n
	}
	t.Fatalf("docs/%s does not describe the syntax of %s", s.pages[0], s.title)
	return nil
}

// readGrammar reads the description of a directive.
func readGrammar(text string) *option {
	var open *option
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line == "}" && open.parent == nil {
			continue
		}
		if line == "}" {
			open = open.parent
			continue
		}
		line, isBlock := strings.CutSuffix(line, "{")
		n := &option{parent: open}
		n.name, n.args, _ = strings.Cut(strings.TrimSpace(line), " ")
		n.args = strings.TrimSpace(n.args)
		if n.free() {
			n.name, n.args = strings.TrimSpace(line), ""
		}
		if open != nil {
			open.children = append(open.children, n)
		}
		if isBlock {
			open = n
		}
	}
	return open
}

// free reports whether it stands for what another parser reads, or for any name.
func (n *option) free() bool {
	return strings.HasPrefix(n.name, "<") || strings.HasPrefix(n.name, "*") || n.name == "…"
}

// foreign reports whether the block has the options of another parser alone.
func (n *option) foreign() bool {
	return len(n.children) > 0 && !slices.ContainsFunc(n.children, func(c *option) bool { return !c.free() })
}

// all returns the option and those within it.
func (n *option) all() []*option {
	list := []*option{n}
	for _, c := range n.children {
		if !c.free() {
			list = append(list, c.all()...)
		}
	}
	return list
}

// names returns the options of the block.
func (n *option) names() []string {
	var names []string
	for _, c := range n.children {
		of := []string{c.name}
		if list, ok := strings.CutSuffix(c.name, " as above>"); ok {
			of = strings.Split(list[1:], ", ")
		} else if c.free() {
			continue
		}
		for _, name := range of {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// path returns the names from the section's block to the option, without the block's own.
func (n *option) path(root *option) []string {
	if n == root {
		return nil
	}
	return append(n.parent.path(root), n.name)
}

// samples are arguments with which a line can be read up to its block.
var samples = map[string]string{
	"<name>": "users", "<placeholder>": "{client_ip}", "<url...>": "http://127.0.0.1:1", "<address...>": "redis://127.0.0.1:1", "<name:port>": "users:80",
}

// sample returns the line of an option with arguments.
func (n *option) sample() string {
	line := n.name
	if strings.HasPrefix(n.args, "off|") || strings.HasSuffix(n.args, "|") {
		return line
	}
	args := regexp.MustCompile(`\[.*\]`).ReplaceAllString(n.args, "")
	if strings.Contains(n.args, "<policy>") {
		args += " round_robin"
	}
	for arg := range strings.FieldsSeq(args) {
		arg, _, _ = strings.Cut(arg, "|")
		line += " " + cmp.Or(samples[arg], arg)
	}
	return line
}

// probe returns a Caddyfile with an unknown option in the block of an option.
func (s section) probe(n *option) string {
	text := "no_such_option"
	for ; n != nil; n = n.parent {
		text = n.sample() + " {\n" + text + "\n}"
	}
	return fmt.Sprintf(s.around, text)
}

// table is a table of a page.
type table struct {
	page, section string
	header        []string
	rows          [][]string
}

// cell returns the cell of a row in the first of the named columns that there is.
func (t table) cell(row []string, columns ...string) string {
	for _, column := range columns {
		if i := slices.Index(t.header, column); i >= 0 {
			return row[i]
		}
	}
	return ""
}

// link returns the address of the part of the page in which the table is.
func (t table) link() string {
	return t.page + "#" + headingName(t.section)
}

func tablesOf(t *testing.T, page string) []table {
	t.Helper()
	var all []table
	section, inTable, inBlock := "", false, false
	for line := range strings.SplitSeq(repositoryFile(t, "docs", page), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inBlock = !inBlock
		case inBlock:
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
		isRow := strings.HasPrefix(line, "| ") && !inBlock
		switch cells := cellsOf(line); {
		case isRow && !inTable:
			all = append(all, table{page: page, section: section, header: cells})
		case isRow:
			last := &all[len(all)-1]
			if len(cells) != len(last.header) {
				t.Errorf("docs/%s: a row of %d cells, want %d: %s", page, len(cells), len(last.header), line)
				continue
			}
			last.rows = append(last.rows, cells)
		}
		inTable = isRow || strings.HasPrefix(line, "|--")
	}
	return all
}

// cellsOf returns the cells of a row. A pipe that is text has a backslash.
func cellsOf(line string) []string {
	const text = "\x00"
	line = strings.TrimSuffix(strings.TrimPrefix(strings.ReplaceAll(line, `\|`, text), "|"), "|")
	cells := strings.Split(line, "|")
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.TrimSpace(c), text, `\|`)
	}
	return cells
}

// described is what a page says of one option or variable.
type described struct {
	name, initial, meaning string
	isArgument             bool // of the directive, rather than an option
	page, link             string
}

var (
	ofOption = regexp.MustCompile("^(.*) \\(of `?([a-z_ ]+)`?\\)$")
	anchor   = regexp.MustCompile(`\]\(#`)
	below    = regexp.MustCompile(`see (below|above)|\[(below|above)\]`)
)

// rows returns what the tables of the section's pages say, by the names of options.
// A row may be of several, and then has one default for all, or one for each.
func (s section) rows(t *testing.T) []described {
	t.Helper()
	var all []described
	for _, page := range s.pages {
		for _, table := range tablesOf(t, page) {
			if table.header[0] != "option" {
				continue
			}
			for _, row := range table.rows {
				names := strings.Split(row[0], ", ")
				defaults := strings.Split(table.cell(row, "default"), ", ")
				prefix := ""
				for i, name := range names {
					outer := ""
					if m := ofOption.FindStringSubmatch(name); m != nil {
						name, outer = m[1], m[2]+" "
					}
					isArgument := !strings.HasPrefix(name, "`") || strings.HasPrefix(name, "`<")
					name = outer + strings.ReplaceAll(name, "`", "")
					if first, _, nested := strings.Cut(name, " "); i == 0 && nested && len(names) > 1 {
						prefix = first + " "
					} else if i > 0 && outer == "" {
						name = prefix + name
					}
					d := described{name: name, isArgument: isArgument, initial: table.cell(row, "default"), page: page, link: table.link(), meaning: table.cell(row, "meaning", "accepted")}
					if len(defaults) == len(names) {
						d.initial = defaults[i]
					}
					if v := table.cell(row, "variable"); v != "" {
						d.initial = v + ", or " + d.initial
					}
					d.meaning = fromOutside(d.meaning, page)
					d.initial = fromOutside(d.initial, page)
					all = append(all, d)
				}
			}
		}
	}
	return all
}

// fromOutside returns a text of a page as it is right in another.
func fromOutside(text, page string) string {
	text = below.ReplaceAllStringFunc(text, func(found string) string {
		if strings.HasPrefix(found, "[") {
			return "[there]"
		}
		return "see there"
	})
	return anchor.ReplaceAllString(text, "]("+page+"#")
}

// variablesOfPages returns the environment variables of all pages.
func variablesOfPages(t *testing.T) []described {
	t.Helper()
	var all []described
	for _, page := range []string{"gateway.md", "redis.md", "telemetry.md", "deployment.md"} {
		for _, table := range tablesOf(t, page) {
			if !slices.Contains(table.header, "variable") {
				continue
			}
			for _, row := range table.rows {
				names := strings.Split(table.cell(row, "variable"), ", ")
				defaults := strings.Split(table.cell(row, "default"), ", ")
				for i, name := range names {
					name = strings.Trim(name, "`")
					if strings.HasSuffix(name, "…") {
						continue // each has its line
					}
					d := described{name: name, page: page, link: table.link(), meaning: fromOutside(table.cell(row, "meaning"), page), initial: table.cell(row, "default")}
					if len(defaults) == len(names) {
						d.initial = defaults[i]
					}
					if text, value, ok := strings.Cut(d.meaning, " Default: "); ok && d.initial == "" {
						d.meaning, d.initial = strings.TrimSuffix(text, "."), strings.TrimSuffix(value, ".")
					}
					all = append(all, d)
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b described) int { return strings.Compare(a.name, b.name) })
	return all
}

// command is a subcommand of the binary, and its flags.
type command struct {
	name, usage, short string
	flags              []*pflag.Flag
}

// adminFlags are those of every command that asks the admin API.
var adminFlags = []string{"address", "config", "adapter", "env-file", "envfile", "json"}

// commands returns the subcommands of the repository.
func commands() []command {
	var all []command
	for name, c := range caddycmd.Commands() {
		if c.CobraFunc == nil || !strings.HasPrefix(runtime.FuncForPC(reflect.ValueOf(c.CobraFunc).Pointer()).Name(), module+"/") {
			continue
		}
		built := &cobra.Command{Use: name}
		c.CobraFunc(built)
		found := command{name: name, usage: c.Usage, short: c.Short}
		built.Flags().VisitAll(func(f *pflag.Flag) { found.flags = append(found.flags, f) })
		all = append(all, found)
	}
	slices.SortFunc(all, func(a, b command) int { return strings.Compare(a.name, b.name) })
	return all
}

// packageOf returns the package of a value's type, or of what it points to.
func packageOf(v any) string {
	of := reflect.TypeOf(v)
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	return of.PkgPath()
}

func writeRepositoryFile(t *testing.T, text string, parts ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(append([]string{repository()}, parts...)...), []byte(text), 0o644); err != nil { //nolint:gosec // a page
		t.Fatal(err)
	}
}

// passesOn reports whether the block has options of another parser besides its own.
func (n *option) passesOn() bool {
	return slices.ContainsFunc(n.children, func(c *option) bool { return strings.HasPrefix(c.name, "<options of ") })
}
