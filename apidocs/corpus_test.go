package apidocs

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/apidocs/internal/contract"
	"github.com/pythopus/tentagate/apidocs/internal/document"
	"github.com/pythopus/tentagate/apidocs/internal/fetch"
	"github.com/pythopus/tentagate/apidocs/internal/merge"
	"github.com/pythopus/tentagate/apidocs/internal/tree"
	"github.com/pythopus/tentagate/internal/resource"
)

// corpusEnv names a directory with large OpenAPI documents: .ci/openapi fills it.
const corpusEnv = "TENTAGATE_OPENAPI_CORPUS"

// peak returns how much memory f takes at most beside what is in use already.
func peak(f func()) int64 {
	used := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	runtime.GC()
	before := used()
	var highest atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			highest.Store(max(highest.Load(), used()))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	f()
	close(stop)
	<-done
	return max(highest.Load(), used()) - before
}

// largeDocument returns a document of at least size bytes, with paths and schemas that
// refer to one another.
func largeDocument(size int) []byte {
	w := tree.NewWriter(size + 4096)
	w.Begin('{')
	w.Member("openapi", "3.0.3")
	w.Name("info")
	w.Raw([]byte(`{"title":"Large","version":"1"}`))
	w.Name("paths")
	w.Begin('{')
	n := 0
	for ; w.Len() < size*4/5; n++ {
		w.Name(fmt.Sprintf("/group%d/items/{id}/parts/{part}", n))
		w.Raw(fmt.Appendf(nil, `{"get":{"operationId":"op%d","tags":["group"],"description":%q,"parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"integer"}},`+
			`{"name":"part","in":"path","required":true,"schema":{"type":"string"}}],"responses":{"200":{"description":"ok","content":{"application/json":{"schema":{"$ref":"#/components/schemas/S%d"}}}}}}}`,
			n, strings.Repeat("What it does. ", 20), n))
	}
	w.End('}')
	w.Name("components")
	w.Begin('{')
	w.Name("schemas")
	w.Begin('{')
	for i := range n {
		w.Name(fmt.Sprintf("S%d", i))
		w.Raw(fmt.Appendf(nil, `{"type":"object","required":["a"],"properties":{"a":{"type":"string","nullable":true},"b":{"type":"array","items":{"$ref":"#/components/schemas/S%d"}},"c":{"enum":[1,2,3]}}}`, (i+1)%n))
	}
	w.End('}')
	w.End('}')
	w.End('}')
	return w.Bytes()
}

// all that is done with a document: it is read, prepared for checks, and merged.
func all(t testing.TB, name string, text []byte) (merged *resource.Resource, known *contract.Contract, d *document.Document) {
	t.Helper()
	d, err := document.Read(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	c := newContracts("/api/"+name, "")
	c.checkers.Add(1)
	c.prepare(d)
	h := &Handler{Title: "All", Bearer: true}
	if merged, err = h.build([]part{{&Service{Name: name, base: "/api/" + name}, fetch.Status{Document: d, Result: fetch.OK}}}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return merged, c.current.Load(), d
}

// A document of 5 MB takes less than 120 MB while all is done with it.
func TestMemoryOfALargeDocument(t *testing.T) {
	text := largeDocument(5 << 20)
	if len(text) < 5<<20 {
		t.Fatalf("%d bytes", len(text))
	}
	used := peak(func() { all(t, "large", text) })
	t.Logf("%d MB for %d MB", used>>20, len(text)>>20)
	if used > 120<<20 {
		t.Errorf("%d MB", used>>20)
	}
}

var parameterInPath = regexp.MustCompile(`\{[^{}/]+\}`)

// Every path of large documents that are in use is reached through the router, and is in
// the merged document.
func TestCorpus(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(os.Getenv(corpusEnv), "*.*"))
	if os.Getenv(corpusEnv) == "" || len(files) == 0 {
		t.Skipf("there are no documents: bash .ci/openapi downloads them, and sets %s", corpusEnv)
	}
	if len(files) < 10 {
		t.Errorf("%d documents, want 10", len(files))
	}
	for _, file := range files {
		name := strings.ToLower(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var merged *resource.Resource
			var known *contract.Contract
			var d *document.Document
			used := peak(func() { merged, known, d = all(t, name, text) })
			source, err := d.Tree()
			if err != nil {
				t.Fatal(err)
			}
			result, err := merged.Text()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d KB: %d MB, %d operations, %d problems", len(text)>>10, used>>20, len(known.Operations()), len(d.Problems))
			for _, p := range d.Problems {
				t.Log(p)
			}
			doc, err := tree.ParseJSON(result, tree.Limits{Bytes: len(result), Depth: 1000, Nodes: len(result), Digits: 1000})
			if err != nil {
				t.Fatal(err)
			}
			base := merge.ServerPath(source.Root().Get("servers"), "/api/"+name, "")
			paths := doc.Root().Get("paths")
			n := 0
			for path := range source.Root().Get("paths").Members() {
				if !strings.HasPrefix(path, "/") {
					continue
				}
				n++
				if !paths.Get("/api/" + name + base + path).Exists() {
					t.Errorf("%s is not in the merged document", path)
				}
				// Caddy hands over the path without what is behind a hash.
				request, _, _ := strings.Cut(base+parameterInPath.ReplaceAllString(path, "value7"), "#")
				var m contract.Match
				if known.Find(&m, http.MethodGet, request, false); m.Path == nil || strings.Count(m.Path.Template, "/") != strings.Count(base+path, "/") {
					t.Errorf("%s is not reached", path)
				}
			}
			if n == 0 || !known.Complete() {
				t.Errorf("%d paths, complete %t", n, known.Complete())
			}
		})
	}
}
