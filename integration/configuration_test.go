package integration

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/servertest"
)

// TestConfigurationPage compares docs/configuration.md with what the pages of the
// features and the flags of the commands say. With -update, it is written.
func TestConfigurationPage(t *testing.T) {
	got := configurationPage(t)
	if *update {
		writeRepositoryFile(t, got, "docs", "configuration.md")
		return
	}
	if want := repositoryFile(t, "docs", "configuration.md"); got != want {
		t.Errorf("docs/configuration.md is not current: write it by `go test ./integration -run TestConfigurationPage -update`; it differs in\n%s", firstDifference(want, got))
	}
}

// TestConfigurationOptions compares the options of each block, at any depth, with
// those that its parser names when it is given one that it does not know.
func TestConfigurationOptions(t *testing.T) {
	setEnvironment(t, "")
	for _, s := range sections {
		root := s.options(t)
		for _, n := range root.all() {
			where := strings.Join(append([]string{s.title}, n.path(root)...), " ")
			accepted, isBlock := s.accepted(n)
			switch {
			case !isBlock && len(n.children) > 0 && !n.foreign() && !n.passesOn():
				t.Errorf("%s: the parser names no options for\n%s", where, s.probe(n))
			case isBlock && len(n.children) == 0 && !s.same(n, accepted):
				t.Errorf("%s: the page has no block, the parser has one with %s", where, accepted)
			case isBlock && len(n.children) > 0 && !n.foreign():
				names := n.names()
				if i := slices.IndexFunc(n.children, func(c *option) bool { return c.name == "provider" }); i >= 0 {
					names = append(names, n.children[i].names()...) // which may stand beside it
				}
				compareNames(t, where, accepted, names)
			}
		}
	}
}

// accepted returns the options that the parser names for the block of an option.
func (s section) accepted(n *option) (names []string, isBlock bool) {
	_, err := servertest.Adapt(s.probe(n))
	if err == nil {
		return nil, false
	}
	_, list, ok := strings.Cut(err.Error(), `unknown option "no_such_option": accepted are `)
	if !ok {
		return nil, false
	}
	list, _, _ = strings.Cut(list, ", at ")
	list, _, _ = strings.Cut(list, "; did you mean")
	list, _, _ = strings.Cut(list, ", and the options of ")
	return strings.Split(list, ", "), true
}

// same reports whether the names are those of the block around the option, whose
// parser read the option's block as its own.
func (s section) same(n *option, names []string) bool {
	return n.parent != nil && len(names) > 0 && slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(n.parent.names())))
}

func compareNames(t *testing.T, where string, code, page []string) {
	t.Helper()
	for _, name := range code {
		if !slices.Contains(page, name) {
			t.Errorf("%s: %s is in the code and not in the page", where, name)
		}
	}
	for _, name := range page {
		if !slices.Contains(code, name) {
			t.Errorf("%s: %s is in the page and not in the code", where, name)
		}
	}
}

// TestConfigurationOptionsOfCode has all names of options in the code, those of
// blocks among them that pass unknown options on.
func TestConfigurationOptionsOfCode(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sections {
		for _, n := range s.options(t).all() {
			documented[n.name] = true
		}
	}
	constructors := []string{"parse.Func", "parse.Flag", "parse.FlagOrOff", "parse.Value", "parse.List", "listOption", "textOption"}
	found := 0
	eachSource(t, func(path string, file *ast.File) {
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			text, ok := literal(call.Args[0])
			if !ok || !slices.Contains(constructors, calledName(call)) {
				return true
			}
			found++
			if !documented[text] {
				t.Errorf("%s: the option %s is in the syntax of no page", path, text)
			}
			return true
		})
	})
	if found < 100 {
		t.Errorf("only %d options were found in the code", found)
	}
}

// TestConfigurationVariables compares the environment variables in the code and in
// the Caddyfiles that are delivered with those in the tables of the pages.
func TestConfigurationVariables(t *testing.T) {
	name := regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$`)
	code := map[string]bool{envSuffixOfServices: true}
	eachSource(t, func(_ string, file *ast.File) {
		ast.Inspect(file, func(node ast.Node) bool {
			if expression, ok := node.(ast.Expr); ok {
				if text, ok := literal(expression); ok && name.MatchString(text) && text != "RSA1_5" {
					code[text] = true
				}
			}
			if call, ok := node.(*ast.CallExpr); ok && len(call.Args) == 1 && slices.Contains([]string{"os.Getenv", "os.LookupEnv"}, calledName(call)) {
				if text, ok := literal(call.Args[0]); ok {
					code[strings.ToUpper(text)] = true // http_proxy is HTTP_PROXY
				}
			}
			return true
		})
	})
	for _, file := range []string{"caddyfile/gateway.Caddyfile", "packaging/Caddyfile", "k8s/base/Caddyfile", "k8s/components/loadbalancer-tls/Caddyfile", "k8s/chart/Caddyfile"} {
		for _, m := range regexp.MustCompile(`\{\$([A-Z_]+)`).FindAllStringSubmatch(repositoryFile(t, file), -1) {
			code[m[1]] = true
		}
	}
	page := map[string]bool{}
	for _, v := range variablesOfPages(t) {
		page[v.name] = true
		if !code[v.name] && !strings.HasPrefix(v.name, "OTEL_") && !slices.Contains(othersVariables, v.name) {
			t.Errorf("docs/%s: nothing reads the variable %s", v.page, v.name)
		}
	}
	for v := range code {
		if !page[v] {
			t.Errorf("the variable %s is in no table of the pages", v)
		}
	}
}

// TestConfigurationFlags compares the flags in the tables of the pages with those
// that the commands have.
func TestConfigurationFlags(t *testing.T) {
	known := map[string][]string{}
	for _, c := range commands() {
		for _, f := range c.flags {
			known[c.name] = append(known[c.name], f.Name)
		}
	}
	for page, shared := range map[string]string{"gateway.md": "", "commands.md": "status"} {
		for _, table := range tablesOf(t, page) {
			if table.header[0] != "flag" {
				continue
			}
			command := shared
			if m := regexp.MustCompile("`tentagate ([a-z]+)`").FindStringSubmatch(table.section); m != nil {
				command = m[1]
			}
			var named []string
			for _, row := range table.rows {
				for _, m := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(row[0], -1) {
					named = append(named, m[1])
				}
			}
			want := known[command]
			if shared != "" {
				want = adminFlags
			}
			compareNames(t, "docs/"+page+": "+table.section, want, named)
		}
	}
}

// TestConfigurationModules has every Caddy module of the repository in the page.
func TestConfigurationModules(t *testing.T) {
	code := []string{}
	for _, id := range caddy.Modules() {
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		of, ours := strings.CutPrefix(packageOf(info.New()), module)
		ours = ours && !slices.Contains([]string{"/integration", "/internal/servertest"}, of) // whose modules are of tests
		if id = regexp.MustCompile(`^(admin\.api\.tentagate_).*`).ReplaceAllString(id, "${1}*"); ours && !slices.Contains(code, id) {
			code = append(code, id)
		}
	}
	page := []string{}
	for _, m := range modules {
		page = append(page, m.id)
	}
	compareNames(t, "modules", code, page)
}

// eachSource parses the Go files of the server, tests left out.
func eachSource(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(repository(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "bench" || name == "integration" || name == "testdata" || name != "." && strings.HasPrefix(name, ".") && path != repository()) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err == nil {
			visit(path, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// literal returns the value of a string literal.
func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != gotoken.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}

// calledName returns the name of a called function, without types.
func calledName(call *ast.CallExpr) string {
	called := call.Fun
	if indexed, ok := called.(*ast.IndexExpr); ok {
		called = indexed.X
	}
	switch f := called.(type) {
	case *ast.SelectorExpr:
		if of, ok := f.X.(*ast.Ident); ok {
			return of.Name + "." + f.Sel.Name
		}
	case *ast.Ident:
		return f.Name
	}
	return ""
}
