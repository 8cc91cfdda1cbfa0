package apidocs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/pythopus/tentagate/apidocs/internal/document"
	"github.com/pythopus/tentagate/apidocs/internal/fetch"
	"github.com/pythopus/tentagate/apidocs/internal/merge"
	"github.com/pythopus/tentagate/apidocs/internal/tree"
	"github.com/pythopus/tentagate/internal/resource"
)

// maxVariants is how many merged documents are kept, which differ in the services
// that their readers may see.
const maxVariants = 16

// variants are the merged documents of a handler.
type variants struct {
	mu   sync.Mutex
	kept []*variant // guarded by mu; the latest used last
}

// variant is a merged document.
type variant struct {
	readers string // which services are visible
	stamp   string // which documents it is made of
	json    *resource.Resource
	yaml    *resource.Resource // nil until it is asked for
}

// part is one service in a merged document.
type part struct {
	service *Service
	status  fetch.Status
}

// parts returns the services that the client sees, and texts that are equal for
// the same services, and for the same documents.
func (h *Handler) parts(r *http.Request) (parts []part, readers, stamp string) {
	var who, what strings.Builder
	for i, s := range h.Services {
		if !s.visibleFor(r) {
			continue
		}
		status := s.status()
		parts = append(parts, part{s, status})
		fmt.Fprintf(&who, "%d ", i)
		if status.Document != nil {
			fmt.Fprintf(&what, "%x ", status.Document.Sum)
		}
		fmt.Fprintf(&what, "%t,", failed(status))
	}
	return parts, who.String(), what.String()
}

// failed reports whether the document of a service is not as it should be.
func failed(s fetch.Status) bool { return s.Result == fetch.Failed }

// document returns the merged document for the client of a request.
func (h *Handler) document(r *http.Request, yaml bool) (*resource.Resource, error) {
	parts, readers, stamp := h.parts(r)
	h.merged.mu.Lock()
	defer h.merged.mu.Unlock()
	v := h.merged.find(readers)
	if v == nil || v.stamp != stamp {
		built, err := h.build(parts)
		if err != nil {
			return nil, err
		}
		v = &variant{readers: readers, stamp: stamp, json: built}
		h.merged.keep(v)
	}
	if !yaml {
		return v.json, nil
	}
	if v.yaml == nil {
		text, err := v.json.Text()
		if err != nil {
			return nil, err
		}
		if v.yaml, err = toYAML(text); err != nil {
			return nil, err
		}
	}
	return v.yaml, nil
}

func (v *variants) find(readers string) *variant {
	for _, known := range v.kept {
		if known.readers == readers {
			return known
		}
	}
	return nil
}

// keep puts a variant in the place of the one for the same readers, or of the
// oldest if there are too many.
func (v *variants) keep(added *variant) {
	var kept []*variant
	for _, known := range v.kept {
		if known.readers != added.readers {
			kept = append(kept, known)
		}
	}
	if len(kept) >= maxVariants {
		kept = kept[1:]
	}
	v.kept = append(kept, added)
}

// build merges the documents of services.
func (h *Handler) build(parts []part) (built *resource.Resource, err error) {
	document.Alone(func() {
		// A document that makes the merge panic must not end the gateway.
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("merging the documents: panic: %v", p)
			}
		}()
		built, err = resource.New("application/json", h.merge(parts))
	})
	return built, err
}

func (h *Handler) merge(parts []part) []byte {
	o := merge.Options{Title: h.Title, Bearer: h.Bearer}
	if h.Bearer {
		o.Public = h.isPublic
	}
	var versions []string
	sum := sha256.New()
	for _, p := range parts {
		if d := p.status.Document; d != nil {
			versions = append(versions, d.OpenAPI)
			sum.Write(d.Sum[:])
		}
		sum.Write([]byte(p.service.Name))
	}
	o.OpenAPI, o.Version = merge.Highest(versions...), hex.EncodeToString(sum.Sum(nil)[:4])
	m := merge.New(o)
	for _, p := range parts {
		p.addTo(m)
	}
	return m.Bytes()
}

// addTo adds the service to a merged document.
func (p part) addTo(m *merge.Merger) {
	s := merge.Service{Name: p.service.Name, Base: p.service.base, Prefix: p.service.prefix, Notes: p.notes()}
	if d := p.status.Document; d != nil {
		if t, err := d.Tree(); err == nil {
			m.Add(s, t.Root())
			return
		}
	}
	m.AddUnknown(s)
}

// maxNotes is how many problems of a document the page shows.
const maxNotes = 10

// notes are what the page says about the document. They have no addresses in them:
// those are nobody's business outside. The admin API has them.
func (p part) notes() (notes []string) {
	d := p.status.Document
	switch {
	case failed(p.status) && d != nil:
		notes = append(notes, "The service's document could not be read again: this is an older one.")
	case failed(p.status):
		notes = append(notes, "The service's document could not be read.")
	}
	if d == nil {
		return notes
	}
	if d.Converted {
		notes = append(notes, "Converted from Swagger 2.0.")
	}
	for i, text := range d.Problems {
		if i == maxNotes {
			notes = append(notes, fmt.Sprintf("… and %d more", len(d.Problems)-maxNotes))
			break
		}
		notes = append(notes, "Problem: "+text)
	}
	return notes
}

// isPublic reports whether a path of the merged document needs no token.
func (h *Handler) isPublic(path string) bool {
	path = strings.ToLower(path) // as Caddy compares paths
	for _, pattern := range h.Public {
		pattern = strings.ToLower(pattern)
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(path, prefix) || path == pattern {
			return true
		}
	}
	return false
}

// toYAML returns a document in YAML.
func toYAML(text []byte) (*resource.Resource, error) {
	t, err := tree.ParseJSON(text, tree.Limits{Bytes: len(text), Depth: 1000, Nodes: len(text), Digits: len(text)})
	if err != nil {
		return nil, err
	}
	return resource.New("application/yaml", tree.AppendYAML(make([]byte, 0, len(text)+len(text)/2), t.Root()))
}
