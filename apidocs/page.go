package apidocs

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/pythopus/tentagate/internal/resource"
)

//go:embed ui/*.gz ui/*.js ui/*.css ui/*.png ui/*.txt ui/index.html
var files embed.FS

var pageTemplate = template.Must(template.ParseFS(files, "ui/index.html"))

// contentTypes are those of the files of the page.
var contentTypes = map[string]string{
	".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".png": "image/png", ".txt": "text/plain; charset=utf-8",
}

// assets are the files of the page by name, without the page itself.
var assets = sync.OnceValue(func() map[string]*resource.Resource {
	all := map[string]*resource.Resource{}
	entries, err := fs.ReadDir(files, "ui")
	for _, e := range entries {
		name, compressed := strings.CutSuffix(e.Name(), ".gz")
		contentType, ok := contentTypes[path.Ext(name)]
		if !ok {
			continue
		}
		var body []byte
		if body, err = files.ReadFile("ui/" + e.Name()); err != nil {
			break
		}
		make := resource.New
		if compressed {
			make = resource.OfCompressed
		}
		if all[name], err = make(contentType, body); err != nil {
			break
		}
	}
	if err != nil {
		panic(err) // the files are in the binary
	}
	return all
})

// pageResources returns what the page is made of, by path.
func (h *Handler) pageResources() map[string]*resource.Resource {
	if h.UI == off {
		return nil
	}
	served := map[string]*resource.Resource{}
	for name, r := range assets() {
		served[h.UI+"/"+name] = r
	}
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, struct {
		Title, Assets, Document string
		Token                   bool
	}{h.Title, relative(h.UI, h.UI), relative(h.UI, h.JSON), h.isPersonal()})
	if err == nil {
		served[h.UI], err = resource.New("text/html; charset=utf-8", b.Bytes())
	}
	if err != nil {
		panic(fmt.Sprintf("the docs page: %v", err)) // the template is in the binary
	}
	return served
}

// relative returns the reference by which a page leads to a path of the same
// server, wherever both are mounted.
func relative(from, to string) string {
	directory, name := path.Split(to)
	here := strings.Split(strings.Trim(path.Dir(from), "/"), "/")
	there := strings.Split(strings.Trim(directory, "/"), "/")
	if strings.HasSuffix(from, "/") {
		here = strings.Split(strings.Trim(from, "/"), "/")
	}
	here, there = withoutEmpty(here), withoutEmpty(there)
	common := 0
	for common < len(here) && common < len(there) && here[common] == there[common] {
		common++
	}
	ref := strings.Repeat("../", len(here)-common) + strings.Join(append(there[common:], ""), "/")
	return cmp.Or(ref, "./") + name // a name with a colon in it would be a scheme
}

func withoutEmpty(segments []string) []string {
	if len(segments) == 1 && segments[0] == "" {
		return nil
	}
	return segments
}
