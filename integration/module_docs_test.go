package integration

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withoutExample are the modules that nobody writes into a Caddyfile.
var withoutExample = map[string]bool{
	"caddyfile.HasBody": true, "caddyfile.PathRoutes": true, "caddyfile.Problem": true, "caddyfile.Services": true, // of the directive tentagate
	"upstream.Slot": true, // for JSON
}

// moduleDocs returns the comment of each type that is a Caddy module, by its package and
// name. It is what the documentation of modules at caddyserver.com shows.
func moduleDocs(t *testing.T) map[string]string {
	t.Helper()
	comments, modules := map[string]string{}, map[string]bool{}
	err := filepath.WalkDir(repository(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == "internal" || name == "integration" || name == "bench" || strings.HasPrefix(name, ".")) && path != repository() {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && d.Name.Name == "CaddyModule" {
					receiver := d.Recv.List[0].Type
					if pointer, ok := receiver.(*ast.StarExpr); ok {
						receiver = pointer.X
					}
					modules[file.Name.Name+"."+receiver.(*ast.Ident).Name] = true
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						comments[file.Name.Name+"."+s.Name.Name] = d.Doc.Text()
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for name := range modules {
		docs[name] = comments[name]
	}
	return docs
}

// The comment of each module begins with its name, and has an example that is valid.
func TestModuleDocs(t *testing.T) {
	mounted := mountedFiles(t)
	docs := moduleDocs(t)
	for name := range withoutExample {
		if doc, ok := docs[name]; !ok || strings.Contains(doc, "\n\t") {
			t.Errorf("%s is listed as without example", name)
		}
	}
	if len(docs) < 20 {
		t.Errorf("only %d modules were found", len(docs))
	}
	for name, doc := range docs {
		_, typeName, _ := strings.Cut(name, ".")
		if !strings.HasPrefix(doc, typeName+" ") {
			t.Errorf("%s: its comment is %q", name, doc)
		}
		example := block{}
		for line := range strings.Lines(doc) {
			if line, ok := strings.CutPrefix(line, "\t"); ok {
				example.text += line
			}
		}
		if example.text == "" {
			if !withoutExample[name] {
				t.Errorf("%s: its comment has no example", name)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "Caddyfile")
			if err := os.WriteFile(file, []byte(mounted.Replace(example.file())), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out := cli(t, docsEnvironment, "validate", "--adapter", "caddyfile", "--config", file); code != 0 {
				t.Errorf("it is not valid:\n%s\n%s", example.file(), tail(out, 1500))
			}
		})
	}
}
