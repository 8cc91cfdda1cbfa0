// Package document reads the OpenAPI document of one service.
package document

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/pythopus/tentagate/apidocs/internal/merge"
	"github.com/pythopus/tentagate/apidocs/internal/swagger2"
	"github.com/pythopus/tentagate/apidocs/internal/tree"
)

// Document is a document that was read. It is kept compressed: documents are large,
// and read again only when they are merged.
type Document struct {
	// OpenAPI is the version that the document is written in.
	OpenAPI string
	// Converted: it was written in Swagger 2.
	Converted bool
	// Title and Version of the API.
	Title, Version string
	// Problems are what is wrong with it, and was left out or changed.
	Problems []string
	// Sum is a hash of the document.
	Sum [sha256.Size]byte

	compressed []byte
	size       int
}

// reading is held while a document is read or merged, so that the memory that it
// takes is that of one.
var reading sync.Mutex

// Alone runs f while no document is read.
func Alone(f func()) {
	reading.Lock()
	defer reading.Unlock()
	f()
}

// maxTitle bounds the title and the version that are kept, in bytes.
const maxTitle = 200

// Read reads a document of OpenAPI 3 or Swagger 2 in JSON or YAML. It fails if
// nothing in it can be used.
func Read(text []byte) (d *Document, err error) {
	Alone(func() { d, err = read(text) })
	return d, err
}

func read(text []byte) (d *Document, err error) {
	// A document that makes a parser panic must not end the gateway.
	defer func() {
		if p := recover(); p != nil {
			d, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	t, err := tree.Parse(text, tree.Standard())
	if err != nil {
		return nil, err
	}
	d = new(Document)
	root := t.Root()
	if swagger2.Is(root) {
		converted, problems, err := swagger2.Convert(root)
		if err != nil {
			return nil, fmt.Errorf("converting Swagger 2: %w", err)
		}
		d.Converted, d.Problems = true, problems
		if t, err = tree.ParseJSON(converted, limits()); err != nil {
			return nil, fmt.Errorf("converting Swagger 2: %w", err)
		}
		root = t.Root()
	}
	if d.OpenAPI = merge.VersionOf(root); !merge.Supported(d.OpenAPI) {
		return nil, unsupported(root, d.OpenAPI)
	}
	d.Title, d.Version = short(root.Get("info").Get("title").Text()), short(root.Get("info").Get("version").Text())
	d.Problems = append(d.Problems, merge.New(merge.Options{OpenAPI: merge.Highest(d.OpenAPI), Title: d.Title}).Add(merge.Service{Name: "document"}, root)...)
	w := tree.NewWriter(len(text))
	w.Value(root)
	return d, d.keep(w.Bytes())
}

// limits are those of a document that was read already, and may have grown.
func limits() tree.Limits {
	l := tree.Standard()
	l.Bytes, l.Nodes = 4*l.Bytes, 2*l.Nodes
	return l
}

func unsupported(root tree.Value, version string) error {
	if !root.Is(tree.Object) {
		return errors.New("not an OpenAPI document: it is not an object")
	}
	if version == "" {
		return errors.New("not an OpenAPI document: it has no member openapi, nor swagger: \"2.0\"")
	}
	return fmt.Errorf("OpenAPI version %.20q is not supported: accepted are 3.0, 3.1, 3.2 and Swagger 2.0", version)
}

func short(text string) string { return text[:min(len(text), maxTitle)] }

func (d *Document) keep(text []byte) error {
	d.Sum, d.size = sha256.Sum256(text), len(text)
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err = z.Write(text); err == nil {
		err = z.Close()
	}
	d.compressed = bytes.Clone(b.Bytes())
	return err
}

// Tree returns the document.
func (d *Document) Tree() (*tree.Tree, error) {
	z, err := gzip.NewReader(bytes.NewReader(d.compressed))
	if err != nil {
		return nil, err
	}
	text := make([]byte, d.size)
	if _, err := io.ReadFull(z, text); err != nil {
		return nil, err
	}
	return tree.ParseJSON(text, limits())
}
